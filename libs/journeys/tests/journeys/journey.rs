//! What a scenario knows: its cluster, its tasks, what was answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use orchion_testkit::http::{Answer, EventStream};
use orchion_testkit::sse::Event;
use orchion_testkit::wire::Ask;
use orchion_testkit::{HttpClient, eventually};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stage::Stage;

/// Far above what is expected, for a machine that is busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// One scenario.
#[derive(Debug, Default, cucumber::World)]
pub(crate) struct Journey {
    stage: Option<Arc<Stage>>,
    /// Clients of the gateways.
    pub(crate) gateways: Vec<HttpClient>,
    /// Where NATS is.
    pub(crate) nats_url: String,
    /// The tasks by their names: what was sent.
    pub(crate) tasks: BTreeMap<String, Value>,
    /// Ids of other jobs that are to be ended after the scenario.
    pub(crate) jobs: Vec<String>,
    /// The last answer.
    pub(crate) answer: Option<Answer>,
    /// What was answered to each task.
    pub(crate) accepted: BTreeMap<String, Value>,
    /// A stream that is being followed.
    pub(crate) stream: Option<EventStream>,
    /// What it has brought so far.
    pub(crate) events: Vec<Event>,
    /// Whole streams that were read.
    pub(crate) streams: Vec<Vec<Event>>,
    /// What the bus has answered.
    pub(crate) bus_code: Option<String>,
    /// Answers of chats.
    pub(crate) chats: Vec<Answer>,
    /// A chat that is read byte by byte.
    pub(crate) raw: Option<tokio::net::TcpStream>,
    /// Requests that the engines had seen when the scenario's first task ran.
    pub(crate) engine_requests: u64,
}

impl Journey {
    /// Goes onto a stage.
    pub(crate) async fn enter(&mut self, stage: Arc<Stage>) {
        let cluster = stage.cluster.lock().await;
        self.gateways = cluster.clients();
        self.nats_url = cluster.nats.url();
        drop(cluster);
        self.stage = Some(stage);
    }

    /// The stage.
    pub(crate) fn stage(&self) -> Arc<Stage> {
        self.stage.clone().expect("a cluster")
    }

    /// The first gateway.
    pub(crate) fn gateway(&self) -> &HttpClient {
        &self.gateways[0]
    }

    /// The last answer.
    pub(crate) fn answer(&self) -> &Answer {
        self.answer.as_ref().expect("an answer")
    }

    /// The id of a task.
    pub(crate) fn id(&self, task: &str) -> String {
        let body = self
            .tasks
            .get(task)
            .unwrap_or_else(|| panic!("no task {task}"));
        body["task_id"].as_str().unwrap().to_owned()
    }

    /// A task that asks the mock engine for something.
    pub(crate) fn task(&mut self, name: &str, ask: &Ask) -> Value {
        let body = json!({
            "task_id": Uuid::now_v7().to_string(), "workload": "chat", "model_ref": "mock",
            "messages": messages(ask), "max_tokens": ask.tokens,
        });
        self.tasks.insert(name.to_owned(), body.clone());
        body
    }

    /// Sends a task and keeps what is answered.
    pub(crate) async fn submit(&mut self, name: &str, body: &Value, headers: &[(&str, &str)]) {
        let sent = Bytes::from(body.to_string());
        let answer = self
            .gateway()
            .send(Method::POST, "/v1/tasks", sent, headers);
        let answer = answer.await.expect("an answer");
        if answer.status == 202 {
            self.accepted.insert(name.to_owned(), answer.json());
        }
        self.answer = Some(answer);
    }

    /// A job as its gateway shows it; null when there is none.
    pub(crate) async fn job(&self, id: &str) -> Value {
        let answer = self
            .gateway()
            .get(&format!("/v1/tasks/{id}"))
            .await
            .unwrap();
        if answer.status == 200 {
            answer.json()
        } else {
            Value::Null
        }
    }

    /// Waits until a job is in this state.
    pub(crate) async fn until(&self, id: &str, state: &str) -> Value {
        eventually(&format!("job {id} to be {state}"), SOON, async || {
            let job = self.job(id).await;
            if job["state"] == state {
                Ok(job)
            } else {
                Err(job)
            }
        })
        .await
    }

    /// Ends everything that the scenario began, so that the next one finds the
    /// cluster as it was.
    pub(crate) async fn leave(&mut self) {
        (self.stream, self.raw) = (None, None);
        let ids = self
            .tasks
            .values()
            .filter_map(|task| task["task_id"].as_str());
        let ids: Vec<String> = ids.map(str::to_owned).chain(self.jobs.drain(..)).collect();
        if self.gateways.is_empty() {
            return;
        }
        for id in ids {
            let path = format!("/v1/tasks/{id}/cancel");
            // Who was never taken in cannot be canceled.
            drop(self.gateway().post(&path, &json!({})).await);
        }
        let client = self.gateway().clone();
        let idle = tokio::time::timeout(SOON, async {
            while !is_idle(&client).await {
                tokio::task::yield_now().await;
            }
        });
        if idle.await.is_err() {
            crate::stage::clear();
        }
    }
}

/// The conversation that asks the mock engine for something.
pub(crate) fn messages(ask: &Ask) -> Value {
    json!([{"role": "user", "content": format!("{} please", ask.marker())}])
}

/// Whether no job is open.
async fn is_idle(client: &HttpClient) -> bool {
    for state in ["pending", "assigned", "running"] {
        match client.get(&format!("/api/jobs?state={state}")).await {
            Ok(answer) if answer.status == 200 && answer.text() == "[]" => {}
            Ok(_) | Err(_) => return false,
        }
    }
    true
}
