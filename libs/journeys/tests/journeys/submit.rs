//! Steps: a cluster, tasks that are sent to it, what is answered.

use cucumber::{given, then, when};
use hyper::Method;
use orchion_testkit::Cluster;
use orchion_testkit::wire::{Ask, Fault, FaultKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::journey::{Journey, SOON};
use crate::stage::{self, stage};

/// Far more tokens than any scenario waits for: two minutes.
const LONG: u32 = 60_000;
const LONG_PACE_US: u64 = 2_000;

#[given(expr = "a cluster with {int} slot(s)")]
async fn cluster(journey: &mut Journey, slots: u32) {
    let build = || Cluster::builder().agents(1).slots(slots);
    journey
        .enter(stage(&format!("{slots} slots"), build).await)
        .await;
}

#[given(expr = "a cluster with {int} slots and {int} gateways")]
async fn several_gateways(journey: &mut Journey, slots: u32, gateways: usize) {
    let build = || Cluster::builder().agents(1).slots(slots).gateways(gateways);
    let name = format!("{slots} slots, {gateways} gateways");
    journey.enter(stage(&name, build).await).await;
}

#[given(expr = "a cluster with 1 slot whose engines may be silent for {int} s")]
async fn impatient(journey: &mut Journey, seconds: u32) {
    let lines = format!("idle_timeout = \"{seconds}s\"\nfirst_token_timeout = \"{seconds}s\"");
    let build = || {
        Cluster::builder()
            .agents(1)
            .slots(1)
            .settings("node-agent", &lines)
    };
    journey
        .enter(stage(&format!("silent {seconds}"), build).await)
        .await;
}

#[given(expr = "a cluster with 1 slot and a queue of {int} that is {word} when full")]
async fn small_queue(journey: &mut Journey, capacity: u32, policy: String) {
    // A running batch job that makes room would be another story.
    let lines = format!(
        "pools.default = {{ capacity = {capacity}, full_policy = \"{policy}\", preempt = false }}"
    );
    let build = || {
        Cluster::builder()
            .agents(1)
            .slots(1)
            .settings("scheduler", &lines)
    };
    journey
        .enter(stage(&format!("queue {capacity} {policy}"), build).await)
        .await;
}

#[given(expr = "a cluster with 1 slot that misses its nodes for {int} s")]
async fn soon_missed(journey: &mut Journey, seconds: u32) {
    let lines = format!("gone_after = \"{seconds}s\"");
    let build = || {
        Cluster::builder()
            .agents(1)
            .slots(1)
            .settings("scheduler", &lines)
    };
    journey
        .enter(stage(&format!("missed {seconds}"), build).await)
        .await;
}

#[given(expr = "every node is gone for good")]
async fn no_nodes(journey: &mut Journey) {
    let on = journey.stage();
    let mut cluster = on.cluster.lock().await;
    cluster.agents.iter_mut().for_each(|agent| agent.kill());
    stage::clear();
    drop(cluster);
    orchion_testkit::eventually("the node to be missed", SOON, async || {
        let body = journey.task("early", &Ask::new(5));
        journey.submit("early", &body, &[]).await;
        // Until then, whatever was taken in is not wanted.
        let id = journey.id("early");
        journey.cancel(&id).await;
        !journey.accepted.contains_key("early") || {
            journey.accepted.clear();
            false
        }
    })
    .await;
}

#[given(expr = "the store of jobs has no room")]
async fn full_store(journey: &mut Journey) {
    resize(journey, 1).await;
    // Whatever fails from here on, nobody else gets this cluster.
    stage::clear();
}

#[when(expr = "the store of jobs has room again")]
async fn store_with_room(journey: &mut Journey) {
    resize(journey, 1 << 30).await;
}

/// Changes how many bytes the bucket of jobs may hold.
async fn resize(journey: &mut Journey, max_bytes: i64) {
    let on = journey.stage();
    let cluster = on.cluster.lock().await;
    let admin = cluster.nats.client().await;
    let info = admin.request("$JS.API.STREAM.INFO.KV_jobs", "".into());
    let info: Value = serde_json::from_slice(&info.await.unwrap().payload).unwrap();
    let mut config = info["config"].clone();
    config["max_bytes"] = max_bytes.into();
    let update = config.to_string().into();
    let updated = admin.request("$JS.API.STREAM.UPDATE.KV_jobs", update);
    let updated: Value = serde_json::from_slice(&updated.await.unwrap().payload).unwrap();
    assert!(updated.get("error").is_none(), "{updated}");
}

#[given(expr = "there is no scheduler")]
async fn no_scheduler(journey: &mut Journey) {
    let on = journey.stage();
    let mut cluster = on.cluster.lock().await;
    cluster.schedulers.iter_mut().for_each(|it| it.kill());
    stage::clear();
}

#[given(regex = r#"^a task "(\w+)" that holds (?:the|a) slot$"#)]
async fn holding(journey: &mut Journey, name: String) {
    let body = journey.task(&name, &Ask::new(LONG).pace_us(LONG_PACE_US));
    journey.submit(&name, &body, &[]).await;
    journey.until(&journey.id(&name), "running").await;
    journey.engine_requests = journey.requests_seen().await;
}

#[given(expr = "a task {string} that waits")]
async fn waiting(journey: &mut Journey, name: String) {
    let body = journey.task(&name, &Ask::new(5));
    journey.submit(&name, &body, &[]).await;
    journey.until(&journey.id(&name), "pending").await;
}

#[when(expr = "I submit the task {string}")]
async fn submit(journey: &mut Journey, name: String) {
    let body = match journey.tasks.get(&name) {
        Some(known) => known.clone(),
        None => journey.task(&name, &Ask::new(5)),
    };
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} again")]
async fn again(journey: &mut Journey, name: String) {
    let body = journey.tasks[&name].clone();
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} with another prompt")]
async fn other_prompt(journey: &mut Journey, name: String) {
    let mut body = journey.tasks[&name].clone();
    body["messages"][0]["content"] = "something else".into();
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} with a limit of {int} tokens")]
async fn limited(journey: &mut Journey, name: String, limit: u32) {
    let mut body = journey.task(&name, &Ask::new(5));
    body["max_tokens"] = limit.into();
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the batch task {string}")]
async fn batch(journey: &mut Journey, name: String) {
    let mut body = journey.task(&name, &Ask::new(5));
    body["priority"] = "batch".into();
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} with the correlation id {string}")]
async fn correlated(journey: &mut Journey, name: String, id: String) {
    let body = journey.task(&name, &Ask::new(5));
    journey
        .submit(&name, &body, &[("x-correlation-id", &id)])
        .await;
}

#[when(expr = "I submit the task {string} of {int} tokens")]
async fn of_tokens(journey: &mut Journey, name: String, tokens: u32) {
    let body = journey.task(&name, &Ask::new(tokens));
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} of {int} tokens, {int} ms apart")]
async fn paced(journey: &mut Journey, name: String, tokens: u32, pace_ms: u64) {
    let body = journey.task(&name, &Ask::new(tokens).pace_us(pace_ms * 1000));
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} of {int} tokens, {int} ms apart, due in {int} ms")]
async fn due(journey: &mut Journey, name: String, tokens: u32, pace_ms: u64, due_ms: u64) {
    let mut body = journey.task(&name, &Ask::new(tokens).pace_us(pace_ms * 1000));
    body["deadline_ms"] = due_ms.into();
    journey.submit(&name, &body, &[]).await;
}

#[when(expr = "I submit the task {string} with a prompt of {int} KiB")]
async fn large(journey: &mut Journey, name: String, kib: usize) {
    let ask = Ask::new(5);
    let mut body = journey.task(&name, &ask);
    let text = format!("{} {}", "x".repeat(kib * 1024), ask.marker());
    body["messages"][0]["content"] = text.into();
    journey.submit(&name, &body, &[]).await;
}

#[when(
    regex = r#"^I submit a task "(\w+)" whose engine (breaks|hangs) in mid-answer, (once|always)$"#
)]
async fn faulty(journey: &mut Journey, name: String, how: String, often: String) {
    let kind = match how.as_str() {
        "hangs" => FaultKind::Hang,
        _ => FaultKind::Truncate,
    };
    let fault = match often.as_str() {
        "once" => Fault::new(kind).times(1),
        _ => Fault::new(kind),
    };
    let body = journey.task(&name, &Ask::new(20).fault(fault));
    journey.submit(&name, &body, &[]).await;
}

