//! The server with a count of its heap, which `cross/figures` reads: what Rust holds, without SQLite, LMDB and stacks.
//!
//! `TAYBERRY_HEAP` names the file in which the count stands, in bytes, four times a second. For another processor:
//! `cross/build TARGET --bin tayberry --example counted`.

#[path = "heap.rs"]
#[expect(dead_code, reason = "what it holds tells, not the most of a time")]
mod heap;

use std::{env, fs, process::ExitCode, thread, time::Duration};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

fn main() -> ExitCode {
    if let Some(file) = env::var_os("TAYBERRY_HEAP") {
        thread::spawn(move || {
            loop {
                // Nobody reads it where it can't be written.
                drop(fs::write(&file, heap::held().to_string()));
                thread::sleep(Duration::from_millis(250));
            }
        });
    }
    tayberry::cli::main()
}
