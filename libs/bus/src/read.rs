//! Reading what is stored, in order, and going on live.

use crate::connect::Bus;
use crate::error::Error;
use async_nats::header::NATS_MESSAGE_TTL;
use async_nats::jetstream::consumer::push::OrderedErrorKind;
use async_nats::jetstream::consumer::{self, DeliverPolicy, push};
use async_nats::jetstream::stream::{DirectGetErrorKind, Stream};
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Between two tries to take a reading up again.
const REOPEN_PAUSE: Duration = Duration::from_millis(20);

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// The oldest message.
    Beginning,
    /// The last message of each subject.
    LastPerSubject,
    /// Messages stored from now on.
    Now,
    /// The message after this one.
    After(u64),
}

/// A stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its subject.
    pub subject: String,
    /// Its place in the stream.
    pub sequence: u64,
    /// When it was stored, by the server's clock: nanoseconds since 1970. With the
    /// sequence it tells messages apart, also those of a stream that was rolled back.
    pub at: i128,
    /// What it says.
    pub payload: Bytes,
    /// Whether it is the marker of a deleted or expired key.
    pub is_marker: bool,
    /// Whether it goes by itself some time after it was stored.
    pub expires: bool,
    /// Messages that stand behind it now.
    pub pending: u64,
}

/// An endless reading of a stream: ordered, without loss, taken up again by
/// itself after every interruption. A message may be seen again after one.
pub struct Reading {
    bus: Bus,
    stream: String,
    config: push::OrderedConfig,
    messages: push::Ordered,
    connection: watch::Receiver<Option<Instant>>,
    /// Sequence of the last message read, or of the stream when it began.
    last: u64,
    /// Messages that stood in the stream when the reading began.
    pub initially: u64,
}

impl Reading {
    /// The next message. Waits for ever; interruptions are healed inside.
    ///
    /// # Errors
    /// When the reading cannot be taken up again and must be opened anew.
    pub async fn next(&mut self) -> Result<Stored, Error> {
        loop {
            tokio::select! {
                biased;
                _ = self.connection.changed() => {
                    // The client's own look at the connection misses a break that
                    // is over before it looks; a new connection is always read anew.
                    if self.connection.borrow_and_update().is_some() {
                        self.reopen().await?;
                    }
                }
                next = self.messages.next() => match next {
                    Some(Ok(message)) => {
                        let stored = stored(&message)?;
                        self.last = stored.sequence;
                        return Ok(stored);
                    }
                    Some(Err(error)) if error.kind() == OrderedErrorKind::MissingHeartbeat => {}
                    Some(Err(error)) => return Err(Error::nats("read stream", error)),
                    None => return Err(Error::nats("read stream", "the reading ended")),
                },
            }
        }
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        if self.last > 0 {
            self.config.deliver_policy = DeliverPolicy::ByStartSequence {
                start_sequence: self.last + 1,
            };
        }
        while self.bus.is_connected() {
            match self
                .bus
                .open_consumer(&self.stream, self.config.clone())
                .await
            {
                Ok((messages, _)) => {
                    self.messages = messages;
                    return Ok(());
                }
                Err(error) => tracing::debug!(%error, "a reading cannot be taken up yet"),
            }
            // JetStream answers a moment after the port is open.
            tokio::time::sleep(REOPEN_PAUSE).await;
        }
        Ok(())
    }
}

fn stored(message: &async_nats::jetstream::Message) -> Result<Stored, Error> {
    let info = message
        .info()
        .map_err(|error| Error::nats("read delivery facts", error))?;
    let headers = message.headers.as_ref();
    let is_marker = headers.is_some_and(|headers| {
        headers.get("KV-Operation").is_some() || headers.get("Nats-Marker-Reason").is_some()
    });
    Ok(Stored {
        subject: message.subject.to_string(),
        sequence: info.stream_sequence,
        at: info.published.unix_timestamp_nanos(),
        payload: message.payload.clone(),
        is_marker,
        expires: expires(headers),
        pending: info.pending,
    })
}

