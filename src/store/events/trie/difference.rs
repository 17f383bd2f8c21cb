//! What tells two states apart.

use super::{
    Entry, Node, Nodes,
    node::{digit, order},
};
use crate::base::ids::{EventNumber, KeyNumber, StateRoot};

/// A key, its event in the one state and its event in the other; these differ.
pub(in crate::store) type Difference = (KeyNumber, Option<EventNumber>, Option<EventNumber>);

/// Calls `visit` with each difference of two states, in the trie's order. Equal subtries are not read; a key that
/// differs costs at most the two paths to it.
pub(in crate::store) fn difference<N: Nodes>(
    nodes: &N,
    a: StateRoot,
    b: StateRoot,
    visit: &mut impl FnMut(Difference) -> Result<(), N::Error>,
) -> Result<(), N::Error> {
    walk(nodes, Side::Name(a), Side::Name(b), 0, visit)
}

/// One of the two states below one path.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// The subtrie with this name, not read yet.
    Name(StateRoot),
    /// Part of a leaf, where the other side has a branch.
    Entries(&'a [Entry]),
}

impl Side<'_> {
    fn read<N: Nodes>(self, nodes: &N) -> Result<Node, N::Error> {
        match self {
            Self::Name(StateRoot::EMPTY) => Ok(Node::Leaf(Vec::new())),
            Self::Name(name) => nodes.fetch(name),
            Self::Entries(entries) => Ok(Node::Leaf(entries.to_vec())),
        }
    }
}

fn walk<N: Nodes>(
    nodes: &N,
    a: Side<'_>,
    b: Side<'_>,
    depth: u32,
    visit: &mut impl FnMut(Difference) -> Result<(), N::Error>,
) -> Result<(), N::Error> {
    if let (Side::Name(a), Side::Name(b)) = (a, b)
        && a == b
    {
        return Ok(());
    }
    let (a, b) = (a.read(nodes)?, b.read(nodes)?);
    if let (Node::Leaf(a), Node::Leaf(b)) = (&a, &b) {
        return merge(a, b, visit);
    }
    for child in 0..super::node::FANOUT {
        walk(nodes, below(&a, depth, child), below(&b, depth, child), depth + 1, visit)?;
    }
    Ok(())
}

/// The part of a node that lies below one child of a branch in its place.
fn below(node: &Node, depth: u32, child: usize) -> Side<'_> {
    match node {
        Node::Branch(children) => Side::Name(children[child].map_or(StateRoot::EMPTY, |child| child.root)),
        Node::Leaf(entries) => {
            let start = entries.partition_point(|(key, _)| digit(*key, depth) < child);
            let end = entries.partition_point(|(key, _)| digit(*key, depth) <= child);
            Side::Entries(&entries[start..end])
        }
    }
}

fn merge<E>(a: &[Entry], b: &[Entry], visit: &mut impl FnMut(Difference) -> Result<(), E>) -> Result<(), E> {
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        let key = match (a.peek(), b.peek()) {
            (Some((a, _)), Some((b, _))) => std::cmp::min_by_key(*a, *b, |key| order(*key)),
            (Some((key, _)), None) | (None, Some((key, _))) => *key,
            (None, None) => return Ok(()),
        };
        let at = |side: &mut std::iter::Peekable<_>| {
            let entry: Option<Entry> = side.next_if(|(same, _): &Entry| *same == key);
            entry.map(|(_, event)| event)
        };
        let (before, after) = (at(&mut a), at(&mut b));
        if before != after {
            visit((key, before, after))?;
        }
    }
}
