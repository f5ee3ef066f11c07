//! The unmodified `openai` package talks to the gateway.

use std::path::Path;
use std::time::Duration;

use orchion_e2e::{SOON, alone, python_with_openai, skip};
use orchion_testkit::mock_engine::Stats;
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, Program, eventually};

#[tokio::test]
async fn the_openai_package_streams_and_raises_its_typed_errors() {
    let _alone = alone().await;
    let python = match tokio::task::spawn_blocking(python_with_openai)
        .await
        .unwrap()
    {
        Ok(python) => python,
        Err(reason) => return skip("openai_python", &reason),
    };
    let cluster = Cluster::builder().agents(1).start().await;
    let (short, long) = (Ask::new(12), Ask::new(2_000).pace_us(20_000));
    let mut client = Program::at(&python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/openai_client.py"))
        .args([cluster.gateway_url(0), &short.marker(), &long.marker()])
        .start();
    let status = client.wait(Duration::from_secs(90)).await;
    let said = client.stdout();
    assert!(status.success(), "{said}{}", client.stderr());
    let checks: Vec<_> = said.lines().collect();
    let expected = [
        "lists the model",
        "streams a chat with its usage",
        "answers a whole chat with its usage",
        "raises NotFoundError for a wrong model",
        "raises BadRequestError for an empty list of messages",
        "closes a stream",
    ];
    assert_eq!(checks, expected);

    let engine = HttpClient::new(&format!("http://{}", cluster.engine_addr(0)));
    eventually("the engine to be left", SOON, async || {
        let stats: Stats = engine.get("/mock/stats").await.unwrap().json();
        if (stats.cancelled, stats.inflight) == (1, 0) {
            Ok(())
        } else {
            Err(stats)
        }
    })
    .await;
}
