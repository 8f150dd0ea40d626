//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
wellspring-bench measures the wellspring gateway against a bare epoll broadcaster that it carries, on loopback, in one
run: the ratios hold on any machine, the absolute numbers on the one it ran on. The report (Markdown) goes to stdout,
progress to stderr.

Usage: wellspring-bench --gateway PATH [options]

  --gateway PATH      the wellspring binary to measure, built with --profile bench or --release
  --quick             fewer clients, repeats and events: under a minute, to see that it works rather than to quote
  --clients N         clients of most tables (10000; quick: 1000), where a table does not say fewer
  --capacity N        clients of the capacity table (19000; quick: 3000)
  --pollers N         clients of the polling tables (1000; quick: 200)
  --repeats N         repeats of the fan-out table, broadcaster and gateway by turns (3; quick: 1), and of others
  --only LIST         some of these tables, in this order:
                      polls,redis,watch,channels,memory,carried,capacity,idle,fanout,rate,slow,compression,beside,passthrough,start
  --bare PATH         the example bare_proxy, built as the gateway was: Pingora alone, for the pass-through table
  --python PATH       a Python with Flask-SSE, gunicorn and gevent, for the beside table
  --client-threads N  threads that play clients (half of the cores, at least 1)
  --append COMMAND    a shell command whose stdout is put at the end of the report, for a measurement of its own
  -h, --help          this

What is measured:
  polls        requests that the upstream gets from N clients of one resource at `every: 1s`, and how many are 304
  redis        the same with GETs of a real redis-server
  watch        how long a change of a Redis key takes to a client, for each way of noticing it
  channels     10000 channels with a client each: polls on time, CPU per poll, memory per channel
  memory       anonymous memory per idle HTTP/1.1 stream: fresh, after 20 events each, after everybody reconnected, often
  carried      the same per idle stream over TLS 1.3: HTTP/1.1, HTTP/2 with one stream a connection (2000 connections at
               most), and each further stream of an HTTP/2 connection (50 connections with 100); CPU per delivered event
  capacity     as many connections at once as the limit of open files allows, with nothing refused
  idle         CPU of quiet streams without heartbeats, and how heartbeats are spread over time
  fanout       CPU per delivered event, and latency from when it was due to the client: 200-byte events, 10 a second
  rate         the highest rate that 5000 clients get without loss or growing delay
  slow         100 clients of 1000 that read nothing: what the others notice, what it takes in the process and the kernel
  compression  CPU and bytes of events of 2 KB with `compression: gzip` against off
  beside       fan-out next to a broadcast server on tokio, nginx with nchan, and Flask-SSE
  passthrough  requests a second, latency and CPU of GETs that pass through: no proxy, the gateway, bare Pingora, nginx
  start        from the start of the process to the first event at a client; memory at rest; size of the binary
What needs something that is not installed is left out.

Clients are raw sockets (over TLS: rustls and h2) from many loopback addresses with a browser's request. Every child
process is killed when this one ends, however it ends. The soft limit of open files is raised to the hard one; fewer
clients are used, and the report says so, when that does not suffice.

Exit: 0 when every table was made and no event was lost, duplicated or out of order; 1 otherwise; 64 wrong usage.
";

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print [`HELP`].
    Help,
    /// Become another program that dies with its parent; see [`crate::child`].
    Leash {
        /// Who must still be the parent.
        parent: u32,
        /// What to become.
        program: OsString,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// Be the broadcaster.
    Broadcaster,
    /// Be the one on tokio.
    TokioBroadcaster,
    /// Measure.
    Run(Options),
}

/// How to measure.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The binary.
    pub(crate) gateway: PathBuf,
    /// To see that it works rather than to quote.
    pub(crate) quick: bool,
    /// Of most tables.
    pub(crate) clients: usize,
    /// Clients of the capacity table.
    pub(crate) capacity: usize,
    /// Clients of the polling tables.
    pub(crate) pollers: usize,
    /// Of the fan-out table.
    pub(crate) repeats: usize,
    /// Which tables.
    pub(crate) only: Vec<Table>,
    /// A proxy of Pingora alone.
    pub(crate) bare: Option<PathBuf>,
    /// That may have Flask-SSE.
    pub(crate) python: Option<PathBuf>,
    /// That play clients.
    pub(crate) client_threads: usize,
    /// Its output is put at the end.
    pub(crate) append: Option<String>,
}

/// A table of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Requests to an HTTP upstream.
    Polls,
    /// GETs to a Redis server.
    Redis,
    /// From SET to the client.
    Watch,
    /// Polls of many channels.
    Channels,
    /// Memory per stream.
    Memory,
    /// The same over TLS and HTTP/2.
    Carried,
    /// How many at once.
    Capacity,
    /// CPU of quiet streams.
    Idle,
    /// CPU per event, latency.
    Fanout,
    /// Events a second.
    Rate,
    /// Clients that read nothing.
    Slow,
    /// CPU and bytes in gzip.
    Compression,
    /// Other servers.
    Beside,
    /// Requests that pass through.
    Passthrough,
    /// Time to the first event.
    Start,
}

