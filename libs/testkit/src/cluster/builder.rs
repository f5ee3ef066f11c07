//! What a cluster consists of.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Cluster, Part, data_dir};
use crate::{NatsServer, Program, free_port};

/// What generates.
#[derive(Clone, Debug)]
pub enum Engines {
    /// The mock engine, whose every token can be checked.
    Mock,
    /// `llama-server` with a model, under the name `llama`.
    Llama {
        /// The program.
        program: PathBuf,
        /// The GGUF file.
        model: PathBuf,
    },
    /// The same, told to the agents as an engine of which only OpenAI's protocol
    /// is known.
    OpenAi {
        /// The program.
        program: PathBuf,
        /// The GGUF file.
        model: PathBuf,
    },
    /// None: each agent starts the starter engine by itself.
    Starter,
    /// The starter engine with a model, under the name `starter`, as a process
    /// of its own.
    StarterAt {
        /// The GGUF file.
        model: PathBuf,
    },
}

/// Who connects to NATS as whom: user and password of each role.
#[derive(Clone, Debug)]
pub struct Login {
    /// Services; nobody in particular when absent.
    pub service: Option<(String, String)>,
    /// Agents; nobody in particular when absent.
    pub agent: Option<(String, String)>,
    /// The registry's second connection, to the system account.
    pub system: (String, String),
}

impl Default for Login {
    /// As [`crate::nats::NatsConfig::default`] lets them in.
    fn default() -> Self {
        let system = crate::nats::SYSTEM_USER.to_owned();
        Self {
            service: None,
            agent: None,
            system: (system.clone(), system),
        }
    }
}

/// What a cluster consists of; see [`Cluster::builder`].
#[derive(Debug)]
pub struct Builder {
    agents: usize,
    schedulers: usize,
    gateways: usize,
    engines: Engines,
    nats: Option<NatsServer>,
    login: Login,
    log_level: String,
    urls: BTreeMap<String, String>,
    slots: u32,
    settings: BTreeMap<String, String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            agents: 2,
            schedulers: 1,
            gateways: 1,
            engines: Engines::Mock,
            nats: None,
            login: Login::default(),
            log_level: "info".to_owned(),
            urls: BTreeMap::new(),
            slots: 64,
            settings: BTreeMap::new(),
        }
    }
}

impl Builder {
    /// How many agents there are.
    #[must_use]
    pub fn agents(mut self, count: usize) -> Self {
        self.agents = count;
        self
    }

    /// How many schedulers there are.
    #[must_use]
    pub fn schedulers(mut self, count: usize) -> Self {
        self.schedulers = count;
        self
    }

    /// How many gateways there are.
    #[must_use]
    pub fn gateways(mut self, count: usize) -> Self {
        self.gateways = count;
        self
    }

    /// What generates.
    #[must_use]
    pub fn engines(mut self, engines: Engines) -> Self {
        self.engines = engines;
        self
    }

    /// A server of one's own, and how parts log in there.
    #[must_use]
    pub fn nats(mut self, nats: NatsServer, login: Login) -> Self {
        self.nats = Some(nats);
        self.login = login;
        self
    }

    /// What all parts log: `debug`, `info`, `warn` or `error`.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Where agent number `n` finds NATS, such as behind a proxy.
    #[must_use]
    pub fn agent_nats_url(self, n: usize, url: &str) -> Self {
        let part = format!("agent-{}", name(n));
        self.nats_url(&part, url)
    }

    /// Where a part finds NATS. Parts are called as in [`Cluster::folder`].
    #[must_use]
    pub fn nats_url(mut self, part: &str, url: &str) -> Self {
        self.urls.insert(part.to_owned(), url.to_owned());
        self
    }

    /// How many requests each mock engine takes at once; 64 when not said.
    #[must_use]
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Lines for a service's own section of its configuration, such as
    /// `pools.default.capacity = 2` for `scheduler`.
    #[must_use]
    pub fn settings(mut self, service: &str, lines: &str) -> Self {
        let own = self.settings.entry(service.to_owned()).or_default();
        own.push_str(lines);
        own.push('\n');
        self
    }

    /// Starts everything and waits until it is whole.
    ///
    /// # Panics
    ///
    /// When a part does not start, or the cluster does not become whole.
    pub async fn start(self) -> Cluster {
        let cluster = self.launch().await;
        cluster.until_whole().await;
        cluster
    }

    /// Starts everything and does not wait for it.
    ///
    /// # Panics
    ///
    /// When a part does not start.
    pub async fn launch(mut self) -> Cluster {
        let nats = match self.nats.take() {
            Some(nats) => nats,
            None => NatsServer::start().await,
        };
        let folder = tempfile::tempdir().expect("make a folder for the cluster");
        let place = Place {
            url: nats.url(),
            folder: folder.path(),
        };
        let engine_ports: Vec<u16> = (0..self.agents).map(|_| free_port()).collect();
        let gateway_ports: Vec<u16> = (0..self.gateways).map(|_| free_port()).collect();
        let engines = (0..self.agents).zip(&engine_ports);
        let agents = (0..self.agents).zip(&engine_ports);
        Cluster {
            engines: engines
                .filter_map(|(n, port)| self.engine(n, *port))
                .collect(),
            agents: agents
                .map(|(n, port)| self.agent(&place, n, *port))
                .collect(),
            schedulers: (1..=self.schedulers)
                .map(|n| self.service(&place, "scheduler", n, &[]))
                .collect(),
            gateways: (1..)
                .zip(&gateway_ports)
                .map(|(n, port)| self.gateway(&place, n, *port))
                .collect(),
            registry: self.service(&place, "registry", 1, &[]),
            log_sink: self.service(&place, "log-sink", 1, &[]),
            gateway_urls: gateway_ports
                .iter()
                .map(|port| format!("http://127.0.0.1:{port}"))
                .collect(),
            engine_ports,
            nats,
            folder,
        }
    }

