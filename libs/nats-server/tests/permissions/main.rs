//! The configuration of `nats/` on a real server: what each role may do, and
//! what it is refused, with and without passwords.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod server;
mod wire;

use orchion_nats_server::{Access, Passwords};
use server::Server;
use wire::Client;

const TRANSCRIPTS: &str = r#"{"name":"TRANSCRIPTS","subjects":["orchion.transcript.*.*"],"storage":"file","allow_direct":true}"#;

#[test]
fn both_configurations_are_valid() {
    for access in [Access::Loopback, Access::Network(Passwords::generate())] {
        server::check(&access);
    }
}

#[test]
fn on_loopback_a_program_without_a_name_is_a_service() {
    let server = Server::start(&Access::Loopback);
    let mut client = server.connect("", "");

    for subject in ["orchion.transcript.>", "$KV.jobs.>", "_INBOX_gateway.>"] {
        assert_eq!(client.subscribe(subject), None, "{subject}");
    }
    assert_eq!(client.publish("orchion.cmd.node.run.one"), None);
}

#[test]
fn a_reader_hears_logs_and_events() {
    for access in [Access::Loopback, Access::Network(Passwords::generate())] {
        let server = Server::start(&access);
        let mut reader = server.connect_as("reader");
        assert_eq!(reader.subscribe("orchion.log.>"), None);
        assert_eq!(reader.subscribe("orchion.evt.>"), None);

        let mut service = server.connect_as("service");
        service.publish("orchion.log.gateway.one.info");
        service.publish("orchion.evt.job.ended");

        assert_eq!(reader.message().subject, "orchion.log.gateway.one.info");
        assert_eq!(reader.message().subject, "orchion.evt.job.ended");
    }
}

#[test]
fn a_reader_sees_nothing_that_people_wrote_or_got() {
    for access in [Access::Loopback, Access::Network(Passwords::generate())] {
        let server = Server::start(&access);
        let mut reader = server.connect_as("reader");

        for subject in [
            "orchion.transcript.>",
            "orchion.transcript.g1.*",
            ">",
            "orchion.>",
            "$KV.jobs.>",
            "_INBOX_service.>",
            "_INBOX_agent.>",
        ] {
            assert!(reader.subscribe(subject).is_some(), "{subject} was allowed");
        }
        for subject in [
            "$JS.API.DIRECT.GET.TRANSCRIPTS",
            "$JS.API.STREAM.MSG.GET.TRANSCRIPTS",
            "$JS.API.CONSUMER.CREATE.TRANSCRIPTS.c",
            "$JS.API.DIRECT.GET.KV_jobs",
            "$JS.API.CONSUMER.CREATE.KV_jobs.c",
            "$JS.API.STREAM.LIST",
            "orchion.rpc.scheduler.submit",
            "orchion.log.gateway.one.info",
        ] {
            assert!(reader.publish(subject).is_some(), "{subject} was allowed");
        }
    }
}

#[test]
fn an_agent_does_its_work_and_no_more() {
    for access in [Access::Loopback, Access::Network(Passwords::generate())] {
        let server = Server::start(&access);
        let mut agent = server.connect_as("agent");

        for subject in [
            "orchion.cmd.node.run.one",
            "orchion.evt.registry.hello",
            "_INBOX_agent.agent-one.>",
            "$SRV.PING",
        ] {
            assert_eq!(agent.subscribe(subject), None, "{subject}");
        }
        for subject in [
            "orchion.evt.node.heartbeat.one",
            "orchion.log.node-agent.i.info",
            "orchion.rpc.registry.register",
            "orchion.rpc.scheduler.ended",
            // A reading without a name of its own, as the client makes for a prefix.
            "$JS.API.CONSUMER.CREATE.TRANSCRIPTS",
        ] {
            assert_eq!(agent.publish(subject), None, "{subject}");
        }
        for subject in [
            "orchion.transcript.>",
            "$KV.jobs.>",
            "_INBOX_service.>",
            "orchion.log.>",
        ] {
            assert!(agent.subscribe(subject).is_some(), "{subject} was allowed");
        }
        for subject in [
            "orchion.rpc.scheduler.submit",
            "orchion.evt.node.lost.one",
            "orchion.evt.job.ended",
            "orchion.cmd.node.run.two",
            "$KV.jobs.x",
            "$JS.API.DIRECT.GET.KV_jobs",
            "$JS.API.STREAM.CREATE.X",
            "$JS.API.STREAM.PURGE.TRANSCRIPTS",
            "$JS.API.STREAM.DELETE.TRANSCRIPTS",
        ] {
            assert!(agent.publish(subject).is_some(), "{subject} was allowed");
        }
    }
}

