//! A server with the configuration under test.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use orchion_nats_server::{Access, Passwords, Search, arguments, install, locate_or_fetch};
use tempfile::TempDir;

use crate::wire::Client;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    access: Access,
    process: Child,
    _folder: TempDir,
}

/// Lets the server judge the configuration.
pub(crate) fn check(access: &Access) {
    let folder = tempfile::tempdir().unwrap();
    let config = install(folder.path(), access).unwrap();
    let output = Command::new(binary())
        .arg("-t")
        .arg("-c")
        .arg(config)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Server {
    pub(crate) fn start(access: &Access) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = install(folder.path(), access).unwrap();
        let ports = folder.path().join("ports");
        fs::create_dir(&ports).unwrap();
        let process = Command::new(binary())
            .args(arguments(
                &config,
                "127.0.0.1:0".parse().unwrap(),
                &folder.path().join("store"),
            ))
            .arg("--ports_file_dir")
            .arg(&ports)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self {
            address: "127.0.0.1:0".parse().unwrap(),
            access: access.clone(),
            process,
            _folder: folder,
        };
        server.address = server.wait_for_address(&ports);
        server
    }

    /// Connects as the user of a role.
    pub(crate) fn connect_as(&self, user: &str) -> Client {
        let password = match &self.access {
            Access::Loopback => "",
            Access::Network(passwords) => password(passwords, user),
        };
        self.connect(user, password)
    }

    pub(crate) fn connect(&self, user: &str, password: &str) -> Client {
        Client::connect(self.address, user, password).unwrap()
    }

    /// The server writes the port it chose into a file.
    fn wait_for_address(&mut self, ports: &std::path::Path) -> SocketAddr {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let file = fs::read_dir(ports).unwrap().flatten().next();
            let text = file
                .map(|file| fs::read_to_string(file.path()).unwrap())
                .unwrap_or_default();
            if let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text) {
                return ports["nats"][0]
                    .as_str()
                    .unwrap()
                    .trim_start_matches("nats://")
                    .parse()
                    .unwrap();
            }
            assert!(
                self.process.try_wait().unwrap().is_none(),
                "nats-server ended"
            );
            assert!(Instant::now() < deadline, "nats-server did not start");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> std::path::PathBuf {
    locate_or_fetch(&Search::from_environment()).unwrap().path
}

fn password<'a>(passwords: &'a Passwords, user: &str) -> &'a str {
    match user {
        "service" => &passwords.service,
        "agent" => &passwords.agent,
        "reader" => &passwords.reader,
        "liveness" => &passwords.liveness,
        _ => panic!("there is no user {user}"),
    }
}
