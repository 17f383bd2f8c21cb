use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use proptest::prelude::*;

use super::*;
use crate::store::events::codec::Damaged;

/// Nodes in memory, as bytes, with a count of those read and written.
#[derive(Default)]
struct Memory {
    nodes: RefCell<HashMap<StateRoot, Vec<u8>>>,
    fetched: Cell<usize>,
    put: Cell<usize>,
}

impl Memory {
    /// How many nodes `work` reads and writes.
    fn cost<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, usize, usize) {
        self.fetched.set(0);
        self.put.set(0);
        let result = work(self);
        (result, self.fetched.get(), self.put.get())
    }

    fn of(entries: impl IntoIterator<Item = (u32, u64)>) -> (Self, StateRoot) {
        let mut memory = Self::default();
        let root =
            memory.update(StateRoot::EMPTY, entries.into_iter().map(|(key, event)| (key, Some(event))));
        (memory, root)
    }

    fn update(
        &mut self,
        root: StateRoot,
        changes: impl IntoIterator<Item = (u32, Option<u64>)>,
    ) -> StateRoot {
        let change = |(key, event): (u32, Option<u64>)| (KeyNumber(key), event.map(EventNumber));
        update(self, root, changes.into_iter().map(change).collect()).unwrap()
    }

    fn entry(&self, root: StateRoot, key: u32) -> Option<u64> {
        entry(self, root, KeyNumber(key)).unwrap().map(|event| event.0)
    }

    fn content(&self, root: StateRoot) -> BTreeMap<u32, u64> {
        Iter::new(self, root).map(|entry| entry.map(|(key, event)| (key.0, event.0)).unwrap()).collect()
    }

    fn difference(&self, a: StateRoot, b: StateRoot) -> BTreeMap<u32, (Option<u64>, Option<u64>)> {
        let mut found = BTreeMap::new();
        difference(self, a, b, &mut |(key, a, b)| {
            let twice = found.insert(key.0, (a.map(|event| event.0), b.map(|event| event.0)));
            assert_eq!(twice, None);
            Ok(())
        })
        .unwrap();
        found
    }
}

impl Nodes for Memory {
    type Error = Damaged;

    fn fetch(&self, name: StateRoot) -> Result<Node, Damaged> {
        self.fetched.set(self.fetched.get() + 1);
        Node::decode(self.nodes.borrow().get(&name).ok_or(Damaged)?)
    }
}

impl Nodes for &Memory {
    type Error = Damaged;

    fn fetch(&self, name: StateRoot) -> Result<Node, Damaged> {
        (**self).fetch(name)
    }
}

impl NodesMut for Memory {
    fn put(&mut self, node: &Node) -> StateRoot {
        self.put.set(self.put.get() + 1);
        let bytes = node.encode();
        let name = Node::name(&bytes, &[7; 32]);
        self.nodes.borrow_mut().insert(name, bytes);
        name
    }
}

/// Keys as a room gives them, in sequence, with a few that share many low bits, so that tries grow deep.
fn key() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0..200u32, 1 => (0..64u32).prop_map(|high| high << 26 | 5), 1 => any::<u32>()]
}

fn changes() -> impl Strategy<Value = Vec<(u32, Option<u64>)>> {
    prop::collection::vec((key(), prop::option::weighted(0.7, 1..1_000u64)), 0..120)
}

fn apply(model: &mut BTreeMap<u32, u64>, changes: &[(u32, Option<u64>)]) {
    for (key, event) in changes {
        match event {
            Some(event) => model.insert(*key, *event),
            None => model.remove(key),
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) })]

    #[test]
    fn it_is_a_map(batches in prop::collection::vec(changes(), 1..6), floor in 0..1_000u64) {
        let (mut memory, mut root) = Memory::of([]);
        let mut model = BTreeMap::new();
        for batch in &batches {
            root = memory.update(root, batch.iter().copied());
            apply(&mut model, batch);
            prop_assert_eq!(&memory.content(root), &model);
            prop_assert_eq!(len(&memory, root).unwrap() as usize, model.len());
            for (key, _) in batch {
                prop_assert_eq!(memory.entry(root, *key), model.get(key).copied());
            }
            let order: Vec<u32> = Iter::new(&memory, root).map(|entry| node::order(entry.unwrap().0)).collect();
            prop_assert!(order.is_sorted());
            let all: Vec<Entry> = Iter::new(&memory, root).map(|entry| entry.unwrap()).collect();
            for (key, _) in batches.iter().flatten() {
                let behind = after(&memory, root, KeyNumber(*key)).unwrap().map(|entry| entry.unwrap());
                let expected = all.iter().filter(|(found, _)| node::order(*found) > node::order(KeyNumber(*key)));
                prop_assert!(behind.eq(expected.copied()));
            }
            let above: BTreeMap<u32, u64> = above(&memory, root, EventNumber(floor))
                .map(|entry| entry.map(|(key, event)| (key.0, event.0)).unwrap())
                .collect();
            let newer = model.iter().filter(|(_, event)| **event > floor);
            prop_assert_eq!(above, newer.map(|(key, event)| (*key, *event)).collect());
        }
    }

    #[test]
    fn equal_content_has_an_equal_root_whatever_the_history(
        batches in prop::collection::vec(changes(), 1..6),
    ) {
        let (mut memory, mut batched) = Memory::of([]);
        let mut one_by_one = StateRoot::EMPTY;
        let mut model = BTreeMap::new();
        for batch in &batches {
            batched = memory.update(batched, batch.iter().copied());
            for change in batch {
                one_by_one = memory.update(one_by_one, [*change]);
            }
            apply(&mut model, batch);
        }
        let (_, fresh) = Memory::of(model.clone());
        prop_assert_eq!(batched, fresh);
        prop_assert_eq!(one_by_one, fresh);
        prop_assert_eq!(model.is_empty(), fresh == StateRoot::EMPTY);
    }

    #[test]
    fn the_difference_is_that_of_the_maps(start in changes(), left in changes(), right in changes()) {
        let (mut memory, root) = Memory::of([]);
        let root = memory.update(root, start);
        let (a, b) = (memory.update(root, left), memory.update(root, right));
        let (map_a, map_b) = (memory.content(a), memory.content(b));
        let keys = map_a.keys().chain(map_b.keys());
        let expected: BTreeMap<_, _> = keys
            .map(|key| (*key, (map_a.get(key).copied(), map_b.get(key).copied())))
            .filter(|(_, (a, b))| a != b)
            .collect();
        prop_assert_eq!(memory.difference(a, b), expected);
    }
}

