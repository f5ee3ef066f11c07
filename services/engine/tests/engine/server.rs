//! A server of its own for each test, and a client that speaks to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use orchion_engine::engine::{Engine, Settings};
use orchion_engine::http::{self, Service};
use orchion_engine::synth::Spec;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) const SETTINGS: Settings = Settings {
    context: 8192,
    threads: 1,
};

/// A server that ends with its test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _serving: JoinSet<std::io::Result<()>>,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: hyper::HeaderMap,
    pub(crate) json: Value,
}

/// The events of a stream that is still open.
pub(crate) struct Events {
    body: Incoming,
    waiting: String,
    _connection: JoinSet<()>,
}

/// Writes a model and loads it.
pub(crate) fn engine(spec: &Spec, settings: &Settings) -> Engine {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.gguf");
    spec.write(&path).unwrap();
    Engine::load(&path, settings).unwrap()
}

/// A server with the starter model and `slots` slots.
pub(crate) async fn start(slots: usize) -> Server {
    start_with(engine(&Spec::default(), &SETTINGS), slots).await
}

pub(crate) async fn start_with(engine: Engine, slots: usize) -> Server {
    let service = Arc::new(Service::new("orchion-starter".into(), slots));
    service.ready(engine);
    serve(service).await
}

pub(crate) async fn serve(service: Arc<Service>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut serving = JoinSet::new();
    serving.spawn(http::serve(listener, service, std::future::pending()));
    Server {
        address,
        _serving: serving,
    }
}

/// Asks until `state` is as wanted, at most a second long.
pub(crate) async fn eventually(server: &Server, state: impl Fn(&Value) -> bool) -> Duration {
    let start = Instant::now();
    loop {
        let engine = server.get("/v1/engine").await.json;
        if state(&engine) {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(1), "still {engine}");
        tokio::task::yield_now().await;
    }
}

/// A chat about one question, with more fields.
pub(crate) fn chat(fields: Value) -> Value {
    let question = "Please tell me what the cluster has.";
    let mut body = json!({"messages": [{"role": "user", "content": question}]});
    let Value::Object(fields) = fields else {
        panic!("not an object")
    };
    body.as_object_mut().unwrap().extend(fields);
    body
}

/// The text of a chat answer or of a chunk's delta.
pub(crate) fn text(body: &Value) -> &str {
    let choice = &body["choices"][0];
    let message = if choice["delta"].is_object() {
        &choice["delta"]
    } else {
        &choice["message"]
    };
    message["content"].as_str().unwrap_or_default()
}

/// The ids that came with an answer or a chunk.
pub(crate) fn ids(body: &Value) -> Vec<u64> {
    let ids = body["orchion"]["ids"].as_array().unwrap();
    ids.iter().map(|id| id.as_u64().unwrap()).collect()
}

impl Server {
    /// One that somebody else started.
    pub(crate) fn at(address: SocketAddr) -> Self {
        Self {
            address,
            _serving: JoinSet::new(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, String::new()).await
    }

    /// A whole chat answer.
    pub(crate) async fn chat(&self, fields: Value) -> Value {
        let answer = self.post("/v1/chat/completions", chat(fields)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body.to_string()).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: String) -> Answer {
        let (response, _connection) = self.request(method, path, body).await;
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer {
            status: head.status,
            headers: head.headers,
            json,
        }
    }

    /// A chat answer in pieces.
    pub(crate) async fn stream(&self, fields: Value) -> Events {
        let mut body = chat(fields);
        body["stream"] = true.into();
        self.open("/v1/chat/completions", body).await
    }

    pub(crate) async fn open(&self, path: &str, body: Value) -> Events {
        let (response, connection) = self.request("POST", path, body.to_string()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let body = response.into_body();
        Events {
            body,
            waiting: String::new(),
            _connection: connection,
        }
    }

    /// Sends a request over a connection of its own, which closes with the returned set.
    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: String,
    ) -> (Response<Incoming>, JoinSet<()>) {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "engine");
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        (sender.send_request(request).await.unwrap(), driver)
    }
}

impl Events {
    /// The data of the next event, or `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.waiting.split_once("\n\n") {
                let data = event.strip_prefix("data: ").unwrap().to_owned();
                self.waiting = rest.to_owned();
                return Some(data);
            }
            let frame = self.body.frame().await?.unwrap();
            self.waiting += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
        }
    }

    /// All events to the end; the last one must be `[DONE]`, the others are JSON.
    pub(crate) async fn all(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        assert_eq!(events.pop().as_deref(), Some("[DONE]"));
        events
            .iter()
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }
}
