//! Checks of what should answer: NATS, the gateway, engines.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use orchion_contract::ModelName;
use orchion_contract::job::JobSummary;
use orchion_contract::node::{Node, NodeState};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Check;
use crate::commands::rows;
use crate::exit::Kind;
use crate::gateway::Gateway;
use crate::http::{self, Base, Request};
use crate::nats;

/// Waiting jobs that are looked at one by one.
const LOOKED_AT: usize = 20;
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The server's greeting tells what it can; no user is needed for it.
pub(super) async fn nats(url: &str) -> Check {
    const NAME: &str = "nats";
    let address = nats::address(url);
    match nats::greeting(&address).await {
        Ok(greeting) if !greeting.jetstream => Check::fail(
            NAME,
            format!(
                "nats-server {} at {address} has no JetStream",
                greeting.version
            ),
            "start it with the configuration in nats/, or let `orchion up` start one",
        ),
        Ok(greeting) => {
            let login = if greeting.auth_required {
                ", asks for a password"
            } else {
                ""
            };
            Check::ok(
                NAME,
                format!(
                    "nats-server {} with JetStream at {address}{login}",
                    greeting.version
                ),
            )
        }
        Err(nats::Silence::Nobody(reason)) => Check::fail(
            NAME,
            format!("nobody answers at {address}: {reason}"),
            "start everything here with `orchion up`, or name the server with --nats-url",
        ),
        Err(nats::Silence::Another) => Check::fail(
            NAME,
            format!("another program has the port of {address}"),
            "choose another with `orchion up --nats-port`, or end that program",
        ),
    }
}

/// The gateway, what is behind it, and what it offers.
pub(super) async fn gateway(gateway: &Gateway) -> Vec<Check> {
    const NAME: &str = "gateway";
    let version: Value = match gateway.get("/version").await {
        Ok(version) => version,
        Err(failure) if failure.kind == Kind::Unavailable => {
            return vec![Check::failed(NAME, failure)];
        }
        Err(failure) => {
            return vec![Check::fail(
                NAME,
                format!(
                    "what answers at {} is no Orchion gateway: {}",
                    gateway.base(),
                    failure.message
                ),
                "choose another port with `orchion up --http-port`, or name the gateway with --url",
            )];
        }
    };
    let shown = version["version"].as_str().unwrap_or("of unknown version");
    let found = format!("{shown} at {}", gateway.base());
    let mut checks = vec![if shown == env!("CARGO_PKG_VERSION") {
        Check::ok(NAME, found)
    } else {
        Check::warn(NAME, found, "run the same version of Orchion everywhere")
    }];
    if let Err(failure) = gateway.get::<Value>("/readyz").await {
        checks.push(Check::fail(
            "readiness",
            failure.message,
            "wait a moment; if it stays so, read `orchion logs --level warn`",
        ));
    }
    match list::<Node>(gateway, "nodes", "/api/nodes").await {
        Ok(found) => {
            checks.push(nodes(&found));
            let path = "/api/jobs?state=pending&limit=1000";
            checks.push(match list::<JobSummary>(gateway, "jobs", path).await {
                Ok(jobs) => waiting(jobs.len(), &oldest(gateway, &jobs).await),
                Err(check) => check,
            });
        }
        Err(check) => checks.push(check),
    }
    checks
}

/// What a gateway lists, or the check that says why it does not.
async fn list<T: DeserializeOwned>(
    gateway: &Gateway,
    name: &'static str,
    path: &str,
) -> Result<Vec<T>, Check> {
    let listed = gateway.get::<Value>(path).await;
    let listed = listed.and_then(|document| rows(document, name));
    listed.map_err(|failure| Check::failed(name, failure))
}

/// Those of the listed jobs that wait longest, with what is known of their future.
async fn oldest(gateway: &Gateway, newest_first: &[JobSummary]) -> Vec<JobSummary> {
    let mut oldest = Vec::new();
    for job in newest_first.iter().rev().take(LOOKED_AT) {
        // One that has ended since does not wait.
        oldest.extend(gateway.get(&format!("/api/jobs/{}", job.id)).await);
    }
    oldest
}

