//! One connection per process.

use crate::config::Config;
use crate::error::Error;
use crate::outage::{Cause, Outage, pause};
use async_nats::jetstream;
use orchion_contract::InstanceId;
use orchion_contract::log::ServiceName;
use orchion_service::{Stop, Tasks};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Who connects. The client name is shown in the server's connection events.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the connection; for an agent `agent-{node}`.
    pub client: String,
    /// The service.
    pub service: ServiceName,
    /// This process.
    pub instance: InstanceId,
}

impl Identity {
    /// The identity of a service process.
    ///
    /// # Errors
    /// When the service's name is no safe subject token.
    pub fn of(tasks: &Tasks) -> anyhow::Result<Self> {
        let service = ServiceName::new(tasks.service())?;
        let instance = InstanceId::new(tasks.instance())?;
        Ok(Self {
            client: service.to_string(),
            service,
            instance,
        })
    }
}

/// A connection to NATS and everything that is done over it; clones are the same.
#[derive(Clone)]
pub struct Bus(Arc<Wire>);

struct Wire {
    client: async_nats::Client,
    js: jetstream::Context,
    identity: Identity,
    since: Arc<watch::Sender<Option<Instant>>>,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bus({})", self.identity().client)
    }
}

impl Bus {
    /// Connects, and waits until JetStream answers: start order does not
    /// matter. Says once in a while that it still waits, and why; ends early,
    /// with an error, when `stop` is asked for.
    ///
    /// # Errors
    /// When the address cannot be read, or the process stops before NATS was there.
    pub async fn connect(config: &Config, identity: Identity, stop: &Stop) -> Result<Self, Error> {
        let since = Arc::new(watch::Sender::new(None));
        let client = options(config, &identity, &since)
            .connect(
                config
                    .servers()
                    .map_err(|error| Error::nats("read nats.url", error))?,
            )
            .await
            .map_err(|error| {
                Error::nats(format!("connect to NATS at {}", config.shown_url()), error)
            })?;
        let js = jetstream::context::ContextBuilder::new()
            .timeout(crate::REQUEST_TIMEOUT)
            .ack_timeout(crate::REQUEST_TIMEOUT)
            .max_ack_inflight(4096)
            .backpressure_on_inflight(true)
            .build(client.clone());
        let bus = Self(Arc::new(Wire {
            client,
            js,
            identity,
            since,
        }));
        bus.wait_until_ready(config, stop).await?;
        Ok(bus)
    }

    pub(crate) fn client(&self) -> &async_nats::Client {
        &self.0.client
    }

    pub(crate) fn js(&self) -> &jetstream::Context {
        &self.0.js
    }

    /// Who we are.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client().connection_state() == async_nats::connection::State::Connected
    }

    /// Since when the connection has been there without a break; `None` while
    /// there is none. Who judges the absence of others asks this first.
    #[must_use]
    pub fn connected_since(&self) -> Option<Instant> {
        *self.0.since.borrow()
    }

    /// The same, and every change of it: what was asked of a connection that
    /// broke may never be answered.
    #[must_use]
    pub fn connection(&self) -> watch::Receiver<Option<Instant>> {
        self.0.since.subscribe()
    }

    /// Sends everything that was published and ends the connection.
    pub async fn drain(&self) {
        let flushed = tokio::time::timeout(crate::REQUEST_TIMEOUT, self.client().flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!("the connection to NATS ended before everything was flushed");
        }
        if self.client().drain().await.is_err() {
            tracing::debug!("the connection to NATS was closed already");
        }
    }

    /// Waits until the server has dealt with everything that was sent so far,
    /// subscriptions too.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn flush(&self) -> Result<(), Error> {
        let answered = self.js().query_account().await;
        answered
            .map(|_| ())
            .map_err(|error| Error::nats("flush the connection to NATS", error))
    }

    async fn wait_until_ready(&self, config: &Config, stop: &Stop) -> Result<(), Error> {
        let started = Instant::now();
        let mut announce = Duration::from_secs(2);
        loop {
            let asked = stop.unless_stopped(self.js().query_account()).await;
            let error = match asked {
                None => {
                    return Err(Error::nats(
                        "wait for NATS",
                        "stopped before NATS was there",
                    ));
                }
                Some(Ok(_)) => return Ok(()),
                Some(Err(error)) => error,
            };
            // One that is away or refuses us is told of where it is tried.
            if self.is_connected() && started.elapsed() >= announce {
                announce *= 6;
                let url = config.shown_url();
                tracing::warn!(
                    nats.url = url,
                    reason = %error,
                    "NATS at {url} is there, but its JetStream does not answer: still trying; \
                     is JetStream on, and may this user use it?"
                );
            }
            // The client reconnects by itself; this only paces the question.
            stop.unless_stopped(tokio::time::sleep(Duration::from_millis(50)))
                .await;
        }
    }
}

fn options(
    config: &Config,
    identity: &Identity,
    since: &Arc<watch::Sender<Option<Instant>>>,
) -> async_nats::ConnectOptions {
    let since = since.clone();
    let outage = Arc::new(Outage::of(config.shown_url()));
    let mut options = async_nats::ConnectOptions::new()
        .name(&identity.client)
        .custom_inbox_prefix(config.inbox(&identity.client))
        .retry_on_initial_connect()
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .ping_interval(Duration::from_secs(5))
        .connection_timeout(crate::REQUEST_TIMEOUT)
        .request_timeout(Some(crate::REQUEST_TIMEOUT))
        .subscription_capacity(65_536)
        .event_callback(move |event| {
            let (since, outage) = (since.clone(), outage.clone());
            async move { note(&event, &since, &outage) }
        });
    if let Some((user, password)) = config.credentials() {
        options = options.user_and_password(user, password);
    }
    options
}

fn note(event: &async_nats::Event, since: &watch::Sender<Option<Instant>>, outage: &Outage) {
    use async_nats::{Event, ServerError};
    match event {
        Event::Connected => {
            outage.ends();
            since.send_replace(Some(Instant::now()));
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => {
            outage.begins(Instant::now());
            since.send_replace(None);
            tracing::warn!("lost the connection to NATS: reconnecting");
        }
        Event::SlowConsumer(_) => {
            tracing::warn!("messages came faster than they were read and some were dropped")
        }
        Event::ServerError(ServerError::AuthorizationViolation) => tell(outage, Cause::Refused),
        Event::ServerError(error) => tracing::error!(%error, "NATS refused an operation"),
        Event::ClientError(error) => tell(outage, cause(error)),
        Event::LameDuckMode | Event::Draining | Event::Closed => {
            tracing::debug!(%event, "the connection to NATS changes")
        }
    }
}

fn tell(outage: &Outage, cause: Cause) {
    if let Some(text) = outage.fails(cause, Instant::now()) {
        tracing::warn!(nats.url = outage.url(), "{text}");
    }
}

/// Why a try to connect failed; the client tells it as text alone.
pub(crate) fn cause(error: &async_nats::ClientError) -> Cause {
    let refused = async_nats::ConnectErrorKind::AuthorizationViolation;
    match error {
        async_nats::ClientError::Other(reason) if *reason == refused.to_string() => Cause::Refused,
        async_nats::ClientError::Other(_)
        | async_nats::ClientError::MaxReconnects
        | async_nats::ClientError::ServerNotInPool => Cause::Away,
    }
}
