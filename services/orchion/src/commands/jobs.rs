//! `orchion jobs`.

use orchion_contract::JobId;
use orchion_contract::job::{JobState, JobSummary};
use serde_json::{Value, json};

use super::answer::{OnInterrupt, show};
use super::{Context, logs, named, query, rows};
use crate::args::{Jobs, JobsCommand, JobsList};
use crate::exit::Result;
use crate::follow::Follow;
use crate::show::jobs as look;
use crate::show::units::now_ms;

pub(super) async fn run(context: &Context, options: Jobs) -> Result<()> {
    match options.command {
        None => list(context, options.list).await,
        Some(JobsCommand::Show { id }) => detail(context, named::job(context, &id).await?).await,
        Some(JobsCommand::Follow { id }) => {
            let id = named::job(context, &id).await?;
            let follow = Follow::new(&context.gateway, id);
            show(context, follow, id, OnInterrupt::Leave)
                .await
                .map(drop)
        }
        Some(JobsCommand::Cancel { id }) => cancel(context, named::job(context, &id).await?).await,
        Some(JobsCommand::Logs { id }) => {
            logs::of_job(context, named::job(context, &id).await?).await
        }
    }
}

async fn list(context: &Context, options: JobsList) -> Result<()> {
    let terminal = context.terminal;
    let node = match options.node {
        Some(name) => Some(named::node(context, &name).await?),
        None => None,
    };
    let query = query(&[
        ("state", options.state.map(|state| state.to_string())),
        ("node", node),
        ("model", options.model),
        ("limit", Some(options.limit.to_string())),
    ]);
    let document: Value = context.gateway.get(&format!("/api/jobs{query}")).await?;
    if terminal.json {
        return terminal.document(&document);
    }
    let jobs: Vec<JobSummary> = rows(document, "jobs")?;
    if jobs.is_empty() {
        terminal.remark("no jobs; those that ended are listed for 15 minutes");
        return Ok(());
    }
    terminal.line(&look::table(&jobs, now_ms(), terminal.colour()))
}

async fn detail(context: &Context, id: JobId) -> Result<()> {
    let terminal = context.terminal;
    let path = format!("/api/jobs/{id}");
    if terminal.json {
        let document: Value = context.gateway.get(&path).await?;
        return terminal.document(&document);
    }
    let job: JobSummary = context.gateway.get(&path).await?;
    terminal.line(&look::detail(&job, now_ms(), terminal.colour()))
}

async fn cancel(context: &Context, id: JobId) -> Result<()> {
    let terminal = context.terminal;
    let path = format!("/v1/tasks/{id}/cancel");
    context.gateway.post(&path, &json!({})).await?;
    let job: JobSummary = context.gateway.get(&format!("/api/jobs/{id}")).await?;
    let canceled = job.state == JobState::Canceled;
    if terminal.json {
        return terminal
            .document(&json!({ "task_id": id, "canceled": canceled, "state": job.state }));
    }
    terminal.remark(&match canceled {
        true => "canceled".to_owned(),
        false => format!("too late: the job is {}", job.state),
    });
    Ok(())
}