const TABLES: [(&str, Table); 15] = [
    ("polls", Table::Polls),
    ("redis", Table::Redis),
    ("watch", Table::Watch),
    ("channels", Table::Channels),
    ("memory", Table::Memory),
    ("carried", Table::Carried),
    ("capacity", Table::Capacity),
    ("idle", Table::Idle),
    ("fanout", Table::Fanout),
    ("rate", Table::Rate),
    ("slow", Table::Slow),
    ("compression", Table::Compression),
    ("beside", Table::Beside),
    ("passthrough", Table::Passthrough),
    ("start", Table::Start),
];

/// Reads the arguments after the program's name; the error is for the user.
pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    match arguments.peek().map(String::as_str) {
        Some("leash") => leash(arguments.skip(1)),
        Some("broadcaster") => Ok(Command::Broadcaster),
        Some("tokio-broadcaster") => Ok(Command::TokioBroadcaster),
        _ => run(arguments),
    }
}

fn leash(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let parent = number("leash", arguments.next())?;
    let program = arguments.next().ok_or("leash needs a program")?;
    Ok(Command::Leash {
        parent: u32::try_from(parent).map_err(|_| "that is no process")?,
        program: program.into(),
        arguments: arguments.map(OsString::from).collect(),
    })
}

fn run(mut arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let (mut gateway, mut bare, mut python) = (None, None, None);
    let mut quick = false;
    let (mut clients, mut capacity, mut pollers) = (None, None, None);
    let (mut repeats, mut threads) = (None, None);
    let mut only = TABLES.map(|(_, table)| table).to_vec();
    let mut append = None;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-h" | "--help" => return Ok(Command::Help),
            "--quick" => quick = true,
            "--gateway" => gateway = Some(PathBuf::from(text(&argument, arguments.next())?)),
            "--bare" => bare = Some(PathBuf::from(text(&argument, arguments.next())?)),
            "--python" => python = Some(PathBuf::from(text(&argument, arguments.next())?)),
            "--capacity" => capacity = Some(number(&argument, arguments.next())?),
            "--clients" => clients = Some(number(&argument, arguments.next())?),
            "--pollers" => pollers = Some(number(&argument, arguments.next())?),
            "--repeats" => repeats = Some(number(&argument, arguments.next())?),
            "--client-threads" => threads = Some(number(&argument, arguments.next())?),
            "--append" => append = Some(text(&argument, arguments.next())?),
            "--only" => only = tables(&text(&argument, arguments.next())?)?,
            _ => return Err(format!("{argument} is not an option")),
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Command::Run(Options {
        gateway: gateway.ok_or("--gateway PATH is missing")?,
        quick,
        clients: clients.unwrap_or(if quick { 1_000 } else { 10_000 }),
        capacity: capacity.unwrap_or(if quick { 3_000 } else { 19_000 }),
        pollers: pollers.unwrap_or(if quick { 200 } else { 1_000 }),
        repeats: repeats.unwrap_or(if quick { 1 } else { 3 }),
        only,
        bare,
        python,
        client_threads: threads.unwrap_or((cores / 2).max(1)),
        append,
    }))
}

fn text(option: &str, value: Option<String>) -> Result<String, String> {
    value.ok_or_else(|| format!("{option} needs a value"))
}

fn number(option: &str, value: Option<String>) -> Result<usize, String> {
    let value = text(option, value)?;
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{option}: {value} is not a positive number")),
    }
}

fn tables(list: &str) -> Result<Vec<Table>, String> {
    list.split(',')
        .map(|name| {
            let known = TABLES.iter().find(|(known, _)| *known == name);
            known
                .map(|(_, table)| *table)
                .ok_or_else(|| format!("--only: there is no table {name}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_replace_defaults() {
        let Ok(Command::Run(options)) = of("--gateway g --quick --clients 7 --only start,polls")
        else {
            panic!("not a run");
        };
        assert_eq!(
            (options.clients, options.pollers, options.quick),
            (7, 200, true)
        );
        assert_eq!(options.only, [Table::Start, Table::Polls]);
    }

    #[test]
    fn wrong_usage_is_said() {
        for line in [
            "",
            "--gateway",
            "--gateway g --clients 0",
            "--gateway g --only x",
            "--gateway g --nope",
            "leash x",
        ] {
            assert!(of(line).is_err(), "{line}");
        }
        assert!(matches!(of("--help --gateway"), Ok(Command::Help)));
    }
}
