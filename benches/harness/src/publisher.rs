//! Sends values on a schedule, from a thread of its own, to servers that are told instead of polling.
//!
//! A value is due when the schedule says so, however late it is sent: whoever holds up the sender delays what is
//! delivered, and that shows.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::load::Client;
use crate::payload::{self, VALUE_BYTES};
use crate::redis::Connection;
use crate::{Outcome, clock};

/// Who is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// An HTTP server that takes POSTs.
    Post {
        /// Where it listens.
        address: SocketAddr,
        /// The path of the POSTs.
        path: &'static str,
    },
    /// A Redis channel, in the envelope of the Flask-SSE package.
    FlaskSse {
        /// The Redis server.
        server: SocketAddr,
        /// The channel.
        channel: &'static str,
    },
}

/// The running thread. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Publisher {
    orders: Option<Sender<Option<Duration>>>,
    fault: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Publisher {
    /// Connects to `target`, which accepts already, and sends a first value; no more until [`Publisher::beat`].
    pub(crate) fn start(target: Target) -> Outcome<Self> {
        let mut sender = Line::open(target)?;
        sender.send(1, clock::now())?;
        let (orders, coming) = channel();
        let fault = Arc::new(Mutex::new(None));
        let said = Arc::clone(&fault);
        let thread = std::thread::Builder::new()
            .name("publisher".into())
            .spawn(move || {
                if let Err(problem) = publish(&mut sender, &coming) {
                    *lock(&said) = Some(format!("publishing: {problem}"));
                }
            })?;
        Ok(Self {
            orders: Some(orders),
            fault,
            thread: Some(thread),
        })
    }

    /// A value each `every` from now on, or none.
    pub(crate) fn beat(&self, every: Option<Duration>) -> Outcome<()> {
        let told = self
            .orders
            .as_ref()
            .is_some_and(|orders| orders.send(every).is_ok());
        match lock(&self.fault).as_ref() {
            Some(fault) => Err(fault.clone().into()),
            None if told => Ok(()),
            None => Err("the publisher is gone".into()),
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // It waits for one answer at most, and for that with a limit; a panic in it was printed.
            let _ = thread.join();
        }
    }
}

/// Sends until nobody orders any more.
fn publish(sender: &mut Line, orders: &Receiver<Option<Duration>>) -> Outcome<()> {
    // When the next value is due: an instant to wait for, and the same instant as clients read it.
    let mut beat: Option<(Duration, Instant, u64)> = None;
    let mut seq = 1;
    loop {
        let order = match beat {
            None => orders.recv().map_err(RecvTimeoutError::from),
            Some((_, next, _)) => {
                orders.recv_timeout(next.saturating_duration_since(Instant::now()))
            }
        };
        match (order, &mut beat) {
            (Ok(every), _) => {
                beat = every.map(|every| {
                    (
                        every,
                        Instant::now() + every,
                        clock::now() + clock::nanos(every),
                    )
                });
            }
            (Err(RecvTimeoutError::Timeout), Some((every, next, due))) => {
                seq += 1;
                sender.send(seq, *due)?;
                *next += *every;
                *due += clock::nanos(*every);
            }
            (Err(RecvTimeoutError::Timeout), None) => {}
            (Err(RecvTimeoutError::Disconnected), _) => return Ok(()),
        }
    }
}

/// A connection to the target.
enum Line {
    Post {
        client: Client,
        head: String,
    },
    FlaskSse {
        connection: Connection,
        channel: &'static str,
    },
}

impl Line {
    fn open(target: Target) -> Outcome<Self> {
        Ok(match target {
            Target::Post { address, path } => Self::Post {
                client: Client::connect(address)?,
                head: format!(
                    "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: "
                ),
            },
            Target::FlaskSse { server, channel } => Self::FlaskSse {
                connection: Connection::open(server)?,
                channel,
            },
        })
    }

    fn send(&mut self, seq: u64, due: u64) -> Outcome<()> {
        let value = payload::value(seq, due, VALUE_BYTES);
        match self {
            Self::Post { client, head } => {
                let request = format!("{head}{}\r\n\r\n{value}", value.len());
                client.ask(request.as_bytes())?;
            }
            Self::FlaskSse {
                connection,
                channel,
            } => {
                // The value is a string to Flask-SSE, which passes strings as they are.
                let quoted = value.replace('"', "\\\"");
                connection.command(&[
                    "PUBLISH",
                    channel,
                    &format!("{{\"data\": \"{quoted}\"}}"),
                ])?;
            }
        }
        Ok(())
    }
}

/// A thread that panicked while it held the lock has left a whole value.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// What is held up is sent at once afterwards, and is as old as it is.
    #[test]
    fn a_value_is_due_when_the_schedule_says_so() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let address = listener.local_addr().expect("address");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut due = Vec::new();
            let mut buffer = [0; 4096];
            while due.len() < 4 {
                let count = stream.read(&mut buffer).expect("a request");
                let body = buffer[..count]
                    .windows(4)
                    .position(|four| four == b"\r\n\r\n");
                let value = payload::read(&buffer[body.expect("a body") + 4..count]);
                due.push(value.expect("a value").1);
                if due.len() == 2 {
                    std::thread::sleep(Duration::from_millis(30));
                }
                stream
                    .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
                    .expect("an answer");
            }
            due
        });
        let publisher = Publisher::start(Target::Post {
            address,
            path: "/publish",
        })
        .expect("start");
        publisher
            .beat(Some(Duration::from_millis(5)))
            .expect("beat");
        let due = server.join().expect("the server");
        assert_eq!([due[2] - due[1], due[3] - due[2]], [5_000_000; 2]);
    }
}
