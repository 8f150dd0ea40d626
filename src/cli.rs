//! The commands (CONTRACT.md §1). Exit codes: 0 well, 64 wrong usage, 69 a port cannot be bound, 78 bad configuration.

mod check;
mod demo;
mod health;
mod log;
mod probe;
mod run;
mod screen;
mod tail;

use std::future::Future;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt};

use crate::config;
use log::Log;

const OK: u8 = 0;
const FAILED: u8 = 1;
const NO_STREAM: u8 = 2;
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const CONFIG: u8 = 78;

/// A gateway that turns polling into push: it polls each REST resource or Redis key once, however many clients watch,
/// and pushes what changed as Server-Sent Events.
#[derive(Debug, Parser)]
#[command(name = "wellspring", version, after_help = EXAMPLES, propagate_version = true)]
struct Cli {
    /// How log lines look
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// What is logged: error, warn, info, debug, trace, or directives such as wellspring=debug
    #[arg(long, global = true, env = "WELLSPRING_LOG", default_value = "info")]
    log_level: String,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  wellspring demo                                   see it work, nothing else installed
  wellspring check wellspring.yaml                  every problem of the file at once
  wellspring run --config wellspring.yaml           serve
  wellspring probe wellspring.yaml /v1/prices/ACME  two readings of the real source, no listener
  wellspring tail http://localhost:8080/v1/prices/ACME --patch";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve
    Run {
        /// The configuration; default: wellspring.yaml, then /etc/wellspring/wellspring.yaml
        #[arg(long, env = "WELLSPRING_CONFIG")]
        config: Option<PathBuf>,
        /// Reload when the file, or one that it names, says something else; SIGHUP reloads without this
        #[arg(long)]
        watch: bool,
    },
    /// Read, resolve and validate files without binding or connecting; prints every problem at once
    Check {
        /// Configuration files
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Ask the admin listener of the running gateway whether it lives, for container health checks
    Health {
        /// Its configuration; default: wellspring.yaml, then /etc/wellspring/wellspring.yaml
        #[arg(long, env = "WELLSPRING_CONFIG")]
        config: Option<PathBuf>,
    },
    /// Print the JSON Schema of the configuration file, for editors
    Schema,
    /// Take two readings of the stream that serves a path, from its real source, without a listener
    Probe {
        /// The configuration
        file: PathBuf,
        /// A path that a stream serves, such as /v1/prices/ACME
        path: String,
    },
    /// Follow an event stream: reconnects as a browser does and prints events with time and id
    Tail(tail::Args),
    /// The main job with nothing else installed: a legacy API, the gateway before it, and a page that shows both
    Demo,
}

/// Reads the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors. A closed pipe leaves nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { OK });
        }
    };
    let log = match start_logging(&cli) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("--log-level {}: {error}", cli.log_level.escape_debug());
            return ExitCode::from(USAGE);
        }
    };
    // The one provider in the tree; installing it twice is the only way to fail, and harmless.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let code = match cli.command {
        Command::Run { config, watch } => run::run(config, watch),
        Command::Check { files } => check::check(&files),
        Command::Schema => print(&config::schema::json()),
        Command::Health { config } => health::health(config),
        Command::Probe { file, path } => probe::probe(&file, &path),
        Command::Tail(args) => tail::tail(args),
        Command::Demo => demo::demo(),
    };
    log.flush();
    ExitCode::from(code)
}

fn start_logging(cli: &Cli) -> Result<Log, Box<dyn std::error::Error>> {
    // What libraries have to say is for debugging; Pingora's errors are told by the edge.
    let level = &cli.log_level;
    let directives = match level.contains(['=', ',']) {
        true => level.clone(),
        false => {
            format!("warn,pingora_core=error,pingora_proxy=error,wellspring={level},access={level}")
        }
    };
    let filter = EnvFilter::builder()
        .parse(directives)?
        .and(filter_fn(is_fit));
    let log = Log::to(io::stderr())?;
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = fmt::layer()
        .with_writer(log.clone())
        .with_ansi(colours)
        .with_target(false);
    let logs = tracing_subscriber::registry();
    match cli.log_format {
        LogFormat::Text if colours => logs.with(lines.with_filter(filter)).init(),
        LogFormat::Text => {
            let lines = lines.fmt_fields(log::fields::Plain);
            logs.with(lines.with_filter(filter)).init();
        }
        LogFormat::Json => {
            let lines = lines.with_target(true).json().flatten_event(true);
            logs.with(lines.with_filter(filter)).init();
        }
    }
    // Nothing below is fit to be seen, and Pingora says much: it is not even to be looked at.
    ::log::set_max_level(::log::max_level().min(::log::LevelFilter::Info));
    Ok(log)
}

/// Whether a line may be logged whatever was asked for: libraries print whole requests below `info`, and with them what only a
/// client and its upstream may know (EDGE A10).
fn is_fit(line: &Metadata<'_>) -> bool {
    let target = line.target();
    target.starts_with("wellspring") || target == "access" || *line.level() <= Level::INFO
}

/// Prints to standard output; a reader that has seen enough is no failure.
fn print(text: &str) -> u8 {
    use std::io::Write;
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => OK,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => OK,
        Err(_) => FAILED,
    }
}

/// Runs a command's future on a runtime of its own.
fn block_on<F: Future<Output = u8>>(future: F) -> u8 {
    match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            // Tasks that still run have nothing left to finish.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("the system gives no threads: {error}");
            FAILED
        }
    }
}
