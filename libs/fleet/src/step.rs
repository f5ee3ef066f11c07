//! How long the scheduler's own decisions take: its holder, with so many nodes.
//!
//! The holder is the one that the scheduler runs, driven here without a bus, so
//! that nothing but its steps is measured.

use crate::agent::{BEAT, model, registration};
use orchion_contract::job::{
    AttemptEnd, AttemptOutcome, Door, EndedBatch, JobEnd, Outcome, Submit, Usage,
};
use orchion_contract::node::{Heartbeat, Node, ReplicaLoad};
use orchion_contract::{InstanceId, JobId, NodeId};
use orchion_scheduler_core::{Effect, Holder, Input, Moment, Question, Settings, Token};
use std::time::{Duration, Instant};

/// Durations of steps, sorted.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    /// A job comes and is placed.
    pub(crate) admit: Vec<Duration>,
    /// It ends.
    pub(crate) end: Vec<Duration>,
    /// A node beats.
    pub(crate) beat: Vec<Duration>,
}

/// Drives a holder with `nodes` nodes through `jobs` jobs, one after the other.
pub(crate) fn measure(nodes: usize, jobs: usize) -> anyhow::Result<Steps> {
    let mut holder = Holder::new(1, Settings::default());
    let start = Instant::now();
    let at = || Moment {
        now: start.elapsed() + Duration::from_millis(1),
        unix_ms: 1,
    };
    for number in 0..nodes {
        let node = node(number)?;
        holder.handle(
            Input::Node {
                id: node.id.clone(),
                node: Some(Box::new(node)),
            },
            at(),
        );
    }
    holder.handle(Input::NodesLoaded, at());
    holder.handle(Input::GatewaysLoaded, at());
    holder.handle(Input::Records(Vec::new()), at());
    while holder.next_effect().is_some() {}
    let mut steps = Steps::default();
    for number in 0..jobs {
        let beat = beat(number % nodes)?;
        let submit = submit(number)?;
        let id = submit.job;
        let question = Question::Submit(Box::new(submit));
        let token = Token(u64::try_from(number)?);
        let (took, effects) = step(&mut holder, Input::Asked { token, question }, at());
        steps.admit.push(took);
        let order = effects.iter().find_map(ordered);
        step(
            &mut holder,
            Input::Written {
                job: id,
                result: Ok(1),
            },
            at(),
        );
        if let Some((node, instance)) = order {
            let batch = EndedBatch {
                node,
                instance,
                ends: vec![end(id)],
                granted: Vec::new(),
            };
            let question = Question::Ended(batch);
            let (took, _) = step(&mut holder, Input::Asked { token, question }, at());
            steps.end.push(took);
            step(&mut holder, Input::Told { jobs: vec![id] }, at());
        }
        steps
            .beat
            .push(step(&mut holder, Input::Beat(Box::new(beat)), at()).0);
    }
    for durations in [&mut steps.admit, &mut steps.end, &mut steps.beat] {
        durations.sort_unstable();
    }
    Ok(steps)
}

/// Whom an effect orders, if it is an order.
fn ordered(effect: &Effect) -> Option<(NodeId, InstanceId)> {
    if let Effect::Order { node, order, .. } = effect {
        return Some((node.clone(), order.instance.clone()));
    }
    None
}

fn step(holder: &mut Holder, input: Input, at: Moment) -> (Duration, Vec<Effect>) {
    let start = Instant::now();
    holder.handle(input, at);
    let effects = std::iter::from_fn(|| holder.next_effect()).collect();
    (start.elapsed(), effects)
}

fn node(number: usize) -> anyhow::Result<Node> {
    let registration = registration(number, &InstanceId::new(format!("i{number}"))?)?;
    let sample = include_str!("../../contract/samples/node.json");
    let sample: Node = serde_json::from_str(sample)?;
    Ok(Node {
        id: registration.node,
        instance: registration.instance,
        replicas: registration.replicas,
        state: orchion_contract::node::NodeState::Online,
        ..sample
    })
}

fn beat(number: usize) -> anyhow::Result<Heartbeat> {
    let node = node(number)?;
    let sample = include_str!("../../contract/samples/heartbeat.json");
    let sample: Heartbeat = serde_json::from_str(sample)?;
    let loads = node.replicas.iter().zip(&sample.replicas);
    let replicas = loads.map(|(replica, load)| ReplicaLoad {
        id: replica.id.clone(),
        slots: replica.slots,
        busy: 0,
        ready: true,
        ..load.clone()
    });
    Ok(Heartbeat {
        node: node.id.clone(),
        instance: node.instance.clone(),
        interval_ms: u64::try_from(BEAT.as_millis())?,
        running: Vec::new(),
        replicas: replicas.collect(),
        ..sample
    })
}

/// A job for one of the models.
pub(crate) fn submit(number: usize) -> anyhow::Result<Submit> {
    let sample = include_str!("../../contract/samples/submit.json");
    let mut sample: serde_json::Value = serde_json::from_str(sample)?;
    // It may run anywhere.
    if let Some(spec) = sample["spec"].as_object_mut() {
        spec.remove("placement");
    }
    let mut submit: Submit = serde_json::from_str(&sample.to_string())?;
    submit.job = JobId::now();
    submit.door = Door::Task;
    submit.spec.model = model(number);
    Ok(submit)
}

fn end(job: JobId) -> AttemptEnd {
    AttemptEnd {
        job,
        attempt: 1,
        how: AttemptOutcome::Final {
            end: Box::new(JobEnd {
                outcome: Outcome::Completed,
                at_ms: 1,
                finish_reason: None,
                usage: Usage::default(),
                error: None,
                continued: None,
                times: orchion_contract::transcript::Times::default(),
            }),
        },
        sequence: 1,
        stored: true,
    }
}
