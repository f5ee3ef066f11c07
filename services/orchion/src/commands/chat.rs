//! `orchion chat`: one answer, or a conversation.

use super::Context;
use super::answer::{Answer, OnInterrupt, ask};
use super::prompt;
use crate::args::Chat;
use crate::exit::{Kind, Result};
use crate::show::units::span;
use crate::task::{Message, Task, choose_model};
use crate::terminal::{DIM, STRONG};

pub(super) async fn run(context: &Context, options: Chat) -> Result<()> {
    let converses = options.prompt.is_none() && prompt::is_person() && context.terminal.is_person;
    if converses {
        let model = choose_model(&context.gateway, options.sampling.model.as_deref()).await?;
        return converse(context, prompt::task(model, &options.sampling)).await;
    }
    let said = prompt::given_or_piped(options.prompt)?;
    let model = choose_model(&context.gateway, options.sampling.model.as_deref()).await?;
    let mut task = prompt::task(model, &options.sampling);
    task.messages.push(Message::user(said));
    ask(context, &task, OnInterrupt::Cancel).await.map(drop)
}

/// Question and answer until the person leaves.
async fn converse(context: &Context, mut task: Task) -> Result<()> {
    let terminal = context.terminal;
    terminal.remark(&terminal.paint(
        DIM,
        &format!(
            "{} · Ctrl-C stops an answer, Ctrl-D leaves, /new starts afresh",
            task.model
        ),
    ));
    let beginning = task.messages.len();
    let mark = terminal.paint(STRONG, "> ");
    loop {
        let line = tokio::select! {
            line = prompt::line(&mark) => line?,
            failure = super::interrupt() => {
                terminal.text("\n")?;
                return Err(failure?);
            }
        };
        let Some(line) = line else {
            return terminal.text("\n");
        };
        match line.trim() {
            "" => {}
            "/exit" | "/quit" => return Ok(()),
            "/new" => task.messages.truncate(beginning),
            said => turn(context, &mut task, said).await?,
        }
    }
}

/// One question; what went wrong with it does not end the conversation.
async fn turn(context: &Context, task: &mut Task, said: &str) -> Result<()> {
    let terminal = context.terminal;
    task.messages.push(Message::user(said));
    match ask(context, task, OnInterrupt::Cancel).await {
        Ok(answer) => {
            terminal.remark(&terminal.paint(DIM, &figures(&answer)));
            task.messages.push(Message::assistant(answer.text));
        }
        Err(failure) if failure.kind == Kind::NobodyReads => return Err(failure),
        Err(failure) => {
            task.messages.pop();
            if failure.kind != Kind::Interrupted {
                terminal.failure(&failure);
            }
        }
    }
    Ok(())
}

fn figures(answer: &Answer) -> String {
    let end = &answer.end;
    let mut text = format!("{} tokens in {}", end.tokens_out, span(end.decode_ms));
    if let Some(rate) = (end.tokens_out * 1000).checked_div(end.decode_ms) {
        text.push_str(&format!(", {rate} a second"));
    }
    text
}
