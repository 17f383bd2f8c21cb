//! Ordered maps and sets, filled one by one.
//!
//! The standard library's `collect` sorts first, with a sort of its own for every type that is collected: three kilobytes
//! of program each, a quarter of a megabyte in all, to spare what these small collections never cost. State resolution, whose
//! sets are large, collects as ever.

use std::collections::{BTreeMap, BTreeSet};

/// What collects into ordered maps and sets. The last of equal keys counts.
pub trait Ordered: Iterator + Sized {
    /// All pairs.
    fn into_map<K: Ord, V>(self) -> BTreeMap<K, V>
    where
        Self: Iterator<Item = (K, V)>,
    {
        let mut map = BTreeMap::new();
        map.extend(self);
        map
    }

    /// All items.
    fn into_set(self) -> BTreeSet<Self::Item>
    where
        Self::Item: Ord,
    {
        let mut set = BTreeSet::new();
        set.extend(self);
        set
    }

    /// All pairs, up to the first error, which is all there is then.
    fn try_into_map<K: Ord, V, E>(self) -> Result<BTreeMap<K, V>, E>
    where
        Self: Iterator<Item = Result<(K, V), E>>,
    {
        let mut map = BTreeMap::new();
        for pair in self {
            let (key, value) = pair?;
            map.insert(key, value);
        }
        Ok(map)
    }

    /// All items, up to the first error.
    fn try_into_set<T: Ord, E>(self) -> Result<BTreeSet<T>, E>
    where
        Self: Iterator<Item = Result<T, E>>,
    {
        let mut set = BTreeSet::new();
        for item in self {
            set.insert(item?);
        }
        Ok(set)
    }
}

impl<I: Iterator> Ordered for I {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collects_as_the_standard_library_does() {
        let items = [(2, "b"), (1, "a"), (2, "c")];
        assert_eq!(items.into_iter().into_map(), items.into_iter().collect::<BTreeMap<_, _>>());
        assert_eq!(items.into_iter().into_set(), items.into_iter().collect::<BTreeSet<_>>());
        let fine = || items.into_iter().map(Ok::<_, &str>);
        assert_eq!(fine().try_into_map(), fine().collect::<Result<BTreeMap<_, _>, _>>());
        assert_eq!(fine().try_into_set(), fine().collect::<Result<BTreeSet<_>, _>>());
        assert_eq!(fine().chain([Err("no")]).try_into_map(), Err("no"));
        assert_eq!(fine().chain([Err("no")]).try_into_set(), Err("no"));
    }
}
