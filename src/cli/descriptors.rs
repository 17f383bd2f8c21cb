//! How many files and sockets the process may have open. Systems allow 1,024 unless asked for more, which is a tenth of
//! the connections that a server holds.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::base::limits;

/// Asks the system for as many descriptors as the bounds need, and gives for how many connections they are enough.
pub(super) fn connections() -> usize {
    let needed = (limits::CONNECTIONS + limits::DESCRIPTORS) as u64;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let most = maximum.map_or(needed, |maximum| maximum.min(needed));
    if current.is_some_and(|current| current < most) {
        // Without leave to raise it, what there is must do.
        _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    }
    let current = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |current| current as usize);
    // Where that leaves too few, everything else is seldom under way at once.
    let left = current.saturating_sub(limits::DESCRIPTORS).max(current / 4);
    let connections = limits::CONNECTIONS.min(left);
    if connections < limits::CONNECTIONS {
        tracing::warn!(
            connections,
            "the limit of open files (ulimit -n, LimitNOFILE) bounds the connections"
        );
    }
    connections
}
