//! The subjects on which the registry is spoken to.
//!
//! Every instance subscribes to all of them, with a group of its own, and only
//! the active one answers: callers ask again, and find the new one by itself.

use orchion_bus::{Bus, Endpoint, Error, Question, Service, Subscription};
use orchion_contract::NodeId;
use orchion_contract::node::{
    Empty, Heartbeat, ListNodes, Node, NodePage, Registered, Registration, Unregister,
};
use orchion_contract::rpc::{GET_NODE, LIST_NODES, REGISTER, UNREGISTER};
use orchion_contract::subjects::{CAPABILITY, HEARTBEAT};

/// What somebody said.
pub(crate) enum Said {
    Register(Box<Question<(), Registration, Registered>>),
    Get(Question<(), NodeId, Node>),
    List(Question<(), ListNodes, NodePage>),
    Unregister(Question<(), Unregister, Empty>),
    Heartbeat(Heartbeat),
    Capability(Box<Registration>),
}

/// Everything the registry listens to.
pub(crate) struct Desk {
    _service: Service,
    register: Endpoint<(), Registration, Registered>,
    get: Endpoint<(), NodeId, Node>,
    list: Endpoint<(), ListNodes, NodePage>,
    unregister: Endpoint<(), Unregister, Empty>,
    heartbeats: Subscription<NodeId, Heartbeat>,
    capabilities: Subscription<NodeId, Registration>,
}

impl Desk {
    pub(crate) async fn open(bus: &Bus) -> Result<Self, Error> {
        let service = bus
            .service("Knows which nodes live and what they can do")
            .await?;
        let own = bus.identity().instance.as_str();
        Ok(Self {
            register: service.endpoint(REGISTER, own).await?,
            get: service.endpoint(GET_NODE, own).await?,
            list: service.endpoint(LIST_NODES, own).await?,
            unregister: service.endpoint(UNREGISTER, own).await?,
            heartbeats: bus.subscribe(HEARTBEAT).await?,
            capabilities: bus.subscribe(CAPABILITY).await?,
            _service: service,
        })
    }

    /// What is said next; `None` when the connection is closed for good.
    /// Dropping this future loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Said> {
        loop {
            return Some(tokio::select! {
                question = self.register.next() => Said::Register(Box::new(question?)),
                question = self.unregister.next() => Said::Unregister(question?),
                question = self.get.next() => Said::Get(question?),
                question = self.list.next() => Said::List(question?),
                beat = self.heartbeats.next() => match beat? {
                    (node, beat) if node == beat.node => Said::Heartbeat(beat),
                    (node, _) => {
                        passed_over(&node);
                        continue;
                    }
                },
                capability = self.capabilities.next() => match capability? {
                    (node, capability) if node == capability.node => Said::Capability(Box::new(capability)),
                    (node, _) => {
                        passed_over(&node);
                        continue;
                    }
                },
            });
        }
    }
}

fn passed_over(node: &NodeId) {
    tracing::warn!(node.id = %node, "passed over a message on the subject of {node} that speaks of another node");
}
