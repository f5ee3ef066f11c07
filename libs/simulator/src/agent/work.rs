//! An attempt while its answer is written.

use super::*;

impl Agent {
    pub(super) fn work(
        &mut self,
        net: &mut Net,
        key: RunningAttempt,
        op: u64,
        work: Work,
        outcome: Outcome,
    ) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        let (run, reader, life) = (attempt.run, attempt.reader, self.life);
        match (work, outcome) {
            (Work::Token(engine), _) => {
                if engine == self.engine && attempt.source {
                    self.token(net, key);
                }
            }
            (Work::Deadline, _) => {
                if attempt.writer.is_none() {
                    self.finish_attempt(net, key, AttemptOutcome::Superseded);
                    return;
                }
                attempt.source = false;
                let end = attempt.unfinished(Ending::Failed, Some(too_late()));
                attempt.finish(end, net.unix_ms(life));
            }
            (Work::FindLast, Outcome::Answer(Answer::Last(last))) => {
                match last {
                    Some((sequence, Entry::Mark(mark)))
                        if mark.attempt == key.attempt
                            && mark.instance == names::instance(life) =>
                    {
                        let call = Call::Chain {
                            reader,
                            job: key.job,
                        };
                        net.call(
                            life,
                            call,
                            REQUEST,
                            Purpose::Attempt(key, run, Work::FindChain(sequence)),
                        );
                    }
                    Some((_, Entry::Final(end))) => {
                        let end = Box::new(job_end(&end));
                        self.finish_attempt(net, key, AttemptOutcome::Final { end });
                    }
                    Some(_) | None => self.finish_attempt(net, key, AttemptOutcome::Superseded),
                }
                return;
            }
            (Work::FindChain(last), Outcome::Answer(Answer::Chain(chain))) => {
                let mut reached = 0;
                for (sequence, entry) in chain {
                    if sequence > last {
                        break;
                    }
                    reached = sequence;
                    if attempt.prefix.apply(sequence, entry).is_err() {
                        reached = 0;
                        break;
                    }
                }
                if reached == last {
                    self.write(net, key);
                } else {
                    attempt.prefix = Prefix::new();
                    net.later(life, PAUSE, Purpose::Attempt(key, run, Work::FindAgain));
                }
                return;
            }
            (Work::FindLast | Work::FindChain(_), _) => {
                net.later(life, PAUSE, Purpose::Attempt(key, run, Work::FindAgain));
                return;
            }
            (Work::FindAgain, _) => {
                let call = Call::Last {
                    reader,
                    job: key.job,
                };
                net.call(
                    life,
                    call,
                    REQUEST,
                    Purpose::Attempt(key, run, Work::FindLast),
                );
                return;
            }
            (Work::Append, outcome) => {
                if attempt.op != Some(op) {
                    return;
                }
                attempt.op = None;
                self.appended(net, key, outcome);
            }
            (Work::Last, outcome) => {
                if attempt.op != Some(op) {
                    return;
                }
                attempt.op = None;
                if let (Some(writer), Outcome::Answer(Answer::Last(last))) =
                    (&mut attempt.writer, &outcome)
                {
                    let last = last.as_ref().map(|(sequence, entry)| (*sequence, entry));
                    writer.last_is(last);
                } else {
                    net.later(life, PAUSE, Purpose::Attempt(key, run, Work::Again));
                    return;
                }
            }
            (Work::Flush, _) => {
                if let Some(writer) = &mut attempt.writer {
                    writer.flush();
                }
            }
            (Work::Accept, _) => {
                if let Some(to) = attempt.asker.take() {
                    self.ledger.is_known(key);
                    self.answer(net, to, key.job, RunReply::Accepted);
                }
                return;
            }
            (Work::Again, _) => {
                if let Some(writer) = &mut attempt.writer {
                    writer.unsure();
                }
            }
        }
        self.advance(net, key);
    }

    fn appended(&mut self, net: &mut Net, key: RunningAttempt, outcome: Outcome) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        let Some(writer) = &mut attempt.writer else {
            return;
        };
        match outcome {
            Outcome::Answer(Answer::Stored(Ok(sequence))) => writer.acked(sequence),
            Outcome::Answer(Answer::Stored(Err(Refusal::Full))) => {
                let purpose = Purpose::Attempt(key, attempt.run, Work::Again);
                net.later(self.life, PAUSE_WHEN_FULL, purpose);
            }
            Outcome::TimedOut if net.has(Mutant::UnansweredAppendStored) => {
                writer.acked(writer.sequence() + 1);
            }
            Outcome::Answer(_) | Outcome::Said(_) | Outcome::Nobody | Outcome::TimedOut => {
                writer.unsure()
            }
        }
    }

    fn token(&mut self, net: &mut Net, key: RunningAttempt) {
        let (length, pace) = net.work(names::number(key.job));
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        let Some(writer) = &mut attempt.writer else {
            return;
        };
        if std::mem::take(&mut attempt.takes_back) {
            writer.restart(self.replica.engine.clone());
            attempt.next += 1;
            attempt.said = 0;
        }
        if attempt.said < length {
            writer.push(Piece {
                // No two processes say the same.
                text: Some(format!(
                    "a{}i{}p{}.{}",
                    key.attempt, attempt.next, self.life.process, self.life.number
                )),
                tokens: 1,
                ..Piece::default()
            });
            attempt.next += 1;
            attempt.said += 1;
            if attempt.order.spec.whole {
                let purpose = Purpose::Attempt(key, attempt.run, Work::Flush);
                net.later(self.life, GATHERING, purpose);
            }
        }
        if attempt.said >= length {
            attempt.source = false;
            let mut end = attempt.unfinished(Ending::Completed, None);
            end.finish_reason = Some("stop".to_owned());
            attempt.finish(end, net.unix_ms(self.life));
        } else {
            let purpose = Purpose::Attempt(key, attempt.run, Work::Token(self.engine));
            net.later(self.life, pace, purpose);
        }
    }

    /// Does what the writer wants next, and ends the attempt when it is over.
    pub(super) fn advance(&mut self, net: &mut Net, key: RunningAttempt) {
        let Some(attempt) = self.attempts.get_mut(&key) else {
            return;
        };
        let Some(writer) = &mut attempt.writer else {
            return;
        };
        if attempt.op.is_none()
            && let Some(effect) = writer.next_effect()
        {
            let (reader, job) = (attempt.reader, key.job);
            let (call, work) = match effect {
                Effect::Publish { after, entry } => {
                    let call = Call::Append {
                        reader,
                        job,
                        entry,
                        after,
                    };
                    (call, Work::Append)
                }
                Effect::ReadLast => (Call::Last { reader, job }, Work::Last),
            };
            let purpose = Purpose::Attempt(key, attempt.run, work);
            attempt.op = Some(net.call(self.life, call, REQUEST, purpose));
        }
        let how = match writer.stopped() {
            Some(Stop::Finished) => attempt.end.as_ref().map(|end| AttemptOutcome::Final {
                end: Box::new(job_end(end)),
            }),
            Some(Stop::Superseded) => Some(AttemptOutcome::Superseded),
            None => {
                let is_idle = writer.is_idle();
                let failure = attempt.failure.clone().filter(|_| is_idle);
                match failure {
                    Some(error) => Some(AttemptOutcome::Failed { error }),
                    None => (is_idle && attempt.makes_room).then_some(AttemptOutcome::Preempted),
                }
            }
        };
        if let Some(how) = how {
            self.finish_attempt(net, key, how);
        }
    }

    pub(super) fn finish_attempt(
        &mut self,
        net: &mut Net,
        key: RunningAttempt,
        how: AttemptOutcome,
    ) {
        let Some(attempt) = self.attempts.remove(&key) else {
            return;
        };
        net.tell(key.job, || {
            format!("{:?} ends attempt {}: {how:?}", self.life, key.attempt)
        });
        if let Some(op) = attempt.op {
            net.forget_op(op);
        }
        let writer = attempt.writer.as_ref();
        let stored = writer.is_some_and(Writer::has_stored);
        let has_final = writer.is_some_and(|writer| writer.stopped() == Some(Stop::Finished));
        let sequence = writer
            .filter(|_| stored || has_final)
            .map_or(0, Writer::sequence);
        if matches!(how, AttemptOutcome::Failed { .. }) {
            *net.oracle.failures.entry(key.job).or_default() += 1;
        }
        let is_void = how == AttemptOutcome::Superseded;
        let end = AttemptEnd {
            job: key.job,
            attempt: key.attempt,
            how,
            sequence,
            stored,
        };
        for (to, op) in &attempt.waiting {
            let reply = CancelReply::Ended {
                end: Box::new(end.clone()),
            };
            net.reply(self.life, *to, *op, Said::Stop(reply));
        }
        if is_void && net.has(Mutant::SlotKept) {
            return;
        }
        let age = span(net.now - self.born);
        if attempt.order.granted_ms.is_some() {
            self.granted_ended(net, &attempt, end, age);
        } else if let Some(to) = attempt.asker {
            let reply = match self.ledger.answered(end.clone(), age) {
                true => RunReply::Ended { end: Box::new(end) },
                false => RunReply::Accepted,
            };
            self.answer(net, to, key.job, reply);
        } else {
            self.ledger.ended(end, age);
        }
        self.tell(net);
    }

    /// Its gateway had ordered it. Whoever has no answer yet gets one where there is
    /// no final to read.
    fn granted_ended(&mut self, net: &mut Net, attempt: &Attempt, end: AttemptEnd, age: Duration) {
        let is_final = matches!(end.how, AttemptOutcome::Final { .. });
        if let Some(to) = attempt.asker.filter(|_| !is_final) {
            let end = Box::new(end.clone());
            self.answer(net, to, end.job, RunReply::Ended { end });
        }
        let took = span(net.now - attempt.began);
        let is_untold = attempt.order.spec.whole && took < GRANTED_TELLS_AFTER;
        net.counts.untold += u64::from(is_final && is_untold);
        if is_final && net.has(Mutant::GrantedEndUntold) {
            self.ledger.ended(end.clone(), age);
            self.ledger.acknowledged(&[end], age);
            return;
        }
        let granted = Granted::new(&attempt.order, self.assignment(&attempt.order));
        self.ledger.granted_ended(end, Box::new(granted), took, age);
    }

    fn assignment(&self, order: &RunOrder) -> Assignment {
        Assignment {
            node: names::node(self.index),
            instance: names::instance(self.life),
            replica: self.replica.id.clone(),
            engine: self.replica.engine.clone(),
            at_ms: order.granted_ms.unwrap_or_default(),
        }
    }
}
