//! The program itself: its command line, its exit codes, its end by a signal.

use std::path::Path;
use std::time::Duration;

use orchion_testkit::{HttpClient, NatsServer, Program, eventually, free_port};

const PATIENCE: Duration = Duration::from_secs(10);

fn gateway() -> Program {
    Program::at(Path::new(env!("CARGO_BIN_EXE_orchion-gateway")))
        .env("ORCHION_DATA_DIR", env!("CARGO_TARGET_TMPDIR"))
}

/// Exit code and everything it said.
async fn ran(program: Program) -> (Option<i32>, String) {
    let mut running = program.start();
    let status = running.wait(PATIENCE).await;
    (status.code(), running.stdout() + &running.stderr())
}

#[tokio::test]
async fn the_old_port_flag_names_what_replaced_it() {
    let (code, said) = ran(gateway().args(["--port", "50051"])).await;
    assert_eq!(code, Some(64));
    assert!(
        said.contains("use --nats-url") && said.contains("--http-port"),
        "{said}"
    );
}

#[tokio::test]
async fn an_open_address_without_a_token_is_refused_with_the_way_out() {
    let (code, said) = ran(gateway().args(["--bind", "0.0.0.0"])).await;
    assert_eq!(code, Some(64));
    assert!(said.contains("set gateway.tokens"), "{said}");
}

#[tokio::test]
async fn a_typo_in_the_configuration_is_named() {
    let (code, said) = ran(gateway().env("ORCHION_GATEWAY__HTP_PORT", "1")).await;
    assert_eq!(code, Some(64));
    assert!(said.contains("did you mean `http_port`?"), "{said}");
}

#[tokio::test]
async fn the_token_is_printed_for_whoever_runs_the_program() {
    let (code, said) = ran(gateway()
        .env("ORCHION_GATEWAY__TOKENS", "sesame")
        .arg("token"))
    .await;
    assert_eq!((code, said.trim()), (Some(0), "sesame"));
    let shown = gateway()
        .env("ORCHION_GATEWAY__TOKENS", "sesame")
        .arg("--print-config");
    let (code, said) = ran(shown).await;
    assert_eq!(code, Some(0));
    assert!(!said.contains("sesame"), "{said}");
}

#[tokio::test]
async fn a_signal_ends_it_in_order() {
    let nats = NatsServer::start().await;
    let port = free_port().to_string();
    let args = ["--http-port", &port, "--nats-url", &nats.url()];
    let mut running = gateway().args(args).start();
    let http = HttpClient::new(&format!("http://127.0.0.1:{port}"));
    eventually("the gateway to be ready", PATIENCE, async || {
        http.get("/readyz")
            .await
            .is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let (code, _) = ran(gateway().args(["--http-port", &port]).arg("healthcheck")).await;
    assert_eq!(code, Some(0));
    running.terminate();
    assert_eq!(
        running.wait(PATIENCE).await.code(),
        Some(0),
        "{}",
        running.stdout()
    );
}
