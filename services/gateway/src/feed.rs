//! The one reading that feeds every live answer of this process.
//!
//! All jobs that this gateway admits write under its reader token, so one
//! ordered reading brings them all. The dispatcher parses each entry once and
//! puts it into the bounded queue of its job; nobody's slowness stops it.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use orchion_bus::{Bus, From, Reading, Stored};
use orchion_contract::streams::TRANSCRIPTS;
use orchion_contract::subjects::TRANSCRIPT;
use orchion_contract::transcript::Entry;
use orchion_contract::{JobId, ReaderId};
use orchion_service::Stop;
use tokio::sync::watch;

/// What may wait for one caller, in bytes of entries. Who is slower than that
/// goes on from the stored transcript.
const QUEUE_BYTES: usize = 256 * 1024;
/// How often the dispatcher looks whether the connection was renewed.
const LOOK: Duration = Duration::from_secs(1);
/// How far the clocks of this host and of the store may be apart.
const CLOCKS: Duration = Duration::from_secs(60);
/// Pause before a reading that failed is opened again.
const RETRY: Duration = Duration::from_millis(100);

/// Live jobs of this gateway and their queues; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queues: Mutex<HashMap<JobId, Arc<Queue>>>,
    /// Grows each time the store was found rolled back.
    rollbacks: AtomicU64,
    /// The connection after whose beginning the store was looked at.
    looked_at: watch::Sender<Option<Instant>>,
    /// Sequence and time of the last entry that anybody here has read.
    latest: Mutex<Option<(u64, i128)>>,
}

/// What waits for one caller.
#[derive(Default)]
pub(crate) struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    bytes: usize,
    is_overrun: bool,
    has_end: bool,
    waker: Option<Waker>,
}

/// What the dispatcher hands to a caller.
pub(crate) enum Item {
    /// An entry of the transcript and its sequence.
    Entry(u64, Entry),
    /// The store was rolled back: the transcript is read again from its first entry.
    Reopened,
}

/// The queue had no room: what is missing stands in the store.
pub(crate) struct Overrun;

impl Feed {
    /// Registers a job before it is submitted, so that nothing arrives unexpected.
    pub(crate) fn register(&self, job: JobId) -> Arc<Queue> {
        let queue = Arc::<Queue>::default();
        self.queues().insert(job, queue.clone());
        queue
    }

    /// Forgets a job.
    pub(crate) fn remove(&self, job: JobId) {
        self.queues().remove(&job);
    }

    /// How often the store was found rolled back.
    pub(crate) fn rollbacks(&self) -> u64 {
        self.0.rollbacks.load(Ordering::Relaxed)
    }

    /// Whether the store was looked at since the connection began: until then,
    /// what comes over it may be of another store than what came before.
    pub(crate) fn knows_store(&self, bus: &Bus) -> bool {
        let connection = bus.connected_since();
        connection.is_none() || connection == *self.0.looked_at.borrow()
    }

    /// Waits until there is a connection and its store was looked at.
    pub(crate) async fn store_known(&self, bus: &Bus) {
        let is_known = |looked_at: &Option<Instant>| {
            looked_at.is_some() && *looked_at == bus.connected_since()
        };
        // The sender lives as long as `self`.
        let _ = self.0.looked_at.subscribe().wait_for(is_known).await;
    }

    /// Somebody has read this entry: a store without it is another one.
    pub(crate) fn saw(&self, stored: &Stored) {
        let mut latest = self.latest();
        if latest.is_none_or(|(sequence, _)| sequence < stored.sequence) {
            *latest = Some((stored.sequence, stored.at));
        }
    }

    fn latest(&self) -> MutexGuard<'_, Option<(u64, i128)>> {
        self.0.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Queue>>> {
        self.0.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, job: JobId) -> Option<Arc<Queue>> {
        self.queues().get(&job).cloned()
    }

    /// Reads until `stop`; heals its reading by itself.
    ///
    /// # Errors
    /// Never; the type fits a task.
    pub(crate) async fn dispatch(
        self,
        bus: Bus,
        reader: ReaderId,
        stop: Stop,
    ) -> anyhow::Result<()> {
        let filter = TRANSCRIPT.all_of(&reader);
        while !stop.is_stopping() {
            let opened = stop
                .unless_stopped(bus.read(TRANSCRIPTS.name, &filter, From::Beginning))
                .await;
            let error = match opened {
                None => break,
                Some(Err(error)) => error,
                Some(Ok(reading)) => match self.follow(&bus, reading, &stop).await {
                    Ok(()) => continue,
                    Err(error) => error,
                },
            };
            tracing::warn!(%error, "the reading of live answers was interrupted: opening it anew");
            stop.unless_stopped(tokio::time::sleep(RETRY)).await;
        }
        Ok(())
    }

