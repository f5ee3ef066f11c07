//! The bus on a real server.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(
    clippy::disallowed_methods,
    reason = "a test owns the tasks that it starts"
)]

use orchion_bus::{AppendError, Bus, Change, Config, Error, From, Identity, LeaseHandle, System};
use orchion_contract::buckets::LEASES;
use orchion_contract::job::{CancelJob, CancelReason};
use orchion_contract::lease::{Lease, LeaseKey};
use orchion_contract::log::ServiceName;
use orchion_contract::node::{Empty, RegisterAgain};
use orchion_contract::stores::{BLOBS, BlobRef};
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::{REGISTER_AGAIN, TRANSCRIPT};
use orchion_contract::{ErrorBody, ErrorCode, InstanceId, JobId, NodeId, ReaderId, rpc};
use orchion_service::{Secret, Stop, Supervisor};
use orchion_testkit::{NatsServer, eventually};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(10);

async fn connect(nats: &NatsServer, name: &str) -> Bus {
    let config = Config {
        url: nats.url(),
        ..Config::default()
    };
    let identity = Identity {
        client: name.to_owned(),
        service: ServiceName::new(name).unwrap(),
        instance: InstanceId::random(),
    };
    Bus::connect(&config, identity, &Stop::new()).await.unwrap()
}

fn lease(epoch: u64) -> Lease {
    Lease {
        holder: InstanceId::random(),
        acquired_ms: 1,
        epoch,
    }
}

fn transcript() -> String {
    TRANSCRIPT.to(&(ReaderId::new("g").unwrap(), JobId::now()))
}

#[tokio::test]
async fn streams_and_buckets_are_created_twice_without_harm() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    bus.ensure_all().await.unwrap();
}

#[tokio::test]
async fn a_blob_is_read_as_it_was_stored_or_not_at_all() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let blob = BlobRef::to(&content, 0);
    assert_eq!(bus.get_blob(&BLOBS, &blob).await.unwrap(), None);
    bus.put_blob(&BLOBS, &blob, &content).await.unwrap();
    let before = bus.last_sequence("OBJ_blobs").await.unwrap();
    bus.put_blob(&BLOBS, &blob, &content).await.unwrap();
    // What lies there already is not stored again.
    assert_eq!(bus.last_sequence("OBJ_blobs").await.unwrap(), before);
    assert_eq!(bus.get_blob(&BLOBS, &blob).await.unwrap(), Some(content));
    let other = BlobRef {
        digest: "0".repeat(64),
        ..blob
    };
    assert_eq!(bus.get_blob(&BLOBS, &other).await.unwrap(), None);
}

#[tokio::test]
async fn a_chain_takes_only_what_fits() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let subject = transcript();
    let first = bus.append(&subject, "one".into(), 0).await.unwrap();
    let again = bus.append(&subject, "other".into(), 0).await;
    assert!(
        matches!(again, Err(AppendError::WrongSequence { .. })),
        "{again:?}"
    );
    let second = bus.append(&subject, "two".into(), first).await.unwrap();
    let last = bus.last(TRANSCRIPTS.name, &subject).await.unwrap().unwrap();
    assert_eq!((last.sequence, &last.payload[..]), (second, &b"two"[..]));
}

