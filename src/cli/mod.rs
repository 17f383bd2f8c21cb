//! Subcommands of the binary.

use std::process::ExitCode;

/// Runs the subcommand that the arguments name.
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
