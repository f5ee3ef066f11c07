//! What the holder wants done, on the simulated bus.

use super::*;
use orchion_contract::job::ENDED_RETENTION_S;
use orchion_contract::transcript::Final;

impl Scheduler {
    pub(super) fn perform(&mut self, net: &mut Net, effect: Effect) {
        let Some(charge) = &mut self.charge else {
            return;
        };
        let (life, number) = (self.life, charge.number);
        let duty = |duty| Purpose::Charge(number, duty);
        if let Some(job) = net.watched {
            let text = format!("{effect:?}");
            if text.contains(&job.to_string()) {
                net.tell(job, || {
                    format!(
                        "{life:?} wants {}",
                        text.chars().take(300).collect::<String>()
                    )
                });
            }
        }
        match effect {
            Effect::LoadRecords => {
                net.call(life, Call::Jobs, REQUEST, duty(Duty::Records));
            }
            Effect::LookForOpen { after } => {
                if !net.has(Mutant::RecordsReadOnce) {
                    let call = Call::OpenJobs { after };
                    net.call(life, call, REQUEST, duty(Duty::LookForOpen(after)));
                }
            }
            Effect::ReadLast { reader, job } => {
                net.counts.adopted += 1;
                let reader = names::life(&reader);
                if net.has(Mutant::RecordBelieved) {
                    self.hear(net, Input::Last { job, last: None });
                    return;
                }
                let call = Call::Last { reader, job };
                net.call(life, call, REQUEST, duty(Duty::ReadLast(reader, job)));
            }
            Effect::Write {
                record,
                expected,
                ttl,
            } => {
                let job = record.id;
                let call = write(net, record, expected, ttl.map(time));
                net.call(life, call, REQUEST, duty(Duty::Write(job)));
            }
            Effect::WriteEnd { record, expected } => {
                let job = record.id;
                let call = write(net, record, expected, Some(ENDED_RETENTION_S * SECOND));
                net.call(life, call, REQUEST, duty(Duty::WriteEnd(job)));
            }
            Effect::ReadRecord { job } => {
                net.call(
                    life,
                    Call::Get(Key::Job(job)),
                    REQUEST,
                    duty(Duty::ReadRecord(job)),
                );
            }
            Effect::Order { node, order } => {
                let node = names::index(&node);
                let purpose = duty(Duty::Order {
                    node,
                    order: order.clone(),
                    again: false,
                });
                net.ask(life, Whom::Agent(node), Ask::Run(order), ORDER_TRY, purpose);
            }
            Effect::Open { reader, job, mark } => {
                let reader = names::life(&reader);
                let entry = Box::new(Entry::Mark(mark));
                if net.has(Mutant::MarkAfterDispatch) {
                    let attempt = entry.attempt();
                    net.later(life, 400 * MS, duty(Duty::Behind(reader, job, entry)));
                    self.hear(
                        net,
                        Input::Opened {
                            job,
                            attempt,
                            end: None,
                        },
                    );
                    return;
                }
                let call = Call::Last { reader, job };
                net.call(life, call, REQUEST, duty(Duty::Behind(reader, job, entry)));
            }
            Effect::Finalize { reader, job, end } => {
                let reader = names::life(&reader);
                let entry = Box::new(Entry::Final(end));
                let call = Call::Last { reader, job };
                net.call(life, call, REQUEST, duty(Duty::Behind(reader, job, entry)));
            }
            Effect::Cancel { node, order } => {
                let purpose = duty(Duty::Cancel(order.clone()));
                let whom = Whom::Agent(names::index(&node));
                net.ask(life, whom, Ask::Stop(order), ORDER_TRY, purpose);
            }
            Effect::Drop { node, order } => {
                let whom = Whom::Agent(names::index(&node));
                net.ask(life, whom, Ask::Stop(order), ORDER_TRY, duty(Duty::Drop));
            }
            Effect::TellEnd(summary) => {
                let (job, state) = (summary.id, summary.state);
                if net.has(Mutant::HistorySkipped) {
                    self.hear(net, Input::Told { jobs: vec![job] });
                    return;
                }
                let call = Call::History(job, state);
                net.call(life, call, REQUEST, duty(Duty::TellEnd(job, state)));
            }
            Effect::TellState(event) => {
                if event.state == orchion_contract::job::JobState::Assigned
                    && let Some(node) = &event.node
                {
                    crate::look::capacity(net, charge.holder.state(), node);
                }
            }
            Effect::Explain { .. } => {}
            Effect::TellProgress { progress, .. } => net.progress((life, number), &progress),
            Effect::LookUp { token, job } => {
                let call = Call::Get(Key::Job(job));
                net.call(life, call, REQUEST, duty(Duty::LookUp(token, job)));
            }
            Effect::Grant { gateway, grants } => {
                let gateway = names::life(&gateway);
                net.publish(life, News::Grants(gateway, grants));
            }
            Effect::Admit { token, answer } => self.answer(net, token, Said::Admission(answer)),
            Effect::Describe { token, answer } => self.answer(net, token, Said::Job(answer)),
            Effect::List { .. } => {}
            Effect::Acknowledge { token } => self.answer(net, token, Said::Noted),
            Effect::Forget { token } => {
                charge.desk.remove(&token);
            }
            Effect::Outranked(epoch) => {
                let age = self.age(net);
                self.contender.handle(LeaseInput::Outranked(epoch), age);
                self.contend(net);
            }
            Effect::Reread { .. } => {
                self.leave(net);
                self.again_at = Some(net.now + 100 * MS);
                net.later(life, 100 * MS, Purpose::TakeOverAgain);
                let age = self.age(net);
                self.contender.handle(LeaseInput::Doubted, age);
                self.contend(net);
            }
            Effect::Note(note) => self.note(net, &note),
        }
    }