const LARGE: u32 = 100_000;

fn large() -> (Memory, StateRoot) {
    Memory::of((1..=LARGE).map(|key| (key, u64::from(key) + 7)))
}

#[test]
fn one_key_of_a_large_state_reads_one_path() {
    let (mut memory, root) = large();
    for key in [1, 77_777, LARGE, LARGE + 1] {
        let (found, fetched, _) = memory.cost(|memory| memory.entry(root, key));
        assert_eq!(found, (key <= LARGE).then_some(u64::from(key) + 7));
        assert_eq!(fetched, 4);
    }
    let (entries, fetched, _) = memory.cost(|memory| len(memory, root).unwrap());
    assert_eq!((entries, fetched), (LARGE, 1));
}

#[test]
fn one_change_of_a_large_state_writes_one_path() {
    let (mut memory, root) = large();
    let (changed, fetched, put) = memory.cost(|memory| memory.update(root, [(500, Some(999_999))]));
    assert_eq!((fetched, put), (4, 4));
    let (same, _, put) = memory.cost(|memory| memory.update(changed, [(500, Some(999_999))]));
    assert_eq!((same, put <= 1), (changed, true));
    let bytes: usize = memory.nodes.borrow().values().map(Vec::len).sum();
    assert!(bytes < 1_200_000, "{bytes} bytes");
}

#[test]
fn a_difference_walks_only_what_differs() {
    let (mut memory, a) = large();
    let b = memory.update(a, [(500, Some(999_999)), (77_777, None), (LARGE + 1, Some(1_000_000))]);
    let (found, fetched, _) = memory.cost(|memory| memory.difference(a, b));
    assert_eq!(found.len(), 3);
    assert!(fetched <= 2 * 4 * 3, "{fetched} nodes");
    let (found, fetched, _) = memory.cost(|memory| memory.difference(b, b));
    assert_eq!((found.len(), fetched), (0, 0));
    let (newer, fetched, _) =
        memory.cost(|memory| above(&*memory, b, EventNumber(u64::from(LARGE) + 7)).count());
    assert_eq!(newer, 2);
    assert!(fetched <= 7, "{fetched} nodes");
}

#[test]
fn a_batch_writes_each_node_once() {
    let mut memory = Memory::default();
    let entries = (1..=1_000).map(|key| (key, Some(1)));
    let (root, fetched, put) = memory.cost(|memory| memory.update(StateRoot::EMPTY, entries));
    assert_eq!((fetched, put), (0, memory.nodes.borrow().len()));
    assert_eq!(memory.content(root).len(), 1_000);
}

#[test]
fn a_missing_node_is_an_error_and_ends_the_walk() {
    let (memory, root) = Memory::of((1..=100).map(|key| (key, 1)));
    let Node::Branch(children) = memory.fetch(root).unwrap() else { panic!("100 entries make a branch") };
    memory.nodes.borrow_mut().remove(&children[3].unwrap().root);
    assert_eq!(entry(&memory, root, KeyNumber(3)), Err(Damaged));
    assert_eq!(entry(&memory, root, KeyNumber(4)), Ok(Some(EventNumber(1))));
    let walked: Vec<_> = Iter::new(&memory, root).collect();
    assert_eq!(walked.last(), Some(&Err(Damaged)));
    assert!(walked.len() < 100);
}

/// Few by default; `PROPTEST_CASES` asks for more.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(64)
}
