//! Clients that ask for a stream and read nothing of it.

use std::collections::HashSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::{Outcome, peer, swarm};

/// Bytes that the kernel keeps for such a client itself, about: the less, the sooner it is behind.
const RECEIVE: usize = 4096;

/// Some of them. Dropped, they leave.
#[derive(Debug)]
pub(crate) struct Stalled {
    streams: Vec<TcpStream>,
    server: SocketAddr,
}

impl Stalled {
    /// `count` clients of `server` that ask for `path`.
    pub(crate) fn connect(server: SocketAddr, path: &str, count: usize) -> Outcome<Self> {
        let request = swarm::request(server, path);
        let mut streams = Vec::with_capacity(count);
        for number in 0..count {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_recv_buffer_size(RECEIVE)?;
            socket.bind(&SocketAddr::from((swarm::source(number), 0)).into())?;
            socket.connect_timeout(&server.into(), Duration::from_secs(10))?;
            let mut stream = TcpStream::from(socket);
            stream.write_all(&request)?;
            streams.push(stream);
        }
        Ok(Self { streams, server })
    }

    /// What the kernel holds for the server's side of each, bytes, as `ss` tells (ss(8), `skmem`): of those that are
    /// still connected. `None` where there is no `ss`.
    pub(crate) fn kernel_memory(&self) -> Outcome<Option<Vec<u64>>> {
        let Some(program) = peer::on_path("ss") else {
            return Ok(None);
        };
        let port = format!(":{}", self.server.port());
        let output = Command::new(program)
            .args([
                "-tmnHO",
                "state",
                "established",
                "(",
                "sport",
                "=",
                &port,
                ")",
            ])
            .stdin(Stdio::null())
            .output()?;
        let peers: HashSet<SocketAddr> = self
            .streams
            .iter()
            .map(TcpStream::local_addr)
            .collect::<Result<_, _>>()?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ok(Some(
            text.lines()
                .filter_map(memory_of)
                .filter(|(peer, _)| peers.contains(peer))
                .map(|(_, bytes)| bytes)
                .collect(),
        ))
    }
}

/// The peer of a socket, and what is allocated for it: to receive (`r`), to send (`w`), and ahead (`f`).
fn memory_of(line: &str) -> Option<(SocketAddr, u64)> {
    let (front, memory) = line.split_once("skmem:(")?;
    // Receive queue, send queue, local address, peer.
    let peer = front.split_whitespace().nth(3)?.parse().ok()?;
    let fields = memory.split(')').next()?.split(',');
    let bytes = fields
        .filter_map(|field| {
            let digits = field.trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
            let name = &field[..field.len() - digits.len()];
            matches!(name, "r" | "w" | "f").then(|| digits.parse::<u64>().ok())?
        })
        .sum();
    Some((peer, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_limited_is_not_counted() {
        let line = "0 36480 127.0.0.1:8080 127.0.0.2:40000 users skmem:(r1,rb131072,t30,tb46080,f7,w500,o0,bl0,d0)";
        let peer = SocketAddr::from(([127, 0, 0, 2], 40_000));
        assert_eq!(memory_of(line), Some((peer, 508)));
        assert_eq!(memory_of("State Recv-Q"), None);
    }
}
