//! The subcommands of the binary: reads arguments, puts the parts together, and says in one sentence what went wrong.
//!
//! Exit status: 0 is done, 1 is an error, 2 is a command line that can't be understood. Results go to the standard
//! output, everything else to the standard error output.

#![expect(clippy::print_stderr, reason = "here the program talks to people")]

/// Writes a line of results.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::say(format_args!($($text)*))
    };
}

mod backup;
mod compact;
mod config;
mod descriptors;
mod doctor;
mod healthcheck;
mod heap;
mod init;
mod key;
mod life;
mod localserve;
mod log;
mod media;
mod open;
mod operator;
mod progress;
mod registration_token;
mod reload;
mod report;
mod restore;
mod room;
mod routes;
mod serve;
mod size;
mod status;
mod systemd;
mod user;
mod verify;

use std::{
    fmt,
    io::{self, Write},
    process::{ExitCode, exit},
};

use lexopt::prelude::*;

use crate::store;

/// A subcommand.
struct Command {
    name: &'static str,
    /// The arguments and what the command does with them; the first line stands in the list of all commands.
    help: &'static str,
    run: fn(lexopt::Parser) -> Result<(), Failure>,
}

const COMMANDS: &[Command] = &[
    localserve::COMMAND,
    init::COMMAND,
    serve::COMMAND,
    config::COMMAND,
    user::COMMAND,
    registration_token::COMMAND,
    room::COMMAND,
    report::COMMAND,
    key::COMMAND,
    media::COMMAND,
    status::COMMAND,
    healthcheck::COMMAND,
    verify::COMMAND,
    backup::COMMAND,
    restore::COMMAND,
    compact::COMMAND,
    doctor::COMMAND,
    routes::COMMAND,
];

/// Why a command did not do its work.
enum Failure {
    /// The arguments can't be understood.
    Usage(lexopt::Error),
    /// Everything else.
    Error(anyhow::Error),
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(error)
    }
}

/// Runs the subcommand that the arguments name.
pub fn main() -> ExitCode {
    heap::configure();
    let mut arguments = lexopt::Parser::from_env();
    let first = match arguments.next() {
        Ok(Some(Value(name))) => name.to_string_lossy().into_owned(),
        Ok(Some(Long("version") | Short('V'))) => {
            say!("{}", version());
            return ExitCode::SUCCESS;
        }
        Ok(Some(Long("help") | Short('h'))) => {
            say!("{}", overview());
            return ExitCode::SUCCESS;
        }
        Ok(Some(other)) => return misused(&other.unexpected(), ""),
        Ok(None) => return misused(&"a command is missing".into(), ""),
        Err(error) => return misused(&error, ""),
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == first) else {
        return misused(&format!("there is no command '{first}'").into(), "");
    };
    if std::env::args_os().any(|argument| argument == "--help" || argument == "-h") {
        say!("tayberry {} {}", command.name, command.help);
        return ExitCode::SUCCESS;
    }
    match (command.run)(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => misused(&error, command.name),
        Err(Failure::Error(error)) => {
            eprintln!("tayberry {}: {}", command.name, sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// Whoever reads no further, as `head` does, has what it wants. Any other result that can't be written is lost work.
fn say(line: fmt::Arguments<'_>) {
    if let Err(error) = writeln!(io::stdout(), "{line}")
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("tayberry: the results can't be written: {error}");
        exit(1);
    }
}

/// What runs here, in lines; the first is the name and the version.
fn version() -> String {
    let [version, commit, target] =
        [env!("CARGO_PKG_VERSION"), env!("TAYBERRY_COMMIT"), env!("TAYBERRY_TARGET")];
    format!("tayberry {version}\ncommit {commit}\ntarget {target}\nengines {}", store::engines())
}

fn overview() -> String {
    let commands = COMMANDS.iter().map(|command| {
        let about = command.help.lines().nth(1).unwrap_or_default().trim();
        format!("  {:<20} {about}\n", command.name)
    });
    let commands: String = commands.collect();
    format!(
        "Tayberry, a Matrix homeserver.\n\n{commands}\n`tayberry COMMAND --help` tells the arguments of a command."
    )
}

/// The error with its causes, each told once.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match () {
        () if told.is_empty() => cause,
        () if told.contains(&cause) => told,
        () => format!("{told}: {cause}"),
    })
}

fn misused(error: &lexopt::Error, command: &str) -> ExitCode {
    let space = if command.is_empty() { "" } else { " " };
    eprintln!("tayberry{space}{command}: {error}; see `tayberry{space}{command} --help`");
    ExitCode::from(2)
}
