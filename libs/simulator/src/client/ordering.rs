//! Chats that a gateway orders by itself, in slots that it was granted.

use super::*;

impl Client {
    /// Orders the first attempt, where a slot was granted.
    pub(super) fn order(&mut self, net: &mut Net, gateway: Life) {
        self.ordered = None;
        let may = self.door == Door::Chat && self.spec.may_be_granted();
        let Some((epoch, grant)) = net.grant(gateway).filter(|_| may) else {
            return;
        };
        net.counts.granted += 1;
        net.oracle.granted.insert(self.job, None);
        let now_ms = net.unix_ms(gateway);
        let order = grant.order(epoch, &self.submission(gateway), now_ms);
        let whom = Whom::Agent(names::index(&grant.to.node));
        let ask = Ask::Run(Box::new(order));
        net.ask(
            gateway,
            whom,
            ask,
            TRY,
            Purpose::Client(self.number, Errand::Order),
        );
        let to = Assignment {
            at_ms: now_ms,
            ..grant.to
        };
        self.epoch = epoch;
        self.ordered = Some(Box::new(Ordered { to, declined: None }));
        self.is_untold = self.spec.whole;
    }

    /// Tells the agent of an ordered job that its caller is gone.
    pub(super) fn stop_ordered(&self, net: &mut Net, gateway: Life) {
        let Some(ordered) = &self.ordered else {
            return;
        };
        let whom = Whom::Agent(names::index(&ordered.to.node));
        let order = CancelOrder {
            job: self.job,
            attempt: 1,
            epoch: self.epoch,
            reason: CancelReason::Disconnect,
        };
        let purpose = Purpose::Client(self.number, Errand::Stop);
        net.ask(gateway, whom, Ask::Stop(order), TRY, purpose);
    }

    /// An agent has answered the order: only that it has not taken it is news.
    pub(crate) fn order_answered(&mut self, net: &mut Net, reply: RunReply) {
        if matches!(reply, RunReply::Accepted | RunReply::Running) || !self.is_untold {
            return;
        }
        if let Some(ordered) = &mut self.ordered {
            ordered.declined = Some(Declined::Said(reply));
        }
        self.tell(net, net.now + PATIENCE);
    }

    /// The scheduler is told of a job that is under way, unless it has ended.
    pub(super) fn tell(&mut self, net: &mut Net, until: Time) {
        let is_untold = std::mem::take(&mut self.is_untold);
        if let Some(gateway) = self.gateway.filter(|_| is_untold) {
            self.ask(net, gateway, until);
        }
    }

    pub(super) fn submitted_late(
        &mut self,
        net: &mut Net,
        gateway: Life,
        until: Time,
        outcome: Outcome,
    ) {
        match outcome {
            Outcome::Said(Said::Admission(Err(_))) => {
                self.is_refused = true;
                net.counts.refused += 1;
            }
            Outcome::Said(_) => self.admitted = true,
            Outcome::Nobody if net.now < until => {
                let again = Purpose::Client(self.number, Errand::Submit { until });
                net.later(gateway, TRY, again);
            }
            Outcome::Answer(_) | Outcome::TimedOut if net.now < until => {
                self.ask(net, gateway, until);
            }
            // Nobody is there: its agent tells.
            Outcome::Answer(_) | Outcome::TimedOut | Outcome::Nobody => {}
        }
    }
}
