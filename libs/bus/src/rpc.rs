//! Questions and answers, as NATS services: discovery and statistics come free.

use crate::connect::Bus;
use crate::error::Error;
use crate::publish::encode;
use async_nats::client::RequestErrorKind;
use async_nats::service::ServiceExt;
use bytes::Bytes;
use futures_util::StreamExt;
use orchion_contract::subject::{Address, Rpc, Subject};
use orchion_contract::{ErrorBody, ErrorCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::time::Duration;
use tokio::time::Instant;

/// How long one try of a retried question waits.
const TRY: Duration = Duration::from_millis(300);
/// Pause before the second try; each one after it is twice as long, up to [`TRY`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);

impl Bus {
    /// Asks once.
    ///
    /// # Errors
    /// The answer's own failure, or that none came.
    pub async fn ask<A: Address, Q: Serialize, R: DeserializeOwned>(
        &self,
        rpc: &Rpc<A, Q, R>,
        address: &A,
        question: &Q,
        timeout: Duration,
    ) -> Result<R, Error> {
        let to = rpc.to(address);
        let payload = encode(&to, question)?;
        self.ask_bytes(&to, payload, timeout).await
    }

    /// Asks again until an answer comes or `patience` is over, soon at first and
    /// every 300 ms at last: for questions that may be asked twice.
    ///
    /// # Errors
    /// The answer's own failure, or that none came.
    pub async fn ask_patiently<A: Address, Q: Serialize, R: DeserializeOwned>(
        &self,
        rpc: &Rpc<A, Q, R>,
        address: &A,
        question: &Q,
        patience: Duration,
    ) -> Result<R, Error> {
        let to = rpc.to(address);
        let payload = encode(&to, question)?;
        let until = Instant::now() + patience;
        let mut pause = FIRST_PAUSE;
        loop {
            let asked = Instant::now();
            match self.ask_bytes(&to, payload.clone(), TRY).await {
                Err(
                    error @ (Error::NoResponders { .. }
                    | Error::Timeout { .. }
                    | Error::Nats { .. }),
                ) => {
                    // A try that waited for its answer has paused already.
                    let next = asked + pause;
                    if next.max(Instant::now()) >= until {
                        return Err(error);
                    }
                    tokio::time::sleep_until(next).await;
                    pause = (pause * 2).min(TRY);
                }
                answer => return answer,
            }
        }
    }

    /// Asks without waiting: the answer, if one comes, goes to whoever subscribes to
    /// `answers` at `to`.
    ///
    /// # Errors
    /// When the question cannot be encoded or the connection is closed.
    pub async fn ask_for<A: Address, Q: Serialize, R, B: Address>(
        &self,
        rpc: &Rpc<A, Q, R>,
        address: &A,
        question: &Q,
        answers: &Subject<B, R>,
        to: &B,
    ) -> Result<(), Error> {
        let subject = rpc.to(address);
        let payload = encode(&subject, question)?;
        let sent = self
            .client()
            .publish_with_reply(subject.clone(), answers.to(to), payload)
            .await;
        sent.map_err(|error| Error::nats(format!("ask {subject}"), error))
    }

    async fn ask_bytes<R: DeserializeOwned>(
        &self,
        to: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<R, Error> {
        let request = async_nats::Request::new()
            .payload(payload)
            .timeout(Some(timeout));
        let answer = self
            .client()
            .send_request(to.to_owned(), request)
            .await
            .map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => Error::NoResponders {
                    subject: to.to_owned(),
                },
                RequestErrorKind::TimedOut => Error::Timeout {
                    subject: to.to_owned(),
                },
                RequestErrorKind::InvalidSubject
                | RequestErrorKind::MaxPayloadExceeded
                | RequestErrorKind::Other => Error::nats(format!("ask {to}"), error),
            })?;
        read(to, &answer)
    }

    /// Announces this process as a service that answers questions.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn service(&self, description: &str) -> Result<Service, Error> {
        let identity = self.identity();
        let metadata = HashMap::from([
            ("instance".to_owned(), identity.instance.to_string()),
            ("host".to_owned(), crate::probe::host_name()),
        ]);
        let service = self
            .client()
            .service_builder()
            .description(description)
            .metadata(metadata)
            .start(identity.service.as_str(), env!("CARGO_PKG_VERSION"))
            .await
            .map_err(|error| Error::nats("announce service", error))?;
        Ok(Service { service })
    }
}

/// What an answer says.
pub(crate) fn read<R: DeserializeOwned>(
    to: &str,
    answer: &async_nats::Message,
) -> Result<R, Error> {
    if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
        return Err(Error::NoResponders {
            subject: to.to_owned(),
        });
    }
    let headers = answer.headers.as_ref();
    let is_failure = |headers: &async_nats::HeaderMap| {
        headers
            .get(async_nats::service::NATS_SERVICE_ERROR_CODE)
            .is_some()
    };
    if headers.is_some_and(is_failure) {
        let failure = serde_json::from_slice::<ErrorBody>(&answer.payload);
        return Err(failure.map_or_else(|error| Error::payload(to, error), Error::Remote));
    }
    serde_json::from_slice(&answer.payload).map_err(|error| Error::payload(to, error))
}

