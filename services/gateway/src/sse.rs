//! Answers that grow: one write per wake-up, comments while nothing happens.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use tokio::time::{Interval, MissedTickBehavior};

/// A comment: keeps proxies and clients from giving up.
pub(crate) const COMMENT: &[u8] = b":\n\n";

/// Something that is written piece by piece. `None` is the end.
pub(crate) trait Source: Send + 'static {
    /// Waits for the next bytes.
    fn next(&mut self) -> impl Future<Output = Option<Bytes>> + Send;
}

/// An answer of type `text/event-stream`. `first` has been waited for already.
pub(crate) fn answer<S: Source>(first: Bytes, source: Option<S>) -> Response {
    let source = source.map(Box::new);
    let rest = futures_util::stream::unfold((Some(first), source), |(first, source)| async {
        if let Some(first) = first {
            return Some((Ok::<_, std::convert::Infallible>(first), (None, source)));
        }
        let mut source = source?;
        let bytes = source.next().await?;
        Some((Ok(bytes), (None, Some(source))))
    });
    let mut response = Response::new(Body::from_stream(rest));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Says when a stream was silent for too long. It ticks twice in that time, so
/// that nothing has to be set anew for each piece.
pub(crate) struct Silence {
    ticks: Interval,
    was_written: bool,
}

impl Silence {
    pub(crate) fn new(longest: Duration) -> Self {
        let half = (longest / 2).max(Duration::from_millis(1));
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + half, half);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            ticks,
            was_written: true,
        }
    }

    /// Something was written.
    pub(crate) fn broken(&mut self) {
        self.was_written = true;
    }

    /// Waits for the next look; true when nothing was written since the last.
    pub(crate) async fn look(&mut self) -> bool {
        self.ticks.tick().await;
        !std::mem::replace(&mut self.was_written, false)
    }
}
