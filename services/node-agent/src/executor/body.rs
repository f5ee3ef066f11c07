//! Fetches the body of a request that was too large for its order.

use std::time::Duration;

use orchion_bus::Bus;
use orchion_contract::stores::{BLOBS, BlobRef};
use orchion_contract::{ErrorBody, ErrorCode};
use serde_json::value::RawValue;

/// How long one try may take: the largest body over a slow network.
const TRY: Duration = Duration::from_secs(60);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// The body that `blob` refers to; waits as long as NATS is away.
///
/// # Errors
/// When it is not stored any more, or is no JSON: no other try would help.
pub(super) async fn fetch(bus: &Bus, blob: &BlobRef) -> Result<Box<RawValue>, ErrorBody> {
    loop {
        match tokio::time::timeout(TRY, bus.get_blob(&BLOBS, blob)).await {
            Ok(Ok(Some(content))) => return read(content),
            Ok(Ok(None)) => {
                return Err(failed(
                    "the stored request is gone or damaged; send it again",
                ));
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the body of a request cannot be read yet");
            }
            Err(_) => tracing::debug!("reading the body of a request took too long: again"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn read(content: Vec<u8>) -> Result<Box<RawValue>, ErrorBody> {
    String::from_utf8(content)
        .ok()
        .and_then(|text| RawValue::from_string(text).ok())
        .ok_or_else(|| failed("the stored request is no JSON; send it again"))
}

fn failed(message: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::Internal, message)
}
