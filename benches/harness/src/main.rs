//! `wellspring-bench`: measures the gateway against a bare epoll broadcaster, on loopback, in one run.
//!
//! Reading order: [`run`] is the run from above; `scene` holds what is measured, one file a table; [`swarm`] and `load` are
//! the clients, and [`certificate`] what those over TLS trust; [`upstream`] and [`redis`] are what the gateway polls,
//! [`publisher`] is who tells servers that do not poll; [`broadcaster`] is the limit to compare with,
//! [`tokio_broadcaster`] and [`peer`] are what else there is; [`child`] and [`process`] start, end and weigh processes.
//!
//! Invariants: every loop is bounded in count or time; every child dies with this process, however it dies; every port
//! is a free one; waiting is for a condition, never a sleep, except for the measuring windows themselves.

mod args;
mod broadcaster;
mod certificate;
mod child;
mod clock;
mod gateway;
mod load;
mod machine;
mod payload;
mod peer;
mod process;
mod publisher;
mod redis;
mod report;
mod run;
mod scene;
mod stalled;
mod stats;
mod subject;
mod swarm;
mod tokio_broadcaster;
mod upstream;

use std::process::ExitCode;

use args::Command;

/// What can go wrong here ends a table, not the run, and is read by a person.
type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let command = match args::parse(std::env::args().skip(1)) {
        Ok(command) => command,
        Err(problem) => {
            eprintln!("wellspring-bench: {problem}\ntry --help");
            return ExitCode::from(64);
        }
    };
    let outcome = match command {
        Command::Help => {
            print!("{}", args::HELP);
            Ok(true)
        }
        Command::Leash {
            parent,
            program,
            arguments,
        } => child::leash(parent, &program, &arguments),
        Command::Broadcaster => broadcaster::serve().map(|()| true),
        Command::TokioBroadcaster => tokio_broadcaster::serve().map(|()| true),
        Command::Run(options) => run::run(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("wellspring-bench: {problem}");
            ExitCode::FAILURE
        }
    }
}
