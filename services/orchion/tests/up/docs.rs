//! The commands of README and docs, run as they are printed: every block that is
//! marked `sh run`, against a running Orchion.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::up::{Up, orchion};

const DOCUMENTS: [&str; 3] = ["README.md", "docs/quick-start.md", "docs/logging.md"];
/// What the documents call the gateway; the test has its own port.
const PRINTED_URL: &str = "http://localhost:8080";

#[tokio::test]
async fn each_command_of_the_documents_works_as_printed() {
    let up = Up::start(&["--json"]);
    let url = up.url().await;
    let nats = up.document()["nats"].as_str().unwrap().to_owned();
    let mut commands = 0;
    for document in DOCUMENTS {
        let text = fs::read_to_string(root().join(document)).unwrap();
        let (script, listened): (Vec<_>, Vec<_>) = blocks(&text)
            .lines()
            .map(str::to_owned)
            .partition(|line| !line.starts_with("nats sub "));
        run(document, &script.join("\n"), &url, &nats);
        for line in &listened {
            let subject = line.split('\'').nth(1).unwrap();
            hear(&nats, &url, subject).await;
        }
        commands += script.len() + listened.len();
    }
    assert!(commands > 20, "only {commands} lines were found");
}

/// The text of all marked blocks of a document, in order.
fn blocks(document: &str) -> String {
    let mut inside = false;
    let mut text = String::new();
    for line in document.lines() {
        if line.starts_with("```") {
            inside = line == "```sh run";
        } else if inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Runs a document's commands in one shell that stops at the first failure.
fn run(document: &str, script: &str, url: &str, nats: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_orchion"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = vec![program.parent().unwrap().to_path_buf()];
    folders.extend(std::env::split_paths(&path));
    let script = script
        .replace(PRINTED_URL, url)
        // A status of 400 and above is a failure, too.
        .replace("curl ", "curl --fail-with-body --silent --show-error ");
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(root())
        .env("PATH", std::env::join_paths(folders).unwrap())
        .env("ORCHION_URL", url)
        .env("ORCHION_NATS_URL", nats)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{document}: {}\n{script}\n--- stdout\n{shown}\n--- stderr\n{said}",
        output.status
    );
}

/// Subscribes as `nats sub` does. A subject for everything brings readable
/// JSON; a narrow one is accepted.
async fn hear(nats: &str, url: &str, subject: &str) {
    let address = nats.trim_start_matches("nats://");
    let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
    let ask = format!("CONNECT {{\"verbose\":false}}\r\nSUB {subject} 1\r\nPING\r\n");
    stream.get_mut().write_all(ask.as_bytes()).await.unwrap();
    let limit = Duration::from_secs(20);
    let mut line = String::new();
    let mut is_heard = false;
    loop {
        line.clear();
        let read = timeout(limit, stream.read_line(&mut line)).await;
        assert!(read.is_ok(), "nothing was heard on {subject}");
        assert!(!line.starts_with("-ERR"), "{subject}: {line}");
        if line.starts_with("PONG") {
            if !subject.ends_with("n.log.>") && !subject.ends_with("n.evt.>") {
                return;
            }
            is_heard = true;
            let said = orchion(url, &["chat", "Hello!", "--max-tokens", "4"]);
            assert!(said.status.success(), "{said:?}");
        }
        if line.starts_with("MSG ") {
            assert!(is_heard);
            let bytes: usize = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
            let mut payload = vec![0; bytes + 2];
            stream.read_exact(&mut payload).await.unwrap();
            let record: Value = serde_json::from_slice(&payload[..bytes]).unwrap();
            assert!(record.is_object(), "{record}");
            return;
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
