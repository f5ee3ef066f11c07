//! Steps: streams of tasks.

use cucumber::{then, when};
use orchion_testkit::http::Error;
use orchion_testkit::sse::Event;
use serde_json::Value;
use uuid::Uuid;

use crate::journey::Journey;

impl Journey {
    async fn open(&mut self, gateway: usize, task: &str, from: Option<&str>) {
        let id = match self.tasks.contains_key(task) {
            true => self.id(task),
            false => task.to_owned(),
        };
        let path = format!("/v1/tasks/{id}/stream");
        let headers = from.map(|from| ("last-event-id", from));
        let headers: Vec<_> = headers.into_iter().collect();
        match self.gateways[gateway].events(&path, &headers).await {
            Ok(stream) => self.stream = Some(stream),
            Err(Error::Status(answer)) => self.answer = Some(*answer),
            Err(error) => panic!("{error}"),
        }
    }

    /// The next event of the open stream.
    async fn next(&mut self) -> Option<Event> {
        let stream = self.stream.as_mut().expect("an open stream");
        let event = stream.next().await.expect("a whole stream")?;
        self.events.push(event.clone());
        Some(event)
    }

    async fn read_all(&mut self) {
        while self.next().await.is_some() {}
        self.stream = None;
        self.streams.push(self.events.clone());
    }
}

fn tokens(events: &[Event]) -> Vec<Value> {
    let tokens = events.iter().filter(|event| event.event == "token");
    tokens
        .map(|event| serde_json::from_str(&event.data).unwrap())
        .collect()
}

fn are_in_order(tokens: &[Value], count: usize) {
    let indexes: Vec<u64> = tokens
        .iter()
        .map(|token| token["i"].as_u64().unwrap())
        .collect();
    assert_eq!(indexes, (0..count as u64).collect::<Vec<_>>());
    for (number, token) in tokens.iter().enumerate() {
        // The mock engine's tokens name their index: nonce.index.stamp.engine
        let text = token["t"].as_str().unwrap();
        assert_eq!(
            text.split('.').nth(1),
            Some(number.to_string().as_str()),
            "{text}"
        );
    }
}

#[when(expr = "I begin to follow the task {string}")]
async fn begin(journey: &mut Journey, task: String) {
    journey.open(0, &task, None).await;
}

#[when(expr = "I follow the task {string} to its end")]
async fn to_its_end(journey: &mut Journey, task: String) {
    journey.open(0, &task, None).await;
    journey.read_all().await;
}

#[when(expr = "I follow the task {string} to its end at both gateways")]
async fn at_both(journey: &mut Journey, task: String) {
    for gateway in 0..2 {
        journey.open(gateway, &task, None).await;
        journey.read_all().await;
        journey.events.clear();
    }
}

#[when(expr = "I follow the task {string} for {int} tokens at the first gateway")]
async fn for_tokens(journey: &mut Journey, task: String, count: usize) {
    journey.open(0, &task, None).await;
    while tokens(&journey.events).len() < count {
        journey.next().await.expect("more tokens");
    }
}

#[when(expr = "I have seen {int} tokens")]
async fn have_seen(journey: &mut Journey, count: usize) {
    while tokens(&journey.events).len() < count {
        journey.next().await.expect("more tokens");
    }
}

#[when(expr = "I go on following the task {string} at the second gateway")]
async fn go_on(journey: &mut Journey, task: String) {
    let last = journey
        .events
        .iter()
        .rev()
        .find_map(|event| event.id.clone());
    journey
        .open(1, &task, Some(&last.expect("an event with an id")))
        .await;
    journey.read_all().await;
}

#[when(expr = "I follow the task {string} from event {string}")]
async fn from_event(journey: &mut Journey, task: String, from: String) {
    journey.open(0, &task, Some(&from)).await;
}

#[when(expr = "I follow a task that never was")]
async fn never_was(journey: &mut Journey) {
    journey.open(0, &Uuid::now_v7().to_string(), None).await;
}

