//! An agent that does what the test says.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use crate::world::SOON;
use orchion_bus::{Bus, Endpoint, Service};
use orchion_contract::job::*;
use orchion_contract::node::*;
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::{HEARTBEAT, TRANSCRIPT};
use orchion_contract::transcript::{Entry, Final, Frame, Piece};
use orchion_contract::{InstanceId, JobId, NodeId, ReplicaId, rpc};
use orchion_testkit::eventually;
use std::time::Duration;

pub(crate) struct Agent {
    bus: Bus,
    node: NodeId,
    instance: InstanceId,
    slots: u32,
    orders: Endpoint<NodeId, RunOrder, RunReply>,
    cancels: Endpoint<NodeId, CancelOrder, CancelReply>,
    _service: Service,
}

impl Agent {
    /// One that takes orders for this node, which nobody knows yet.
    pub(crate) async fn listening(bus: Bus, name: &str, slots: u32) -> Self {
        let node = NodeId::new(name).unwrap();
        let service = bus.service("plays an agent").await.unwrap();
        let orders = service.endpoint_for(rpc::RUN, &node, name).await.unwrap();
        let cancels = service
            .endpoint_for(rpc::CANCEL, &node, name)
            .await
            .unwrap();
        bus.flush().await.unwrap();
        Self {
            instance: bus.identity().instance.clone(),
            bus,
            node,
            slots,
            orders,
            cancels,
            _service: service,
        }
    }

    /// Its node as the registry would record it.
    pub(crate) fn record(&self, state: NodeState) -> Node {
        let replica = Replica {
            id: ReplicaId::new("r").unwrap(),
            model: "m".into(),
            engine: EngineRef {
                kind: EngineKind::OpenAi,
                version: None,
                digest: None,
            },
            slots: self.slots,
            ctx: None,
            continuation: Continuation::Text,
            ready: true,
            workloads: vec![Workload::Chat],
            devices: None,
            memory_per_token_bytes: None,
        };
        Node {
            id: self.node.clone(),
            instance: self.instance.clone(),
            hostname: String::new(),
            version: String::new(),
            labels: Default::default(),
            capabilities: Capabilities::default(),
            replicas: vec![replica],
            state,
            first_seen_ms: 0,
            last_seen_ms: 0,
            last_seen_unix: 0,
            heartbeat_ms: 1000,
        }
    }

    /// The next order, answered so.
    pub(crate) async fn order(&mut self, reply: RunReply) -> RunOrder {
        let question = tokio::time::timeout(SOON, self.orders.next())
            .await
            .expect("no order came")
            .unwrap();
        assert_eq!(question.asked.instance, self.instance);
        let order = question.asked.clone();
        question.answer(Ok(reply)).await;
        order
    }

    /// The next stop order, answered so.
    pub(crate) async fn cancel(&mut self, reply: CancelReply) -> CancelOrder {
        let question = tokio::time::timeout(SOON, self.cancels.next())
            .await
            .expect("no stop order came")
            .unwrap();
        let order = question.asked.clone();
        question.answer(Ok(reply)).await;
        order
    }

    pub(crate) async fn beat(&self, running: &[(JobId, u32)]) {
        let running = running.iter().map(|(job, attempt)| RunningAttempt {
            job: *job,
            attempt: *attempt,
        });
        let load = ReplicaLoad {
            id: ReplicaId::new("r").unwrap(),
            slots: self.slots,
            busy: 0,
            ready: true,
            memory_free_bytes: None,
            loaded: true,
        };
        let beat = Heartbeat {
            node: self.node.clone(),
            instance: self.instance.clone(),
            sequence: 0,
            interval_ms: 500,
            running: running.collect(),
            replicas: vec![load],
            memory_available_bytes: 0,
            cpu_percent: 0.0,
        };
        self.bus
            .publish(&HEARTBEAT, &self.node, &beat)
            .await
            .unwrap();
    }

    /// Beats without the job, until it is ordered again.
    pub(crate) async fn forgetful(self) -> Self {
        let told = std::time::Instant::now();
        let beats = || async {
            self.beat(&[]).await;
            told.elapsed() > Duration::from_millis(1200)
        };
        eventually("two beats have passed", SOON, beats).await;
        self
    }

    pub(crate) async fn store_frame(
        &self,
        order: &RunOrder,
        after: u64,
        index: u64,
        text: &str,
    ) -> u64 {
        let pieces = vec![Piece {
            text: Some(text.to_owned()),
            tokens: 1,
            ..Piece::default()
        }];
        self.append(
            order,
            after,
            &Entry::Frame(Frame {
                attempt: order.attempt,
                index,
                pieces,
            }),
        )
        .await
    }

    pub(crate) async fn store_final(&self, order: &RunOrder, after: u64) -> u64 {
        let end = Final {
            attempt: order.attempt,
            rest: None,
            outcome: Outcome::Completed,
            finish_reason: Some("stop".to_owned()),
            usage: Usage::default(),
            error: None,
            engine: None,
            node: None,
            continued: None,
            times: Default::default(),
        };
        self.append(order, after, &Entry::Final(Box::new(end)))
            .await
    }

    /// Writes the final behind whatever stands last, and tells.
    pub(crate) async fn finish(&self, order: &RunOrder) {
        let subject = TRANSCRIPT.to(&(order.reader.clone(), order.job));
        let last = self.bus.last(TRANSCRIPTS.name, &subject).await.unwrap();
        self.store_final(order, last.map_or(0, |last| last.sequence))
            .await;
        self.tell(order, completed(), true).await;
    }

    /// The next order, answered with the end.
    pub(crate) async fn order_and_end(&mut self) {
        let question = tokio::time::timeout(SOON, self.orders.next())
            .await
            .expect("no order came")
            .unwrap();
        let order = &question.asked;
        let end = AttemptEnd {
            job: order.job,
            attempt: order.attempt,
            how: completed(),
            sequence: self.store_final(order, 0).await,
            stored: true,
        };
        let end = Box::new(end);
        question.answer(Ok(RunReply::Ended { end })).await;
    }

    pub(crate) async fn tell(&self, order: &RunOrder, how: AttemptOutcome, stored: bool) {
        let end = AttemptEnd {
            job: order.job,
            attempt: order.attempt,
            how,
            sequence: 0,
            stored,
        };
        let batch = EndedBatch {
            node: self.node.clone(),
            instance: self.instance.clone(),
            ends: vec![end],
            granted: Vec::new(),
        };
        self.bus
            .ask_patiently(&rpc::ENDED, &(), &batch, SOON)
            .await
            .unwrap();
    }

    async fn append(&self, order: &RunOrder, after: u64, entry: &Entry) -> u64 {
        let subject = TRANSCRIPT.to(&(order.reader.clone(), order.job));
        let payload = serde_json::to_vec(entry).unwrap();
        self.bus
            .append(&subject, payload.into(), after)
            .await
            .unwrap()
    }
}

fn completed() -> AttemptOutcome {
    let end = JobEnd {
        outcome: Outcome::Completed,
        at_ms: 0,
        finish_reason: Some("stop".to_owned()),
        usage: Usage::default(),
        error: None,
        continued: None,
        times: Default::default(),
    };
    AttemptOutcome::Final { end: Box::new(end) }
}
