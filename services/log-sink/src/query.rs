//! Answers questions about stored log records and jobs.

use crate::thread::Asker;
use orchion_bus::Endpoint;
use orchion_contract::job::JobSummary;
use orchion_contract::log::{LogPage, LogQuery};
use orchion_contract::{ErrorBody, ErrorCode, JobId};
use orchion_service::Stop;

/// Answers questions about log records until `stop`.
pub(crate) async fn logs(
    mut questions: Endpoint<(), LogQuery, LogPage>,
    reader: Asker,
    stop: Stop,
) -> anyhow::Result<()> {
    while let Some(question) = stop.unless_stopped(questions.next()).await {
        let Some(question) = question else {
            anyhow::bail!("the connection to NATS was closed for good");
        };
        let (asked, question) = question.split();
        let answer = reader.query(asked).await.map_err(|error| {
            tracing::error!("cannot query log records: {error:#}");
            let message = "log records cannot be read now: the log of log-sink says why";
            ErrorBody::new(ErrorCode::Internal, message)
        });
        question.answer(answer).await;
    }
    Ok(())
}

/// Answers questions about jobs that ended until `stop`.
pub(crate) async fn jobs(
    mut questions: Endpoint<(), JobId, JobSummary>,
    reader: Asker,
    stop: Stop,
) -> anyhow::Result<()> {
    while let Some(question) = stop.unless_stopped(questions.next()).await {
        let Some(question) = question else {
            anyhow::bail!("the connection to NATS was closed for good");
        };
        let (id, question) = question.split();
        let answer = match reader.job(id).await {
            Ok(Some(summary)) => Ok(summary),
            Ok(None) => Err(ErrorBody::new(
                ErrorCode::NotFound,
                format!("job {id} is not in history"),
            )),
            Err(error) => {
                tracing::error!("cannot read the history of jobs: {error:#}");
                let message = "history cannot be read now: the log of log-sink says why";
                Err(ErrorBody::new(ErrorCode::Internal, message))
            }
        };
        question.answer(answer).await;
    }
    Ok(())
}
