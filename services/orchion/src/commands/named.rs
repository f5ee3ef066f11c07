//! Jobs and nodes by the beginning of their id, as a table shows it and a
//! person copies it.

use orchion_contract::JobId;
use orchion_contract::node::Node;
use serde::Deserialize;

use super::Context;
use crate::args::JobName;
use crate::exit::{Failure, Kind, Result};

/// Candidates that are named when there are several.
const SHOWN: usize = 4;

#[derive(Deserialize)]
struct Listed {
    id: JobId,
}

/// The job of this name.
///
/// # Errors
/// When no listed job has an id that begins so, or several have.
pub(super) async fn job(context: &Context, name: &JobName) -> Result<JobId> {
    let beginning = match name {
        JobName::Whole(id) => return Ok(*id),
        JobName::Beginning(beginning) => beginning,
    };
    let jobs: Vec<Listed> = context.gateway.get("/api/jobs?limit=1000").await?;
    let found: Vec<JobId> = jobs
        .into_iter()
        .map(|job| job.id)
        .filter(|id| id.to_string().starts_with(beginning.as_str()))
        .collect();
    match only(&found, beginning)? {
        Some(id) => Ok(*id),
        None => Err(Failure::new(
            Kind::NotFound,
            format!("no job of the last 15 minutes has an id that begins with {beginning}"),
        )
        .then("look with `orchion jobs`; an older one needs its whole id")),
    }
}

/// The id of the node that `name` means; where no listed node fits, the name itself.
///
/// # Errors
/// When several fit.
pub(super) async fn node(context: &Context, name: &str) -> Result<String> {
    // Whoever may not list the nodes hears what is said of this one.
    let Ok(nodes) = context.gateway.get::<Vec<Node>>("/api/nodes").await else {
        return Ok(name.to_owned());
    };
    Ok(find(&nodes, name)?.map_or_else(|| name.to_owned(), |node| node.id.to_string()))
}

/// The node with this id, or whose id begins so, or whose host has this name.
fn find<'a>(nodes: &'a [Node], name: &str) -> Result<Option<&'a Node>> {
    if let Some(node) = nodes.iter().find(|node| node.id.as_str() == name) {
        return Ok(Some(node));
    }
    let is_it = |node: &&Node| node.id.as_str().starts_with(name) || node.hostname == name;
    let found: Vec<&Node> = nodes.iter().filter(is_it).collect();
    let ids: Vec<&str> = found.iter().map(|node| node.id.as_str()).collect();
    only(&ids, name)?;
    Ok(found.into_iter().next())
}

fn only<'a, T: ToString>(found: &'a [T], name: &str) -> Result<Option<&'a T>> {
    match found {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let first = several.iter().take(SHOWN);
            let mut names: Vec<String> = first.map(T::to_string).collect();
            if several.len() > SHOWN {
                names.push(format!("{} more", several.len() - SHOWN));
            }
            let text = format!(
                "{name} may be {} of them: {}",
                several.len(),
                names.join(", ")
            );
            Err(Failure::new(Kind::Usage, text).then("write more of the id"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_node_is_found_by_the_beginning_of_its_id_or_by_its_host() {
        let node_of = |id: &str, host: &str| {
            json!({
                "id": id, "instance": "i", "hostname": host, "version": "1", "state": "online",
                "first_seen_ms": 0, "last_seen_ms": 0, "last_seen_unix": 0,
                "heartbeat_ms": 5000, "capabilities": {}, "replicas": [],
            })
        };
        let nodes: Vec<Node> = serde_json::from_value(json!([
            node_of("ab12", "kitchen"),
            node_of("ab34", "attic"),
            node_of("cd56", "attic"),
            node_of("ab", "shed"),
        ]))
        .unwrap();
        let id = |name: &str| {
            let found = find(&nodes, name).map_err(|failure| failure.message);
            found.map(|node| node.map(|node| node.id.to_string()))
        };
        assert_eq!(id("ab1"), Ok(Some("ab12".to_owned())));
        assert_eq!(id("kitchen"), Ok(Some("ab12".to_owned())));
        assert_eq!(id("cellar"), Ok(None));
        assert_eq!(id("ab"), Ok(Some("ab".to_owned())));
        assert_eq!(
            id("a"),
            Err("a may be 3 of them: ab12, ab34, ab".to_owned())
        );
        assert!(id("attic").is_err());
    }
}
