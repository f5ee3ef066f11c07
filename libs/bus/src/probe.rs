//! Asking a service whether it lives: what `healthcheck` runs.

use crate::config::Config;
use anyhow::{Context, bail};
use futures_util::StreamExt;
use serde::Deserialize;
use std::time::Duration;

#[derive(Deserialize)]
struct Ping {
    #[serde(default)]
    metadata: std::collections::HashMap<String, String>,
}

/// Name of this host, as its services announce it; in a container, its id.
pub(crate) fn host_name() -> String {
    let read = std::fs::read_to_string("/proc/sys/kernel/hostname");
    read.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Asks over NATS whether `service` answers on this host.
///
/// # Errors
/// When NATS is away or no such service of this host answers within 2 s.
pub async fn healthcheck(config: &Config, service: &str) -> anyhow::Result<()> {
    let mut options = async_nats::ConnectOptions::new().connection_timeout(crate::REQUEST_TIMEOUT);
    let name = format!("healthcheck-{service}");
    options = options.custom_inbox_prefix(config.inbox(&name)).name(name);
    if let Some((user, password)) = config.credentials() {
        options = options.user_and_password(user, password);
    }
    let client = options
        .connect(config.servers()?)
        .await
        .context("connect to NATS")?;
    let inbox = client.new_inbox();
    let mut answers = client
        .subscribe(inbox.clone())
        .await
        .context("subscribe to the answers")?;
    let ping = format!("$SRV.PING.{service}");
    client
        .publish_with_reply(ping, inbox, "".into())
        .await
        .context("ask the service")?;
    let own = host_name();
    let lives = async {
        while let Some(answer) = answers.next().await {
            let Ok(pong) = serde_json::from_slice::<Ping>(&answer.payload) else {
                continue;
            };
            if pong.metadata.get("host") == Some(&own) {
                return true;
            }
        }
        false
    };
    match tokio::time::timeout(Duration::from_secs(2), lives).await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => bail!(
            "no {service} of this host answers on NATS at {}",
            config.shown_url()
        ),
    }
}
