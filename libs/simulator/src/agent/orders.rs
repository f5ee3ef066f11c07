//! Orders, and how attempts begin.

use super::*;

impl Agent {
    pub(super) fn order(&mut self, net: &mut Net, from: Life, op: u64, order: Box<RunOrder>) {
        let seat = (order.replica == self.replica.id).then_some(Seat {
            engine: 0,
            slots: self.replica.slots,
            is_ready: self.replica.ready,
        });
        let mut facts = Order {
            job: order.job,
            attempt: order.attempt,
            instance: order.instance.clone(),
            epoch: order.epoch,
            is_untold: order.is_untold(),
        };
        if net.has(Mutant::EpochIgnored) {
            facts.epoch = u64::MAX;
        }
        if net.has(Mutant::SameAttemptNewProcess) {
            facts.instance = names::instance(self.life);
        }
        let is_current = net.oracle.hears(self.life, order.epoch);
        let verdict = self.ledger.order(&facts, seat);
        let refused = |code, why: &str| RunReply::Refused {
            error: ErrorBody::new(code, why),
        };
        let mut accepted = None;
        net.tell(facts.job, || {
            format!(
                "{:?} is ordered attempt {} of epoch {}: {verdict:?}",
                self.life, facts.attempt, facts.epoch
            )
        });
        let reply = match verdict {
            Verdict::Accept { void } => {
                if !is_current {
                    net.broken(Property::Epoch, || {
                        format!(
                            "job {} was ordered by a scheduler that was replaced",
                            names::number(order.job)
                        )
                    });
                }
                if order.instance != names::instance(self.life) {
                    let (job, meant) = (names::number(order.job), order.instance.clone());
                    net.broken(Property::Fence, || {
                        format!("job {job} runs in another process than {meant}, for which it was opened")
                    });
                }
                for key in void {
                    self.void(net, key);
                }
                accepted = Some(order);
                RunReply::Accepted
            }
            Verdict::Running => RunReply::Running,
            Verdict::Ended(end) => RunReply::Ended { end },
            Verdict::Busy => RunReply::Busy,
            Verdict::Stale(epoch) => RunReply::Stale { epoch },
            Verdict::WrongInstance => RunReply::WrongInstance {
                instance: names::instance(self.life),
            },
            Verdict::NoReplica => refused(ErrorCode::PoolUnavailable, "no such replica"),
            Verdict::NotReady => {
                *net.oracle.failures.entry(facts.job).or_default() += 1;
                refused(ErrorCode::PoolUnready, "the engine does not answer")
            }
        };
        let Some(order) = accepted else {
            self.answer(net, (from, op), facts.job, reply);
            return;
        };
        if order.granted_ms.is_some() {
            net.oracle.granted.insert(facts.job, Some(self.life));
        }
        if order.spec.whole {
            self.start(net, order, Some((from, op)));
        } else {
            self.answer(net, (from, op), facts.job, reply);
            self.start(net, order, None);
        }
    }

    /// Answers an order: of a scheduler to it, of a gateway to whoever listens.
    pub(super) fn answer(&self, net: &mut Net, to: (Life, u64), job: JobId, reply: RunReply) {
        let (to, op) = to;
        if net.links[to.process].role == Role::Gateway {
            net.publish(self.life, News::Answered(to, job, Box::new(reply)));
        } else {
            net.reply(self.life, to, op, Said::Run(reply));
        }
    }

    fn void(&mut self, net: &mut Net, key: RunningAttempt) {
        self.finish_attempt(net, key, AttemptOutcome::Superseded);
    }

    fn start(&mut self, net: &mut Net, order: Box<RunOrder>, asker: Option<(Life, u64)>) {
        net.counts.attempts += 1;
        self.runs += 1;
        let key = RunningAttempt {
            job: order.job,
            attempt: order.attempt,
        };
        let (run, reader, first) = (self.runs, names::life(&order.reader), order.attempt <= 1);
        let deadline = order.remaining_ms * MS;
        let is_untold = order.is_untold();
        let attempt = Attempt {
            run,
            reader,
            order,
            writer: None,
            prefix: Prefix::new(),
            continued: None,
            source: false,
            next: 0,
            said: 0,
            takes_back: false,
            makes_room: false,
            failure: None,
            end: None,
            op: None,
            waiting: Vec::new(),
            asker,
            started_ms: net.unix_ms(self.life),
            began: net.now,
        };
        self.attempts.insert(key, attempt);
        net.later(
            self.life,
            deadline,
            Purpose::Attempt(key, run, Work::Deadline),
        );
        if asker.is_some() {
            let held = if is_untold { GRANTED } else { HELD };
            net.later(self.life, held, Purpose::Attempt(key, run, Work::Accept));
        }
        if first {
            self.write(net, key);
        } else {
            let call = Call::Last {
                reader,
                job: key.job,
            };
            net.call(
                self.life,
                call,
                REQUEST,
                Purpose::Attempt(key, run, Work::FindLast),
            );
        }
        let streams = self
            .attempts
            .values()
            .filter(|attempt| attempt.source)
            .count();
        if streams > self.replica.slots as usize {
            net.broken(Property::Capacity, || {
                format!(
                    "node {} runs {streams} requests on {} slots",
                    self.index, self.replica.slots
                )
            });
        }
    }