fn expires(headers: Option<&async_nats::HeaderMap>) -> bool {
    headers.is_some_and(|headers| headers.get(NATS_MESSAGE_TTL).is_some())
}

impl Bus {
    /// Reads every message of `stream` whose subject matches `filter`.
    ///
    /// # Errors
    /// When the stream is not there or the consumer is refused.
    pub async fn read(&self, stream: &str, filter: &str, from: From) -> Result<Reading, Error> {
        self.open_reading(stream, filter, from, false).await
    }

    /// Reads messages behind `after` without what they say.
    pub(crate) async fn heads(
        &self,
        stream: &str,
        filter: &str,
        after: u64,
    ) -> Result<Reading, Error> {
        let from = From::After(after);
        self.open_reading(stream, filter, from, true).await
    }

    async fn open_reading(
        &self,
        stream: &str,
        filter: &str,
        from: From,
        headers_only: bool,
    ) -> Result<Reading, Error> {
        let config = push::OrderedConfig {
            filter_subject: filter.to_owned(),
            headers_only,
            deliver_policy: match from {
                From::Beginning => DeliverPolicy::All,
                From::LastPerSubject => DeliverPolicy::LastPerSubject,
                From::Now => DeliverPolicy::New,
                From::After(sequence) => DeliverPolicy::ByStartSequence {
                    start_sequence: sequence + 1,
                },
            },
            ..push::OrderedConfig::default()
        };
        let connection = self.connection();
        let (messages, info) = self.open_consumer(stream, config.clone()).await?;
        Ok(Reading {
            bus: self.clone(),
            stream: stream.to_owned(),
            config,
            messages,
            connection,
            last: if from == From::Now {
                info.delivered.stream_sequence
            } else {
                0
            },
            initially: info.num_pending,
        })
    }

    async fn open_consumer(
        &self,
        stream: &str,
        config: push::OrderedConfig,
    ) -> Result<(push::Ordered, consumer::Info), Error> {
        let what = || format!("read {} of stream {stream}", config.filter_subject);
        let config = push::OrderedConfig {
            deliver_subject: self.client().new_inbox(),
            ..config.clone()
        };
        let consumer = self.js().create_consumer_on_stream(config, stream).await;
        let consumer = consumer.map_err(|error| Error::nats(what(), error))?;
        let info = consumer.cached_info().clone();
        let messages = consumer
            .messages()
            .await
            .map_err(|error| Error::nats(what(), error))?;
        Ok((messages, info))
    }

    /// The last message of one subject; `None` when it has none.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, Error> {
        let handle = self.handle(stream).await?;
        match handle.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(Stored {
                subject: message.subject.to_string(),
                sequence: message.sequence,
                at: message.time.unix_timestamp_nanos(),
                is_marker: message.headers.get("KV-Operation").is_some()
                    || message.headers.get("Nats-Marker-Reason").is_some(),
                expires: expires(Some(&message.headers)),
                payload: message.payload,
                pending: 0,
            })),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::nats(
                format!("read last message of {subject}"),
                error,
            )),
        }
    }

    /// Whether the stream holds a message with this sequence that was stored at this
    /// time ([`Stored::at`]): it does not when it was rolled back or made anew since
    /// the message was read, or when that has gone by age.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn holds(&self, stream: &str, sequence: u64, at: i128) -> Result<bool, Error> {
        let handle = self.handle(stream).await?;
        match handle.direct_get(sequence).await {
            Ok(message) => Ok(message.time.unix_timestamp_nanos() == at),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::nats(
                format!("read message {sequence} of stream {stream}"),
                error,
            )),
        }
    }

    /// The sequence of the last message that the stream took.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn last_sequence(&self, stream: &str) -> Result<u64, Error> {
        let found = self.js().get_stream(stream).await;
        let found =
            found.map_err(|error| Error::nats(format!("ask for stream {stream}"), error))?;
        Ok(found.cached_info().state.last_sequence)
    }

    async fn handle(&self, stream: &str) -> Result<Stream<()>, Error> {
        let handle = self.js().get_stream_no_info(stream).await;
        handle.map_err(|error| Error::nats(format!("open stream {stream}"), error))
    }
}
