//! A real `redis-server` on a free port, and the few commands that the benchmark needs (RESP2, redis.io/docs/reference).

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::child::Leashed;
use crate::{Outcome, peer, subject};

/// The key that is polled.
pub(crate) const KEY: &str = "bench";

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The server with one connection of ours.
#[derive(Debug)]
pub(crate) struct Redis {
    _server: Leashed,
    address: SocketAddr,
    connection: Connection,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection(BufReader<TcpStream>);

/// Where `redis-server` is, when it is installed.
pub(crate) fn program() -> Option<PathBuf> {
    peer::on_path("redis-server")
}

impl Redis {
    /// Starts it without persistence and waits until it answers.
    pub(crate) fn start(program: &Path, folder: &Path) -> Outcome<Self> {
        let port = subject::free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let port = port.to_string();
        let arguments = [
            "--port",
            &port,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        .map(OsString::from);
        let mut server = Leashed::start(program, &arguments, &folder.join("redis.log"), false)?;
        subject::connect(address, &mut server, LIMIT)?;
        let mut redis = Self {
            _server: server,
            address,
            connection: Connection::open(address)?,
        };
        redis.ready(LIMIT)?;
        Ok(redis)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets [`KEY`].
    pub(crate) fn set(&mut self, value: &str) -> Outcome<()> {
        self.connection.command(&["SET", KEY, value]).map(drop)
    }

    /// Has the server announce each change of a key.
    pub(crate) fn announce(&mut self) -> Outcome<()> {
        let setting = ["CONFIG", "SET", "notify-keyspace-events", "KA"];
        self.connection.command(&setting).map(drop)
    }

    /// How often each command was called so far, but for those that only we use.
    pub(crate) fn calls(&mut self) -> Outcome<Vec<(String, u64)>> {
        let info = self.connection.command(&["INFO", "commandstats"])?;
        Ok(info
            .lines()
            .filter_map(calls_of)
            .filter(|(name, _)| !matches!(name.as_str(), "set" | "info"))
            .collect())
    }

    /// Until it has loaded what it loads.
    fn ready(&mut self, limit: Duration) -> Outcome<()> {
        let end = Instant::now() + limit;
        loop {
            match self.connection.command(&["INFO", "server"]) {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= end => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Connection {
    /// Connects to a server that accepts already.
    pub(crate) fn open(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// What the server answers: a status, a number or a string.
    pub(crate) fn command(&mut self, words: &[&str]) -> Outcome<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.0.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", text)) => Ok(text.to_owned()),
            Some(("$", length)) => {
                let mut body = vec![0; length.parse::<usize>()? + 2];
                self.0.read_exact(&mut body)?;
                Ok(String::from_utf8(body)?)
            }
            _ => Err(format!("redis answered {line}").into()),
        }
    }
}

/// Reads `cmdstat_get:calls=7,usec=…`.
fn calls_of(line: &str) -> Option<(String, u64)> {
    let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
    let (calls, _) = rest.split_once(',')?;
    Some((name.to_owned(), calls.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_statistics() {
        let line = "cmdstat_client|tracking:calls=12,usec=20,usec_per_call=1.67";
        assert_eq!(calls_of(line), Some(("client|tracking".into(), 12)));
        assert_eq!(calls_of("# Commandstats"), None);
    }
}
