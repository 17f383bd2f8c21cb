//! Tells the compiler what `--version` names: the target and the commit.
//!
//! Only a release is of a commit: another build would be made anew after each. `TAYBERRY_COMMIT` names it where the sources
//! lie outside of git.

use std::{env, fs, process::Command};

fn main() {
    tell("rerun-if-changed=cross/version.rs");
    tell("rerun-if-env-changed=TAYBERRY_COMMIT");
    tell(&format!("rustc-env=TAYBERRY_TARGET={}", env::var("TARGET").unwrap_or_default()));
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = env::var("TAYBERRY_COMMIT").ok().or_else(|| is_release.then(commit).flatten());
    tell(&format!("rustc-env=TAYBERRY_COMMIT={}", commit.as_deref().unwrap_or("unknown")));
}

/// What is checked out, and whether the sources were changed since, if git knows. Sources that lie somewhere in a work tree of
/// another project are of none of its commits.
fn commit() -> Option<String> {
    if fs::canonicalize(git(&["rev-parse", "--show-toplevel"])?).ok()? != fs::canonicalize(".").ok()? {
        return None;
    }
    // Each commit and each checkout adds a line to it.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    for path in SOURCES.into_iter().chain([&*log]) {
        tell(&format!("rerun-if-changed={path}"));
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&[&["status", "--porcelain", "--"], &SOURCES[..]].concat())?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// What a binary is made of.
const SOURCES: [&str; 5] = [".cargo", "Cargo.lock", "Cargo.toml", "cross/version.rs", "src"];

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let told = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| told.trim().to_owned())
}

#[expect(clippy::print_stdout, reason = "so cargo is told")]
fn tell(line: &str) {
    println!("cargo::{line}");
}
