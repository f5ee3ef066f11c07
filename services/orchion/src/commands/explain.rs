//! `orchion explain`.

use orchion_contract::placement::Explanation;
use serde_json::Value;

use super::{Context, named};
use crate::args::Explain;
use crate::exit::Result;
use crate::show::explain as look;

pub(super) async fn run(context: &Context, options: Explain) -> Result<()> {
    let terminal = context.terminal;
    let id = named::job(context, &options.id).await?;
    let path = format!("/v1/tasks/{id}/explain");
    if terminal.json {
        let document: Value = context.gateway.get(&path).await?;
        return terminal.document(&document);
    }
    let explanation: Explanation = context.gateway.get(&path).await?;
    terminal.line(&look::explanation(&explanation, terminal.colour()))
}