    fn engine(&self, n: usize, port: u16) -> Option<Part> {
        let name = name(n);
        match self.engines.clone() {
            Engines::Mock => Some(Part::start(move || {
                let listen = format!("127.0.0.1:{port}");
                Program::ours("mock-engine").args(["--listen", &listen, "--name", &name])
            })),
            Engines::Llama { program, model } | Engines::OpenAi { program, model } => {
                Some(Part::start(move || {
                    llama_server(&program, &model).args(["--port", &port.to_string()])
                }))
            }
            Engines::Starter => None,
            Engines::StarterAt { model } => Some(Part::start(move || {
                let listen = format!("127.0.0.1:{port}");
                Program::ours("orchion-engine")
                    .args(["--listen", &listen, "--alias", "starter", "--model"])
                    .arg(&model)
            })),
        }
    }

    fn agent(&self, place: &Place<'_>, n: usize, port: u16) -> Part {
        let engine = match self.engines {
            Engines::Mock => Some(format!(
                "kind = \"openai\"\nslots = {}\ncontinuation = \"text\"",
                self.slots
            )),
            Engines::Llama { .. } => Some("kind = \"llamacpp\"".to_owned()),
            Engines::OpenAi { .. } => Some("kind = \"openai\"\nslots = 4".to_owned()),
            Engines::StarterAt { .. } => Some("kind = \"starter\"".to_owned()),
            Engines::Starter => None,
        };
        let engine = engine.map_or_else(
            || "starter = true\n".to_owned(),
            |engine| {
                format!(
                    "starter = false\n[[node-agent.engines]]\n{engine}\nurl = \"http://127.0.0.1:{port}\"\n"
                )
            },
        );
        let config = format!(
            "{}[node-agent]\nprobe = []\n{}{engine}",
            self.login_of_agent(),
            self.settings_of("node-agent"),
        );
        let name = name(n);
        let part = format!("agent-{name}");
        let flags = ["--nats-url", self.url_of(place, &part), "--node-id", &name];
        self.part(place, "node-agent", &part, &config, &flags)
    }

    fn gateway(&self, place: &Place<'_>, n: usize, port: u16) -> Part {
        self.service(place, "gateway", n, &["--http-port", &port.to_string()])
    }

    fn service(&self, place: &Place<'_>, service: &str, n: usize, flags: &[&str]) -> Part {
        let mut config = String::from("[nats]\n");
        if let Some((user, password)) = &self.login.service {
            config += &format!("user = {user:?}\npassword = {password:?}\n");
        }
        let (user, password) = &self.login.system;
        config += &format!("system_user = {user:?}\nsystem_password = {password:?}\n");
        let own = self.settings_of(service);
        if !own.is_empty() {
            config += &format!("[{service}]\n{own}");
        }
        let part = format!("{service}-{n}");
        let flags = [&["--nats-url", self.url_of(place, &part)], flags].concat();
        self.part(place, service, &part, &config, &flags)
    }

    fn url_of<'a>(&'a self, place: &'a Place<'_>, part: &str) -> &'a str {
        self.urls.get(part).unwrap_or(&place.url)
    }

    fn settings_of(&self, service: &str) -> &str {
        self.settings.get(service).map_or("", String::as_str)
    }

    fn login_of_agent(&self) -> String {
        let login = self.login.agent.as_ref();
        login.map_or_else(String::new, |(user, password)| {
            format!("[nats]\nuser = {user:?}\npassword = {password:?}\n")
        })
    }

    fn part(
        &self,
        place: &Place<'_>,
        service: &str,
        name: &str,
        config: &str,
        flags: &[&str],
    ) -> Part {
        let folder = place.folder.join(name);
        let file = folder.join("orchion.toml");
        fs::create_dir_all(&folder).expect("make the folder of a part");
        fs::write(&file, config).expect("write the configuration of a part");
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let (program, level) = (format!("orchion-{service}"), self.log_level.clone());
        Part::start(move || {
            Program::ours(&program)
                .arg("--config")
                .arg(&file)
                .args(&flags)
                .env("ORCHION_DATA_DIR", data_dir(&folder))
                .env("ORCHION_TELEMETRY__LEVEL", &level)
        })
    }
}

/// Where a cluster lives.
struct Place<'a> {
    /// The address of NATS.
    url: String,
    /// Has a folder for each part.
    folder: &'a Path,
}

/// The name of a node and of its mock engine: a letter.
fn name(n: usize) -> String {
    let letter = u8::try_from(n).ok().filter(|n| *n < 26);
    char::from(b'a' + letter.expect("at most 26 agents")).to_string()
}

fn llama_server(program: &Path, model: &Path) -> Program {
    Program::at(program)
        .arg("-m")
        .arg(model)
        .args(["--host", "127.0.0.1", "-c", "8192", "-np", "4", "-t", "1"])
        .args(["-fa", "off", "--offline", "--no-ui", "--alias", "llama"])
}