#[tokio::test]
async fn a_full_stream_says_so() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    let small = orchion_contract::streams::StreamSpec {
        max_bytes: 1024,
        ..TRANSCRIPTS
    };
    bus.ensure_stream(&small).await.unwrap();
    let refused = bus.append(&transcript(), vec![b'x'; 2048].into(), 0).await;
    assert!(
        matches!(refused, Err(AppendError::Full { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_reading_goes_on_over_a_restart_without_loss() {
    let mut nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let subject = transcript();
    let mut reading = bus
        .read(TRANSCRIPTS.name, &subject, From::Beginning)
        .await
        .unwrap();
    let mut after = bus.append(&subject, "0".into(), 0).await.unwrap();
    assert_eq!(&reading.next().await.unwrap().payload[..], b"0");
    nats.kill();
    nats.restart().await;
    for n in 1..5 {
        let append = || async {
            match bus.append(&subject, n.to_string().into(), after).await {
                Ok(sequence) => Some(sequence),
                // The answer to an earlier try was lost.
                Err(AppendError::WrongSequence { .. }) => {
                    Some(bus.last(TRANSCRIPTS.name, &subject).await.ok()??.sequence)
                }
                Err(_) => None,
            }
        };
        after = eventually("the server takes an entry", SOON, append).await;
    }
    for n in 1..5 {
        let next = tokio::time::timeout(SOON, reading.next())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&next.payload[..], n.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_watch_tells_what_stands_then_that_it_did_then_what_changes() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let kv = bus.bucket(LEASES);
    let lease = lease(0);
    let mut empty = kv.watch().await.unwrap();
    assert!(matches!(empty.next().await.unwrap(), Change::Loaded));
    let revision = kv.set(&LeaseKey::Scheduler, &lease, 0, None).await.unwrap();
    let mut watch = kv.watch().await.unwrap();
    assert!(matches!(
        watch.next().await.unwrap(),
        Change::Set {
            key: LeaseKey::Scheduler,
            ..
        }
    ));
    assert!(matches!(watch.next().await.unwrap(), Change::Loaded));
    kv.delete(&LeaseKey::Scheduler, revision).await.unwrap();
    let Change::Set { found, .. } = watch.next().await.unwrap() else {
        panic!("expected a change")
    };
    assert!(found.value.is_none());
}

#[tokio::test]
async fn a_value_with_a_ttl_expires() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let kv = bus.bucket(LEASES);
    let lease = lease(0);
    kv.set(&LeaseKey::Registry, &lease, 0, Some(Duration::from_secs(1)))
        .await
        .unwrap();
    let gone = || async {
        kv.get(&LeaseKey::Registry)
            .await
            .unwrap()
            .is_none_or(|found| found.value.is_none())
    };
    eventually("the lease expires", SOON, gone).await;
}

#[tokio::test]
async fn last_values_are_written_together_where_they_fit() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let kv = bus.bucket(LEASES);
    let key = |n: usize| LeaseKey::Gateway(ReaderId::new(format!("g{n}")).unwrap());
    let mut revisions = Vec::new();
    for n in 0..40 {
        revisions.push(kv.set(&key(n), &lease(0), 0, None).await.unwrap());
    }
    // Somebody else was there before.
    revisions[7] += 1000;
    let keys: Vec<_> = (0..40).map(key).collect();
    let last = lease(1);
    let values = keys
        .iter()
        .zip(&revisions)
        .map(|(key, revision)| (key, &last, *revision));
    kv.set_all(values, Duration::from_secs(60)).await.unwrap();
    for (n, key) in keys.iter().enumerate() {
        let found = kv.get(key).await.unwrap().unwrap().value.unwrap();
        assert_eq!(found.epoch == 1, n != 7, "{n}");
    }
    // The last one of all is answered.
    let one = [(&keys[7], &last, 1)];
    let refused = kv.set_all(one, Duration::from_secs(60)).await;
    assert!(matches!(refused, Err(AppendError::WrongSequence { .. })));
    kv.set_all([], Duration::from_secs(60)).await.unwrap();
}

#[tokio::test]
async fn what_lasts_is_found_behind_a_revision() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let kv = bus.bucket(LEASES);
    let lease = lease(0);
    assert_eq!(kv.lasting(0).await.unwrap(), (Vec::new(), 0));
    let minute = Some(Duration::from_secs(60));
    let scheduler = kv.set(&LeaseKey::Scheduler, &lease, 0, None).await.unwrap();
    let registry = kv
        .set(&LeaseKey::Registry, &lease, 0, minute)
        .await
        .unwrap();
    let all = kv.lasting(0).await.unwrap();
    assert_eq!(all, (vec![(LeaseKey::Scheduler, scheduler)], registry));
    assert_eq!(kv.lasting(scheduler).await.unwrap(), (Vec::new(), registry));
    let again = kv
        .set(&LeaseKey::Registry, &lease, registry, None)
        .await
        .unwrap();
    let found = kv.lasting(scheduler).await.unwrap();
    assert_eq!(found, (vec![(LeaseKey::Registry, again)], again));
    // A store that was rolled back has not come so far.
    assert_eq!(kv.lasting(again + 9).await.unwrap().0.len(), 2);
}

#[tokio::test]
async fn a_message_is_told_from_another_in_its_place() {
    let nats = NatsServer::start().await;
    let bus = connect(&nats, "a").await;
    bus.ensure_all().await.unwrap();
    let reader = ReaderId::new("r").unwrap();
    let subject = TRANSCRIPT.to(&(reader, JobId::now()));
    let sequence = bus.append(&subject, "{}".into(), 0).await.unwrap();
    let last = bus.last(TRANSCRIPTS.name, &subject).await.unwrap().unwrap();
    let mut reading = bus
        .read(TRANSCRIPTS.name, &subject, From::Beginning)
        .await
        .unwrap();
    let read = reading.next().await.unwrap();
    assert_eq!((read.sequence, read.at), (sequence, last.at));
    let holds = async |sequence, at| bus.holds(TRANSCRIPTS.name, sequence, at).await.unwrap();
    assert!(holds(sequence, read.at).await);
    assert!(!holds(sequence, read.at + 1).await);
    assert!(!holds(sequence + 1, read.at).await);
}

#[tokio::test]
async fn a_question_is_answered_refused_or_unanswered() {
    let nats = NatsServer::start().await;
    let (server, client) = (connect(&nats, "scheduler").await, connect(&nats, "b").await);
    let service = server.service("answers").await.unwrap();
    let mut questions = service.endpoint(rpc::UNREGISTER, "group").await.unwrap();
    server.flush().await.unwrap();
    let answering = tokio::task::spawn(async move {
        let question = questions.next().await.unwrap();
        question.answer(Ok(Empty {})).await;
        let question = questions.next().await.unwrap();
        question
            .answer(Err(ErrorBody::new(ErrorCode::NotFound, "no such node")))
            .await;
    });
    let asked = orchion_contract::node::Unregister {
        node: NodeId::new("n").unwrap(),
        instance: None,
    };
    client
        .ask(&rpc::UNREGISTER, &(), &asked, SOON)
        .await
        .unwrap();
    let refused = client.ask(&rpc::UNREGISTER, &(), &asked, SOON).await;
    assert!(matches!(refused, Err(Error::Remote(error)) if error.code == ErrorCode::NotFound));
    answering.await.unwrap();
    let cancel = CancelJob {
        job: JobId::now(),
        reason: CancelReason::Client,
    };
    let nobody = client.ask(&rpc::CANCEL_JOB, &(), &cancel, SOON).await;
    assert!(
        matches!(nobody, Err(Error::NoResponders { .. })),
        "{nobody:?}"
    );
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_is_refused() {
    let nats = NatsServer::start().await;
    let (server, client) = (connect(&nats, "scheduler").await, nats.client().await);
    let service = server.service("answers").await.unwrap();
    let mut questions = service.endpoint(rpc::UNREGISTER, "group").await.unwrap();
    server.flush().await.unwrap();
    let listening = tokio::task::spawn(async move { questions.next().await.is_some() });
    let answer = client
        .request(rpc::UNREGISTER.to(&()), "nonsense".into())
        .await
        .unwrap();
    let error: ErrorBody = serde_json::from_slice(&answer.payload).unwrap();
    assert_eq!(error.code, ErrorCode::InvalidParams);
    assert_eq!(
        answer
            .headers
            .unwrap()
            .get("Nats-Service-Error-Code")
            .unwrap()
            .as_str(),
        "400"
    );
    listening.abort();
}

#[tokio::test]
async fn an_event_reaches_its_listeners() {
    let nats = NatsServer::start().await;
    let (a, b) = (connect(&nats, "a").await, connect(&nats, "b").await);
    let mut orders = a.subscribe(REGISTER_AGAIN).await.unwrap();
    a.flush().await.unwrap();
    let node = NodeId::new("n").unwrap();
    b.publish(
        &REGISTER_AGAIN,
        &node,
        &RegisterAgain {
            registry: InstanceId::random(),
        },
    )
    .await
    .unwrap();
    assert_eq!(orders.next().await.unwrap().0, node);
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_by_the_server() {
    let nats = NatsServer::start().await;
    let password = Secret::new(orchion_testkit::nats::SYSTEM_USER);
    let user = Some(orchion_testkit::nats::SYSTEM_USER.to_owned());
    let config = Config {
        url: nats.url(),
        system_user: user,
        system_password: Some(password),
        ..Config::default()
    };
    let mut system = System::connect(&config).await.unwrap().unwrap();
    eventually("the system connection answers", SOON, || async {
        system.connections().await.ok()
    })
    .await;
    let agent = connect(&nats, "agent-n").await;
    let came = system.next().await.unwrap();
    assert_eq!((came.client.as_str(), came.connected), ("agent-n", true));
    let listed = system.connections().await.unwrap();
    assert!(listed.0.iter().any(|listed| listed.id == came.id));
    agent.drain().await;
    let gone = system.next().await.unwrap();
    assert_eq!((gone.id, gone.connected), (came.id, false));
}

async fn contender(nats: &NatsServer, name: &'static str) -> (Supervisor, LeaseHandle) {
    let bus = connect(nats, name).await;
    bus.ensure_all().await.unwrap();
    let supervisor = Supervisor::new(name, SOON);
    let lease = LeaseHandle::contend(
        &bus,
        LeaseKey::Scheduler,
        Duration::from_secs(2),
        supervisor.tasks(),
    );
    (supervisor, lease)
}

#[tokio::test]
async fn one_contender_holds_the_lease_and_another_takes_over() {
    let nats = NatsServer::start().await;
    let (first, a) = contender(&nats, "a").await;
    let epoch = eventually("a holds the lease", SOON, || async { a.epoch() }).await;
    let (_second, b) = contender(&nats, "b").await;
    assert_eq!(b.epoch(), None);
    let stopped = Instant::now();
    first.stop().request();
    first.run(async |_| Ok(())).await.unwrap();
    let next = eventually("b holds the lease", SOON, || async { b.epoch() }).await;
    assert!(next > epoch);
    assert!(
        stopped.elapsed() < Duration::from_secs(2),
        "a clean stop gives the lease back at once"
    );
}

#[tokio::test]
async fn a_holder_survives_a_restart_of_the_server() {
    let mut nats = NatsServer::start().await;
    let (_supervisor, lease) = contender(&nats, "a").await;
    let epoch = eventually("a holds the lease", SOON, || async { lease.epoch() }).await;
    nats.kill();
    nats.restart().await;
    let later = eventually("it holds it again", SOON, || async { lease.epoch() }).await;
    assert!(later >= epoch);
}
