//! A running stack of its own name, on free ports, taken down at the end.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::http::Server;
use crate::{shell, workspace};

/// Share of a core that leaves a node time to be killed in mid-answer.
const SLOW: &str = "0.1";

pub(crate) struct Stack {
    project: String,
    full: bool,
    keep: bool,
    pub(crate) gateway: Server,
}

impl Stack {
    /// Builds the images and starts two nodes and everything else; returns when all is healthy.
    ///
    /// # Errors
    /// When something does not become healthy; its log was shown.
    pub(crate) fn up(full: bool, keep: bool) -> anyhow::Result<Self> {
        let nowhere = Server {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: None,
        };
        let project = format!("orchion-check-{}", std::process::id());
        let mut stack = Self {
            project,
            full,
            keep,
            gateway: nowhere,
        };
        let up = [
            "up",
            "--detach",
            "--build",
            "--wait",
            "--wait-timeout",
            "120",
            "--scale",
            "node-agent=2",
        ];
        if let Err(error) = shell::run(stack.compose().args(up)) {
            stack.show_logs();
            return Err(error);
        }
        let address = shell::capture(stack.compose().args(["port", "gateway", "8080"]))?;
        let token = shell::capture(stack.compose().args([
            "exec",
            "-T",
            "gateway",
            "orchion-gateway",
            "token",
        ]))?;
        stack.gateway = Server {
            address: address
                .trim()
                .parse()
                .with_context(|| format!("read the address {address}"))?,
            token: Some(token.trim().to_owned()),
        };
        if stack.gateway.token.as_deref() == Some("") {
            bail!("the gateway printed no token");
        }
        Ok(stack)
    }

    /// The gateway as a stranger sees it.
    pub(crate) fn without_token(&self) -> Server {
        Server {
            address: self.gateway.address,
            token: None,
        }
    }

    /// Holds all nodes to a fraction of a core until the guard is dropped.
    ///
    /// # Errors
    /// When the engine refuses.
    pub(crate) fn slow_nodes(&self) -> anyhow::Result<Slow> {
        let list = shell::capture(self.compose().args(["ps", "--quiet", "node-agent"]))?;
        let slow = Slow {
            containers: list.lines().map(str::to_owned).collect(),
        };
        shell::capture(
            Command::new("docker")
                .args(["update", "--cpus", SLOW])
                .args(&slow.containers),
        )?;
        Ok(slow)
    }

    /// Kills a container with SIGKILL.
    ///
    /// # Errors
    /// When there is no such container.
    pub(crate) fn kill(&self, container: &str) -> anyhow::Result<()> {
        shell::capture(Command::new("docker").args(["kill", "--signal", "KILL", container]))?;
        Ok(())
    }

    /// Shows what the containers say.
    pub(crate) fn show_logs(&self) {
        for arguments in [
            &["ps", "--all"][..],
            &["logs", "--no-color", "--tail", "40"],
        ] {
            if let Err(error) = shell::run(self.compose().args(arguments)) {
                shell::complain(&format!("{error:#}"));
            }
        }
    }

    fn compose(&self) -> Command {
        let mut compose = Command::new("docker");
        compose.current_dir(workspace::root());
        compose.args(["compose", "--project-name", &self.project]);
        compose
            .env("ORCHION_HTTP_PORT", "0")
            .env("ORCHION_NATS_PORT", "0");
        compose.env(
            "ORCHION_BINARIES",
            if self.full { "built" } else { "prebuilt" },
        );
        compose
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if self.keep {
            shell::complain(&format!(
                "still running: docker compose --project-name {} ps",
                self.project
            ));
            return;
        }
        let down = ["down", "--volumes", "--timeout", "20", "--rmi", "local"];
        if let Err(error) = shell::capture(self.compose().args(down)) {
            shell::complain(&format!("{error:#}"));
        }
    }
}

/// Nodes that are held back.
pub(crate) struct Slow {
    containers: Vec<String>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        // The engine takes no "unlimited" back, so each gets all there is. One
        // of them may be dead by now; the other one is let go all the same.
        let all = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .to_string();
        for container in &self.containers {
            let _ =
                shell::capture(Command::new("docker").args(["update", "--cpus", &all, container]));
        }
    }
}
