//! Which engines an agent takes in, and how it finds out what they can do.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use orchion_contract::job::AttemptOutcome;
use orchion_contract::node::Continuation;
use orchion_node_agent::{EngineSettings, NodeAgent};
use orchion_testkit::mock_engine::Options;
use orchion_testkit::wire::{self, Ask, Fault, FaultKind};
use orchion_testkit::{MockEngine, eventually};

use crate::cluster::{Cluster, PATIENCE, Setup, settings};

fn mock(continuation: wire::Continuation) -> MockEngine {
    MockEngine::start(Options {
        continuation,
        ..Options::default()
    })
}

#[tokio::test]
async fn what_an_engine_makes_of_a_begun_answer_is_tried_out() {
    let engines = [
        (mock(wire::Continuation::Continue), Continuation::Text),
        (mock(wire::Continuation::Repeat), Continuation::None),
        (mock(wire::Continuation::Ignore), Continuation::None),
        (mock(wire::Continuation::Refuse), Continuation::None),
    ];
    let untold = |engine: &MockEngine| EngineSettings {
        continuation: None,
        ..settings(engine)
    };
    let all = engines.iter().map(|(engine, _)| untold(engine));
    let cluster = Cluster::with_engines(all.collect()).await;
    for (engine, expected) in &engines {
        let port = engine.addr().port().to_string();
        let replicas = cluster.replicas();
        let its = replicas.iter().find(|r| r.id.as_str().contains(&port));
        assert_eq!(its.unwrap().continuation, *expected);
    }
}

#[tokio::test]
async fn an_engine_that_runs_on_the_host_is_found_and_a_gateway_is_not() {
    let engine = MockEngine::named("a");
    let gateway = pose_as_gateway();
    let setup = Setup {
        probe: vec![gateway, engine.url()],
        ..Setup::default()
    };
    let cluster = setup.start().await;
    cluster.until_served(1).await;
    let port = engine.addr().port().to_string();
    assert!(cluster.replicas()[0].id.as_str().contains(&port));
    let ask = Ask::new(5);
    let order = cluster.order(&ask);
    cluster.accepted(&order).await;
    cluster.answer(&order).await.assert_whole(&ask);
}

#[tokio::test]
async fn an_engine_has_one_agent_and_gets_another_when_that_is_gone() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let other = NodeAgent {
        probe: Vec::new(),
        engines: vec![settings(&engine)],
        ..NodeAgent::default()
    };
    let other = cluster.join("other", other);
    eventually("the other node to be known", PATIENCE, async || {
        let known = cluster.registrations.lock().unwrap();
        known.iter().any(|known| known.node.as_str() == "other")
    })
    .await;
    assert!(cluster.replicas_of("other").is_empty());
    cluster.stop_agent();
    eventually("the other node to serve it", PATIENCE, async || {
        cluster
            .replicas_of("other")
            .iter()
            .any(|replica| replica.ready)
    })
    .await;
    other.stop();
    other.ended().await.unwrap();
    cluster.agent_ended().await.unwrap();
}

#[tokio::test]
async fn only_the_models_that_were_named_are_served() {
    let engine = MockEngine::start(Options {
        models: vec!["mock".to_owned(), "other".to_owned()],
        ..Options::default()
    });
    let one = EngineSettings {
        models: vec!["mock".to_owned()],
        slots: Some(3),
        digest: Some("sha256:x".to_owned()),
        ..settings(&engine)
    };
    let cluster = Cluster::with_engines(vec![one]).await;
    let replica = cluster.replicas().remove(0);
    assert_eq!((replica.model.as_str(), replica.slots), ("mock", 3));
    assert_eq!(replica.engine.digest.as_deref(), Some("sha256:x"));
    assert_eq!(replica.engine.version.as_deref(), Some("0.0.0-mock"));
}

#[tokio::test]
async fn an_agent_lives_within_the_permissions_of_its_role() {
    let (one, two) = (MockEngine::named("a"), MockEngine::named("b"));
    let setup = Setup {
        engines: vec![settings(&one), settings(&two)],
        has_roles: true,
        ..Setup::default()
    };
    let cluster = setup.start().await;
    cluster.until_served(2).await;
    let replicas = cluster.replicas();
    let fault = Fault::new(FaultKind::Truncate).at(10).times(1);
    let ask = Ask::new(30).fault(fault);
    let first = cluster.order(&ask);
    cluster.accepted(&first).await;
    let told = cluster.end(&first).await;
    assert!(
        matches!(told.how, AttemptOutcome::Failed { .. }),
        "{told:?}"
    );
    let second = cluster.mark(&first, &replicas[0]).await;
    cluster.accepted(&second).await;
    cluster.answer(&second).await.assert_whole(&ask);
    let log = cluster.nats.log();
    assert!(!log.contains("Violation"), "{log}");
    cluster.stop_agent();
    cluster.agent_ended().await.unwrap();
}

/// Answers every request as a gateway answers `GET /version`.
fn pose_as_gateway() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(1)))
                .unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let body = r#"{"service":"orchion-gateway","data":[],"build_info":"x"}"#;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            // Who does not read is no matter.
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{address}")
}