    pub(super) fn done(&mut self, net: &mut Net, number: u32, duty: Duty, outcome: Outcome) {
        let life = self.life;
        let again = |duty| Purpose::Charge(number, duty);
        match (duty, outcome) {
            (Duty::Records, Outcome::Answer(Answer::Jobs(jobs))) => {
                let mut records: Vec<(Job, u64)> = jobs
                    .into_iter()
                    .map(|(job, revision)| ((*job).clone(), revision))
                    .collect();
                if net.has(Mutant::QueueForgotten) {
                    for (job, _) in &mut records {
                        job.queue_seq = 0;
                    }
                }
                self.hear(net, Input::Records(records));
            }
            (Duty::Records, _) => {
                net.call(life, Call::Jobs, REQUEST, again(Duty::Records));
            }
            (Duty::LookForOpen(_), Outcome::Answer(Answer::OpenJobs { jobs, upto })) => {
                self.hear(net, Input::FoundOpen { jobs, upto });
            }
            (Duty::LookForOpen(after), _) => {
                let call = Call::OpenJobs { after };
                net.call(life, call, REQUEST, again(Duty::LookForOpen(after)));
            }
            (Duty::ReadLast(_, job), Outcome::Answer(Answer::Last(last))) => {
                let last = last.map(|(_, entry)| Box::new(entry));
                self.hear(net, Input::Last { job, last });
            }
            (Duty::ReadLast(reader, job), _) => {
                let call = Call::Last { reader, job };
                net.call(life, call, REQUEST, again(Duty::ReadLast(reader, job)));
            }
            (Duty::Write(job), Outcome::Answer(Answer::Stored(Ok(revision)))) => {
                self.hear(
                    net,
                    Input::Written {
                        job,
                        result: Ok(revision),
                    },
                );
            }
            (Duty::Write(job), Outcome::Answer(Answer::Stored(Err(Refusal::Full)))) => {
                let result = Err(WriteError::Full("no room".to_owned()));
                self.hear(net, Input::Written { job, result });
            }
            (Duty::Write(job), outcome) => {
                let is_lost = matches!(outcome, Outcome::TimedOut);
                let result = if is_lost && net.has(Mutant::UnansweredRecordStored) {
                    Ok(u64::MAX)
                } else {
                    Err(WriteError::Unsure)
                };
                self.hear(net, Input::Written { job, result });
            }
            // Most have no answer of their own: that somebody else wrote is never
            // heard of. A full store refuses the one that is answered, too.
            (Duty::WriteEnd(job), outcome) => {
                let is_dealt_with = matches!(
                    outcome,
                    Outcome::Answer(Answer::Stored(Ok(_) | Err(Refusal::WrongSequence)))
                );
                let is_sure = is_dealt_with || net.has(Mutant::UnansweredRecordStored);
                let jobs = vec![job];
                self.hear(net, Input::EndsWritten { jobs, is_sure });
            }
            (Duty::ReadRecord(job), Outcome::Answer(Answer::Got(found))) => {
                let found =
                    found.map(|(revision, value)| (revision, value.and_then(job_of).map(Box::new)));
                self.hear(net, Input::Read { job, found });
            }
            (Duty::ReadRecord(job), _) => {
                net.call(
                    life,
                    Call::Get(Key::Job(job)),
                    REQUEST,
                    again(Duty::ReadRecord(job)),
                );
            }
            (Duty::Order { order, .. }, Outcome::Said(Said::Run(reply))) => {
                let reply = self.mutated(net, &order, reply);
                let reply = Reply::Said(reply);
                self.hear(
                    net,
                    Input::Replied {
                        job: order.job,
                        attempt: order.attempt,
                        reply,
                    },
                );
            }
            (
                Duty::Order {
                    order,
                    again: false,
                    ..
                },
                Outcome::Nobody,
            ) => {
                let reply = Reply::Nobody;
                self.hear(
                    net,
                    Input::Replied {
                        job: order.job,
                        attempt: order.attempt,
                        reply,
                    },
                );
            }
            (
                Duty::Order {
                    node,
                    order,
                    again: false,
                },
                _,
            ) => {
                let purpose = again(Duty::Order {
                    node,
                    order: order.clone(),
                    again: true,
                });
                net.ask(life, Whom::Agent(node), Ask::Run(order), ORDER_TRY, purpose);
            }
            (
                Duty::Order {
                    order, again: true, ..
                },
                _,
            ) => {
                let reply = Reply::Silence;
                self.hear(
                    net,
                    Input::Replied {
                        job: order.job,
                        attempt: order.attempt,
                        reply,
                    },
                );
            }
            (Duty::Behind(reader, job, entry), Outcome::Answer(Answer::Last(last))) => {
                self.append(net, number, (reader, job), entry, last);
            }
            (Duty::Behind(reader, job, entry), _) => {
                let call = Call::Last { reader, job };
                net.call(life, call, REQUEST, again(Duty::Behind(reader, job, entry)));
            }
            (Duty::Appending(_, job, entry), Outcome::Answer(Answer::Stored(Ok(_)))) => {
                self.stands(net, job, &entry, None);
            }
            (Duty::Appending(reader, job, entry), outcome) => {
                let refused = matches!(
                    outcome,
                    Outcome::Answer(Answer::Stored(Err(Refusal::WrongSequence)))
                );
                if refused {
                    let call = Call::Last { reader, job };
                    net.call(life, call, REQUEST, again(Duty::Behind(reader, job, entry)));
                } else {
                    net.later(life, PAUSE, again(Duty::Behind(reader, job, entry)));
                }
            }
            (Duty::Cancel(order), outcome) => {
                let reply = match outcome {
                    Outcome::Said(Said::Stop(reply)) => Some(reply),
                    _ => None,
                };
                self.hear(
                    net,
                    Input::Canceled {
                        job: order.job,
                        reply,
                    },
                );
            }
            (Duty::Drop, _) => {}
            (Duty::TellEnd(job, _), Outcome::Answer(Answer::Stored(Ok(_)))) => {
                self.hear(net, Input::Told { jobs: vec![job] });
            }
            (Duty::TellEnd(job, state), _) => {
                net.call(
                    life,
                    Call::History(job, state),
                    REQUEST,
                    again(Duty::TellEnd(job, state)),
                );
            }
            (Duty::LookUp(token, job), outcome) => {
                let found = match outcome {
                    Outcome::Answer(Answer::Got(found)) => {
                        Ok(found.map(|(_, value)| value.and_then(job_of).map(Box::new)))
                    }
                    _ => Err("no answer".to_owned()),
                };
                self.hear(net, Input::LookedUp { token, job, found });
            }
        }
    }

