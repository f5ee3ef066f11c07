//! What comes to gateways, and goes on to their callers.

use super::*;

impl World {
    pub(super) fn gateway_hears(&mut self, gateway: Life, parcel: Parcel) {
        match parcel {
            Parcel::News(News::Grants(_, grants)) => self.net.granted(gateway, grants),
            Parcel::News(News::Answered(_, job, reply)) => {
                let mut clients = self.clients.iter_mut();
                let mine = |client: &&mut Client| client.job == job && client.is_fed(gateway);
                if let Some(client) = clients.find(mine) {
                    client.order_answered(&mut self.net, *reply);
                }
            }
            parcel => self.entry(gateway, parcel),
        }
    }

    /// An entry comes to a gateway: over its feed, or to one caller.
    pub(super) fn entry(&mut self, to: Life, parcel: Parcel) {
        let Parcel::Entry {
            consumer,
            sequence,
            at,
            job,
            entry,
        } = parcel
        else {
            return;
        };
        if !self.net.advance(consumer, sequence) {
            return;
        }
        let Body::Gateway(gateway) = &mut self.bodies[to.process] else {
            return;
        };
        if gateway.feed == consumer {
            let fed = gateway.entry((sequence, at), job, entry);
            self.feed(to, fed);
        } else if let Some(client) = self
            .clients
            .iter_mut()
            .find(|client| client.reads(consumer))
        {
            gateway.saw((sequence, at));
            client.entry(&mut self.net, sequence, entry);
        }
    }

    pub(super) fn feed(&mut self, gateway: Life, fed: Vec<Fed>) {
        for fed in fed {
            match fed {
                Fed::Entry(sequence, job, entry) => {
                    let mine = |client: &&mut Client| client.job == job && client.is_fed(gateway);
                    if let Some(client) = self.clients.iter_mut().find(mine) {
                        client.entry(&mut self.net, sequence, entry);
                    }
                }
                Fed::Reopened => {
                    for client in &mut self.clients {
                        client.reopened(&mut self.net, gateway);
                    }
                }
            }
        }
    }
}
