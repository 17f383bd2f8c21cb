//! A node of the trie and its bytes.
//!
//! The bytes follow from the content alone, since a node is named by their hash: entries in the trie's order, numbers
//! in their shortest form.

use crate::{
    base::ids::{EventNumber, KeyNumber, StateRoot},
    store::events::codec::{Damaged, Reader, Writer, open_v1, seal},
};

/// Entries that a leaf holds; one more makes it a branch.
pub(super) const LEAF_ENTRIES: usize = 32;
/// Children that a branch may have: one for each value of four bits.
pub(super) const FANOUT: usize = 16;

/// One entry of a state.
pub(in crate::store) type Entry = (KeyNumber, EventNumber);

/// A node as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Node {
    /// All entries below, in the trie's order.
    Leaf(Vec<Entry>),
    /// More than [`LEAF_ENTRIES`] entries, by the next four bits of their keys.
    Branch(Box<[Option<Child>; FANOUT]>),
}

/// What a branch knows of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Child {
    pub(in crate::store) root: StateRoot,
    /// How many entries lie below.
    pub(in crate::store) entries: u32,
    /// The highest event number below.
    pub(in crate::store) newest: EventNumber,
}

impl Node {
    pub(in crate::store) fn encode(&self) -> Vec<u8> {
        seal(1, |writer| match self {
            Self::Leaf(entries) => write_leaf(entries, writer),
            Self::Branch(children) => write_branch(children, writer),
        })
    }

    pub(in crate::store) fn decode(value: &[u8]) -> Result<Self, Damaged> {
        open_v1(value, |reader| match reader.byte()? {
            0 => read_branch(reader),
            count if usize::from(count) <= LEAF_ENTRIES => read_leaf(count, reader),
            _ => Err(Damaged),
        })
    }

    /// The node's name: a hash of its bytes under the data folder's secret, so that nobody can make two collide.
    pub(in crate::store) fn name(bytes: &[u8], secret: &[u8; 32]) -> StateRoot {
        let hash = blake3::keyed_hash(secret, bytes);
        let mut name = [0; 16];
        name.copy_from_slice(&hash.as_bytes()[..16]);
        StateRoot(name)
    }

    pub(in crate::store) fn entries(&self) -> u32 {
        match self {
            Self::Leaf(entries) => entries.len() as u32,
            Self::Branch(children) => children.iter().flatten().map(|child| child.entries).sum(),
        }
    }

    pub(in crate::store) fn newest(&self) -> EventNumber {
        let newest = match self {
            Self::Leaf(entries) => entries.iter().map(|(_, event)| *event).max(),
            Self::Branch(children) => children.iter().flatten().map(|child| child.newest).max(),
        };
        newest.unwrap_or_default()
    }
}

/// Which child of a branch at `depth` a key belongs to: four bits of it, the lowest first, so that keys given in
/// sequence spread evenly.
pub(super) fn digit(key: KeyNumber, depth: u32) -> usize {
    (key.0 >> (4 * depth)) as usize % FANOUT
}

/// Keys compare in the trie's order: by their lowest four bits first.
pub(in crate::store) fn order(key: KeyNumber) -> u32 {
    let bytes = key.0.swap_bytes();
    (bytes & 0x0f0f_0f0f) << 4 | (bytes & 0xf0f0_f0f0) >> 4
}

fn write_leaf(entries: &[Entry], writer: &mut Writer) {
    writer.byte(entries.len() as u8);
    for (key, event) in entries {
        writer.varint(key.0.into());
        writer.varint(event.0);
    }
}

fn read_leaf(count: u8, reader: &mut Reader<'_>) -> Result<Node, Damaged> {
    let entry = |_| {
        let key = u32::try_from(reader.varint()?).map_err(|_| Damaged)?;
        Ok((KeyNumber(key), EventNumber(reader.varint()?)))
    };
    let entries: Vec<Entry> = (0..count).map(entry).collect::<Result<_, _>>()?;
    if entries.is_sorted_by(|(a, _), (b, _)| order(*a) < order(*b)) {
        Ok(Node::Leaf(entries))
    } else {
        Err(Damaged)
    }
}