#[when(regex = r"^I submit a task (.+) over HTTP$")]
async fn wrong(journey: &mut Journey, what: String) {
    let body = journey.task("wrong", &Ask::new(5));
    let id = body["task_id"].as_str().unwrap().to_owned();
    let mut wrong = body.clone();
    match what.as_str() {
        "that is fine" => {}
        "without a prompt" => drop(wrong.as_object_mut().unwrap().remove("messages")),
        "with an id that is none" => wrong["task_id"] = "seven".into(),
        "of a class that is none" => wrong["priority"] = "urgent".into(),
        "with no tokens at all" => wrong["max_tokens"] = 0.into(),
        "with a deadline in the past" => wrong["deadline_ms"] = (-1).into(),
        "for a model that never was" => wrong["model_ref"] = "never-was".into(),
        "with an id that is taken" => {
            journey.submit("wrong", &body, &[]).await;
            wrong["messages"][0]["content"] = "something else".into();
        }
        other => panic!("nobody knows a task {other}"),
    }
    journey.submit("wrong", &wrong, &[]).await;
    journey.jobs.push(id);
}

#[then(expr = "the answer is {int}")]
fn answer_is(journey: &mut Journey, status: u16) {
    let answer = journey.answer();
    assert_eq!(answer.status, status, "{}", answer.text());
}

#[then(expr = "the answer is {int} with code {string}")]
fn status_and_code(journey: &mut Journey, status: u16, code: String) {
    let answer = journey.answer();
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(failure(answer)["code"], code);
}

#[then(expr = "it names the engine's status {int}")]
fn engine_status(journey: &mut Journey, status: u64) {
    assert_eq!(failure(journey.answer())["engine_status"], status);
}

