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
    let id = named::node(context, name).await?;
    let path = format!("/api/nodes/{}", encoded(&id));
    let document: Value = context.gateway.get(&path).await?;
    if terminal.json {
        return terminal.document(&document);
    }
    let node: Node = super::read(document, "answer about the node")?;
    terminal.line(&show::nodes::detail(&node, now_ms(), terminal.colour()))
}
