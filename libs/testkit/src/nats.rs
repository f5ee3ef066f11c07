//! A real nats-server for each test, removed on drop.

mod binary;
mod config;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::process::{pid, tail};
use crate::{eventually, free_port};

pub use binary::locate_nats_server;
pub use config::NatsConfig;

/// The account that plain connections belong to.
pub const ACCOUNT: &str = "ORCHION";
/// User and password of the system account, which sees connects and disconnects.
pub const SYSTEM_USER: &str = "sys";

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often another port is tried when somebody took ours.
const PORTS: usize = 5;

/// A running `nats-server` with JetStream on a temporary folder.
#[derive(Debug)]
pub struct NatsServer {
    folder: TempDir,
    config: PathBuf,
    env: Vec<(String, String)>,
    port: u16,
    child: Option<Child>,
    /// Whether plain connections are let in, so that readiness can be asked for.
    is_open: bool,
}

impl NatsServer {
    /// Starts a server with the settings of [`NatsConfig::default`].
    ///
    /// # Panics
    ///
    /// When no `nats-server` is found or it does not start.
    pub async fn start() -> Self {
        NatsConfig::default().start().await
    }

    /// Starts a server with a configuration file of one's own, such as the
    /// product's. `env` are the variables that the file refers to. Address and
    /// port are set over it, and the store is given on the command line, so the
    /// file must name none (the server refuses it twice). [`NatsServer::client`]
    /// needs a file that lets plain connections in.
    ///
    /// # Panics
    ///
    /// When no `nats-server` is found or it does not start.
    pub async fn with_config(config: &Path, env: &[(&str, &str)]) -> Self {
        let env = env
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config = config
            .canonicalize()
            .unwrap_or_else(|error| panic!("read the configuration {}: {error}", config.display()));
        Self::launch_new(config_folder(), config, env.collect(), false).await
    }

    pub(crate) async fn open(folder: TempDir, config: PathBuf) -> Self {
        Self::launch_new(folder, config, Vec::new(), true).await
    }

    async fn launch_new(
        folder: TempDir,
        config: PathBuf,
        env: Vec<(String, String)>,
        is_open: bool,
    ) -> Self {
        let mut server = Self {
            folder,
            config,
            env,
            port: 0,
            child: None,
            is_open,
        };
        for _ in 0..PORTS {
            server.port = free_port();
            if server.launch().await.is_ok() {
                return server;
            }
        }
        panic!("nats-server found {PORTS} ports in use");
    }

    /// The address for clients, without credentials.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The address with credentials in it.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// The address for the system account of [`NatsConfig::default`], where
    /// `$SYS.ACCOUNT.ORCHION.DISCONNECT` and the like are published.
    pub fn sys_url(&self) -> String {
        self.url_as(SYSTEM_USER, SYSTEM_USER)
    }

    /// Where the server listens.
    pub fn addr(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The process id.
    ///
    /// # Panics
    ///
    /// When the server is stopped.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server is running").id()
    }

    /// What the server has logged since the first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// A client of the account `ORCHION`.
    ///
    /// # Panics
    ///
    /// When it cannot connect.
    pub async fn client(&self) -> async_nats::Client {
        connect(async_nats::ConnectOptions::new(), &self.url()).await
    }

    /// A client with credentials. The library does not read them from an
    /// address.
    ///
    /// # Panics
    ///
    /// When it cannot connect.
    pub async fn client_as(&self, user: &str, password: &str) -> async_nats::Client {
        let options = async_nats::ConnectOptions::with_user_and_password(
            user.to_owned(),
            password.to_owned(),
        );
        connect(options, &self.url()).await
    }

    /// A client of the system account.
    ///
    /// # Panics
    ///
    /// When it cannot connect.
    pub async fn sys_client(&self) -> async_nats::Client {
        self.client_as(SYSTEM_USER, SYSTEM_USER).await
    }

    /// Kills it with SIGKILL; port and store are kept for [`NatsServer::restart`].
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Freezes it (SIGSTOP): connections stay open and nothing moves.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on after [`NatsServer::freeze`].
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Ends it with SIGTERM and waits until it has; port and store are kept.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub async fn stop_gracefully(&mut self) {
        self.signal(Signal::SIGTERM);
        let Some(mut child) = self.child.take() else {
            return;
        };
        eventually("nats-server to end", PATIENCE, async || {
            child.try_wait().expect("look at nats-server")
        })
        .await;
    }

    /// Starts it again on the same port and store, after killing it if it runs.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill();
        if self.launch().await.is_err() {
            panic!("port {} was taken while nats-server was down", self.port);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            let _ = kill(pid(child.id()), signal);
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("nats.log")
    }

    /// Starts the process and waits until it serves.
    async fn launch(&mut self) -> Result<(), PortTaken> {
        let path = self.log_path();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .expect("open the log");
        let logged = log.metadata().expect("look at the log").len();
        let child = Command::new(binary::nats_server())
            .args(["-a", "127.0.0.1", "-p", &self.port.to_string()])
            .arg("-c")
            .arg(&self.config)
            .arg("-sd")
            .arg(self.folder.path().join("store"))
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("share the log"))
            .stderr(log)
            .spawn()
            .expect("start nats-server");
        self.child = Some(child);
        self.wait_until_ready(logged).await?;
        if self.is_open {
            self.wait_for_jetstream().await;
        }
        Ok(())
    }

    async fn wait_until_ready(&mut self, logged: u64) -> Result<(), PortTaken> {
        let end = Instant::now() + PATIENCE;
        loop {
            let log = read_from(&self.log_path(), logged);
            if log.contains("Server is ready") {
                return Ok(());
            }
            let child = self.child.as_mut().expect("just started");
            let ended = child.try_wait().expect("look at nats-server");
            if ended.is_some() && log.contains("address already in use") {
                return Err(PortTaken);
            }
            assert!(
                ended.is_none() && Instant::now() < end,
                "nats-server did not start; its log:\n{}",
                tail(&log)
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A server that listens may still be reading its store.
    async fn wait_for_jetstream(&self) {
        let client = self.client().await;
        let jetstream = async_nats::jetstream::new(client);
        eventually("JetStream to answer", PATIENCE, async || {
            jetstream.query_account().await
        })
        .await;
    }
}

impl Drop for NatsServer {
    #[expect(clippy::print_stderr, reason = "a failing test shows the server's log")]
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of nats-server ---\n{}", tail(&self.log()));
        }
    }
}

struct PortTaken;

pub(crate) fn config_folder() -> TempDir {
    TempDir::with_prefix("orchion-nats-").expect("create a folder for nats-server")
}

async fn connect(options: async_nats::ConnectOptions, url: &str) -> async_nats::Client {
    options.connect(url).await.expect("connect to nats-server")
}

fn read_from(path: &Path, offset: u64) -> String {
    let mut text = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.seek(SeekFrom::Start(offset));
        let _ = file.read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}
