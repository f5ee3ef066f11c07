//! The configuration of a test's server.

use std::fs;

use super::{ACCOUNT, NatsServer, SYSTEM_USER, config_folder};

/// Settings of a test's server. The default lets everybody in as the account
/// [`ACCOUNT`] with JetStream, beside a system account, and sees a cut host
/// within three seconds, as the product's configuration does.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    ping_interval: String,
    ping_max: u32,
    max_payload: String,
    sync_interval: String,
    max_file_store: String,
    extra: String,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            ping_interval: "1s".to_owned(),
            ping_max: 2,
            max_payload: "1MB".to_owned(),
            sync_interval: "2m".to_owned(),
            // Streams reserve their limit, so it is far above what is used.
            max_file_store: "1TB".to_owned(),
            extra: String::new(),
        }
    }
}

impl NatsConfig {
    /// How often the server pings a silent client, such as `"1s"`, and after how
    /// many unanswered pings it closes the connection.
    #[must_use]
    pub fn ping(mut self, interval: &str, max: u32) -> Self {
        interval.clone_into(&mut self.ping_interval);
        self.ping_max = max;
        self
    }

    /// The largest message, such as `"1MB"`.
    #[must_use]
    pub fn max_payload(mut self, size: &str) -> Self {
        size.clone_into(&mut self.max_payload);
        self
    }

    /// When file storage is synced to disk: `"2m"`, or `"always"`.
    #[must_use]
    pub fn sync_interval(mut self, interval: &str) -> Self {
        interval.clone_into(&mut self.sync_interval);
        self
    }

    /// How much JetStream may keep, such as `"10MB"` for a disk that is full.
    #[must_use]
    pub fn max_file_store(mut self, size: &str) -> Self {
        size.clone_into(&mut self.max_file_store);
        self
    }

    /// Adds lines in the server's own syntax.
    #[must_use]
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Starts a server with these settings.
    ///
    /// # Panics
    ///
    /// When no `nats-server` is found or it does not start.
    pub async fn start(self) -> NatsServer {
        let folder = config_folder();
        let path = folder.path().join("nats.conf");
        fs::write(&path, self.render()).expect("write the configuration");
        NatsServer::open(folder, path).await
    }

    fn render(&self) -> String {
        let Self {
            ping_interval,
            ping_max,
            max_payload,
            sync_interval,
            max_file_store,
            extra,
        } = self;
        format!(
            r#"server_name: test
max_payload: {max_payload}
max_pending: 8MB
write_deadline: "2s"
no_fast_producer_stall: true
ping_interval: "{ping_interval}"
ping_max: {ping_max}
jetstream {{
  max_file_store: {max_file_store}
  max_memory_store: 1GB
  sync_interval: "{sync_interval}"
  limits {{ duplicate_window: "10m", max_ack_pending: 10000, default_max_consumers: 20000 }}
}}
accounts {{
  {ACCOUNT} {{ jetstream: enabled, users: [ {{ user: test, password: test }} ] }}
  SYS {{ users: [ {{ user: {SYSTEM_USER}, password: {SYSTEM_USER} }} ] }}
}}
system_account: SYS
no_auth_user: test
{extra}"#
        )
    }
}
