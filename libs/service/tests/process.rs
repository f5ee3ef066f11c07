//! The example service as a real process: its output, its signals, its exit codes.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic, too")]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_signal_ends_it_in_order_with_exit_0() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut service = Running::start(&["--tick", "10ms"]);
        service.wait_for("request 2 is answered");
        service.send(signal);
        service.wait_for("nothing is left to do");
        assert_eq!(service.exit_code(), Some(0));
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let began = Instant::now();
    let mut service = Running::start(&["--stubborn"]);
    service.wait_for("gateway is running");
    service.send(Signal::SIGTERM);
    service.wait_for("stopping; a second signal ends at once");
    service.send(Signal::SIGTERM);
    assert_eq!(service.exit_code(), Some(143));
    assert!(
        began.elapsed() < Duration::from_secs(7),
        "the deadline was not waited for"
    );
}

#[test]
fn a_task_that_fails_ends_it_with_exit_1_and_a_line_that_names_it() {
    let mut service = Running::start(&["--tick", "1ms", "--fail-at", "3"]);
    service.wait_for("task intake failed: request 3 is one too many; stopping");
    assert_eq!(service.exit_code(), Some(1));
}

#[test]
fn every_line_of_its_output_is_a_record() {
    let mut service = Running::start(&["--tick", "1ms", "--fail-at", "3"]);
    let mut output = String::new();
    service.output.read_to_string(&mut output).unwrap();
    let mut ids = Vec::new();
    for line in output.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["source"], "gateway");
        ids.push((record["id"].to_string(), record["instance"].to_string()));
    }
    ids.sort_unstable();
    assert!(
        ids.len() >= 5
            && ids
                .windows(2)
                .all(|two| two[0].0 != two[1].0 && two[0].1 == two[1].1),
        "{output}"
    );
}

#[test]
fn bad_configuration_exits_64_and_says_all_of_it() {
    let output = finish(&["--tick", "5"], &[("ORCHION_GATEWAY__STUBORN", "1")]);
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("2 problems"), "{said}");
    assert!(
        said.contains("did you mean `stubborn`?") && said.contains("`5` is not a duration"),
        "{said}"
    );
}

#[test]
fn a_health_check_exits_0_or_1() {
    let ill = finish(&["healthcheck"], &[]);
    assert_eq!(ill.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&ill.stderr).contains("gateway is not well: there is no token")
    );
    let well = finish(&["healthcheck"], &[("ORCHION_GATEWAY__TOKEN", "t")]);
    assert_eq!(
        (well.status.code(), well.stdout.as_slice()),
        (Some(0), &b"ok\n"[..])
    );
}

struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Running {
    fn start(arguments: &[&str]) -> Self {
        let mut child = command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Reads lines until one has this text; the end of the output is a failure.
    fn wait_for(&mut self, text: &str) {
        let mut seen = String::new();
        loop {
            let before = seen.len();
            self.output.read_line(&mut seen).unwrap();
            assert!(seen.len() > before, "no `{text}` in:\n{seen}");
            if seen[before..].contains(text) {
                return;
            }
        }
    }

    fn send(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn finish(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

/// The example, built beside this test, without this machine's environment.
fn command(arguments: &[&str]) -> Command {
    let here = std::env::current_exe().unwrap();
    let example: PathBuf = here
        .parent()
        .and_then(|deps| deps.parent())
        .unwrap()
        .join("examples/minimal");
    assert!(
        example.exists(),
        "cargo builds examples unless told to build one test only"
    );
    let mut command = Command::new(example);
    command
        .args(arguments)
        .env_clear()
        .current_dir(here.parent().unwrap());
    command
}
