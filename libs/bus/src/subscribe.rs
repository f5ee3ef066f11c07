//! Plain subscriptions: what is missed is missed.

use crate::connect::Bus;
use crate::error::Error;
use bytes::Bytes;
use futures_util::StreamExt;
use orchion_contract::subject::{Address, Subject, Token};
use serde::de::DeserializeOwned;

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Message {
    /// Its subject.
    pub subject: String,
    /// What it says.
    pub payload: Bytes,
}

/// A typed subscription.
pub struct Subscription<A, P> {
    subject: Subject<A, P>,
    messages: async_nats::Subscriber,
}

impl<A: Address, P: DeserializeOwned> Subscription<A, P> {
    /// The next message; `None` when the connection is closed for good. What
    /// is not of the contract is passed over.
    pub async fn next(&mut self) -> Option<(A, P)> {
        loop {
            let message = self.messages.next().await?;
            let address = self.subject.parse(&message.subject);
            match (address, serde_json::from_slice(&message.payload)) {
                (Some(address), Ok(payload)) => return Some((address, payload)),
                (Some(_), Err(error)) => {
                    tracing::warn!(%error, subject = %message.subject, "passed over a payload that cannot be read");
                }
                (None, _) => {}
            }
        }
    }
}

/// Answers to questions that were asked with [`Bus::ask_for`].
pub struct Answers<A, R> {
    subject: Subject<A, R>,
    messages: async_nats::Subscriber,
}

impl<A: Address, R: DeserializeOwned> Answers<A, R> {
    /// The next answer, or that nobody was there to give it; `None` when the
    /// connection is closed for good.
    pub async fn next(&mut self) -> Option<(A, Result<R, Error>)> {
        loop {
            let message = self.messages.next().await?;
            if let Some(address) = self.subject.parse(&message.subject) {
                return Some((address, crate::rpc::read(&message.subject, &message)));
            }
        }
    }
}

impl Bus {
    /// Subscribes to the answers that go to every address of a subject.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn answers<A: Address, R>(
        &self,
        subject: Subject<A, R>,
    ) -> Result<Answers<A, R>, Error> {
        let messages = self.listen(&subject.any()).await?;
        Ok(Answers { subject, messages })
    }

    /// Subscribes to the answers that go to addresses which begin with `first`.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn answers_to<A: Token, B: Token, R>(
        &self,
        subject: Subject<(A, B), R>,
        first: &A,
    ) -> Result<Answers<(A, B), R>, Error> {
        let messages = self.listen(&subject.all_of(first)).await?;
        Ok(Answers { subject, messages })
    }

    /// Subscribes to every address of a subject.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn subscribe<A: Address, P: DeserializeOwned>(
        &self,
        subject: Subject<A, P>,
    ) -> Result<Subscription<A, P>, Error> {
        let messages = self.listen(&subject.any()).await?;
        Ok(Subscription { subject, messages })
    }

    /// Subscribes to one address of a subject.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn subscribe_to<A: Address, P: DeserializeOwned>(
        &self,
        subject: Subject<A, P>,
        address: &A,
    ) -> Result<Subscription<A, P>, Error> {
        let messages = self.listen(&subject.to(address)).await?;
        Ok(Subscription { subject, messages })
    }

    /// Subscribes to a wildcard and passes messages on as they come.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn tap(
        &self,
        wildcard: &str,
    ) -> Result<impl futures_util::Stream<Item = Message> + Send + use<>, Error> {
        let messages = self.listen(wildcard).await?;
        Ok(messages.map(|message| Message {
            subject: message.subject.to_string(),
            payload: message.payload,
        }))
    }

    async fn listen(&self, subject: &str) -> Result<async_nats::Subscriber, Error> {
        let messages = self.client().subscribe(subject.to_owned()).await;
        messages.map_err(|error| Error::nats(format!("subscribe to {subject}"), error))
    }
}
