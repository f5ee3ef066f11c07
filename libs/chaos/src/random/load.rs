//! Clients that ask without pause.

use crate::client::{Client, Report};
use crate::draw::Draw;
use orchion_testkit::HttpClient;
use orchion_testkit::wire::Ask;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use tokio::task::JoinSet;

/// The way of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Chat,
    Whole,
    Task,
    Hop,
    Cancel,
}

impl Kind {
    pub(crate) const ALL: &'static [Self] =
        &[Self::Chat, Self::Whole, Self::Task, Self::Hop, Self::Cancel];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chat => "streamed chats",
            Self::Whole => "whole chats",
            Self::Task => "tasks",
            Self::Hop => "tasks whose client goes to the other gateway",
            Self::Cancel => "tasks that are canceled",
        }
    }
}

/// Clients at work.
pub(crate) struct Load {
    stops: Arc<AtomicBool>,
    clients: JoinSet<Vec<(Kind, Report)>>,
}

impl Load {
    pub(crate) fn start(gateways: &[HttpClient], clients: usize, draw: &mut Draw) -> Self {
        let stops = Arc::new(AtomicBool::new(false));
        let mut set = JoinSet::new();
        for _ in 0..clients {
            set.spawn(work(gateways.to_vec(), draw.fork(), stops.clone()));
        }
        Self {
            stops,
            clients: set,
        }
    }

    /// Lets everybody finish what he has begun.
    pub(crate) async fn stop(mut self) -> Vec<(Kind, Report)> {
        self.stops.store(true, Relaxed);
        let mut all = Vec::new();
        while let Some(reports) = self.clients.join_next().await {
            all.extend(
                reports.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())),
            );
        }
        all
    }
}

async fn work(
    gateways: Vec<HttpClient>,
    mut draw: Draw,
    stops: Arc<AtomicBool>,
) -> Vec<(Kind, Report)> {
    let mut reports = Vec::new();
    while !stops.load(Relaxed) {
        reports.push(one(&gateways, &mut draw).await);
    }
    reports
}

async fn one(gateways: &[HttpClient], draw: &mut Draw) -> (Kind, Report) {
    let tokens = u32::try_from(draw.between(5, 90)).unwrap_or(5);
    let ask = Ask::new(tokens).pace_us(draw.between(10_000, 30_000));
    let first = usize::from(draw.percent(50));
    let kind = match draw.between(0, 100) {
        0..35 => Kind::Chat,
        35..50 => Kind::Whole,
        50..70 => Kind::Task,
        70..85 => Kind::Hop,
        _ => Kind::Cancel,
    };
    let middle = u32::try_from(draw.between(1, u64::from(tokens))).unwrap_or(1);
    let client = Client::new(gateways, first, ask.clone());
    let mut report = match kind {
        Kind::Chat => client.chat().await,
        Kind::Whole => client.whole().await,
        Kind::Task => client.task(None).await,
        Kind::Hop => client.task(Some(middle)).await,
        Kind::Cancel => client.canceled(middle).await,
    };
    if kind == Kind::Cancel || draw.percent(30) {
        let other = usize::from(draw.percent(50));
        Client::look_late(&mut report, gateways, other, ask).await;
    }
    (kind, report)
}
