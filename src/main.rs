//! The binary: everything is in [`tayberry::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    tayberry::cli::main()
}
