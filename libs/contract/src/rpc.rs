//! Every question that is asked over the bus.

use crate::id::{JobId, NodeId};
use crate::job::{
    Admission, CancelJob, CancelOrder, CancelReply, EndedBatch, FollowJob, JobList, JobSummary,
    ListJobs, RunOrder, RunReply, Submit,
};
use crate::log::{LogPage, LogQuery};
use crate::node::{Empty, ListNodes, Node, NodePage, Registered, Registration, Unregister};
use crate::placement::Explanation;
use crate::subject::Rpc;

/// An agent makes itself known.
pub const REGISTER: Rpc<(), Registration, Registered> = Rpc::new("orchion.rpc.registry.register");
/// One node.
pub const GET_NODE: Rpc<(), NodeId, Node> = Rpc::new("orchion.rpc.registry.get");
/// All nodes, sorted by id, page by page.
pub const LIST_NODES: Rpc<(), ListNodes, NodePage> = Rpc::new("orchion.rpc.registry.list");
/// A node leaves on purpose.
pub const UNREGISTER: Rpc<(), Unregister, Empty> = Rpc::new("orchion.rpc.registry.unregister");

/// Admit a job.
pub const SUBMIT: Rpc<(), Submit, Admission> = Rpc::new("orchion.rpc.scheduler.submit");
/// One job.
pub const GET_JOB: Rpc<(), JobId, JobSummary> = Rpc::new("orchion.rpc.scheduler.get");
/// Jobs that are open or ended a short while ago.
pub const LIST_JOBS: Rpc<(), ListJobs, JobList> = Rpc::new("orchion.rpc.scheduler.list");
/// End a job; ending it twice changes nothing.
pub const CANCEL_JOB: Rpc<(), CancelJob, JobSummary> = Rpc::new("orchion.rpc.scheduler.cancel");
/// Attempts that ended.
pub const ENDED: Rpc<(), EndedBatch, Empty> = Rpc::new("orchion.rpc.scheduler.ended");
/// Why an open job, or one that ended a short while ago, is where it is.
pub const EXPLAIN_JOB: Rpc<(), JobId, Explanation> = Rpc::new("orchion.rpc.scheduler.explain");
/// Another gateway reads a job from now on.
pub const FOLLOW_JOB: Rpc<(), FollowJob, JobSummary> = Rpc::new("orchion.rpc.scheduler.follow");

/// Stored log records.
pub const QUERY_LOGS: Rpc<(), LogQuery, LogPage> = Rpc::new("orchion.rpc.log-sink.query");
/// A job that ended, also long after its record and its answer are gone.
pub const PAST_JOB: Rpc<(), JobId, JobSummary> = Rpc::new("orchion.rpc.log-sink.job");

/// Run an attempt.
pub const RUN: Rpc<NodeId, RunOrder, RunReply> = Rpc::new("orchion.cmd.node.run.{node}");
/// Stop an attempt.
pub const CANCEL: Rpc<NodeId, CancelOrder, CancelReply> =
    Rpc::new("orchion.cmd.node.cancel.{node}");

/// Every pattern of this file, for documents and permissions.
pub const ALL: &[&str] = &[
    REGISTER.pattern(),
    GET_NODE.pattern(),
    LIST_NODES.pattern(),
    UNREGISTER.pattern(),
    SUBMIT.pattern(),
    GET_JOB.pattern(),
    LIST_JOBS.pattern(),
    CANCEL_JOB.pattern(),
    ENDED.pattern(),
    FOLLOW_JOB.pattern(),
    EXPLAIN_JOB.pattern(),
    QUERY_LOGS.pattern(),
    PAST_JOB.pattern(),
    RUN.pattern(),
    CANCEL.pattern(),
];
