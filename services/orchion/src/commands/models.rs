//! `orchion models`.

use serde_json::Value;

use super::Context;
use crate::exit::{Failure, Kind, Result};
use crate::task;
use crate::terminal::STRONG;

pub(super) async fn run(context: &Context) -> Result<()> {
    let terminal = context.terminal;
    if terminal.json {
        let document: Value = context.gateway.get("/v1/models").await?;
        return terminal.document(&document);
    }
    let models = task::models(&context.gateway).await?;
    if models.is_empty() {
        return Err(Failure::new(Kind::NotFound, "no node offers a model yet")
            .then("look with `orchion nodes`; add a host with `orchion agent`"));
    }
    for model in models {
        terminal.line(&terminal.paint(STRONG, &model))?;
    }
    Ok(())
}
