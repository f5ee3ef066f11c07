//! The whole product as separate processes, each of which can be killed.

use anyhow::{Context, bail};
use orchion_testkit::{HttpClient, NatsServer, Program, Running, free_port};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the cluster may take to be whole again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What generates.
#[derive(Clone)]
pub(crate) enum Engines {
    /// The mock engine, whose every token can be checked.
    Mock,
    /// `llama-server` with a model.
    Llama { program: PathBuf, model: PathBuf },
}

/// A process and how to start it again.
pub(crate) struct Part {
    running: Option<Running>,
    launch: Box<dyn Fn() -> Program + Send>,
}

impl Part {
    fn start(launch: impl Fn() -> Program + Send + 'static) -> Self {
        Self {
            running: Some(launch().start()),
            launch: Box::new(launch),
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill();
        }
    }

    /// Starts it again, when it was killed.
    pub(crate) fn revive(&mut self) {
        if self.running.is_none() {
            self.running = Some((self.launch)().start());
        }
    }

    fn output(&self) -> String {
        self.running
            .as_ref()
            .map(Running::stdout)
            .unwrap_or_default()
    }
}

/// All processes.
pub(crate) struct Cluster {
    pub(crate) nats: NatsServer,
    pub(crate) engines: Vec<Part>,
    pub(crate) agents: Vec<Part>,
    pub(crate) schedulers: Vec<Part>,
    pub(crate) gateways: Vec<Part>,
    /// Held so that they live as long as the cluster.
    _others: Vec<Part>,
    urls: Vec<String>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts everything and waits until it is whole.
    pub(crate) async fn start(engines: Engines) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the cluster")?;
        let nats = NatsServer::start().await;
        let base = Base {
            nats_url: nats.url(),
            folder: folder.path().to_owned(),
        };
        let ports = [free_port(), free_port()];
        let urls: Vec<String> = [free_port(), free_port()]
            .map(|port| format!("http://127.0.0.1:{port}"))
            .to_vec();
        let engine = |name: &str, port: u16| engine(&engines, name, port);
        let agent = |name: &'static str, port: u16| base.agent(name, port, &engines);
        let cluster = Self {
            engines: vec![engine("a", ports[0]), engine("b", ports[1])],
            agents: vec![agent("a", ports[0])?, agent("b", ports[1])?],
            schedulers: vec![
                base.service("scheduler", "1", &[])?,
                base.service("scheduler", "2", &[])?,
            ],
            gateways: vec![base.gateway("1", &urls[0])?, base.gateway("2", &urls[1])?],
            _others: vec![
                base.service("registry", "1", &[])?,
                base.service("log-sink", "1", &[])?,
            ],
            nats,
            urls,
            _folder: folder,
        };
        cluster.whole().await?;
        Ok(cluster)
    }

    /// Clients of both gateways.
    pub(crate) fn clients(&self) -> Vec<HttpClient> {
        self.urls.iter().map(|url| HttpClient::new(url)).collect()
    }

    /// Starts again what is dead and waits until everything works.
    pub(crate) async fn heal(&mut self) -> anyhow::Result<()> {
        let parts = [
            &mut self.engines,
            &mut self.agents,
            &mut self.schedulers,
            &mut self.gateways,
        ];
        for part in parts.into_iter().flatten() {
            part.revive();
        }
        self.whole().await
    }

    /// The scheduler that holds the lease, as its own log tells.
    pub(crate) fn active_scheduler(&self) -> Option<usize> {
        let holds = |part: &Part| {
            let log = part.output();
            log.rfind("acquired the lease of scheduler") > log.rfind("lost the lease of scheduler")
        };
        self.schedulers.iter().position(holds)
    }

    async fn whole(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        let mut missing = String::new();
        while started.elapsed() < PATIENCE {
            match self.missing().await {
                None => return Ok(()),
                Some(what) => missing = what,
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!(
            "the cluster is not whole after {} s: {missing}",
            PATIENCE.as_secs()
        )
    }

    async fn missing(&self) -> Option<String> {
        for client in self.clients() {
            let client = client.patience(Duration::from_secs(2));
            let ready = client.get("/readyz").await;
            if !ready.is_ok_and(|answer| answer.status == 200) {
                return Some("a gateway is not ready".to_owned());
            }
            let Ok(answer) = client.get("/api/nodes").await else {
                return Some("no list of nodes".to_owned());
            };
            let nodes: Value = serde_json::from_str(&answer.text()).unwrap_or_default();
            let serving = nodes
                .as_array()
                .map_or(0, |nodes| nodes.iter().filter(|node| serves(node)).count());
            if serving != self.agents.len() {
                return Some(format!("{serving} of {} nodes serve", self.agents.len()));
            }
        }
        self.active_scheduler()
            .is_none()
            .then(|| "no scheduler holds the lease".to_owned())
    }
}

fn serves(node: &Value) -> bool {
    let ready = node["replicas"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["ready"] == true));
    node["state"] == "online" && ready
}

fn engine(engines: &Engines, name: &str, port: u16) -> Part {
    let (engines, name) = (engines.clone(), name.to_owned());
    Part::start(move || match &engines {
        Engines::Mock => Program::ours("mock-engine").args([
            "--listen",
            &format!("127.0.0.1:{port}"),
            "--name",
            &name,
        ]),
        Engines::Llama { program, model } => Program::at(program)
            .arg("-m")
            .arg(model)
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "-c",
                "8192",
                "-np",
                "4",
                "-t",
                "1",
            ])
            .args(["-fa", "off", "--offline", "--no-ui", "--alias", "llama"]),
    })
}

struct Base {
    nats_url: String,
    folder: PathBuf,
}

impl Base {
    fn service(&self, name: &str, number: &str, flags: &[&str]) -> anyhow::Result<Part> {
        let config = "[nats]\nsystem_user = \"sys\"\nsystem_password = \"sys\"\n";
        self.part(
            &format!("orchion-{name}"),
            &format!("{name}-{number}"),
            config,
            flags,
        )
    }

    fn gateway(&self, number: &str, url: &str) -> anyhow::Result<Part> {
        let port = url.rsplit(':').next().unwrap_or_default();
        self.service("gateway", number, &["--http-port", port])
    }

    fn agent(&self, name: &str, port: u16, engines: &Engines) -> anyhow::Result<Part> {
        let engine = match engines {
            Engines::Mock => "kind = \"openai\"\nslots = 64\ncontinuation = \"text\"",
            Engines::Llama { .. } => "kind = \"llamacpp\"",
        };
        let config = format!(
            "[node-agent]\nprobe = []\nstarter = false\n[[node-agent.engines]]\n{engine}\nurl = \"http://127.0.0.1:{port}\"\n"
        );
        self.part(
            "orchion-node-agent",
            &format!("agent-{name}"),
            &config,
            &["--node-id", name],
        )
    }

    fn part(
        &self,
        program: &str,
        place: &str,
        config: &str,
        flags: &[&str],
    ) -> anyhow::Result<Part> {
        let folder = self.folder.join(place);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let file = folder.join("orchion.toml");
        std::fs::write(&file, config).with_context(|| format!("write {}", file.display()))?;
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (program, url) = (program.to_owned(), self.nats_url.clone());
        Ok(Part::start(move || {
            Program::ours(&program)
                .arg("--config")
                .arg(&file)
                .args(&flags)
                .env("ORCHION_NATS_URL", &url)
                .env("ORCHION_DATA_DIR", data_dir(&folder))
        }))
    }
}

fn data_dir(folder: &Path) -> PathBuf {
    folder.join("data")
}
