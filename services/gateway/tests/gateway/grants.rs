//! Chats that go to slots which the gateway was granted.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt};
use orchion_bus::Message;
use orchion_contract::job::{
    Assignment, CancelOrder, CancelReason, Declined, Grant, Grants, ModelGrants, Ordered, RunOrder,
    RunReply, Submit,
};
use orchion_contract::node::{EngineKind, EngineRef};
use orchion_contract::rpc::{CANCEL, RUN, SUBMIT};
use orchion_contract::subjects::{GRANTS, JOB_ANSWERED};
use orchion_contract::{InstanceId, NodeId, ReaderId, ReplicaId};
use orchion_service::HumanDuration;
use orchion_testkit::http::Answer;

use crate::agent::Agent;
use crate::cluster::{Cluster, soon};
use crate::http::chat;
use crate::running::Running;

/// How often a gateway is asked until it knows what it was granted.
const TRIES: u32 = 100;
/// Longer than a gateway here waits for a scheduler.
const SHORT: Duration = Duration::from_millis(500);

/// A gateway, and the orders that it sends to node `alpha`.
struct Scene {
    cluster: Cluster,
    gateway: Running,
    reader: ReaderId,
    orders: Pin<Box<dyn Stream<Item = Message> + Send>>,
}

/// What became of a chat first.
enum Came {
    Order(RunOrder),
    Submit(Submit),
}

impl Scene {
    async fn start() -> Self {
        let mut cluster = Cluster::start().await;
        let gateway = cluster.gateway().await;
        let body = chat(false);
        let asked = gateway.http.post("/v1/chat/completions", &body);
        let told = async {
            let submit = cluster.submitted().await;
            cluster.agent(&submit).completes().await;
            submit.reader
        };
        let (_, reader) = tokio::join!(asked, told);
        Self::of(cluster, gateway, reader).await
    }

    /// Without anybody who admits jobs; what a chat is answered, too.
    async fn without_scheduler() -> (Self, Answer) {
        let mut cluster = Cluster::without_scheduler().await;
        let gateway = cluster
            .gateway_with(|config| config.gateway.patience = HumanDuration::from_millis(300))
            .await;
        let mut submitted = cluster.bus.tap(SUBMIT.pattern()).await.unwrap();
        let body = chat(false);
        let asked = gateway.http.post("/v1/chat/completions", &body);
        let (answer, submitted) = tokio::join!(asked, soon("a submission", submitted.next()));
        let submit: Submit = serde_json::from_slice(&submitted.payload).unwrap();
        let scene = Self::of(cluster, gateway, submit.reader).await;
        (scene, answer.unwrap())
    }

    async fn of(cluster: Cluster, gateway: Running, reader: ReaderId) -> Self {
        let orders = cluster.bus.tap(&RUN.to(&node("alpha"))).await.unwrap();
        Self {
            cluster,
            gateway,
            reader,
            orders: Box::pin(orders),
        }
    }

    async fn grant(&self, at: &str, longest: u64, for_ms: u64) {
        let grants = Grants {
            epoch: 9,
            for_ms,
            models: vec![ModelGrants {
                model: "tiny".into(),
                places: vec![Grant {
                    to: to(at),
                    longest,
                }],
                turns: vec![0],
            }],
        };
        let told = self.cluster.bus.publish(&GRANTS, &self.reader, &grants);
        told.await.unwrap();
        self.cluster.bus.flush().await.unwrap();
    }

    async fn came(&mut self) -> Came {
        tokio::select! {
            order = self.orders.next() => Came::Order(serde_json::from_slice(&order.unwrap().payload).unwrap()),
            submit = self.cluster.submitted() => Came::Submit(submit),
        }
    }

    /// The agent that answers an order.
    fn agent(&self, order: &RunOrder) -> Agent {
        let submit = submit_of(order);
        self.cluster.agent(&submit)
    }

    /// A whole chat that is ordered, and what comes of it by `then`; asked again until
    /// the gateway knows its grant.
    async fn ordered<T>(&mut self, then: impl AsyncFn(&mut Self, RunOrder) -> T) -> (Answer, T) {
        let body = chat(false);
        for _ in 0..TRIES {
            let http = self.gateway.http.clone();
            let asked = http.post("/v1/chat/completions", &body);
            let told = async {
                match self.came().await {
                    Came::Order(order) => Some(then(self, order).await),
                    Came::Submit(submit) => {
                        self.cluster.agent(&submit).completes().await;
                        None
                    }
                }
            };
            let (answer, told) = tokio::join!(asked, told);
            if let Some(told) = told {
                return (answer.unwrap(), told);
            }
        }
        panic!("the gateway does not use its grant");
    }

