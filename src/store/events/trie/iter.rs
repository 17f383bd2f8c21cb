//! Walks a state's entries, a node at a time.

use super::{
    Entry, Node, Nodes,
    node::{digit, order},
};
use crate::base::ids::{EventNumber, KeyNumber, StateRoot};

/// Yields a state's entries in the trie's order; ends after the first failure.
pub(in crate::store) struct Iter<N> {
    nodes: N,
    /// Nodes still to visit, the next one last: at most fifteen siblings a level.
    pending: Vec<StateRoot>,
    leaf: std::vec::IntoIter<Entry>,
    floor: EventNumber,
}

impl<N: Nodes> Iter<N> {
    /// All entries of a state.
    pub(in crate::store) fn new(nodes: N, root: StateRoot) -> Self {
        above(nodes, root, EventNumber(0))
    }
}

/// The entries of a state whose event has a number above `floor`; what holds none of these is not read.
pub(in crate::store) fn above<N: Nodes>(nodes: N, root: StateRoot, floor: EventNumber) -> Iter<N> {
    let pending = if root == StateRoot::EMPTY { Vec::new() } else { vec![root] };
    Iter { nodes, pending, leaf: Vec::new().into_iter(), floor }
}

/// The entries of a state behind a key, whether that is there or not. Reads one node a level to get there.
pub(in crate::store) fn after<N: Nodes>(
    nodes: N,
    root: StateRoot,
    key: KeyNumber,
) -> Result<Iter<N>, N::Error> {
    let mut iter = Iter::new(nodes, root);
    let mut next = iter.pending.pop();
    for depth in 0.. {
        let Some(name) = next else { break };
        match iter.nodes.fetch(name)? {
            Node::Leaf(mut entries) => {
                entries.retain(|(found, _)| order(*found) > order(key));
                (iter.leaf, next) = (entries.into_iter(), None);
            }
            Node::Branch(children) => {
                let (_, behind) = children.split_at(digit(key, depth));
                let (on_the_way, behind) = behind.split_first().expect("a digit names a child");
                iter.pending.extend(behind.iter().rev().flatten().map(|child| child.root));
                next = on_the_way.map(|child| child.root);
            }
        }
    }
    Ok(iter)
}

impl<N: Nodes> Iterator for Iter<N> {
    type Item = Result<Entry, N::Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.leaf.find(|(_, event)| *event > self.floor) {
                return Some(Ok(entry));
            }
            match self.nodes.fetch(self.pending.pop()?) {
                Ok(Node::Leaf(entries)) => self.leaf = entries.into_iter(),
                Ok(Node::Branch(children)) => {
                    let children = children.iter().rev().flatten().filter(|child| child.newest > self.floor);
                    self.pending.extend(children.map(|child| child.root));
                }
                Err(error) => {
                    self.pending.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