/// A byte of zero, a bit for each child that exists, and those.
fn write_branch(children: &[Option<Child>; FANOUT], writer: &mut Writer) {
    writer.byte(0);
    let present = children.iter().enumerate().fold(0u16, |bits, (digit, child)| match child {
        Some(_) => bits | 1 << digit,
        None => bits,
    });
    writer.bytes(&present.to_be_bytes());
    for child in children.iter().flatten() {
        writer.bytes(&child.root.0);
        writer.varint(child.entries.into());
        writer.varint(child.newest.0);
    }
}

fn read_branch(reader: &mut Reader<'_>) -> Result<Node, Damaged> {
    let present = u16::from_be_bytes(reader.array()?);
    let mut children = [None; FANOUT];
    for (digit, child) in children.iter_mut().enumerate() {
        if present & 1 << digit != 0 {
            *child = Some(Child {
                root: StateRoot(reader.array()?),
                entries: u32::try_from(reader.varint()?).map_err(|_| Damaged)?,
                newest: EventNumber(reader.varint()?),
            });
        }
    }
    Ok(Node::Branch(Box::new(children)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leaf() -> Node {
        Node::Leaf(vec![
            (KeyNumber(16), EventNumber(5)),
            (KeyNumber(1), EventNumber(70_000)),
            (KeyNumber(2), EventNumber(3)),
        ])
    }

    fn branch() -> Node {
        let mut children = [None; FANOUT];
        for digit in [0, 3, 15] {
            let entries = 20 + digit as u32;
            let newest = EventNumber(1_000 << digit);
            children[digit] = Some(Child { root: StateRoot([digit as u8; 16]), entries, newest });
        }
        Node::Branch(Box::new(children))
    }

    /// The bytes are part of every stored state's name: these must never change, only others be added.
    #[test]
    fn golden_values_still_decode_and_still_have_their_names() {
        let secret = [7; 32];
        let golden: [(Node, &[u8], &str); 2] = [
            (leaf(), include_bytes!("../../../../tests/data/trie-leaf-v1.bin"), LEAF_NAME),
            (branch(), include_bytes!("../../../../tests/data/trie-branch-v1.bin"), BRANCH_NAME),
        ];
        for (node, bytes, name) in golden {
            assert_eq!(Node::decode(bytes), Ok(node.clone()));
            assert_eq!(node.encode(), bytes);
            assert_eq!(format!("{:032x}", u128::from_be_bytes(Node::name(bytes, &secret).0)), name);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_decodes_encodes_to_the_same(payload in prop::collection::vec(0..40u8, 0..80)) {
            let value = seal(1, |writer| writer.bytes(&payload));
            if let Ok(node) = Node::decode(&value) {
                prop_assert_eq!(node.encode(), value);
            }
        }
    }

    #[test]
    fn a_leaf_out_of_order_is_damage() {
        let wrong = Node::Leaf(vec![(KeyNumber(1), EventNumber(1)), (KeyNumber(16), EventNumber(1))]);
        assert_eq!(Node::decode(&wrong.encode()), Err(Damaged));
    }

    #[test]
    fn the_order_is_that_of_the_digits() {
        let digits = |key: u32| (0..8).map(move |depth| digit(KeyNumber(key), depth));
        for (a, b) in [(0, 1), (1, 16), (0x21, 0x12), (u32::MAX, 0x1234_5678), (0x10, 0x1000_0000)] {
            assert_eq!(
                order(KeyNumber(a)).cmp(&order(KeyNumber(b))),
                digits(a).cmp(digits(b)),
                "{a:x} {b:x}"
            );
        }
    }

    const LEAF_NAME: &str = "3038e68b5104e1c3c93516f45933d7d4";
    const BRANCH_NAME: &str = "8b9e65591e68f487614e8ecad79f14cd";
}