    /// The order of a streamed chat whose caller hangs up then; asked again until the
    /// gateway knows its grant.
    async fn ordered_and_hung_up(&mut self, query: &str) -> RunOrder {
        for _ in 0..TRIES {
            let connection = crate::cancel::ask_with(&self.gateway, true, query, "").await;
            let order = tokio::time::timeout(SHORT, self.orders.next()).await;
            drop(connection);
            if let Ok(order) = order {
                return serde_json::from_slice(&order.unwrap().payload).unwrap();
            }
        }
        panic!("the gateway does not use its grant");
    }

    async fn declines(&self, order: &RunOrder, reply: &RunReply) {
        let to = (order.reader.clone(), order.job);
        let told = self.cluster.bus.publish(&JOB_ANSWERED, &to, reply);
        told.await.unwrap();
    }
}

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn to(name: &str) -> Assignment {
    Assignment {
        node: node(name),
        instance: InstanceId::new("i").unwrap(),
        replica: ReplicaId::new("a").unwrap(),
        engine: EngineRef {
            kind: EngineKind::Starter,
            version: None,
            digest: None,
        },
        at_ms: 1,
    }
}

/// What the gateway would have submitted.
fn submit_of(order: &RunOrder) -> Submit {
    Submit {
        job: order.job,
        reader: order.reader.clone(),
        door: orchion_contract::job::Door::Chat,
        spec: order.spec.clone(),
        correlation_id: order.correlation_id.clone(),
        ordered: None,
    }
}

fn declined(submit: Submit) -> Option<Declined> {
    let Ordered { to, declined } = *submit.ordered.expect("its order is told of");
    assert_eq!(to.instance.as_str(), "i");
    declined
}

#[tokio::test]
async fn one_that_ends_soon_is_told_to_nobody() {
    let mut scene = Scene::start().await;
    scene.grant("alpha", 10_000, 60_000).await;
    // A busy machine may take longer than is waited for.
    for _ in 0..TRIES {
        let (answer, order) = scene
            .ordered(async |scene, order| {
                scene.agent(&order).completes().await;
                order
            })
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!((order.attempt, order.epoch), (1, 9));
        assert!(order.granted_ms.is_some() && order.spec.seed_drawn);
        assert_eq!(order.remaining_ms, order.spec.deadline_ms);
        if scene.cluster.has_no_submission() {
            return;
        }
    }
    panic!("every one was told");
}

#[tokio::test]
async fn one_that_does_not_is_told_as_it_is() {
    let mut scene = Scene::start().await;
    scene.grant("alpha", 10_000, 60_000).await;
    let (answer, submit) = scene
        .ordered(async |scene, order| {
            let submit = scene.cluster.submitted().await;
            assert_eq!(submit.spec.digest(), order.spec.digest());
            scene.agent(&order).completes().await;
            submit
        })
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("x-orchion-job"),
        Some(submit.job.to_string().as_str())
    );
    assert_eq!(declined(submit), None);
}

#[tokio::test]
async fn what_its_agent_declines_is_told_with_the_reason() {
    let mut scene = Scene::start().await;
    scene.grant("alpha", 10_000, 60_000).await;
    let (_, submit) = scene
        .ordered(async |scene, order| {
            scene.declines(&order, &RunReply::Busy).await;
            let submit = scene.cluster.submitted().await;
            scene.agent(&order).completes().await;
            submit
        })
        .await;
    assert_eq!(declined(submit), Some(Declined::Said(RunReply::Busy)));
}

#[tokio::test]
async fn where_nobody_is_the_scheduler_is_told_at_once() {
    let mut scene = Scene::start().await;
    scene.grant("ghost", 10_000, 60_000).await;
    let body = chat(false);
    for _ in 0..TRIES {
        let asked = scene.gateway.http.post("/v1/chat/completions", &body);
        let told = async {
            let submit = scene.cluster.submitted().await;
            scene.cluster.agent(&submit).completes().await;
            submit
        };
        let (answer, submit) = tokio::join!(asked, told);
        assert_eq!(answer.unwrap().status, 200);
        if submit.ordered.is_some() {
            assert_eq!(declined(submit), Some(Declined::Nobody));
            return;
        }
    }
    panic!("the gateway does not use its grant");
}

#[tokio::test]
async fn a_stream_is_told_of_beside_its_order() {
    let mut scene = Scene::start().await;
    scene.grant("alpha", 10_000, 60_000).await;
    scene
        .ordered(async |scene, order| scene.agent(&order).completes().await)
        .await;
    let http = scene.gateway.http.clone();
    let body = chat(true);
    let asked = http.post_events("/v1/chat/completions", &body);
    let told = async {
        let order = scene.orders.next().await.unwrap();
        let order: RunOrder = serde_json::from_slice(&order.payload).unwrap();
        // Whole ones before it may have been told of.
        let submit = loop {
            let submit = scene.cluster.submitted().await;
            if submit.job == order.job {
                break submit;
            }
        };
        scene.agent(&order).completes().await;
        (order, submit)
    };
    let (stream, (order, submit)) = tokio::join!(asked, told);
    assert!(!order.is_untold(), "everybody knows of it");
    assert_eq!(declined(submit), None);
    stream.unwrap().collect().await.unwrap();
}

