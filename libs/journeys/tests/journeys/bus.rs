//! Steps: the same over the bus, without a gateway.

use std::time::Duration;

use cucumber::{then, when};
use orchion_bus::{Bus, Error, Identity};
use orchion_contract::job::{
    DEFAULT_DEADLINE_MS, Door, JobSpec, MAX_BODY_BYTES, Priority, Submit, Timeouts, Workload,
};
use orchion_contract::log::ServiceName;
use orchion_contract::subject::Rpc;
use orchion_contract::{InstanceId, JobId, ModelName, ReaderId, rpc};
use orchion_service::Stop;
use orchion_testkit::wire::Ask;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use crate::journey::{Journey, messages};

const PATIENCE: Duration = Duration::from_secs(5);

async fn connect(url: &str) -> Bus {
    let config = orchion_bus::Config {
        url: url.to_owned(),
        ..orchion_bus::Config::default()
    };
    let identity = Identity {
        client: "journey".to_owned(),
        service: ServiceName::new("journey").unwrap(),
        instance: InstanceId::random(),
    };
    Bus::connect(&config, identity, &Stop::new()).await.unwrap()
}

fn raw(value: &Value) -> Box<RawValue> {
    to_raw_value(value).unwrap()
}

fn submission() -> Submit {
    let ask = Ask::new(5);
    Submit {
        job: JobId::now(),
        reader: ReaderId::new("bus").unwrap(),
        door: Door::Task,
        spec: JobSpec {
            workload: Workload::Chat,
            model: ModelName::from("mock"),
            body: raw(&json!({"messages": messages(&ask)})),
            body_ref: None,
            max_tokens: Some(5),
            seed: None,
            seed_drawn: false,
            priority: Priority::Interactive,
            deadline_ms: DEFAULT_DEADLINE_MS,
            timeouts: Timeouts::default(),
            expected_tokens: None,
            placement: None,
            whole: false,
        },
        correlation_id: "journey".to_owned(),
        ordered: None,
    }
}

/// What is asked, as it stands on the wire: it may hold words that no type has.
fn wire(submit: &Submit) -> Value {
    serde_json::from_str(&serde_json::to_string(submit).unwrap()).unwrap()
}

#[when(regex = r"^I submit a task (.+) over the bus$")]
async fn submit(journey: &mut Journey, what: String) {
    let bus = connect(&journey.nats_url).await;
    let submit = submission();
    journey.jobs.push(submit.job.to_string());
    let mut asked = wire(&submit);
    let spec = &mut asked["spec"];
    match what.as_str() {
        "that is fine" => {}
        "of a workload that is none" => spec["workload"] = "dance".into(),
        "of a class that is none" => spec["priority"] = "urgent".into(),
        "with no tokens at all" => spec["max_tokens"] = 0.into(),
        "with a deadline in the past" => spec["deadline_ms"] = 0.into(),
        "for a model that never was" => spec["model"] = "never-was".into(),
        "with a body over the limit" => {
            spec["body"] = json!({"prompt": "x".repeat(MAX_BODY_BYTES + 1)});
        }
        "with an id that is taken" => {
            let first = bus.ask(&rpc::SUBMIT, &(), &submit, PATIENCE).await;
            first.expect("the first one is taken in");
            spec["body"] = json!({"prompt": "something else"});
        }
        other => panic!("nobody knows a task {other}"),
    }
    let untyped = Rpc::<(), Value, Value>::new(rpc::SUBMIT.pattern());
    let answer = bus.ask_patiently(&untyped, &(), &asked, PATIENCE).await;
    journey.bus_code = Some(match answer {
        Ok(_) => "none".to_owned(),
        Err(Error::Remote(body)) => body.code.to_string(),
        Err(error) => error.to_string(),
    });
}

#[then(expr = "the bus answers with code {string}")]
fn answers_with(journey: &mut Journey, code: String) {
    assert_eq!(journey.bus_code.as_deref(), Some(code.as_str()));
}
