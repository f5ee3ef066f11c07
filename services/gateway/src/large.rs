//! Requests that are larger than a message: read and written aside, so that
//! nobody's stream waits for them, and passed on by reference.

use std::time::{SystemTime, UNIX_EPOCH};

use orchion_contract::ErrorCode;
use orchion_contract::job::{JobSpec, MAX_BODY_BYTES};
use orchion_contract::stores::{BLOBS, BlobRef};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::state::Gateway;

/// From this many bytes on, a body is parsed on a thread of its own.
pub(crate) const LARGE: usize = 128 * 1024;
/// How many large bodies are held at once; more wait for their turn.
pub(crate) const AT_ONCE: usize = 16;

/// Does what would hold up everybody else's streams on another thread.
///
/// # Errors
/// What `work` says.
pub(crate) async fn aside<T, F>(work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Error::new(
            ErrorCode::Internal,
            "the request could not be read; the log of the gateway says why",
        )
    })?
}

/// Puts a body that is larger than a message into the object store, and its
/// reference into the job.
///
/// # Errors
/// When the store is away or full.
pub(crate) async fn pass_by_reference(gateway: &Gateway, spec: &mut JobSpec) -> Result<()> {
    if spec.body.get().len() <= MAX_BODY_BYTES {
        return Ok(());
    }
    let body = std::mem::replace(&mut spec.body, empty()?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now_ms = u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or_default();
    let (body, blob) = aside(move || {
        let blob = BlobRef::to(body.get().as_bytes(), now_ms);
        Ok((body, blob))
    })
    .await?;
    let put = gateway
        .bus
        .put_blob(&BLOBS, &blob, body.get().as_bytes())
        .await;
    put.map_err(|error| {
        tracing::warn!(error = error.reason(), "a large request could not be stored");
        let mut failure = Error::new(
            ErrorCode::PoolUnready,
            "the store takes no large requests now: free disk space on the NATS host, or send less, then try again",
        );
        failure.0.retry_after_ms = Some(5000);
        failure
    })?;
    spec.body_ref = Some(blob);
    Ok(())
}

fn empty() -> Result<Box<RawValue>> {
    RawValue::from_string("{}".to_owned())
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))
}
