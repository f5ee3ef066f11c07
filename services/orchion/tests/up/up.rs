//! A running `orchion up` with a folder of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use orchion_testkit::process::{find_binary, tree};
use orchion_testkit::{Program, Running, eventually, free_port};
use serde_json::Value;
use tempfile::TempDir;

/// Until a first answer: the starter engine writes its model.
pub(crate) const READY: Duration = Duration::from_secs(60);

pub(crate) struct Up {
    pub(crate) process: Running,
    data: Arc<TempDir>,
}

impl Up {
    /// Starts it on free ports.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let free = free_ports();
        Self::start_as_told(&[&flags(&free), arguments].concat())
    }

    /// Starts it with these arguments alone; what is not told is on a free port.
    pub(crate) fn start_as_told(arguments: &[&str]) -> Self {
        let data = Arc::new(TempDir::with_prefix("orchion-up-").unwrap());
        // An engine of this machine that a test does not know must not answer.
        let settings = format!(
            "[gateway]\nhttp_port = {}\n[node-agent]\nprobe = []\n\
             [telemetry]\nlevel = \"info,orchion_node_agent=debug\"\n",
            free_port()
        );
        fs::write(data.path().join("orchion.toml"), settings).unwrap();
        Self::in_folder(data, arguments)
    }

    /// Starts it with one engine, that of a test.
    pub(crate) fn start_with_engine(url: &str, arguments: &[&str]) -> Self {
        let data = Arc::new(TempDir::with_prefix("orchion-up-").unwrap());
        let settings = format!(
            "[node-agent]\nprobe = []\nstarter = false\n\
             engines = [{{ kind = \"openai\", url = {url:?} }}]\n"
        );
        fs::write(data.path().join("orchion.toml"), settings).unwrap();
        let free = free_ports();
        Self::in_folder(data, &[&flags(&free), arguments].concat())
    }

    /// Another one in the same folder.
    pub(crate) fn beside(&self, arguments: &[&str]) -> Self {
        let free = free_ports();
        Self::in_folder(self.data.clone(), &[&flags(&free), arguments].concat())
    }

    /// The next one in the same folder.
    pub(crate) fn again(self, arguments: &[&str]) -> Self {
        self.beside(arguments)
    }

    fn in_folder(data: Arc<TempDir>, arguments: &[&str]) -> Self {
        // Beside our program is where it looks for the starter engine.
        let _ = find_binary("orchion-engine");
        let process = program(data.path()).arg("up").args(arguments).start();
        Self { process, data }
    }

    /// An agent with these flags, with a folder inside ours.
    pub(crate) fn agent(&self, name: &str, flags: &[&str]) -> Running {
        let folder = self.data.path().join(name);
        program(self.data.path())
            .args(["agent", "--data-dir"])
            .arg(&folder)
            .args(flags)
            .start()
    }

    /// Where its gateway is, once the first answer has come.
    pub(crate) async fn url(&self) -> String {
        eventually("the first answer", READY, async || {
            self.process.stdout().contains('\n').then_some(())
        })
        .await;
        self.document()["url"].as_str().unwrap().to_owned()
    }

    /// Another gateway of this cluster, on a port of its own.
    pub(crate) fn gateway(&self, port: u16) -> Running {
        Program::ours("orchion-gateway")
            .dir(self.data.path())
            .args(["--http-port", &port.to_string(), "--nats-url"])
            .arg(self.document()["nats"].as_str().unwrap())
            .start()
    }

    /// What `--json` has printed.
    pub(crate) fn document(&self) -> Value {
        serde_json::from_str(self.process.stdout().lines().next().unwrap()).unwrap()
    }

    /// Everything that it has started: nats-server and the engines.
    pub(crate) fn children(&self) -> Vec<u32> {
        let own = self.process.pid();
        let mut found = tree(&[own]);
        found.retain(|id| *id != own);
        assert!(found.len() >= 2, "{found:?}");
        found
    }

    /// What its services have written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data.path().join("logs/orchion.log")).unwrap()
    }

    /// No process names the folder any more: every child has it on its command line.
    pub(crate) async fn nothing_is_left(&self) {
        eventually(
            "the end of every process",
            Duration::from_secs(10),
            async || {
                let left = naming(self.data.path());
                if left.is_empty() { Ok(()) } else { Err(left) }
            },
        )
        .await;
    }
}

fn program(data: &Path) -> Program {
    Program::at(Path::new(env!("CARGO_BIN_EXE_orchion")))
        .dir(data)
        .env("ORCHION_DATA_DIR", data)
}

/// The process group that a process is in.
pub(crate) fn group_of(id: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name before it may hold spaces and parentheses.
    let behind_name = &stat[stat.rfind(')').unwrap() + 2..];
    behind_name.split(' ').nth(2).unwrap().to_owned()
}

/// Command lines of living processes that name `folder`.
fn naming(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|raw| String::from_utf8_lossy(&raw).replace('\0', " "))
        .filter(|command| command.contains(&*folder))
        .collect()
}

/// A chat that goes to these gateways, in the background.
pub(crate) fn chat(urls: &str) -> Running {
    Program::at(Path::new(env!("CARGO_BIN_EXE_orchion")))
        .args(["chat", "Count for me.", "--url", urls])
        .start()
}

/// Runs a command against the gateway at `url`.
pub(crate) fn orchion(url: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_orchion"))
        .args(arguments)
        .env("ORCHION_URL", url)
        .output()
        .unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Ports of a gateway and a `nats-server`, which no other test gets meanwhile.
fn free_ports() -> [String; 2] {
    [free_port().to_string(), free_port().to_string()]
}

fn flags([http, nats]: &[String; 2]) -> [&str; 4] {
    ["--http-port", http, "--nats-port", nats]
}
