//! An attempt: its mark, its order, its end.

use crate::agent::{Reply, loop_of};
use crate::faults::Planted;
use crate::state::{
    Author, End, Finalizing, Granted, Link, Loop, Message, Outcome, Phase, Process, Recorded,
    Scheduler, State,
};
use crate::wire;
use orchion_contract::job::RunReply;
use orchion_scheduler_core::{Next, Now, after_end, after_reply};

impl State {
    /// Sends the order of the job's attempt.
    pub(crate) fn order(&mut self, scheduler: u8) {
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let epoch = holder.epoch;
        let Some(job) = &mut holder.job else { return };
        if job.phase == Phase::Opening {
            job.phase = Phase::Ordered;
        }
        let attempt = job.record.attempt;
        let Some(to) = job.record.to else { return };
        let is_open = self
            .chain
            .iter()
            .any(|link| matches!(link, Link::Mark { .. }) && link.attempt() >= attempt);
        self.seen.ordered_before_mark |= attempt > 1 && !is_open && !self.has_final();
        let is_elsewhere = |granted: Granted| attempt == 1 && granted.to != to;
        self.seen.ordered_elsewhere |= self.granted.is_some_and(is_elsewhere);
        self.send(Message::Order {
            from: Some(scheduler),
            epoch,
            attempt,
            to,
        });
    }

    /// The next step of the loop that writes behind whatever stands last.
    pub(crate) fn loop_step(&mut self, scheduler: u8, loops: Loop, planted: Option<Planted>) {
        let last = self.last().map(|(at, link)| (at, link.clone()));
        let after = last.as_ref().map_or(0, |(at, _)| *at);
        let ended = match &last {
            Some((_, Link::Final { outcome, .. }))
                if planted != Some(Planted::RecordOverTranscript) =>
            {
                Some(*outcome)
            }
            Some((_, Link::Final { .. } | Link::Frame { .. } | Link::Mark { .. })) | None => None,
        };
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        let link = match loops {
            Loop::Open => job.opens.as_mut().map(|opens| {
                opens.is_sent = true;
                Link::Mark {
                    attempt: opens.attempt,
                    to: opens.to,
                }
            }),
            Loop::Finalize => job.finalizes.as_mut().map(|finalizes| {
                finalizes.is_sent = true;
                Link::Final {
                    attempt: job.record.attempt,
                    index: 0,
                    rest: Vec::new(),
                    outcome: finalizes.outcome,
                    by: Author::Scheduler(scheduler),
                }
            }),
        };
        let Some(link) = link else { return };
        let is_ours = loops == Loop::Open && last.as_ref().map(|(_, last)| last) == Some(&link);
        let is_late = loops == Loop::Open
            && planted != Some(Planted::MarkBehindNewer)
            && last.is_some_and(|(_, last)| last.attempt() >= link.attempt());
        match ended {
            Some(outcome) => self.end(scheduler, outcome),
            None if is_ours => self.opened(scheduler),
            // Somebody else has opened this attempt or a later one.
            None if is_late => self.reads_anew(scheduler),
            None => self.send(Message::Append {
                from: loop_of(scheduler, loops),
                after,
                link,
            }),
        }
    }

