//! The server's own events: who connected, who is gone.
//!
//! They need a user of the system account. A process killed is seen here after
//! a millisecond, a cut cable after three missed pings.

use crate::config::Config;
use crate::connect::cause;
use crate::error::Error;
use crate::outage::{Cause, Outage, pause};
use crate::subscribe::Message;
use futures_util::StreamExt;
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Account whose connections are watched.
const ACCOUNT: &str = "ORCHION";

/// A connection came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionChange {
    /// Name the client gave itself.
    pub client: String,
    /// Unique within the server.
    pub id: ConnectionId,
    /// Whether it is there now.
    pub connected: bool,
    /// Why it ended.
    pub reason: String,
}

/// A connection: server and number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub String, pub u64);

/// All connections of a server at one moment.
#[derive(Debug, Clone, Default)]
pub struct Connections(pub Vec<ConnectionChange>);

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type", default)]
    kind: String,
    server: Server,
    client: Client,
    #[serde(default)]
    reason: String,
}

#[derive(Deserialize)]
struct Server {
    id: String,
}

#[derive(Deserialize)]
struct Client {
    #[serde(default)]
    id: u64,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Listing {
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    server_id: String,
    #[serde(default)]
    connections: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    cid: u64,
    #[serde(default)]
    name: String,
}

/// A connection of the system account.
pub struct System {
    client: async_nats::Client,
    changes: async_nats::Subscriber,
    since: Arc<Mutex<Option<Instant>>>,
}

impl System {
    /// Connects with the system user of the configuration; `None` when there is none.
    ///
    /// # Errors
    /// When the credentials are refused.
    pub async fn connect(config: &Config) -> Result<Option<Self>, Error> {
        let Some(user) = &config.system_user else {
            return Ok(None);
        };
        let since: Arc<Mutex<Option<Instant>>> = Arc::default();
        let noted = since.clone();
        let outage = Arc::new(Outage::of(config.shown_url()));
        let client = async_nats::ConnectOptions::new()
            .event_callback(move |event| {
                let (noted, outage) = (noted.clone(), outage.clone());
                async move { note(&event, &noted, &outage) }
            })
            .name("registry-system")
            .custom_inbox_prefix(format!("_INBOX_{user}"))
            .user_and_password(user.clone(), config.exposed_system_password())
            .retry_on_initial_connect()
            .max_reconnects(None)
            .reconnect_delay_callback(pause)
            .request_timeout(Some(crate::REQUEST_TIMEOUT))
            .connect(
                config
                    .servers()
                    .map_err(|error| Error::nats("read nats.url", error))?,
            )
            .await
            .map_err(|error| Error::nats("connect to the system account of NATS", error))?;
        let subject = format!("$SYS.ACCOUNT.{ACCOUNT}.*");
        let changes = client.subscribe(subject).await;
        let changes =
            changes.map_err(|error| Error::nats("subscribe to connection events", error))?;
        // What happens from now on is to be heard; but a server that is away, or
        // refuses us, must not keep the registry from its work.
        let listening = tokio::time::timeout(crate::REQUEST_TIMEOUT, client.flush()).await;
        if !matches!(listening, Ok(Ok(()))) {
            tracing::debug!("the system account of NATS does not answer yet");
        }
        Ok(Some(Self {
            client,
            changes,
            since,
        }))
    }

    /// The next connection that came or went.
    pub async fn next(&mut self) -> Option<ConnectionChange> {
        loop {
            let message = self.changes.next().await?;
            let connected = match message.subject.as_str().rsplit('.').next() {
                Some("CONNECT") => true,
                Some("DISCONNECT") => false,
                Some(_) | None => continue,
            };
            let Ok(event) = serde_json::from_slice::<Event>(&message.payload) else {
                tracing::debug!(subject = %message.subject, "passed over a server event that cannot be read");
                continue;
            };
            debug_assert!(event.kind.is_empty() || event.kind.contains("connect"));
            let id = ConnectionId(event.server.id, event.client.id);
            return Some(ConnectionChange {
                client: event.client.name,
                id,
                connected,
                reason: event.reason,
            });
        }
    }

    /// Every connection there is now.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn connections(&self) -> Result<Connections, Error> {
        let question = format!("{{\"acc\":\"{ACCOUNT}\",\"limit\":100000}}");
        let answer = self
            .client
            .request("$SYS.REQ.SERVER.PING.CONNZ", question.into())
            .await;
        let answer = answer.map_err(|error| Error::nats("list the connections of NATS", error))?;
        let listing: Listing = serde_json::from_slice(&answer.payload)
            .map_err(|error| Error::payload("$SYS.REQ.SERVER.PING.CONNZ", error))?;
        let Some(data) = listing.data else {
            return Ok(Connections::default());
        };
        let change = |listed: Listed| ConnectionChange {
            client: listed.name,
            id: ConnectionId(data.server_id.clone(), listed.cid),
            connected: true,
            reason: String::new(),
        };
        Ok(Connections(
            data.connections.into_iter().map(change).collect(),
        ))
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// Since when the connection has been there without a break; `None` while
    /// there is none. What happened before it was not seen.
    #[must_use]
    pub fn connected_since(&self) -> Option<Instant> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens to any subject of the system account, for tests and tools.
    ///
    /// # Errors
    /// When the connection is closed.
    pub async fn tap(
        &self,
        subject: &str,
    ) -> Result<impl futures_util::Stream<Item = Message> + use<>, Error> {
        let messages = self.client.subscribe(subject.to_owned()).await;
        let messages =
            messages.map_err(|error| Error::nats(format!("subscribe to {subject}"), error))?;
        Ok(messages.map(|message| Message {
            subject: message.subject.to_string(),
            payload: message.payload,
        }))
    }
}

fn note(event: &async_nats::Event, since: &Mutex<Option<Instant>>, outage: &Outage) {
    use async_nats::Event;
    let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Connected => {
            outage.ends();
            *since = Some(Instant::now());
        }
        Event::Disconnected => *since = None,
        Event::ServerError(error) => {
            tracing::error!(%error, "NATS refused an operation in its system account");
        }
        // That a server is away is told by the connection beside this one.
        Event::ClientError(error) if cause(error) == Cause::Refused => {
            if outage.fails(Cause::Refused, Instant::now()).is_some() {
                tracing::warn!(
                    "NATS refuses the user of its system account: correct nats.system_user and \
                     nats.system_password; until then a dead host is noticed by its silence"
                );
            }
        }
        Event::SlowConsumer(_)
        | Event::ClientError(_)
        | Event::LameDuckMode
        | Event::Draining
        | Event::Closed => tracing::debug!(%event, "the system connection to NATS changes"),
    }
}
