//! Resumes at a second gateway after SIGKILL of the first, counted one by one.

use crate::client::{Client, Report};
use crate::history::{Ending, judge};
use crate::table::{say, tell};
use orchion_testkit::wire::Ask;
use orchion_testkit::{Cluster, HttpClient, eventually};
use serde_json::Value;
use std::time::Duration;
use tokio::task::JoinSet;

/// Streams under way at each kill.
const AT_ONCE: u32 = 50;
const TOKENS: u32 = 60;
const PACE_US: u64 = 25_000;

/// Counts until `wanted` answers were resumed; whether all are byte-identical.
pub(crate) async fn run(wanted: u32) -> anyhow::Result<bool> {
    let mut cluster = Cluster::builder().gateways(2).start().await;
    let (mut resumed, mut identical, mut kills, mut pauses) = (0, 0, 0, Vec::new());
    while resumed < wanted {
        let streams = AT_ONCE.min(wanted - resumed);
        let reports = kill_under(&mut cluster, streams).await?;
        kills += 1;
        let second = cluster.gateway(1);
        for report in &reports {
            let is_resumed = report.resumes > 0;
            let is_good = is_resumed && is_identical(&second, report).await?;
            resumed += u32::from(is_resumed);
            identical += u32::from(is_good);
            if is_resumed && !is_good {
                say(&format!("not identical: {report:?}"));
            }
            let longest = report.silences.iter().map(|one| one.to - one.from).max();
            pauses.push(longest.unwrap_or_default().saturating_sub(report.pace));
        }
        cluster.heal().await;
        tell(&format!(
            "kill {kills}: {resumed} resumed, {identical} identical"
        ));
    }
    pauses.sort_unstable();
    let at = |share: usize| pauses[(pauses.len() - 1) * share / 100].as_millis();
    say(&format!(
        "{identical} of {resumed} answers byte-identical, resumed at a second gateway after {kills} SIGKILLs of the first; \
         longest silence beyond the pace: median {} ms, p99 {} ms, worst {} ms",
        at(50),
        at(99),
        at(100)
    ));
    Ok(identical == resumed)
}

/// Tasks are followed at the first gateway when it dies, all in mid-answer.
async fn kill_under(cluster: &mut Cluster, streams: u32) -> anyhow::Result<Vec<Report>> {
    let clients = cluster.clients();
    let mut followed = JoinSet::new();
    let mut progress = Vec::new();
    for _ in 0..streams {
        let ask = Ask::new(TOKENS).pace_us(PACE_US);
        let client = Client::new(&clients, 0, ask);
        progress.push(client.progress());
        followed.spawn(client.task(None));
    }
    let under_way = || async { progress.iter().all(|seen| seen.tokens() >= TOKENS / 5) };
    eventually(
        "all streams are under way",
        Duration::from_secs(30),
        under_way,
    )
    .await;
    cluster.gateways[0].kill();
    Ok(followed.join_all().await)
}

/// Whether what the client put together over both gateways is, byte for byte,
/// what is stored, and a whole answer.
async fn is_identical(gateway: &HttpClient, report: &Report) -> anyhow::Result<bool> {
    let Some(job) = &report.job else {
        return Ok(false);
    };
    let answer = gateway.get(&format!("/v1/tasks/{job}")).await?;
    let task: Value = serde_json::from_slice(&answer.body)?;
    let is_completed = report
        .history
        .views
        .iter()
        .any(|view| matches!(view.ending(), Some(Ending::Completed(_))));
    Ok(is_completed && judge(&report.history).is_empty() && task["output"] == report.text)
}