/// This process as a service.
pub struct Service {
    service: async_nats::service::Service,
}

impl Service {
    /// Answers a question, sharing the work with every process of `group`.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn endpoint<A: Address, Q, R>(
        &self,
        rpc: Rpc<A, Q, R>,
        group: &str,
    ) -> Result<Endpoint<A, Q, R>, Error> {
        self.endpoint_at(rpc, rpc.any(), group).await
    }

    /// Answers a question for one address only.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn endpoint_for<A: Address, Q, R>(
        &self,
        rpc: Rpc<A, Q, R>,
        address: &A,
        group: &str,
    ) -> Result<Endpoint<A, Q, R>, Error> {
        self.endpoint_at(rpc, rpc.to(address), group).await
    }

    async fn endpoint_at<A: Address, Q, R>(
        &self,
        rpc: Rpc<A, Q, R>,
        subject: String,
        group: &str,
    ) -> Result<Endpoint<A, Q, R>, Error> {
        let endpoint = self
            .service
            .endpoint_builder()
            .name(rpc.verb())
            .queue_group(group)
            .add(&subject)
            .await;
        let requests = endpoint.map_err(|error| Error::nats(format!("answer {subject}"), error))?;
        Ok(Endpoint { rpc, requests })
    }
}

/// The questions of one kind, as they come.
pub struct Endpoint<A, Q, R> {
    rpc: Rpc<A, Q, R>,
    requests: async_nats::service::endpoint::Endpoint,
}

impl<A: Address, Q: DeserializeOwned, R: Serialize> Endpoint<A, Q, R> {
    /// The next question; `None` when the connection is closed for good. What
    /// cannot be read is refused with `INVALID_PARAMS` at once.
    pub async fn next(&mut self) -> Option<Question<A, Q, R>> {
        loop {
            let request = self.requests.next().await?;
            let address = self.rpc.parse(&request.message.subject);
            match (address, serde_json::from_slice(&request.message.payload)) {
                (Some(address), Ok(asked)) => {
                    return Some(Question {
                        address,
                        asked,
                        request,
                        answer: PhantomData,
                    });
                }
                (_, Err(error)) => {
                    let failure = ErrorBody::new(
                        ErrorCode::InvalidParams,
                        format!("the payload cannot be read: {error}"),
                    );
                    refuse(&request, &failure).await;
                }
                (None, Ok(_)) => {
                    let failure =
                        ErrorBody::new(ErrorCode::InvalidParams, "the subject holds no valid id");
                    refuse(&request, &failure).await;
                }
            }
        }
    }
}

/// One question, to be answered once or not at all.
pub struct Question<A, Q, R> {
    /// To whom it was asked.
    pub address: A,
    /// What is asked.
    pub asked: Q,
    request: async_nats::service::Request,
    answer: PhantomData<fn(R)>,
}

impl<A, Q, R: Serialize> Question<A, Q, R> {
    /// Answers.
    pub async fn answer(&self, answer: Result<R, ErrorBody>) {
        let subject = &self.request.message.subject;
        let encoded = answer.and_then(|answer| {
            encode(subject, &answer)
                .map_err(|error| ErrorBody::new(ErrorCode::Internal, error.to_string()))
        });
        match encoded {
            Ok(payload) => sent(self.request.respond(Ok(payload)).await),
            Err(failure) => refuse(&self.request, &failure).await,
        }
    }

    /// Takes the question apart: what was asked, and the means to answer later.
    pub fn split(self) -> (Q, Question<A, (), R>) {
        let rest = Question {
            address: self.address,
            asked: (),
            request: self.request,
            answer: PhantomData,
        };
        (self.asked, rest)
    }
}

/// Answers with the envelope as payload, marked as the service API marks errors.
async fn refuse(request: &async_nats::service::Request, failure: &ErrorBody) {
    let mut headers = async_nats::HeaderMap::new();
    headers.insert(
        async_nats::service::NATS_SERVICE_ERROR,
        failure.code.as_str(),
    );
    let status = failure.code.http_status().to_string();
    headers.insert(
        async_nats::service::NATS_SERVICE_ERROR_CODE,
        status.as_str(),
    );
    let payload = serde_json::to_vec(failure).unwrap_or_default();
    sent(
        request
            .respond_with_headers(Ok(payload.into()), headers)
            .await,
    );
}

fn sent(result: Result<(), async_nats::PublishError>) {
    if let Err(error) = result {
        tracing::debug!(%error, "an answer could not be sent");
    }
}