/// Jobs that no replica can take, not even an idle one.
fn waiting(count: usize, oldest: &[JobSummary]) -> Check {
    const NAME: &str = "jobs";
    let mut stuck: BTreeMap<(&ModelName, &str), usize> = BTreeMap::new();
    for job in oldest {
        let progress = job.progress.as_ref();
        if let Some(reason) = progress.and_then(|told| told.reason.as_deref()) {
            *stuck.entry((&job.model, reason)).or_default() += 1;
        }
    }
    let waiting = format!("{count} waiting");
    if stuck.is_empty() {
        return Check::ok(NAME, waiting);
    }
    let stuck = stuck
        .iter()
        .map(|((model, reason), jobs)| format!("{jobs} for {model}: {reason}"));
    let stuck: Vec<_> = stuck.collect();
    Check::warn(
        NAME,
        format!("{waiting}, of which nobody can take {}", stuck.join("; ")),
        "`orchion explain ID` says more, `orchion jobs --state pending` lists them; start an engine that can, or end them with `orchion jobs cancel ID`",
    )
}

fn nodes(nodes: &[Node]) -> Check {
    const NAME: &str = "nodes";
    let online: Vec<&Node> = nodes
        .iter()
        .filter(|node| node.state == NodeState::Online)
        .collect();
    let replicas = online.iter().flat_map(|node| &node.replicas);
    let ready = replicas.filter(|replica| replica.ready).count();
    let found = format!(
        "{} of {} online; models ready on them: {ready}",
        online.len(),
        nodes.len()
    );
    match (online.len(), ready) {
        (0, _) => Check::fail(
            NAME,
            found,
            "start an agent: `orchion agent --nats-url nats://HOST:4222`",
        ),
        (_, 0) => Check::fail(
            NAME,
            found,
            "start an engine on a node; `orchion nodes` shows what each has",
        ),
        _ => Check::ok(NAME, found),
    }
}

/// Engines of this machine that an agent would use.
pub(super) async fn engines(gateway: &Gateway) -> Check {
    const NAME: &str = "engines";
    let mut found = Vec::new();
    for place in orchion_node_agent::NodeAgent::default().probe {
        let Ok(base) = Base::parse(&place) else {
            continue;
        };
        let is_gateway = gateway.base().is_local() && gateway.base().port() == base.port();
        if !is_gateway && serves_models(&base).await {
            found.push(place);
        }
    }
    if found.is_empty() {
        return Check::warn(
            NAME,
            "none on the usual ports of this machine",
            "an agent here uses what it is configured for, else the starter with a tiny model; it finds llama-server, Ollama or vLLM once one runs",
        );
    }
    Check::ok(NAME, found.join(", "))
}

async fn serves_models(base: &Base) -> bool {
    let request = Request {
        method: Method::GET,
        path: "/v1/models",
        headers: Vec::new(),
        body: None,
    };
    let asked = tokio::time::timeout(PROBE_TIMEOUT, http::send(base, request)).await;
    match asked {
        Ok(Ok(response)) => {
            // An Orchion gateway names every answer; an engine does not.
            response.status.is_success() && response.header("x-correlation-id").is_none()
        }
        Ok(Err(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::Verdict;
    use serde_json::json;

    fn job(model: &str, reason: Option<&str>) -> JobSummary {
        let sample = include_str!("../../../../../libs/contract/samples/job-summary.json");
        let mut job: Value = serde_json::from_str(sample).unwrap();
        job["model"] = json!(model);
        let progress = include_str!("../../../../../libs/contract/samples/job-progress.json");
        job["progress"] = serde_json::from_str(progress).unwrap();
        job["progress"]["reason"] = json!(reason);
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn jobs_that_nobody_can_take_are_counted_by_model_and_reason() {
        let gone = Some("no node serves its model now");
        let jobs = [job("tiny", None), job("large", gone), job("large", gone)];
        let check = waiting(30, &jobs);
        assert_eq!(check.verdict, Verdict::Warn);
        assert_eq!(
            check.found,
            "30 waiting, of which nobody can take 2 for large: no node serves its model now"
        );
    }

    #[test]
    fn jobs_that_only_wait_for_their_turn_are_well() {
        let check = waiting(1, &[job("tiny", None)]);
        assert_eq!(
            (check.verdict, check.found.as_str()),
            (Verdict::Ok, "1 waiting")
        );
    }
}
