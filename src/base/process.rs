//! What the kernel says of this process. It says it where there is `/proc`; elsewhere nothing is known.

use std::fs;

/// What this process takes, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Memory that the kernel can't take back: heap, stacks, shared memory.
    pub memory: u64,
    /// Pages of files that are in memory, above all of LMDB's map; the kernel takes them back when it likes.
    pub mapped: u64,
    /// What it has sent towards the disks since its start.
    pub written: u64,
}

impl Usage {
    /// What this process takes now.
    pub fn now() -> Option<Self> {
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let io = fs::read_to_string("/proc/self/io").ok()?;
        let kib = |name| field(&status, name).map(|kib| kib << 10);
        Some(Self {
            memory: kib("RssAnon")? + kib("RssShmem")?,
            mapped: kib("RssFile")?,
            written: field(&io, "write_bytes")?,
        })
    }
}

/// The number in the line `name: number`, whatever follows it.
fn field(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "RssFileOther:\t1 kB\nRssFile:\t 20480 kB\nwrite_bytes: 4096\n";
        assert_eq!(field(text, "RssFile"), Some(20_480));
        assert_eq!(field(text, "write_bytes"), Some(4_096));
        assert_eq!(field(text, "RssShmem"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_takes_memory() {
        let before = Usage::now().unwrap();
        let block = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert!(Usage::now().unwrap().memory > before.memory + (16 << 20));
        drop(block);
    }
}
