//! Requests that are larger than a message are fetched by their reference.

use std::time::{SystemTime, UNIX_EPOCH};

use orchion_contract::job::{Outcome, RunOrder};
use orchion_contract::stores::{BLOBS, BlobRef};
use orchion_contract::{ErrorCode, UnixMs};
use orchion_testkit::MockEngine;
use orchion_testkit::wire::Ask;
use serde_json::value::RawValue;

use crate::cluster::Cluster;

fn now_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(since.as_millis()).unwrap()
}

/// The order with its body taken out, and the body.
fn by_reference(mut order: RunOrder) -> (RunOrder, BlobRef, String) {
    // Spaces are part of JSON: the request is the same, only longer.
    let body = format!("{}{}", order.spec.body.get(), " ".repeat(500 * 1024));
    let blob = BlobRef::to(body.as_bytes(), now_ms());
    order.spec.body = RawValue::from_string("{}".to_owned()).unwrap();
    order.spec.body_ref = Some(blob.clone());
    (order, blob, body)
}

#[tokio::test]
async fn a_large_request_is_answered_as_a_small_one() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let ask = Ask::new(20);
    let (order, blob, body) = by_reference(cluster.order(&ask));
    let stored = cluster.bus.put_blob(&BLOBS, &blob, body.as_bytes()).await;
    stored.unwrap();
    cluster.accepted(&order).await;
    let seen = cluster.answer(&order).await;
    seen.assert_whole(&ask);
    assert_eq!(seen.end.unwrap().outcome, Outcome::Completed);
}

#[tokio::test]
async fn a_request_that_is_gone_ends_its_job() {
    let engine = MockEngine::named("a");
    let cluster = Cluster::with(&engine).await;
    let (order, ..) = by_reference(cluster.order(&Ask::new(20)));
    cluster.accepted(&order).await;
    let end = cluster.answer(&order).await.end.unwrap();
    assert_eq!(end.outcome, Outcome::Failed);
    let error = end.error.unwrap();
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(!error.is_retriable() && error.message.contains("send it again"));
    assert_eq!(engine.stats().requests, 0);
}