    fn mutated(
        &self,
        net: &Net,
        order: &orchion_contract::job::RunOrder,
        reply: RunReply,
    ) -> RunReply {
        if net.has(Mutant::BusyIsFailure) && reply == RunReply::Busy {
            let error =
                orchion_contract::ErrorBody::new(orchion_contract::ErrorCode::WorkerReset, "busy");
            let end = orchion_contract::job::AttemptEnd {
                job: order.job,
                attempt: order.attempt,
                how: AttemptOutcome::Failed { error },
                sequence: 0,
                stored: true,
            };
            return RunReply::Ended { end: Box::new(end) };
        }
        reply
    }

    fn append(
        &mut self,
        net: &mut Net,
        number: u32,
        (reader, job): (Reader, JobId),
        entry: Box<Entry>,
        last: Option<(u64, Entry)>,
    ) {
        let behind_what = last.as_ref().map_or(0, |(sequence, _)| *sequence);
        let place = match behind(&entry, last) {
            Behind::Ended(_) if net.has(Mutant::FinalNotLookedFor) => {
                Behind::Append { after: behind_what }
            }
            place => place,
        };
        match place {
            Behind::Append { after } => {
                let call = Call::Append {
                    reader,
                    job,
                    entry: (*entry).clone(),
                    after,
                };
                let purpose = Purpose::Charge(number, Duty::Appending(reader, job, entry));
                net.call(self.life, call, REQUEST, purpose);
            }
            Behind::Stands => self.stands(net, job, &entry, None),
            Behind::Ended(end) => self.stands(net, job, &entry, Some(end)),
            Behind::Overtaken => self.hear(net, Input::Overtaken { job }),
        }
    }

    /// The entry stands, or another end does.
    fn stands(&mut self, net: &mut Net, job: JobId, entry: &Entry, end: Option<Box<Final>>) {
        match entry {
            Entry::Final(ours) => {
                let end = end.unwrap_or_else(|| ours.clone());
                self.hear(net, Input::Finalized { job, end });
            }
            Entry::Mark(_) | Entry::Frame(_) | Entry::Restart(_) => {
                let attempt = entry.attempt();
                self.hear(net, Input::Opened { job, attempt, end });
            }
        }
    }
}

fn job_of(value: Value) -> Option<Job> {
    match value {
        Value::Job(job) => Some((*job).clone()),
        Value::Node(_) | Value::Lease(_) => None,
    }
}

fn write(net: &Net, record: Box<Job>, expected: u64, ttl: Option<Time>) -> Call {
    Call::Set {
        key: Key::Job(record.id),
        value: Some(Value::Job(Arc::from(record))),
        expected,
        ttl: ttl.filter(|_| !net.has(Mutant::EndedForGood)),
    }
}
