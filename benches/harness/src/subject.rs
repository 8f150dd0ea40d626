//! What is measured: a process that serves an event stream, and the switch that makes it send events.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::child::Leashed;
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
    /// Bytes on its stdin: the broadcaster.
    Stdin,
    /// Its upstream: the gateway.
    Upstream(Arc<Upstream>),
    /// Something else does, such as a Redis key.
    Elsewhere,
}

impl Subject {
    /// The broadcaster, with an event each `every`.
    pub(crate) fn broadcaster(every: Duration, folder: &Path) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let arguments = [
            "broadcaster".into(),
            OsString::from(every.as_millis().to_string()),
        ];
        let mut child =
            Leashed::start(&program, &arguments, &folder.join("broadcaster.log"), true)?;
        let line = child.first_line()?;
        let port: u16 = line
            .parse()
            .map_err(|_| format!("the broadcaster said {line:?}\n{}", child.last_words()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ok(Self {
            name: "broadcaster",
            child,
            address,
            pulse: Pulse::Stdin,
        })
    }

    /// Makes it send an event each tick from now on, or none.
    pub(crate) fn live(&mut self, live: bool) -> Outcome<()> {
        match &self.pulse {
            Pulse::Stdin => {
                let stdin = self.child.stdin().ok_or("the broadcaster has no stdin")?;
                stdin.write_all(if live { b"+" } else { b"-" })?;
            }
            Pulse::Upstream(upstream) => upstream.play(if live {
                Script::EachRequest
            } else {
                Script::Still
            }),
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
