//! `orchion nodes`.

use orchion_contract::node::Node;
use serde_json::Value;

use super::{Context, encoded, named};
use crate::args::{Nodes, NodesCommand};
use crate::exit::{Failure, Kind, Result};
use crate::show;
use crate::show::units::now_ms;

pub(super) async fn run(context: &Context, options: Nodes) -> Result<()> {
    match options.command {
        None => list(context).await,
        Some(NodesCommand::Show { node }) => detail(context, &node).await,
    }
}

async fn list(context: &Context) -> Result<()> {
    let terminal = context.terminal;
    let document: Value = context.gateway.get("/api/nodes").await?;
    if terminal.json {
        return terminal.document(&document);
    }
    let nodes: Vec<Node> = super::rows(document, "nodes")?;
    if nodes.is_empty() {
        return Err(Failure::new(Kind::NotFound, "there is no node yet")
            .then("add this host with `orchion agent`, or start everything with `orchion up`"));
    }
    terminal.line(&show::nodes::table(&nodes, now_ms(), terminal.colour()))
}

async fn detail(context: &Context, name: &str) -> Result<()> {
    let terminal = context.terminal;
    let document: Value = match whole(context, name).await {
        Ok(document) => document,
        Err(failure) if failure.kind == Kind::NotFound => {
            let id = longer(context, name).await?;
            whole(context, &id.ok_or(failure)?).await?
        }
        Err(failure) => return Err(failure),
    };
    if terminal.json {
        return terminal.document(&document);
    }
    let node: Node = super::read(document, "answer about the node")?;
    terminal.line(&show::nodes::detail(&node, now_ms(), terminal.colour()))
}

/// The node with this id.
async fn whole(context: &Context, id: &str) -> Result<Value> {
    let path = format!("/api/nodes/{}", encoded(id));
    context.gateway.get(&path).await
}

/// The id that `name` is the beginning of, or that of the host.
async fn longer(context: &Context, name: &str) -> Result<Option<String>> {
    // Whoever may not list the nodes hears what was said of this one.
    let Ok(nodes) = context.gateway.get::<Vec<Node>>("/api/nodes").await else {
        return Ok(None);
    };
    let node = named::node(&nodes, name)?;
    Ok(node.map(|node| node.id.to_string()))
}
