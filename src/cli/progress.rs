//! How far long work is, as one line on a terminal.

use std::io::{self, IsTerminal, Write};

/// A line that is written over again and again, and gone in the end. Where the standard error output is no terminal,
/// there is none.
pub(super) struct Progress {
    terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { terminal: io::stderr().is_terminal() }
    }

    /// Shows that `done` of `all` is done.
    pub(super) fn show(&self, done: u64, all: u64) {
        if self.terminal {
            eprint!("\r{}", bar(done, all));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            eprint!("\r{:1$}\r", "", WIDTH + 7);
            // A line that stays is no harm.
            _ = io::stderr().flush();
        }
    }
}

/// A bar and its share in percent. Of an estimate, more than all may be done.
fn bar(done: u64, all: u64) -> String {
    let share = (done as f64 / all.max(1) as f64).min(1.0);
    let full = (share * WIDTH as f64) as usize;
    format!("[{}{}] {:3.0}%", "#".repeat(full), " ".repeat(WIDTH - full), share * 100.0)
}

const WIDTH: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_share() {
        assert_eq!(bar(0, 0), format!("[{}]   0%", " ".repeat(WIDTH)));
        assert_eq!(bar(1, 4), format!("[{}{}]  25%", "#".repeat(WIDTH / 4), " ".repeat(WIDTH - WIDTH / 4)));
        assert_eq!(bar(9, 8), format!("[{}] 100%", "#".repeat(WIDTH)));
    }
}