    /// Follows one reading until it fails, the store was rolled back, or `stop`.
    async fn follow(
        &self,
        bus: &Bus,
        mut reading: Reading,
        stop: &Stop,
    ) -> Result<(), orchion_bus::Error> {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.stopped() => return Ok(()),
                stored = reading.next() => {
                    let stored = stored?;
                    if self.was_rolled_back(bus).await? {
                        return Ok(());
                    }
                    self.saw(&stored);
                    self.hand_out(stored);
                }
                _ = look.tick() => if self.was_rolled_back(bus).await? {
                    return Ok(());
                }
            }
        }
    }

    /// Looks at the store after each renewal of the connection, before anything
    /// that came over it is handed out: only then can it have become another one.
    /// One that was rolled back by a power cut, or made anew, does not hold the last
    /// entry that was read here.
    async fn was_rolled_back(&self, bus: &Bus) -> Result<bool, orchion_bus::Error> {
        let connection = bus.connected_since();
        if connection.is_none() || connection == *self.0.looked_at.borrow() {
            return Ok(false);
        }
        let latest = *self.latest();
        let is_other = match latest {
            Some((sequence, at)) if is_kept(at) => {
                !bus.holds(TRANSCRIPTS.name, sequence, at).await?
            }
            Some(_) | None => false,
        };
        if is_other {
            *self.latest() = None;
            self.reopened();
        }
        self.0.looked_at.send_replace(connection);
        Ok(is_other)
    }

    fn reopened(&self) {
        tracing::warn!(
            "the store of answers was rolled back: reading live answers from their beginning"
        );
        self.0.rollbacks.fetch_add(1, Ordering::Relaxed);
        for queue in self.queues().values() {
            queue.push(Item::Reopened, 0);
        }
    }

    fn hand_out(&self, stored: Stored) {
        let Some((_, job)) = TRANSCRIPT.parse(&stored.subject) else {
            return;
        };
        let Some(queue) = self.find(job) else {
            return;
        };
        match serde_json::from_slice(&stored.payload) {
            Ok(entry) => queue.push(Item::Entry(stored.sequence, entry), stored.payload.len()),
            Err(error) => {
                tracing::error!(%error, job.id = %job, "an entry of job {job} cannot be read");
            }
        }
    }
}

/// Whether an entry that was stored then, in nanoseconds since 1970, has not gone
/// by age. Behind one that has, nobody reads any more.
fn is_kept(at: i128) -> bool {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 knows no age.
    let now = now.map_or(0, |now| i128::try_from(now.as_nanos()).unwrap_or(i128::MAX));
    let kept = TRANSCRIPTS.max_age.saturating_sub(CLOCKS);
    now.saturating_sub(at) < i128::try_from(kept.as_nanos()).unwrap_or(i128::MAX)
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, item: Item, bytes: usize) {
        let mut waiting = self.lock();
        waiting.has_end = matches!(item, Item::Entry(_, Entry::Final(_)));
        let has_room = waiting.bytes + bytes <= QUEUE_BYTES || waiting.items.is_empty();
        waiting.is_overrun |= !has_room;
        if !waiting.is_overrun {
            waiting.bytes += bytes;
            waiting.items.push_back(item);
        }
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for the end of the answer, and takes nothing.
    pub(crate) async fn ended(&self) {
        std::future::poll_fn(|context| {
            let mut waiting = self.lock();
            if waiting.has_end {
                return Poll::Ready(());
            }
            waiting.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits for items and takes them all, in place of the empty `into`.
    ///
    /// # Errors
    /// [`Overrun`] when all was taken and more had come than there was room for.
    pub(crate) async fn take(&self, into: &mut VecDeque<Item>) -> Result<(), Overrun> {
        std::future::poll_fn(|context| {
            let mut waiting = self.lock();
            if !waiting.items.is_empty() {
                std::mem::swap(&mut waiting.items, into);
                waiting.bytes = 0;
                return Poll::Ready(Ok(()));
            }
            if waiting.is_overrun {
                return Poll::Ready(Err(Overrun));
            }
            waiting.waker = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use orchion_contract::transcript::Frame;

    fn item(sequence: u64) -> Item {
        let frame = Frame {
            attempt: 1,
            index: sequence,
            pieces: Vec::new(),
        };
        Item::Entry(sequence, Entry::Frame(frame))
    }

    fn end(sequence: u64) -> Item {
        let end = r#"{"final":{"attempt":1,"outcome":"completed"}}"#;
        Item::Entry(sequence, serde_json::from_str(end).unwrap())
    }

    fn sequences(items: &VecDeque<Item>) -> Vec<u64> {
        let sequence = |item: &Item| match item {
            Item::Entry(sequence, _) => *sequence,
            Item::Reopened => 0,
        };
        items.iter().map(sequence).collect()
    }

    #[tokio::test]
    async fn what_came_is_taken_at_once_and_in_order() {
        let queue = Queue::default();
        for n in 1..=3 {
            queue.push(item(n), 10);
        }
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken).await.is_ok());
        assert_eq!(sequences(&taken), [1, 2, 3]);
    }

    #[tokio::test]
    async fn what_has_no_room_ends_the_queue_behind_what_was_kept() {
        let queue = Queue::default();
        queue.push(item(1), QUEUE_BYTES);
        queue.push(item(2), 1);
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken).await.is_ok());
        // Room again, but what follows would leave a hole.
        queue.push(item(3), 1);
        assert_eq!(sequences(&taken), [1]);
        taken.clear();
        assert!(queue.take(&mut taken).await.is_err());
        assert!(queue.ended().now_or_never().is_none());
        queue.push(end(4), 1);
        assert!(queue.ended().now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_entry_always_has_room() {
        let queue = Queue::default();
        queue.push(item(1), QUEUE_BYTES * 2);
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken).await.is_ok());
        assert_eq!(sequences(&taken), [1]);
    }

    #[tokio::test]
    async fn the_end_is_noticed_unless_it_was_rolled_back() {
        let queue = Queue::default();
        let has_ended = || queue.ended().now_or_never().is_some();
        queue.push(item(1), 1);
        assert!(!has_ended());
        queue.push(end(2), 1);
        assert!(has_ended());
        queue.push(Item::Reopened, 0);
        assert!(!has_ended());
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken).await.is_ok());
        assert_eq!(sequences(&taken), [1, 2, 0], "nothing was taken before");
    }

    #[tokio::test]
    async fn a_waiting_caller_is_woken() {
        let queue = Queue::default();
        let mut taken = VecDeque::new();
        let push = async { queue.push(item(1), 1) };
        let (took, ()) = tokio::join!(queue.take(&mut taken), push);
        assert!(took.is_ok());
        assert_eq!(sequences(&taken), [1]);
    }
}