#[then(expr = "the events are started first, then {int} tokens in order, then one end")]
fn order(journey: &mut Journey, count: usize) {
    let events = &journey.events;
    assert_eq!(events.first().unwrap().event, "started");
    are_in_order(&tokens(events), count);
    let ends = events
        .iter()
        .filter(|event| ["end", "error"].contains(&event.event.as_str()));
    assert_eq!(ends.count(), 1);
    assert_eq!(events.last().unwrap().event, "end");
}

#[then(expr = "a metrics event follows the first token")]
fn metrics(journey: &mut Journey) {
    let at = |name: &str| journey.events.iter().position(|event| event.event == name);
    let (token, metrics) = (at("token").unwrap(), at("metrics").expect("metrics"));
    assert!(metrics > token);
    let data: Value = serde_json::from_str(&journey.events[metrics].data).unwrap();
    assert_eq!(data["state"], "running", "{data}");
}

#[then(expr = "no metrics event has an id")]
fn no_id(journey: &mut Journey) {
    let mut metrics = journey
        .events
        .iter()
        .filter(|event| event.event == "metrics");
    assert!(metrics.all(|event| event.id.is_none()));
}

#[then(expr = "its first event is started at position {int}")]
async fn started_at(journey: &mut Journey, position: u64) {
    let event = journey.next().await.expect("an event");
    assert_eq!(event.event, "started");
    let data: Value = serde_json::from_str(&event.data).unwrap();
    assert_eq!(data["queue_position"], position, "{data}");
    assert!(data["predicted_start_ms"].is_u64(), "{data}");
}

#[then(expr = "a metrics event says position {int}")]
async fn metrics_position(journey: &mut Journey, position: u64) {
    loop {
        let event = journey.next().await.expect("a metrics event");
        if event.event != "metrics" {
            continue;
        }
        let data: Value = serde_json::from_str(&event.data).unwrap();
        assert!(data["queue_depth"].is_u64(), "{data}");
        if data["queue_position"] == position {
            return;
        }
    }
}

#[then(expr = "both have seen the same {int} tokens")]
fn same(journey: &mut Journey, count: usize) {
    let [first, second] = journey.streams.as_slice() else {
        panic!("not two streams");
    };
    are_in_order(&tokens(first), count);
    assert_eq!(tokens(first), tokens(second));
}

#[then(expr = "I have seen {int} tokens in order, each once")]
fn each_once(journey: &mut Journey, count: usize) {
    are_in_order(&tokens(&journey.events), count);
    assert_eq!(journey.events.last().unwrap().event, "end");
}

#[then(expr = "the last event is an error and nothing follows it")]
fn ends_in_error(journey: &mut Journey) {
    let errors = journey.events.iter().filter(|event| event.event == "error");
    assert_eq!(errors.count(), 1);
    assert_eq!(journey.events.last().unwrap().event, "error");
    assert!(journey.events.iter().all(|event| event.event != "end"));
}

#[then(expr = "the last event is an error with code {string}")]
fn ends_with_code(journey: &mut Journey, code: String) {
    let last = journey.events.last().unwrap();
    assert_eq!(last.event, "error", "{}", last.data);
    let data: Value = serde_json::from_str(&last.data).unwrap();
    assert_eq!(data["code"], code, "{data}");
}

#[then(expr = "the stream ends as canceled, without a token more than is stored")]
async fn ends_canceled(journey: &mut Journey) {
    while journey.next().await.is_some() {}
    let last = journey.events.last().unwrap();
    assert_eq!(last.event, "end");
    let data: Value = serde_json::from_str(&last.data).unwrap();
    assert_eq!(data["canceled"], true, "{data}");
    let count = tokens(&journey.events).len();
    are_in_order(&tokens(&journey.events), count);
    assert_eq!(data["tokens_out"], count as u64);
}

#[then(expr = "it is an error that a retry helps")]
fn is_retriable(journey: &mut Journey) {
    let last = journey.events.last().unwrap();
    let data: Value = serde_json::from_str(&last.data).unwrap();
    assert_eq!(data["retriable"], true, "{data}");
}
