//! What a caller sees of its answer.

use super::*;
use orchion_transcript::Shown;

impl Client {
    /// Whether entries of this job come to it over the feed of this gateway.
    pub(crate) fn is_fed(&self, gateway: Life) -> bool {
        self.is_live && self.gateway == Some(gateway)
    }

    /// Whether the end stands where it reads.
    pub(crate) fn could_see_its_end(&self, net: &Net) -> bool {
        let followed = self.consumer.and_then(|id| net.consumers.get(&id));
        let place = match followed.map(|consumer| consumer.what) {
            Some(Follows::Chain(place, _)) => Some(place),
            Some(Follows::Feed(_) | Follows::Watch(_)) | None => {
                self.gateway.filter(|_| self.is_live)
            }
        };
        place.is_some_and(|place| net.server.has_ended(place, self.job))
    }

    pub(crate) fn reads(&self, consumer: u64) -> bool {
        self.consumer == Some(consumer)
    }

    /// The store was rolled back: everything is read again, what was shown is skipped.
    pub(crate) fn reopened(&mut self, net: &mut Net, gateway: Life) {
        if self.gateway != Some(gateway) || self.is_over() {
            return;
        }
        self.reader.reopen();
        if let Some(consumer) = self.consumer.take() {
            let what = net.consumers.get(&consumer).map(|consumer| consumer.what);
            net.unfollow(consumer);
            self.consumer = what.map(|what| net.follow(gateway, what));
        }
    }

    pub(crate) fn entry(&mut self, net: &mut Net, sequence: u64, entry: Entry) {
        if self.is_over() {
            return;
        }
        let mut shown = Vec::new();
        let read = self.reader.apply(sequence, entry, &mut shown);
        for shown in shown {
            self.show(net, shown);
        }
        if let Err(error) = read {
            if !net.oracle.tail_was_lost {
                net.broken(Property::Whole, || {
                    format!("job {}: {error}", names::number(self.job))
                });
            }
            self.state = State::Told;
            self.stop_reading(net);
        }
    }

    fn show(&mut self, net: &mut Net, shown: Shown) {
        match shown {
            Shown::Piece { index, piece } => {
                let next = self.next();
                let text = piece.text.unwrap_or_default();
                let attempt = text
                    .strip_prefix('a')
                    .and_then(|rest| rest.split_once('i'))
                    .and_then(|(attempt, rest)| Some((attempt, rest.split_once('p')?.0)))
                    .filter(|(_, place)| *place == index.to_string())
                    .and_then(|(attempt, _)| attempt.parse().ok());
                match attempt {
                    Some(attempt) if index == next => self.shown.push(attempt),
                    Some(_) | None => net.broken(Property::Whole, || {
                        format!(
                            "job {}: after {next} pieces came piece {index}, '{text}'",
                            names::number(self.job)
                        )
                    }),
                }
                net.counts.pieces += 1;
            }
            Shown::Restarted { index } => {
                let next = self.next();
                if index == next {
                    self.shown.push(RESTARTED);
                } else {
                    net.broken(Property::Whole, || {
                        format!(
                            "job {}: after {next} pieces came restart {index}",
                            names::number(self.job)
                        )
                    });
                }
            }
            Shown::Ended(end) => {
                self.end = Some(end);
                self.state = State::Done;
                self.stop_reading(net);
            }
        }
    }
}
