//! Nodes on the terminal.

use std::collections::BTreeMap;

use orchion_contract::node::{Gpu, Node, NodeState, Replica};

use super::table::{Cell, Table, pairs};
use super::units::{ago, bytes};
use crate::terminal::{BAD, CARE, GOOD, STRONG};

/// All nodes, one per line.
pub(crate) fn table(nodes: &[Node], now_ms: u64, colour: bool) -> String {
    let mut table = Table::new(&[
        "node", "host", "state", "models", "slots", "memory", "gpu", "seen",
    ]);
    for node in nodes {
        table.row(vec![
            Cell::styled(node.id.as_str(), STRONG),
            node.hostname.as_str().into(),
            state(node.state),
            models(&node.replicas).into(),
            slots(&node.replicas).to_string().into(),
            bytes(node.capabilities.memory.total_bytes).into(),
            gpus(&node.capabilities.gpus).into(),
            ago(node.last_seen_ms, now_ms).into(),
        ]);
    }
    table.render(colour)
}

/// Everything about one node.
pub(crate) fn detail(node: &Node, now_ms: u64, colour: bool) -> String {
    let facts = &node.capabilities;
    let labels: Vec<String> = node
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let memory = format!(
        "{}, {} free",
        bytes(facts.memory.total_bytes),
        bytes(facts.memory.available_bytes)
    );
    let head = pairs(
        &[
            ("node", node.id.to_string()),
            ("host", node.hostname.clone()),
            ("state", state_word(node.state).to_owned()),
            ("agent", node.version.clone()),
            ("system", facts.os.display.clone()),
            ("processor", processor(node)),
            ("memory", memory),
            ("gpu", gpus(&facts.gpus)),
            ("labels", labels.join(", ")),
            ("first seen", ago(node.first_seen_ms, now_ms)),
            ("last seen", ago(node.last_seen_ms, now_ms)),
        ],
        colour,
    );
    let mut replicas = Table::new(&["model", "engine", "version", "slots", "context", "ready"]);
    for replica in &node.replicas {
        let context = replica.ctx.map(|ctx| ctx.to_string());
        replicas.row(vec![
            Cell::styled(replica.model.as_str(), STRONG),
            replica.engine.kind.as_str().into(),
            replica.engine.version.clone().unwrap_or_default().into(),
            replica.slots.to_string().into(),
            context.unwrap_or_default().into(),
            yes_no(replica.ready),
        ]);
    }
    if node.replicas.is_empty() {
        format!("{head}\n\nIt serves no model.")
    } else {
        format!("{head}\n\n{}", replicas.render(colour))
    }
}

fn processor(node: &Node) -> String {
    let cpu = &node.capabilities.cpu;
    let cores = format!("{} threads", cpu.logical_cores);
    if cpu.model.is_empty() {
        cores
    } else {
        format!("{}, {cores}", cpu.model)
    }
}

fn state(state: NodeState) -> Cell {
    let style = match state {
        NodeState::Online => GOOD,
        NodeState::Suspect => CARE,
        NodeState::Lost | NodeState::Unknown => BAD,
    };
    Cell::styled(state_word(state), style)
}

fn state_word(state: NodeState) -> &'static str {
    match state {
        NodeState::Online => "online",
        NodeState::Suspect => "suspect",
        NodeState::Lost => "lost",
        NodeState::Unknown => "unknown",
    }
}

fn yes_no(yes: bool) -> Cell {
    if yes {
        Cell::styled("yes", GOOD)
    } else {
        Cell::styled("no", CARE)
    }
}

/// Slots that can be used now.
fn slots(replicas: &[Replica]) -> u32 {
    let ready = replicas.iter().filter(|replica| replica.ready);
    ready.map(|replica| replica.slots).sum()
}

/// Each model once, by name; of many the first ones. One that no engine has
/// ready is marked.
fn models(replicas: &[Replica]) -> String {
    const SHOWN: usize = 3;
    let mut names: BTreeMap<&str, bool> = BTreeMap::new();
    for replica in replicas {
        *names.entry(replica.model.as_str()).or_default() |= replica.ready;
    }
    let first = names.iter().take(SHOWN);
    let mut shown: Vec<String> = first
        .map(|(name, is_ready)| match is_ready {
            true => (*name).to_owned(),
            false => format!("{name} (not ready)"),
        })
        .collect();
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    shown.join(", ")
}

fn gpus(gpus: &[Gpu]) -> String {
    let shown = |gpu: &Gpu| format!("{} {}", gpu.name, bytes(gpu.memory_total_bytes));
    match gpus {
        [] => String::new(),
        [one] => shown(one),
        [first, rest @ ..] if rest.iter().all(|gpu| gpu.name == first.name) => {
            format!("{}x {}", gpus.len(), shown(first))
        }
        [first, rest @ ..] => format!("{} (+{})", shown(first), rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nodes() -> Vec<Node> {
        let gpu = json!({"name": "NVIDIA H200", "memory_total_bytes": 151_397_597_184_u64});
        let replica = |model: &str, ready: bool| {
            json!({
                "id": "r0", "model": model, "slots": 4, "ctx": 8192, "ready": ready,
                "engine": {"kind": "llamacpp", "version": "b6900"}, "continuation": "ids",
            })
        };
        let node = |id: &str, host: &str, state: &str, seen: u64, capabilities, replicas| {
            json!({
                "id": id, "instance": "i1", "hostname": host, "version": "0.1.0",
                "state": state, "first_seen_ms": 0, "last_seen_ms": seen,
                "last_seen_unix": seen / 1000, "heartbeat_ms": 5000,
                "capabilities": capabilities, "replicas": replicas,
            })
        };
        serde_json::from_value(json!([
            node(
                "workshop",
                "big",
                "online",
                99_500,
                json!({"memory": {"total_bytes": 137_438_953_472_u64}, "gpus": [gpu.clone(), gpu]}),
                json!([replica("qwen3-8b", true), replica("zeta", false)]),
            ),
            node("pi-kitchen", "pi", "lost", 1_000, json!({}), json!([])),
        ]))
        .unwrap()
    }

    #[test]
    fn a_table_of_nodes() {
        insta::assert_snapshot!(table(&nodes(), 100_000, false), @r"
        NODE         HOST   STATE    MODELS                       SLOTS   MEMORY    GPU                      SEEN
        workshop     big    online   qwen3-8b, zeta (not ready)   4       128 GiB   2x NVIDIA H200 141 GiB   now
        pi-kitchen   pi     lost     -                            0       0 B       -                        1m 39s ago
        ");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let coloured = table(&nodes(), 100_000, true);
        let mut plain = String::new();
        let mut in_code = false;
        for character in coloured.chars() {
            match character {
                '\x1b' => in_code = true,
                'm' if in_code => in_code = false,
                _ if in_code => {}
                character => plain.push(character),
            }
        }
        assert_ne!(coloured, plain);
        assert_eq!(plain, table(&nodes(), 100_000, false));
    }

    #[test]
    fn everything_about_a_node() {
        insta::assert_snapshot!(detail(&nodes()[0], 100_000, false), @r"
        node        workshop
        host        big
        state       online
        agent       0.1.0
        processor   0 threads
        memory      128 GiB, 0 B free
        gpu         2x NVIDIA H200 141 GiB
        first seen  1m 40s ago
        last seen   now

        MODEL      ENGINE     VERSION   SLOTS   CONTEXT   READY
        qwen3-8b   llamacpp   b6900     4       8192      yes
        zeta       llamacpp   b6900     4       8192      no
        ");
    }
}