#[then(regex = r"^it says whether a retry helps: (yes|no)$")]
fn retriable(journey: &mut Journey, helps: String) {
    let answer = journey.answer();
    assert_eq!(failure(answer)["retriable"], helps == "yes");
    let waits = answer.header("retry-after").is_some();
    assert_eq!(waits, helps == "yes" && matches!(answer.status, 429 | 503));
}

#[when(expr = "I submit the batch task {string} of {int} tokens, {int} ms apart")]
async fn paced_batch(journey: &mut Journey, name: String, tokens: u32, pace_ms: u64) {
    let mut body = journey.task(&name, &Ask::new(tokens).pace_us(pace_ms * 1000));
    body["priority"] = "batch".into();
    journey.submit(&name, &body, &[]).await;
}

#[then(expr = "its {string} is {int}")]
fn field(journey: &mut Journey, name: String, value: u64) {
    let body = journey.answer().json::<Value>();
    assert_eq!(body[&name], value, "{body}");
}

#[then(expr = "its header {string} is the path of task {string}")]
fn header_path(journey: &mut Journey, header: String, task: String) {
    let path = format!("/v1/tasks/{}", journey.id(&task));
    assert_eq!(journey.answer().header(&header), Some(path.as_str()));
}

#[then(expr = "its header {string} is {string}")]
fn header_is(journey: &mut Journey, header: String, value: String) {
    assert_eq!(journey.answer().header(&header), Some(value.as_str()));
}

#[then(expr = "its header {string} is a UUID")]
fn header_uuid(journey: &mut Journey, header: String) {
    let value = journey.answer().header(&header).expect("the header");
    assert!(Uuid::parse_str(value).is_ok(), "{value}");
}

#[then(expr = "its header {string} is a whole number of seconds")]
fn header_seconds(journey: &mut Journey, header: String) {
    let value = journey.answer().header(&header).expect("the header");
    assert!(value.parse::<u64>().unwrap() >= 1, "{value}");
}

#[then(expr = "its header {string} is at most {int}")]
fn header_at_most(journey: &mut Journey, header: String, most: u64) {
    let value = journey.answer().header(&header).expect("the header");
    assert!(
        (1..=most).contains(&value.parse::<u64>().unwrap()),
        "{value}"
    );
}

#[then(expr = "its policy label is {string}")]
fn policy(journey: &mut Journey, label: String) {
    assert_eq!(failure(journey.answer())["policy_label"], label);
}

#[then(expr = "headers and body name the same time to wait")]
fn same_wait(journey: &mut Journey) {
    let answer = journey.answer();
    let wait_ms = failure(answer)["retry_after_ms"].as_u64().unwrap();
    let header = |name| answer.header(name).unwrap().parse::<u64>().unwrap();
    assert_eq!(header("x-backoff-ms"), wait_ms);
    assert_eq!(header("retry-after"), wait_ms.div_ceil(1000).max(1));
}

#[then(expr = "there is/are {int} job(s) of the task {string}")]
async fn jobs_of(journey: &mut Journey, count: usize, name: String) {
    let id = journey.id(&name);
    let all = journey.gateway().get("/api/jobs?limit=1000").await.unwrap();
    let all = all.json::<Vec<Value>>();
    let found = all.iter().filter(|job| job["id"] == id.as_str()).count();
    assert_eq!(found, count);
}

#[then(expr = "task {string} is {word}")]
async fn is_in_state(journey: &mut Journey, name: String, state: String) {
    journey.until(&journey.id(&name), &state).await;
}

#[when(expr = "the task {string} has ended")]
async fn has_ended(journey: &mut Journey, name: String) {
    journey.until(&journey.id(&name), "completed").await;
}

#[then(expr = "the slot is free")]
async fn slot_is_free(journey: &mut Journey) {
    let body = journey.task("probe", &Ask::new(3));
    journey.submit("probe", &body, &[]).await;
    journey.until(&journey.id("probe"), "completed").await;
}

/// The envelope of a failure, in either dialect.
fn failure(answer: &orchion_testkit::http::Answer) -> Value {
    let body = answer.json::<Value>();
    match body.get("error") {
        Some(error) => error.clone(),
        None => body,
    }
}

impl Journey {
    /// Requests that the first engine has seen.
    pub(crate) async fn requests_seen(&self) -> u64 {
        let stage = self.stage();
        let address = stage.cluster.lock().await.engine_addr(0);
        let client = orchion_testkit::HttpClient::new(&format!("http://{address}"));
        let answer = client
            .send(Method::GET, "/mock/stats", bytes::Bytes::new(), &[])
            .await;
        answer.unwrap().json::<Value>()["requests"]
            .as_u64()
            .unwrap()
    }

    /// Asks for the end of a task.
    pub(crate) async fn cancel(&mut self, id: &str) {
        let path = format!("/v1/tasks/{id}/cancel");
        let answer = self.gateway().post(&path, &json!({})).await;
        self.answer = Some(answer.expect("an answer"));
    }
}
