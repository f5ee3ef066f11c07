//! Every subject that is published, from general to specific.

use crate::id::{InstanceId, JobId, NodeId, ReaderId};
use crate::job::{EndedJobs, Grants, JobEvents, RunReply};
use crate::log::{Level, LogRecord, ServiceName};
use crate::node::{Heartbeat, Hello, NodeEvent, RegisterAgain, Registration};
use crate::progress::Progress;
use crate::subject::Subject;
use crate::transcript::Entry;

/// A node is alive; published by its agent every heartbeat interval, not stored.
pub const HEARTBEAT: Subject<NodeId, Heartbeat> = Subject::new("orchion.evt.node.heartbeat.{node}");
/// A node's capabilities or replicas changed.
pub const CAPABILITY: Subject<NodeId, Registration> =
    Subject::new("orchion.evt.node.capability.{node}");
/// A node registered, or registered again as another process.
pub const NODE_REGISTERED: Subject<NodeId, NodeEvent> =
    Subject::new("orchion.evt.node.registered.{node}");
/// A node is there again.
pub const NODE_ONLINE: Subject<NodeId, NodeEvent> = Subject::new("orchion.evt.node.online.{node}");
/// A node's connection ended.
pub const NODE_SUSPECT: Subject<NodeId, NodeEvent> =
    Subject::new("orchion.evt.node.suspect.{node}");
/// A node is gone.
pub const NODE_LOST: Subject<NodeId, NodeEvent> = Subject::new("orchion.evt.node.lost.{node}");
/// A node left on purpose.
pub const NODE_UNREGISTERED: Subject<NodeId, NodeEvent> =
    Subject::new("orchion.evt.node.unregistered.{node}");
/// A registry became active: every agent registers anew.
pub const REGISTRY_HELLO: Subject<(), Hello> = Subject::new("orchion.evt.registry.hello");
/// The registry does not know a node that beats: register again.
pub const REGISTER_AGAIN: Subject<NodeId, RegisterAgain> =
    Subject::new("orchion.cmd.node.register.{node}");
/// The chain of a job: frames, marks, final.
pub const TRANSCRIPT: Subject<(ReaderId, JobId), Entry> =
    Subject::new("orchion.transcript.{reader}.{job}");
/// Jobs changed their states: what happened within a moment, in its order.
pub const JOB_STATES: Subject<(), JobEvents> = Subject::new("orchion.evt.job.states");
/// Where an open job stands: while it waits at most once a second and when its
/// position changes, and once more as it starts; not stored.
pub const JOB_PROGRESS: Subject<(ReaderId, JobId), Progress> =
    Subject::new("orchion.evt.job.progress.{reader}.{job}");
/// What agents answer to orders that gateways have given by themselves.
pub const JOB_ANSWERED: Subject<(ReaderId, JobId), RunReply> =
    Subject::new("orchion.evt.job.answered.{reader}.{job}");
/// Slots that a gateway may fill by itself.
pub const GRANTS: Subject<ReaderId, Grants> = Subject::new("orchion.evt.gateway.grants.{gateway}");
/// Jobs ended; for history, which knows a job by its id: what is told twice is kept once.
pub const JOBS_ENDED: Subject<(), EndedJobs> = Subject::new("orchion.evt.job.ended");
/// One log record; the level last, so that a wildcard can choose.
pub const LOG: Subject<(ServiceName, InstanceId, Level), LogRecord> =
    Subject::new("orchion.log.{service}.{instance}.{level}");

/// All log records: what people subscribe to.
pub const ALL_LOGS: &str = "orchion.log.>";
/// All events: what people subscribe to.
pub const ALL_EVENTS: &str = "orchion.evt.>";

/// Every pattern of this file, for documents and permissions.
pub const ALL: &[&str] = &[
    HEARTBEAT.pattern(),
    CAPABILITY.pattern(),
    NODE_REGISTERED.pattern(),
    NODE_ONLINE.pattern(),
    NODE_SUSPECT.pattern(),
    NODE_LOST.pattern(),
    NODE_UNREGISTERED.pattern(),
    REGISTRY_HELLO.pattern(),
    REGISTER_AGAIN.pattern(),
    TRANSCRIPT.pattern(),
    JOB_STATES.pattern(),
    JOB_PROGRESS.pattern(),
    JOB_ANSWERED.pattern(),
    GRANTS.pattern(),
    JOBS_ENDED.pattern(),
    LOG.pattern(),
];
