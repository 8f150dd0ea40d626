//! What is measured: a process that serves an event stream, and the switch that makes it send events.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::child::Leashed;
use crate::publisher::Publisher;
use crate::upstream::{Script, Upstream};

/// A serving process.
#[derive(Debug)]
pub(crate) struct Subject {
    /// In tables.
    pub(crate) name: &'static str,
    /// The process.
    pub(crate) child: Leashed,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What makes it send events.
    pub(crate) pulse: Pulse,
}

/// What makes a subject send events.
#[derive(Debug)]
pub(crate) enum Pulse {
    /// Lines on its stdin ([`crate::broadcaster`]).
    Stdin,
    /// Its upstream: an event each poll.
    Upstream(Arc<Upstream>),
    /// Messages that it is told.
    Published(Publisher),
    /// Something else does, such as a Redis key.
    Elsewhere,
}

/// A subcommand of this program that serves events and obeys stdin.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Own {
    /// [`crate::broadcaster`].
    Broadcaster,
    /// [`crate::tokio_broadcaster`].
    Tokio,
}

impl Subject {
    /// A server of our own.
    pub(crate) fn own(which: Own, folder: &Path) -> Outcome<Self> {
        let name = match which {
            Own::Broadcaster => "broadcaster",
            Own::Tokio => "tokio-broadcaster",
        };
        let program = std::env::current_exe()?;
        let log = folder.join(format!("{name}.log"));
        let mut child = Leashed::start(&program, &[name.into()], &log, true)?;
        let line = child.first_line()?;
        let port: u16 = line
            .parse()
            .map_err(|_| format!("{name} said {line:?}\n{}", child.last_words()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            name,
            child,
            address,
            pulse: Pulse::Stdin,
        })
    }

    /// Makes it send an event each `every` from now on, or none. A gateway that polls keeps its own interval.
    pub(crate) fn beat(&mut self, every: Option<Duration>) -> Outcome<()> {
        match &self.pulse {
            Pulse::Stdin => {
                let stdin = self.child.stdin().ok_or("it has no stdin")?;
                let micros = every.map_or(0, |every| every.as_micros());
                stdin.write_all(format!("{micros}\n").as_bytes())?;
            }
            Pulse::Upstream(upstream) => upstream.play(match every {
                Some(_) => Script::EachRequest,
                None => Script::Still,
            }),
            Pulse::Published(publisher) => publisher.beat(every)?,
            Pulse::Elsewhere => {}
        }
        Ok(())
    }
}

/// A port that is free now. Whoever binds it next may be another; a start that fails so is reported.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Connects as soon as `child` accepts; the error says how it ended when it did.
pub(crate) fn connect(
    address: SocketAddr,
    child: &mut Leashed,
    limit: Duration,
) -> Outcome<TcpStream> {
    let end = Instant::now() + limit;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                if let Some(words) = child.ended()? {
                    return Err(words.into());
                }
                if Instant::now() >= end {
                    return Err(format!(
                        "{address} does not accept after {limit:?}: {error}\n{}",
                        child.last_words()
                    )
                    .into());
                }
            }
        }
        // Short beside what is measured with it (tens of milliseconds), long enough not to take the child's core.
        std::thread::sleep(Duration::from_micros(250));
    }
}
