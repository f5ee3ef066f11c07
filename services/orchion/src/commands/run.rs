//! `orchion run`: a task that goes on whether or not somebody waits.

use orchion_contract::JobId;

use super::Context;
use super::answer::{OnInterrupt, ask};
use super::prompt;
use crate::args::{Priority, Run};
use crate::exit::Result;
use crate::task::{Message, Task, choose_model};

pub(super) async fn run(context: &Context, options: Run) -> Result<()> {
    let said = prompt::given_or_piped(options.prompt)?;
    let model = choose_model(&context.gateway, options.sampling.model.as_deref()).await?;
    let mut task = Task {
        batch: options.priority == Priority::Batch,
        deadline: options.deadline,
        ..prompt::task(model, &options.sampling)
    };
    task.messages.push(Message::user(said));
    if !options.detach {
        return ask(context, &task, OnInterrupt::Leave).await.map(drop);
    }
    let terminal = context.terminal;
    let id = JobId::now();
    let admission = task
        .submit(&context.gateway, id, |reason| terminal.aside(reason))
        .await?;
    if terminal.json {
        return terminal.document(&admission);
    }
    terminal.line(&id.to_string())?;
    if terminal.is_person {
        terminal.remark(&format!("`orchion jobs follow {id}` shows its answer"));
    }
    Ok(())
}