    /// What became of the loop's append.
    pub(crate) fn loop_answered(&mut self, scheduler: u8, loops: Loop, is_stored: bool) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        match loops {
            Loop::Open if is_stored => self.opened(scheduler),
            Loop::Open => {
                if let Some(opens) = &mut job.opens {
                    opens.is_sent = false;
                }
            }
            Loop::Finalize if is_stored => {
                if let Some(outcome) = job.finalizes.map(|finalizes| finalizes.outcome) {
                    self.end(scheduler, outcome);
                }
            }
            Loop::Finalize => {
                if let Some(finalizes) = &mut job.finalizes {
                    finalizes.is_sent = false;
                }
            }
        }
    }

    pub(super) fn opened(&mut self, scheduler: u8) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        let Some(opens) = job.opens.take() else {
            return;
        };
        if job.record.attempt == opens.attempt && job.phase == Phase::Opening {
            job.touch();
        }
    }

    /// An agent answers an order.
    pub(crate) fn replied(&mut self, scheduler: u8, attempt: u8, reply: Option<Reply>) {
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        if matches!(job.phase, Phase::Ending | Phase::Ended) {
            return;
        }
        let to = job.record.to;
        let is_current = job.record.attempt == attempt;
        if reply == Some(Reply::WrongInstance) && is_current {
            // The next try is elsewhere, or after the registry has told.
            self.avoid(scheduler, to);
        }
        let epoch = self.holder(scheduler).map_or(0, |holder| holder.epoch);
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        let reply = reply.map(|reply| match reply {
            Reply::Accepted => RunReply::Accepted,
            Reply::Running => RunReply::Running,
            Reply::Ended(end) => RunReply::Ended {
                end: Box::new(wire::attempt_end(end)),
            },
            Reply::Busy => RunReply::Busy,
            Reply::Stale(epoch) => RunReply::Stale {
                epoch: epoch.into(),
            },
            Reply::WrongInstance => RunReply::WrongInstance {
                instance: wire::instance(Process {
                    agent: 0,
                    instance: 0,
                }),
            },
        });
        let view = job.view();
        let next = view.map(|view| {
            after_reply(
                &view,
                attempt.into(),
                reply.as_ref(),
                epoch.into(),
                Now::ZERO,
            )
        });
        self.follow(scheduler, next.unwrap_or(Next::Nothing));
    }

    /// An agent tells how an attempt ended.
    pub(crate) fn attempt_ended(&mut self, scheduler: u8, end: End) {
        let Some(job) = self.job_of(scheduler) else {
            return;
        };
        let is_final = matches!(end.how, crate::state::How::Final(_));
        let is_meant = job.record.to == Some(end.by);
        if job.phase == Phase::Ended || !is_final && (job.phase == Phase::Ending || !is_meant) {
            return;
        }
        let view = job.view();
        let next = view.map(|view| after_end(&view, &wire::attempt_end(end), Now::ZERO));
        self.follow(scheduler, next.unwrap_or(Next::Nothing));
    }

    pub(super) fn follow(&mut self, scheduler: u8, next: Next) {
        match next {
            Next::Nothing => {}
            Next::Running { .. } => self.mark_running(scheduler),
            Next::Ended(end) => self.end(scheduler, wire::outcome(end.outcome)),
            // Somebody else holds the lease: this one learns that it does not. What
            // is not above its own epoch, the lease takes no note of.
            Next::Outranked(epoch) => {
                let ours = self.holder(scheduler).map(|holder| holder.epoch);
                if ours.is_some_and(|ours| epoch > u64::from(ours)) {
                    self.session_ends(scheduler, Scheduler::Standby);
                }
            }
            Next::GiveUp(_) => {
                if let Some(job) = self.job_mut(scheduler) {
                    job.phase = Phase::Ending;
                    job.finalizes = Some(Finalizing {
                        outcome: Outcome::Failed,
                        is_sent: false,
                    });
                }
            }
            Next::Again { counts, .. } => {
                if let Some(job) = self.job_mut(scheduler) {
                    job.record.failures += u8::from(counts);
                }
                self.release(scheduler);
            }
        }
    }

    pub(crate) fn mark_running(&mut self, scheduler: u8) {
        if let Some(job) = self.job_mut(scheduler)
            && job.phase == Phase::Ordered
        {
            job.phase = Phase::Running;
        }
    }

    /// A caller does not want the job any more.
    pub(crate) fn cancel(&mut self, scheduler: u8) {
        let Some(holder) = self.holder_mut(scheduler) else {
            return;
        };
        let epoch = holder.epoch;
        let Some(job) = &mut holder.job else { return };
        let to = job.record.to.filter(|_| job.is_placed());
        job.phase = Phase::Ending;
        match to {
            Some(to) => {
                job.stops = true;
                let attempt = job.record.attempt;
                self.send(Message::Stop {
                    from: Some(scheduler),
                    epoch,
                    attempt,
                    agent: to.agent,
                    is_superseded: false,
                });
            }
            None => {
                job.finalizes = Some(Finalizing {
                    outcome: Outcome::Canceled,
                    is_sent: false,
                });
            }
        }
    }

    /// An agent answers a stop order, or does not in time.
    pub(crate) fn stop_answered(&mut self, scheduler: u8, end: Option<End>) {
        let Some(job) = self.job_mut(scheduler).filter(|job| job.stops) else {
            return;
        };
        job.stops = false;
        match end.map(|end| end.how) {
            Some(crate::state::How::Final(outcome)) => self.end(scheduler, outcome),
            Some(crate::state::How::Failed | crate::state::How::Superseded) | None => {
                if job.phase == Phase::Ending {
                    job.finalizes = Some(Finalizing {
                        outcome: Outcome::Canceled,
                        is_sent: false,
                    });
                }
            }
        }
    }

    /// The job has ended: then the record.
    pub(super) fn end(&mut self, scheduler: u8, outcome: Outcome) {
        let Some(job) = self.job_mut(scheduler) else {
            return;
        };
        if job.phase == Phase::Ended {
            return;
        }
        job.phase = Phase::Ended;
        job.record.state = Recorded::Ended(outcome);
        job.opens = None;
        job.finalizes = None;
        job.stops = false;
        job.touch();
        self.forget(|message| {
            matches!(message, Message::Append { from: Some(crate::state::Waits::Scheduler { scheduler: of, .. }), .. } if *of == scheduler)
        });
    }
}
