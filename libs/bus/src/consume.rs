//! Durable consumers: each message of a stream is handled at least once, also
//! over the death of whoever handles it. Only this module acknowledges.

use crate::connect::Bus;
use crate::error::Error;
use crate::subscribe::Message;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::consumer::pull::{Config, MessagesErrorKind};
use futures_util::stream::{BoxStream, StreamExt};
use orchion_contract::streams::StreamSpec;
use std::time::Duration;

/// How often the server says that it still has nothing.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// How many of these may be missed before the consumer is opened anew.
const MISSED: u32 = 3;
/// Pause between two tries to open the consumer.
const PAUSE: Duration = Duration::from_millis(250);

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// It is done.
    Ack,
    /// It may succeed later: again after this time.
    Nak(Duration),
    /// It never will, for this reason; it is not delivered again.
    Term(String),
}

/// A durable consumer, shared by all processes that name it.
#[derive(Debug, Clone, Copy)]
pub struct Durable {
    /// The stream.
    pub stream: StreamSpec,
    /// Its name, which remembers how far it came.
    pub name: &'static str,
    /// At most this many messages are handed out together.
    pub batch: usize,
    /// Who was handed a message and has not settled it for so long is taken for
    /// dead, and the message goes to another.
    pub patience: Duration,
}

/// The messages of a [`Durable`], as they come.
pub struct Consumer {
    bus: Bus,
    durable: Durable,
    messages: Option<Messages>,
    missed: u32,
    tries: u32,
}

type Delivered =
    Result<async_nats::jetstream::Message, async_nats::error::Error<MessagesErrorKind>>;
type Messages = BoxStream<'static, Vec<Delivered>>;

/// Messages that were delivered together, to be settled together.
pub struct Batch {
    messages: Vec<Message>,
    delivered: Vec<async_nats::jetstream::Message>,
}

impl Bus {
    /// Consumes a stream; stream and consumer are created when they are missing.
    #[must_use]
    pub fn consume(&self, durable: Durable) -> Consumer {
        Consumer {
            bus: self.clone(),
            durable,
            messages: None,
            missed: 0,
            tries: 0,
        }
    }
}

impl Consumer {
    /// The next messages: at least one, and all that wait up to the limit.
    /// Interruptions are healed inside, for ever. Dropping this future loses nothing.
    pub async fn next(&mut self) -> Batch {
        loop {
            let Some(messages) = &mut self.messages else {
                self.open().await;
                continue;
            };
            let arrived = messages.next().await;
            let Some(arrived) = arrived else {
                self.messages = None;
                continue;
            };
            let delivered = self.sort(arrived);
            if !delivered.is_empty() {
                self.missed = 0;
                return Batch::of(delivered);
            }
        }
    }

    /// Parts messages from complaints, and hears the latter.
    fn sort(&mut self, arrived: Vec<Delivered>) -> Vec<async_nats::jetstream::Message> {
        let mut delivered = Vec::with_capacity(arrived.len());
        for item in arrived {
            match item {
                Ok(message) => delivered.push(message),
                Err(error) => self.complain(&error),
            }
        }
        delivered
    }

    fn complain(&mut self, error: &async_nats::error::Error<MessagesErrorKind>) {
        let stream = self.durable.stream.name;
        tracing::debug!(%error, "reading stream {stream} was interrupted");
        self.missed += 1;
        let goes_on = error.kind() == MessagesErrorKind::MissingHeartbeat && self.missed < MISSED;
        if !goes_on {
            self.messages = None;
        }
    }

    async fn open(&mut self) {
        self.missed = 0;
        match try_to_open(&self.bus, self.durable).await {
            Ok(messages) => {
                self.tries = 0;
                self.messages = Some(messages);
            }
            Err(error) => {
                self.tries += 1;
                if self.tries.is_power_of_two() {
                    let reason = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(reason, "cannot {error}: still trying");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Batch {
    fn of(delivered: Vec<async_nats::jetstream::Message>) -> Self {
        let messages = delivered.iter().map(|message| Message {
            subject: message.subject.to_string(),
            payload: message.payload.clone(),
        });
        Self {
            messages: messages.collect(),
            delivered,
        }
    }

    /// What came, in the order of the stream but for what is delivered again.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Tells the server what became of each message, in order; those without a
    /// disposition are delivered again. An answer that gets lost means another
    /// delivery, too.
    pub async fn settle(self, dispositions: impl IntoIterator<Item = Disposition>) {
        for (message, disposition) in self.delivered.iter().zip(dispositions) {
            let kind = match disposition {
                Disposition::Ack => AckKind::Ack,
                Disposition::Nak(after) => AckKind::Nak(Some(after)),
                Disposition::Term(reason) => {
                    tracing::warn!(
                        subject = %message.subject,
                        reason,
                        "gave up a message on {}: {reason}", message.subject
                    );
                    AckKind::Term
                }
            };
            if let Err(error) = message.ack_with(kind).await {
                tracing::debug!(%error, "a message could not be settled and will come again");
            }
        }
    }
}

async fn try_to_open(bus: &Bus, durable: Durable) -> Result<Messages, Error> {
    let Durable {
        stream,
        name,
        batch,
        patience,
    } = durable;
    bus.ensure_stream(&stream).await?;
    let config = Config {
        durable_name: Some(name.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: patience,
        max_ack_pending: i64::try_from(batch.saturating_mul(8)).unwrap_or(i64::MAX),
        ..Config::default()
    };
    let what = || format!("consume stream {}", stream.name);
    let consumer = bus.js().create_consumer_on_stream(config, stream.name);
    let consumer = consumer.await.map_err(|error| Error::nats(what(), error))?;
    let messages = consumer
        .stream()
        .max_messages_per_batch(batch)
        .heartbeat(HEARTBEAT)
        .messages()
        .await
        .map_err(|error| Error::nats(what(), error))?;
    Ok(messages.ready_chunks(batch).boxed())
}
