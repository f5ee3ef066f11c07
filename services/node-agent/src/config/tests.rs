use super::*;
use orchion_service::config::{FlagValue, Problems, Sources, load};

fn loaded(flags: &[(&str, &str)]) -> Result<Config, Problems> {
    let flag = |(name, value): &(&str, &str)| {
        let flag = FLAGS
            .iter()
            .find(|flag| flag.name == *name || flag.aliases.contains(name));
        FlagValue {
            name: (*name).to_owned(),
            key: flag.unwrap().key.to_owned(),
            value: (*value).to_owned(),
        }
    };
    load(&Sources {
        // No file of this machine gets in.
        file: Some(empty_file()),
        flags: flags.iter().map(flag).collect(),
        ..Sources::default()
    })
}

fn empty_file() -> PathBuf {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.into_temp_path().keep().unwrap()
}

fn problems(flags: &[(&str, &str)]) -> String {
    loaded(flags).unwrap_err().to_string()
}

#[test]
fn the_defaults_are_the_known_ones() {
    let config = loaded(&[]).unwrap();
    assert_eq!(config.nats.url, "nats://localhost:4222");
    assert_eq!(
        config.node_agent.heartbeat_interval,
        HumanDuration::from_secs(5)
    );
    assert_eq!(
        config.node_agent.capability_interval,
        HumanDuration::from_secs(10)
    );
}

#[test]
fn the_old_name_of_the_nats_url_and_its_short_form_work() {
    for (flag, url) in [("nats-url", "nats://a:4222"), ("orchestrator", "a:4222")] {
        assert_eq!(loaded(&[(flag, url)]).unwrap().nats.url, url);
    }
}

#[test]
fn a_node_id_that_would_split_a_subject_is_refused() {
    for id in ["a.b", "a b", "*"] {
        let said = problems(&[("node-id", id)]);
        assert!(
            said.contains("node-agent.node_id") && said.contains("letters, digits"),
            "{said}"
        );
    }
}

#[test]
fn intervals_are_humane_and_not_zero() {
    let config = loaded(&[("heartbeat-interval", "10s")]).unwrap();
    assert_eq!(
        config.node_agent.heartbeat_interval,
        HumanDuration::from_secs(10)
    );
    assert!(problems(&[("heartbeat-interval", "0s")]).contains("longer than 0"));
}

#[test]
fn engines_are_checked_one_by_one() {
    let config = |engine: EngineSettings| NodeAgent {
        engines: vec![engine],
        ..NodeAgent::default()
    };
    let said = |engine| config(engine).problems().join("\n");
    assert_eq!(
        said(EngineSettings::at(EngineKind::OpenAi, "http://a:1/v1")),
        ""
    );
    assert!(said(EngineSettings::at(EngineKind::OpenAi, "a:1")).contains("http://HOST:PORT"));
    assert!(said(EngineSettings::new(EngineKind::OpenAi)).contains("url"));
    assert!(said(EngineSettings::new(EngineKind::LlamaCpp)).contains("model"));
    assert!(said(EngineSettings::at(EngineKind::Vllm, "http://a:1")).contains("openai"));
    let unknown = EngineSettings::at(EngineKind::Unknown, "http://a:1");
    assert!(said(unknown).contains("llamacpp, openai or starter"));
    let misspelt = EngineSettings {
        continuation: Some(Continuation::Unknown),
        ..EngineSettings::at(EngineKind::OpenAi, "http://a:1")
    };
    assert!(said(misspelt).contains("none, text or ids"));
    let none = EngineSettings {
        slots: Some(0),
        ..EngineSettings::at(EngineKind::OpenAi, "http://a:1")
    };
    assert!(said(none).contains("slots"));
}

#[test]
fn engines_are_read_from_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[[node-agent.engines]]\nkind = \"openai\"\nurl = \"http://127.0.0.1:9\"\nslots = 3\ncontinuation = \"text\"\n";
    std::fs::write(file.path(), text).unwrap();
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    };
    let config: Config = load(&sources).unwrap();
    let engine = &config.node_agent.engines[0];
    assert_eq!(
        (engine.slots, engine.continuation),
        (Some(3), Some(Continuation::Text))
    );
}
