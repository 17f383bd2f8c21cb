//! Tells the compiler what `--version` names: the target and the commit.
//!
//! Only a release is of a commit: another build would be made anew after each. `TAYBERRY_COMMIT` names it where the sources
//! lie outside of git.

use std::{env, process::Command};

fn main() {
    tell("rerun-if-changed=cross/version.rs");
    tell("rerun-if-env-changed=TAYBERRY_COMMIT");
    tell(&format!("rustc-env=TAYBERRY_TARGET={}", env::var("TARGET").unwrap_or_default()));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = env::var("TAYBERRY_COMMIT").ok().or_else(|| is_release.then(commit).flatten());
    tell(&format!("rustc-env=TAYBERRY_COMMIT={}", commit.as_deref().unwrap_or("unknown")));
}

/// What is checked out, if git knows.
fn commit() -> Option<String> {
    // Each commit and each checkout adds a line to it.
    tell(&format!("rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?));
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

#[expect(clippy::print_stdout, reason = "so cargo is told")]
fn tell(line: &str) {
    println!("cargo::{line}");
}
