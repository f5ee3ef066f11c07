//! Publishing: plain, and stored with an acknowledgement.

use crate::connect::Bus;
use crate::error::{AppendError, Error};
use async_nats::header::{self, HeaderValue};
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use bytes::Bytes;
use orchion_contract::subject::{Address, Subject};
use serde::Serialize;
use std::time::Duration;

/// Room for most messages, so that few grow while they are written.
const ROOM: usize = 1024;

pub(crate) fn encode<T: Serialize>(subject: &str, payload: &T) -> Result<Bytes, Error> {
    let mut bytes = Vec::with_capacity(ROOM);
    serde_json::to_writer(&mut bytes, payload).map_err(|error| Error::payload(subject, error))?;
    Ok(bytes.into())
}

impl Bus {
    /// Publishes without waiting: nobody may listen, and a loss is harmless.
    ///
    /// # Errors
    /// When the payload cannot be encoded or the connection is closed.
    pub async fn publish<A: Address, P: Serialize>(
        &self,
        subject: &Subject<A, P>,
        address: &A,
        payload: &P,
    ) -> Result<(), Error> {
        let to = subject.to(address);
        let payload = encode(&to, payload)?;
        self.publish_bytes(to, payload).await
    }

    pub(crate) async fn publish_bytes(&self, subject: String, payload: Bytes) -> Result<(), Error> {
        let published = self.client().publish(subject.clone(), payload).await;
        published.map_err(|error| Error::nats(format!("publish to {subject}"), error))
    }

    /// Publishes a fact that must be stored, once: a second publish with the
    /// same `id` within the stream's window is dropped by the server.
    ///
    /// # Errors
    /// When it was not acknowledged; publishing again with the same id is safe.
    pub async fn store_once<A: Address, P: Serialize>(
        &self,
        subject: &Subject<A, P>,
        address: &A,
        id: &str,
        payload: &P,
    ) -> Result<u64, Error> {
        let to = subject.to(address);
        let message = PublishMessage::build().payload(encode(&to, payload)?);
        self.keep(to, message.message_id(id)).await
    }

    /// Publishes a fact that must be stored and whose readers take twice for once.
    ///
    /// # Errors
    /// When it was not acknowledged; publishing again may store it twice.
    pub async fn store<A: Address, P: Serialize>(
        &self,
        subject: &Subject<A, P>,
        address: &A,
        payload: &P,
    ) -> Result<u64, Error> {
        let to = subject.to(address);
        let message = PublishMessage::build().payload(encode(&to, payload)?);
        self.keep(to, message).await
    }

    async fn keep(&self, to: String, message: PublishMessage) -> Result<u64, Error> {
        let sent = self.js().send_publish(to.clone(), message).await;
        let ack = sent
            .map_err(|error| Error::nats(format!("publish to {to}"), error))?
            .await;
        Ok(ack
            .map_err(|error| Error::nats(format!("store in {to}"), error))?
            .sequence)
    }

    /// Appends to the chain on `subject`: stored only if the subject's last
    /// sequence is `after` (0: the subject is empty). Returns the new sequence.
    ///
    /// # Errors
    /// [`AppendError`] tells whether somebody else was there, the stream is
    /// full, or nobody knows.
    pub async fn append(
        &self,
        subject: &str,
        payload: Bytes,
        after: u64,
    ) -> Result<u64, AppendError> {
        self.append_for(subject, payload, after, None).await
    }

    pub(crate) async fn append_for(
        &self,
        subject: &str,
        payload: Bytes,
        after: u64,
        ttl: Option<Duration>,
    ) -> Result<u64, AppendError> {
        let mut message = PublishMessage::build()
            .payload(payload)
            .expected_last_subject_sequence(after);
        if let Some(ttl) = ttl {
            message = message.ttl(ttl);
        }
        self.send(subject, message).await
    }

    /// Appends to the chains on several subjects and waits for the last answer
    /// alone: the server deals with what comes over one connection in its order.
    /// Of the others nobody hears whether they fitted.
    ///
    /// # Errors
    /// When the last was not stored, or the connection broke meanwhile.
    pub(crate) async fn append_all(
        &self,
        mut appends: Vec<(String, Bytes, u64)>,
        ttl: Duration,
    ) -> Result<(), AppendError> {
        let Some((subject, payload, after)) = appends.pop() else {
            return Ok(());
        };
        let since = self.connected_since();
        for (subject, payload, after) in appends {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert(
                header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
                HeaderValue::from(after),
            );
            headers.insert(header::NATS_MESSAGE_TTL, HeaderValue::from(ttl.as_secs()));
            let sent = self
                .client()
                .publish_with_headers(subject.clone(), headers, payload);
            sent.await.map_err(|error| AppendError::Unsure {
                subject,
                reason: error.to_string(),
            })?;
        }
        self.append_for(&subject, payload, after, Some(ttl)).await?;
        match self.connected_since() == since {
            true => Ok(()),
            false => Err(AppendError::Unsure {
                subject,
                reason: "the connection broke meanwhile".to_owned(),
            }),
        }
    }

    pub(crate) async fn append_marker(
        &self,
        subject: &str,
        after: u64,
    ) -> Result<u64, AppendError> {
        let message = PublishMessage::build()
            .expected_last_subject_sequence(after)
            .header("KV-Operation", "DEL");
        self.send(subject, message).await
    }

    async fn send(&self, subject: &str, message: PublishMessage) -> Result<u64, AppendError> {
        let sent = self.js().send_publish(subject.to_owned(), message).await;
        let ack = match sent {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        ack.map(|ack| ack.sequence)
            .map_err(|error| append_error(subject, &error))
    }
}

fn append_error(
    subject: &str,
    error: &async_nats::jetstream::context::PublishError,
) -> AppendError {
    let (subject, reason) = (subject.to_owned(), crate::error::root(error));
    match error.kind() {
        PublishErrorKind::WrongLastSequence => AppendError::WrongSequence { subject },
        PublishErrorKind::MaxPayloadExceeded => AppendError::Full { subject, reason },
        PublishErrorKind::Other if is_refusal(error) => AppendError::Full { subject, reason },
        PublishErrorKind::Other
        | PublishErrorKind::StreamNotFound
        | PublishErrorKind::WrongLastMessageId
        | PublishErrorKind::TimedOut
        | PublishErrorKind::BrokenPipe
        | PublishErrorKind::MaxAckPending => AppendError::Unsure { subject, reason },
    }
}

/// An answer of JetStream itself, not of the transport.
fn is_refusal(error: &async_nats::jetstream::context::PublishError) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<async_nats::jetstream::Error>())
}
