//! Orders of gateways that have told nobody, under the permissions of the roles.

use futures_util::FutureExt;
use orchion_bus::Answers;
use orchion_contract::job::{AttemptOutcome, RunOrder, RunReply};
use orchion_contract::rpc::RUN;
use orchion_contract::subjects::JOB_ANSWERED;
use orchion_contract::{InstanceId, JobId, ReaderId};
use orchion_testkit::MockEngine;
use orchion_testkit::wire::{Ask, Fault, FaultKind};

use crate::cluster::{Cluster, PATIENCE, Setup, settings};

type Replies = Answers<(ReaderId, JobId), RunReply>;

/// An agent whose engine is known to be quick, and what it answers to orders of
/// gateways.
async fn granting(engine: &MockEngine) -> (Cluster, Replies) {
    let setup = Setup {
        engines: vec![settings(engine)],
        has_roles: true,
        ..Setup::default()
    };
    let cluster = setup.start().await;
    cluster.until_served(1).await;
    let first = cluster.order(&Ask::new(20));
    cluster.accepted(&first).await;
    cluster.end(&first).await;
    let answers = cluster.bus.answers(JOB_ANSWERED).await.unwrap();
    (cluster, answers)
}

fn granted(cluster: &Cluster, ask: &Ask) -> RunOrder {
    let mut order = cluster.order(ask);
    order.spec.whole = true;
    order.spec.max_tokens = Some(ask.tokens);
    order.granted_ms = Some(1_700_000_000_000);
    order
}

async fn send(cluster: &Cluster, order: &RunOrder) {
    let to = (order.reader.clone(), order.job);
    let bus = &cluster.bus;
    let sent = bus.ask_for(&RUN, &cluster.node, order, &JOB_ANSWERED, &to);
    sent.await.unwrap();
}

async fn reply(answers: &mut Replies, order: &RunOrder) -> RunReply {
    let next = tokio::time::timeout(PATIENCE, answers.next());
    let ((_, job), reply) = next.await.unwrap().unwrap();
    assert_eq!(job, order.job);
    reply.unwrap()
}

fn has_no_violation(cluster: &Cluster) {
    let log = cluster.nats.log();
    assert!(!log.contains("Violation"), "{log}");
}

#[tokio::test]
async fn a_brief_answer_takes_the_place_of_the_reply_and_is_told_with_its_job() {
    let engine = MockEngine::named("a");
    let (cluster, mut answers) = granting(&engine).await;
    let ask = Ask::new(20);
    let order = granted(&cluster, &ask);
    send(&cluster, &order).await;
    cluster.answer(&order).await.assert_whole(&ask);
    let end = cluster.end(&order).await;
    assert!(matches!(end.how, AttemptOutcome::Final { .. }), "{end:?}");
    let told = cluster.granted_of(&order).expect("the job, too");
    assert_eq!(told.job.request_digest, order.spec.digest());
    assert_eq!(told.job.created_ms, 1_700_000_000_000);
    let to = told.job.assigned.unwrap();
    assert_eq!(
        (to.node, to.instance),
        (cluster.node.clone(), cluster.instance())
    );
    cluster.bus.flush().await.unwrap();
    assert!(
        answers.next().now_or_never().is_none(),
        "who reads needs none"
    );
    has_no_violation(&cluster);
}

#[tokio::test]
async fn an_answer_that_takes_its_time_is_accepted_first() {
    let engine = MockEngine::named("a");
    let (cluster, mut answers) = granting(&engine).await;
    let ask = Ask::new(20).pace_us(20_000);
    let order = granted(&cluster, &ask);
    send(&cluster, &order).await;
    assert_eq!(reply(&mut answers, &order).await, RunReply::Accepted);
    cluster.answer(&order).await.assert_whole(&ask);
    cluster.end(&order).await;
    assert!(
        cluster.granted_of(&order).is_some(),
        "a new scheduler may not know it"
    );
    has_no_violation(&cluster);
}

#[tokio::test]
async fn whatever_keeps_a_final_away_is_answered() {
    let engine = MockEngine::named("a");
    let (cluster, mut answers) = granting(&engine).await;
    let broken = Ask::new(20).fault(Fault::new(FaultKind::Truncate));
    let order = granted(&cluster, &broken);
    send(&cluster, &order).await;
    let ended = reply(&mut answers, &order).await;
    let RunReply::Ended { end } = ended else {
        panic!("{ended:?} instead of an end");
    };
    assert!(matches!(end.how, AttemptOutcome::Failed { .. }), "{end:?}");
    let mut stale = granted(&cluster, &Ask::new(20));
    stale.instance = InstanceId::new("before").unwrap();
    send(&cluster, &stale).await;
    let instance = cluster.instance();
    assert_eq!(
        reply(&mut answers, &stale).await,
        RunReply::WrongInstance { instance }
    );
    has_no_violation(&cluster);
}