#[test]
fn an_agent_writes_a_transcript_and_reads_it_back() {
    let server = Server::start(&Access::Network(Passwords::generate()));
    let created = server.connect_as("service").request(
        "service.setup",
        "$JS.API.STREAM.CREATE.TRANSCRIPTS",
        TRANSCRIPTS,
    );
    assert!(created.contains(r#""created""#), "{created}");
    let mut agent = server.connect_as("agent");

    let stored = agent.request("agent.one", "orchion.transcript.g1.job", "frame");
    assert!(stored.contains(r#""seq":1"#), "{stored}");

    let last = agent.request(
        "agent.one",
        "$JS.API.DIRECT.GET.TRANSCRIPTS.orchion.transcript.g1.job",
        "",
    );
    assert!(last.ends_with("frame"), "{last}");

    let reading = r#"{"stream_name":"TRANSCRIPTS","config":{"name":"c","deliver_subject":"_INBOX_agent.one.feed","ack_policy":"none","mem_storage":true,"num_replicas":1}}"#;
    agent.subscribe("_INBOX_agent.one.feed");
    agent.send(
        "$JS.API.CONSUMER.CREATE.TRANSCRIPTS.c",
        "_INBOX_agent.one.created",
        reading,
    );
    assert_eq!(agent.message_on("_INBOX_agent.one.feed").payload, "frame");
}

#[test]
fn an_agent_answers_whoever_gave_the_order() {
    let server = Server::start(&Access::Network(Passwords::generate()));
    let mut agent = server.connect_as("agent");
    agent.subscribe("orchion.cmd.node.run.one");
    let mut scheduler = server.connect_as("service");
    scheduler.subscribe("_INBOX_service.scheduler.1");
    scheduler.send(
        "orchion.cmd.node.run.one",
        "_INBOX_service.scheduler.1",
        "{}",
    );

    let order = agent.message();
    assert_eq!(agent.publish(&order.reply), None);

    assert_eq!(scheduler.message().subject, "_INBOX_service.scheduler.1");
}

#[test]
fn the_registry_learns_of_connections_and_nobody_else_does() {
    for access in [Access::Loopback, Access::Network(Passwords::generate())] {
        let server = Server::start(&access);
        let mut liveness = server.connect_as("liveness");
        assert_eq!(liveness.subscribe("$SYS.ACCOUNT.ORCHION.DISCONNECT"), None);
        assert_eq!(liveness.subscribe("$SYS.ACCOUNT.ORCHION.CONNECT"), None);
        assert!(liveness.subscribe("$SYS.>").is_some());

        drop(server.connect_as("agent"));

        assert_eq!(liveness.message().subject, "$SYS.ACCOUNT.ORCHION.CONNECT");
        let event: serde_json::Value = serde_json::from_str(&liveness.message().payload).unwrap();
        assert_eq!(event["client"]["name"], "test-agent");
    }
}

#[test]
fn from_the_network_nobody_enters_without_the_password() {
    let server = Server::start(&Access::Network(Passwords::generate()));
    for (user, password) in [
        ("", ""),
        ("service", ""),
        ("service", "wrong"),
        ("liveness", ""),
    ] {
        let refused = Client::connect(server.address, user, password).unwrap_err();
        assert!(
            refused.contains("Authorization Violation"),
            "{user}: {refused}"
        );
    }
}
