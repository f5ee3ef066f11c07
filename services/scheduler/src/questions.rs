//! What is asked of the scheduler, gathered into one queue.
//!
//! Every scheduler hears every question, in a queue group of its own; only
//! the holder of the lease answers.

use orchion_bus::{Bus, Endpoint, Question};
use orchion_contract::JobId;
use orchion_contract::job::{
    Admission, CancelJob, EndedBatch, FollowJob, JobList, JobSummary, ListJobs, Submit,
};
use orchion_contract::node::Empty;
use orchion_contract::placement::Explanation;
use orchion_contract::rpc;
use orchion_contract::subject::{Address, Rpc};
use orchion_service::Tasks;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

/// One question.
pub(crate) enum Asked {
    Submit(Question<(), Submit, Admission>),
    Get(Question<(), JobId, JobSummary>),
    List(Question<(), ListJobs, JobList>),
    Cancel(Question<(), CancelJob, JobSummary>),
    Ended(Question<(), EndedBatch, Empty>),
    Follow(Question<(), FollowJob, JobSummary>),
    Explain(Question<(), JobId, Explanation>),
}

/// Questions that wait; more are left in the client's own buffer.
const WAITING: usize = 4096;

/// Announces the service and gathers its questions.
pub(crate) async fn listen(bus: &Bus, tasks: &Tasks) -> anyhow::Result<mpsc::Receiver<Asked>> {
    let service = bus
        .service("Admits jobs, places them and sees them through")
        .await?;
    let group = bus.identity().instance.to_string();
    let (send, questions) = mpsc::channel(WAITING);
    let feed = Feed { send, tasks };
    feed.forward(service.endpoint(rpc::SUBMIT, &group).await?, Asked::Submit);
    feed.forward(service.endpoint(rpc::GET_JOB, &group).await?, Asked::Get);
    feed.forward(service.endpoint(rpc::LIST_JOBS, &group).await?, Asked::List);
    feed.forward(
        service.endpoint(rpc::CANCEL_JOB, &group).await?,
        Asked::Cancel,
    );
    feed.forward(service.endpoint(rpc::ENDED, &group).await?, Asked::Ended);
    feed.forward(
        service.endpoint(rpc::FOLLOW_JOB, &group).await?,
        Asked::Follow,
    );
    feed.forward(
        service.endpoint(rpc::EXPLAIN_JOB, &group).await?,
        Asked::Explain,
    );
    // Discovery answers as long as the service lives.
    tasks.spawn_support("service", move |stop| async move {
        stop.stopped().await;
        drop(service);
        Ok(())
    });
    Ok(questions)
}

struct Feed<'a> {
    send: mpsc::Sender<Asked>,
    tasks: &'a Tasks,
}

impl Feed<'_> {
    fn forward<A, Q, R>(
        &self,
        mut endpoint: Endpoint<A, Q, R>,
        wrap: fn(Question<A, Q, R>) -> Asked,
    ) where
        A: Address + Send + 'static,
        Q: DeserializeOwned + Send + 'static,
        R: Serialize + Send + 'static,
        Rpc<A, Q, R>: Send,
    {
        let send = self.send.clone();
        self.tasks
            .spawn_support("questions", move |stop| async move {
                while let Some(Some(question)) = stop.unless_stopped(endpoint.next()).await {
                    if send.send(wrap(question)).await.is_err() {
                        break;
                    }
                }
                stop.stopped().await;
                Ok(())
            });
    }
}