    /// What was said before is known: go on behind it.
    pub(super) fn write(&mut self, net: &mut Net, key: RunningAttempt) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        let order = &attempt.order;
        let decided = plan(
            order.attempt,
            &order.spec,
            &attempt.prefix,
            order.prefix_by.as_ref(),
            &self.replica,
        );
        let mut writer = Writer::new(
            order.attempt,
            attempt.prefix.next_index(),
            attempt.prefix.sequence(),
        );
        if order.spec.whole {
            writer = writer.gathering();
        }
        attempt.next = attempt.prefix.next_index();
        attempt.said = attempt.prefix.tokens;
        match decided {
            Plan::Begin => attempt.source = true,
            Plan::TakeUp(ladder) => {
                let step = ladder.step();
                match step.way {
                    Way::Ids | Way::Text => net.counts.continued += 1,
                    // This engine never says the same again.
                    Way::Replay | Way::Restart => {
                        net.counts.restarted += 1;
                        attempt.takes_back = true;
                    }
                }
                attempt.continued = Some(step.continued.clone());
                attempt.source = true;
            }
            Plan::End(end) => {
                attempt.end = Some((*end).clone());
                writer.finish(*end);
            }
            Plan::HasEnded => {
                self.finish_attempt(net, key, AttemptOutcome::Superseded);
                return;
            }
        }
        if let Some(end) = attempt.end.clone().filter(|_| attempt.source) {
            // It was stopped while its beginning was read.
            attempt.source = false;
            writer.finish(end);
        }
        attempt.writer = Some(writer);
        attempt.source &= !attempt.makes_room;
        if attempt.source && self.replica.ready && self.sick.is_none() {
            let (run, engine) = (attempt.run, self.engine);
            let prefill = net.prefill(names::number(key.job));
            net.later(
                self.life,
                prefill,
                Purpose::Attempt(key, run, Work::Token(engine)),
            );
        } else if attempt.source {
            attempt.source = false;
            attempt.fail(ErrorBody {
                engine_status: self.sick.filter(|_| self.replica.ready),
                ..ErrorBody::new(ErrorCode::WorkerReset, "the engine has no answer")
            });
        }
        self.advance(net, key);
    }

    pub(super) fn stop(&mut self, net: &mut Net, from: Life, op: u64, order: &CancelOrder) {
        let upto = RunningAttempt {
            job: order.job,
            attempt: order.attempt,
        };
        let epoch = if net.has(Mutant::EpochIgnored) {
            u64::MAX
        } else {
            order.epoch
        };
        net.oracle.hears(self.life, order.epoch);
        let reply = match self.ledger.stop(upto, epoch) {
            StopOrder::Stop(running) => {
                let last = running.last().copied();
                if let Some(attempt) = last.and_then(|last| self.attempts.get_mut(&last)) {
                    attempt.waiting.push((from, op));
                }
                for key in running {
                    self.stop_attempt(net, key, order.reason);
                }
                return;
            }
            StopOrder::Ended(end) => CancelReply::Ended { end },
            StopOrder::NotRunning => CancelReply::NotRunning,
            StopOrder::Stale(epoch) => CancelReply::Stale { epoch },
        };
        net.reply(self.life, from, op, Said::Stop(reply));
    }

    fn stop_attempt(&mut self, net: &mut Net, key: RunningAttempt, reason: CancelReason) {
        let is_over = |attempt: &Attempt| attempt.end.is_some() && attempt.writer.is_some();
        if reason == CancelReason::Superseded {
            if self.attempts.get(&key).is_some_and(is_over) {
                // Its final is on its way: the chain takes it, or does not.
                return;
            }
            self.finish_attempt(net, key, AttemptOutcome::Superseded);
            return;
        }
        if let Some(attempt) = self.attempts.get_mut(&key)
            && reason == CancelReason::Preempted
        {
            attempt.source = false;
            attempt.makes_room = attempt.end.is_none();
            self.advance(net, key);
            return;
        }
        if let Some(attempt) = self.attempts.get_mut(&key) {
            attempt.source = false;
            attempt.makes_room = false;
            let (outcome, error) = if reason == CancelReason::Deadline {
                (Ending::Failed, Some(too_late()))
            } else {
                (Ending::Canceled, None)
            };
            let end = attempt.unfinished(outcome, error);
            attempt.finish(end, net.unix_ms(self.life));
        }
        self.advance(net, key);
    }
}
