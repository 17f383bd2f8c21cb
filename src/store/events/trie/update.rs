//! Makes a state from another and a batch of changes.

use super::{
    Entry, Node, NodesMut,
    node::{Child, FANOUT, LEAF_ENTRIES, digit, order},
};
use crate::base::ids::{EventNumber, KeyNumber, StateRoot};

/// An entry to set, or to remove if none.
pub(in crate::store) type Change = (KeyNumber, Option<EventNumber>);

/// The state that differs from `root` by `changes`, the last of which counts where a key recurs. Writes each node of
/// the result that differs once, however many changes there are.
pub(in crate::store) fn update<N: NodesMut>(
    nodes: &mut N,
    root: StateRoot,
    mut changes: Vec<Change>,
) -> Result<StateRoot, N::Error> {
    changes.sort_by_key(|(key, _)| order(*key));
    changes.dedup_by(|later, earlier| {
        let same = later.0 == earlier.0;
        if same {
            earlier.1 = later.1;
        }
        same
    });
    let child = apply(nodes, root, 0, &changes)?;
    Ok(child.map_or(StateRoot::EMPTY, |child| child.root))
}

/// Applies changes, in the trie's order and all below this node, and gives what its parent must know.
fn apply<N: NodesMut>(
    nodes: &mut N,
    name: StateRoot,
    depth: u32,
    changes: &[Change],
) -> Result<Option<Child>, N::Error> {
    let node = if name == StateRoot::EMPTY { Node::Leaf(Vec::new()) } else { nodes.fetch(name)? };
    let changed = match &node {
        Node::Leaf(entries) => return Ok(build(nodes, depth, &merge(entries, changes))),
        Node::Branch(children) => {
            let mut children = children.clone();
            for part in changes.chunk_by(|(a, _), (b, _)| digit(*a, depth) == digit(*b, depth)) {
                let child = &mut children[digit(part[0].0, depth)];
                let below = child.map_or(StateRoot::EMPTY, |child| child.root);
                *child = apply(nodes, below, depth + 1, part)?;
            }
            Node::Branch(children)
        }
    };
    if changed.entries() as usize > LEAF_ENTRIES {
        let name = if changed == node { name } else { nodes.put(&changed) };
        return Ok(Some(known(name, &changed)));
    }
    let mut entries = Vec::with_capacity(LEAF_ENTRIES);
    collect(nodes, &changed, &mut entries)?;
    Ok(build(nodes, depth, &entries))
}

/// Makes the node that holds these entries, in the trie's order, and all nodes below it.
fn build<N: NodesMut>(nodes: &mut N, depth: u32, entries: &[Entry]) -> Option<Child> {
    if entries.is_empty() {
        return None;
    }
    let node = if entries.len() <= LEAF_ENTRIES {
        Node::Leaf(entries.to_vec())
    } else {
        let mut children = Box::new([None; FANOUT]);
        for part in entries.chunk_by(|(a, _), (b, _)| digit(*a, depth) == digit(*b, depth)) {
            children[digit(part[0].0, depth)] = build(nodes, depth + 1, part);
        }
        Node::Branch(children)
    };
    Some(known(nodes.put(&node), &node))
}

fn known(root: StateRoot, node: &Node) -> Child {
    Child { root, entries: node.entries(), newest: node.newest() }
}

/// The entries after the changes; both are in the trie's order.
fn merge(entries: &[Entry], changes: &[Change]) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(entries.len() + changes.len());
    let mut entries = entries.iter().copied().peekable();
    for (key, event) in changes {
        while let Some(entry) = entries.next_if(|(before, _)| order(*before) < order(*key)) {
            merged.push(entry);
        }
        entries.next_if(|(same, _)| same == key);
        merged.extend(event.map(|event| (*key, event)));
    }
    merged.extend(entries);
    merged
}

/// Gathers the few entries of a branch that is to become a leaf.
fn collect<N: NodesMut>(nodes: &N, node: &Node, entries: &mut Vec<Entry>) -> Result<(), N::Error> {
    match node {
        Node::Leaf(own) => entries.extend(own),
        Node::Branch(children) => {
            for child in children.iter().flatten() {
                collect(nodes, &nodes.fetch(child.root)?, entries)?;
            }
        }
    }
    Ok(())
}
