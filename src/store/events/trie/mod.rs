//! A room's state as a map from key to event: an immutable radix trie whose nodes are named by their content.
//!
//! Pure: it asks a [`Nodes`] and hands what it makes to a [`NodesMut`]. A node is a leaf while it holds at most 32
//! entries and a branch by the next four bits of the key beyond that, so its shape follows from its content, and
//! equal states have equal roots whatever their history. A change writes the path from its leaf to the root; what two
//! states share is never read to compare them. The empty state has no node: its root is all zeros.

mod difference;
mod iter;
mod node;
#[cfg(test)]
mod tests;
mod update;

pub(in crate::store) use difference::difference;
pub(in crate::store) use iter::{Iter, above, after};
pub(in crate::store) use node::{Entry, Node, order};
pub(in crate::store) use update::update;

use crate::base::ids::{EventNumber, KeyNumber, StateRoot};

/// Where nodes are read.
pub(in crate::store) trait Nodes {
    /// Why a node could not be read: it is missing or damaged.
    type Error;

    /// The node with this name, which is not that of the empty state.
    fn fetch(&self, name: StateRoot) -> Result<Node, Self::Error>;
}

/// Where nodes are written.
pub(in crate::store) trait NodesMut: Nodes {
    /// Stores a node and gives its name. The same node may be there already.
    fn put(&mut self, node: &Node) -> StateRoot;
}

/// The event at one key: reads one node for every four bits that tell the key from others.
pub(in crate::store) fn entry<N: Nodes>(
    nodes: &N,
    root: StateRoot,
    key: KeyNumber,
) -> Result<Option<EventNumber>, N::Error> {
    let mut name = root;
    for depth in 0.. {
        if name == StateRoot::EMPTY {
            break;
        }
        match nodes.fetch(name)? {
            Node::Leaf(entries) => {
                return Ok(entries.into_iter().find(|(found, _)| *found == key).map(|(_, event)| event));
            }
            Node::Branch(children) => {
                name = children[node::digit(key, depth)].map_or(StateRoot::EMPTY, |child| child.root);
            }
        }
    }
    Ok(None)
}

/// How many entries a state has: reads its root only.
pub(in crate::store) fn len<N: Nodes>(nodes: &N, root: StateRoot) -> Result<u32, N::Error> {
    if root == StateRoot::EMPTY { Ok(0) } else { Ok(nodes.fetch(root)?.entries()) }
}
