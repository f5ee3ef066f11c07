//! `orchion version`.

use serde_json::{Value, json};

use super::Context;
use crate::exit::Result;

/// The gateway's version is a courtesy: without a gateway there is none.
pub(super) async fn run(context: &Context) -> Result<()> {
    let own = env!("CARGO_PKG_VERSION");
    let gateway: Option<Value> = context.gateway.get("/version").await.ok();
    let terminal = context.terminal;
    if terminal.json {
        return terminal.document(&json!({ "orchion": own, "gateway": gateway }));
    }
    terminal.line(&format!("orchion {own}"))?;
    if let Some(version) = gateway
        .as_ref()
        .and_then(|gateway| gateway["version"].as_str())
    {
        terminal.line(&format!("gateway {version} at {}", context.gateway.base()))?;
    }
    Ok(())
}