#[tokio::test]
async fn a_stream_whose_answer_is_stored_is_shown_without_a_scheduler() {
    let (mut scene, refused) = Scene::without_scheduler().await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("x-orchion-job").is_some(), "it may be there");
    scene.grant("alpha", 10_000, 60_000).await;
    let body = chat(true);
    for _ in 0..TRIES {
        let http = scene.gateway.http.clone();
        let asked = http.post_events("/v1/chat/completions", &body);
        let told = async {
            let order = tokio::time::timeout(SHORT, scene.orders.next())
                .await
                .ok()?;
            let order: RunOrder = serde_json::from_slice(&order.unwrap().payload).unwrap();
            let mut agent = scene.agent(&order);
            agent.says(&["one", "two"]).await;
            agent.completes().await;
            Some(order)
        };
        let (stream, order) = tokio::join!(asked, told);
        // Its grant has not come yet, or this test was slower than its patience.
        let (Ok(stream), Some(order)) = (stream, order) else {
            continue;
        };
        assert_eq!(stream.headers["x-orchion-job"], order.job.to_string());
        let events = stream.collect().await.unwrap();
        let texts = events.iter().map(|event| event.data.as_str());
        let text: String = texts.collect();
        assert!(text.contains("one") && text.contains("two") && text.ends_with("[DONE]"));
        return;
    }
    panic!("no stream was shown");
}

#[tokio::test]
async fn an_agent_hears_that_its_caller_hung_up_without_a_scheduler() {
    let (mut scene, _) = Scene::without_scheduler().await;
    scene.grant("alpha", 10_000, 60_000).await;
    let stops = scene.cluster.bus.tap(&CANCEL.to(&node("alpha"))).await;
    let order = scene.ordered_and_hung_up("").await;
    let stop = soon("word to stop", stops.unwrap().next()).await;
    let stop: CancelOrder = serde_json::from_slice(&stop.payload).unwrap();
    assert_eq!(
        (stop.job, stop.attempt, stop.epoch, stop.reason),
        (order.job, 1, 9, CancelReason::Disconnect)
    );
}

#[tokio::test]
async fn one_that_is_to_go_on_without_its_caller_is_told_when_there_is_a_scheduler() {
    let (mut scene, _) = Scene::without_scheduler().await;
    scene.grant("alpha", 10_000, 60_000).await;
    let order = scene
        .ordered_and_hung_up("?cancel_on_disconnect=false")
        .await;
    // It is asked for longer than a caller would have been kept waiting.
    let hung_up = Instant::now();
    while hung_up.elapsed() < SHORT {
        scene.cluster.next_question(SUBMIT.pattern()).await;
    }
    scene.cluster.play_scheduler().await;
    let submit = scene.cluster.submitted().await;
    assert_eq!(submit.job, order.job);
    assert!(submit.ordered.is_some() && scene.cluster.has_no_cancel());
}

#[tokio::test]
async fn who_hangs_up_leaves_nothing_under_way() {
    let mut scene = Scene::start().await;
    scene.grant("alpha", 10_000, 60_000).await;
    scene
        .ordered(async |scene, order| scene.agent(&order).completes().await)
        .await;
    while !scene.cluster.has_no_submission() {}
    let connection = crate::cancel::ask(&scene.gateway, false).await;
    let order = soon("an order", scene.orders.next()).await;
    let order: RunOrder = serde_json::from_slice(&order.payload).unwrap();
    drop(connection);
    let submit = scene.cluster.submitted().await;
    assert_eq!(submit.job, order.job);
    assert!(submit.ordered.is_some(), "the scheduler knows where it is");
    let cancel = scene.cluster.canceled().await;
    assert_eq!(
        (cancel.job, cancel.reason),
        (order.job, CancelReason::Disconnect)
    );
}

#[tokio::test]
async fn what_is_too_long_or_too_late_is_for_the_scheduler_to_decide() {
    let mut scene = Scene::start().await;
    for (longest, for_ms) in [(1, 60_000), (10_000, 0)] {
        // Used first, so that what comes next is what it has.
        scene.grant("alpha", 10_000, 60_000).await;
        scene
            .ordered(async |scene, order| scene.agent(&order).completes().await)
            .await;
        scene.grant("alpha", longest, for_ms).await;
        let body = chat(false);
        for tries in 0.. {
            assert!(tries < TRIES, "the grant before is still used");
            let http = scene.gateway.http.clone();
            let asked = http.post("/v1/chat/completions", &body);
            let told = async {
                match scene.came().await {
                    Came::Order(order) => {
                        scene.agent(&order).completes().await;
                        false
                    }
                    Came::Submit(submit) => {
                        scene.cluster.agent(&submit).completes().await;
                        submit.ordered.is_none()
                    }
                }
            };
            let (answer, is_asked) = tokio::join!(asked, told);
            assert_eq!(answer.unwrap().status, 200);
            if is_asked {
                break;
            }
        }
    }
}
