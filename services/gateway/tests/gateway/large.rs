//! Requests that are larger than a message travel by reference.

use orchion_contract::job::{JobSpec, MAX_BODY_BYTES};
use orchion_contract::stores::BLOBS;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::http::chat;

/// A chat whose prompt has `length` bytes.
fn long(length: usize) -> Value {
    let mut body = chat(false);
    body["messages"][0]["content"] = "x".repeat(length).into();
    body
}

/// What lies in the store under the reference of a job.
async fn stored(cluster: &Cluster, spec: &JobSpec) -> Value {
    let blob = spec.body_ref.as_ref().expect("a reference");
    let content = cluster.bus.get_blob(&BLOBS, blob).await.unwrap();
    serde_json::from_slice(&content.expect("the content")).unwrap()
}

#[tokio::test]
async fn a_large_prompt_lies_in_the_store_and_its_reference_in_the_job() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = long(8 * 1024 * 1024);
    let asked = gateway.http.post("/v1/chat/completions", &body);
    let told = async {
        let submit = cluster.submitted().await;
        let mut agent = cluster.agent(&submit);
        agent.says(&["read"]).await;
        agent.completes().await;
        submit
    };
    let (answer, submit) = tokio::join!(asked, told);
    let answer = answer.unwrap().json::<Value>();
    assert_eq!(answer["choices"][0]["message"]["content"], "read");
    assert_eq!(submit.spec.body.get(), "{}");
    assert!(submit.spec.body_bytes() > 8 * 1024 * 1024);
    let content = stored(&cluster, &submit.spec).await;
    assert_eq!(content, json!({"messages": body["messages"]}));
}

#[tokio::test]
async fn what_fits_into_a_message_is_stored_nowhere_else() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let body = json!({"model": "tiny", "prompt": "x".repeat(MAX_BODY_BYTES - 100)});
    assert_eq!(
        gateway.http.post("/v1/tasks", &body).await.unwrap().status,
        202
    );
    let spec = cluster.submitted().await.spec;
    assert!(spec.body_ref.is_none());
    assert_eq!(spec.body_bytes(), spec.body.get().len() as u64);
}

#[tokio::test]
async fn a_large_task_sent_twice_is_one_task_and_one_blob() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let task = |last: &str| {
        let prompt = format!("{}{last}", "x".repeat(300 * 1024));
        json!({"task_id": "01900000-0000-7000-8000-000000000001", "model": "tiny", "prompt": prompt})
    };
    let send = async |body: Value| gateway.http.post("/v1/tasks", &body).await.unwrap().status;
    assert_eq!(send(task("a")).await, 202);
    assert_eq!(send(task("a")).await, 202);
    let (first, again) = (cluster.submitted().await, cluster.submitted().await);
    assert_eq!(first.spec.body_ref, again.spec.body_ref);
    assert_eq!(send(task("b")).await, 409);
}

#[tokio::test]
async fn a_store_that_takes_nothing_is_told_before_anything_is_submitted() {
    let mut cluster = Cluster::start().await;
    let gateway = cluster.gateway().await;
    let delete = format!("$JS.API.STREAM.DELETE.OBJ_{}", BLOBS.name);
    let admin = cluster.nats.client().await;
    admin.request(delete, "".into()).await.unwrap();
    let answer = gateway
        .http
        .post("/v1/chat/completions", &long(300 * 1024))
        .await
        .unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert!(cluster.has_no_submission());
}
