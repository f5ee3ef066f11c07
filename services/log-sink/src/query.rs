//! Answers questions about stored log records.

use crate::thread::Asker;
use orchion_bus::Endpoint;
use orchion_contract::log::{LogPage, LogQuery};
use orchion_contract::{ErrorBody, ErrorCode};
use orchion_service::Stop;

/// Answers until `stop`.
pub(crate) async fn run(
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
