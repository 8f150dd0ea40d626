//! Clients of a plain HTTP API: kept-alive connections that ask again and again.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::Outcome;

/// What a browser's `fetch` sends.
const REQUEST: &str = "GET /value HTTP/1.1\r\nHost: bench.example\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\
                       Accept-Language: en-GB,en;q=0.9\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) bench\r\n\
                       Cookie: session=0123456789abcdef\r\n\r\n";

/// Longest head and body that are read.
const MOST: usize = 1 << 20;

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects; answers may take ten seconds.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(1 << 15),
        })
    }

    /// Asks once. Anything but a whole answer that is a success is an error.
    pub(crate) fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request)?;
        self.buffer.clear();
        let mut chunk = [0; 1 << 14];
        loop {
            let read = self.stream.read(&mut chunk)?;
            if read == 0 || self.buffer.len() > MOST {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.buffer.extend_from_slice(&chunk[..read]);
            if let Some(whole) = length(&self.buffer)?
                && self.buffer.len() >= whole
            {
                return Ok(());
            }
        }
    }
}

/// Bytes of the whole answer, once its head is there.
fn length(answer: &[u8]) -> io::Result<Option<usize>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    if !head.starts_with("http/1.1 2") {
        return Err(io::Error::other(head));
    }
    let body = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|value| value.trim().parse::<usize>().ok())
        .ok_or_else(|| io::Error::other("an answer without a length"))?;
    Ok(Some(end + 4 + body))
}

/// `connections` ask as fast as they are answered, for `time`. Latencies in nanoseconds.
pub(crate) fn closed(address: SocketAddr, connections: usize, time: Duration) -> Outcome<Vec<u64>> {
    let end = Instant::now() + time;
    let ask = || -> io::Result<Vec<u64>> {
        let mut client = Client::connect(address)?;
        let mut latencies = Vec::new();
        while Instant::now() < end {
            let begin = Instant::now();
            client.ask(REQUEST.as_bytes())?;
            latencies.push(nanos(begin));
        }
        Ok(latencies)
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections).map(|_| scope.spawn(ask)).collect();
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().map_err(|_| "a client panicked")??);
        }
        Ok(all)
    })
}

/// One connection that asks `count` times, with a pause after each answer: nothing waits for anything else.
pub(crate) fn calm(address: SocketAddr, count: usize, pause: Duration) -> Outcome<Vec<u64>> {
    let mut client = Client::connect(address)?;
    let mut latencies = Vec::with_capacity(count);
    for _ in 0..count {
        let begin = Instant::now();
        client.ask(REQUEST.as_bytes())?;
        latencies.push(nanos(begin));
        std::thread::sleep(pause);
    }
    Ok(latencies)
}

fn nanos(begin: Instant) -> u64 {
    begin.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(length(answer).expect("fine"), Some(answer.len()));
        assert_eq!(length(b"HTTP/1.1 200 OK\r\n").expect("fine"), None);
        assert!(length(b"HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n").is_err());
    }
}
