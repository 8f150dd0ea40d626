//! The legacy API that the gateway polls: JSON resources that change together by a script, with validators and counters.
//!
//! HTTP/1.1 over blocking sockets, a thread a connection: a gateway polls one resource over one or two connections, and
//! thousands over as many as it may use at once.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::{Outcome, clock, payload};

/// When the value changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    /// Never.
    Still,
    /// With every request: the instant of the change is that of the answer, so that a latency measured from it holds
    /// all that the gateway does and nothing of when it chose to ask.
    EachRequest,
    /// By the clock.
    Every(Duration),
}

/// What the value is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// Padded to so many bytes.
    Padded(usize),
    /// What an API says, of at most so many bytes.
    Document(usize),
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The number at the end of its path; 0 without one.
    pub(crate) resource: u32,
    /// When it was read ([`clock::now`]).
    pub(crate) at: u64,
}

/// What was asked so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// The first million requests.
    pub(crate) requests: Vec<Request>,
    /// Answers with a body.
    pub(crate) ok: u64,
    /// Answers without: the validator matched.
    pub(crate) not_modified: u64,
}

/// The running upstream. Dropped, it closes its socket and its connections.
#[derive(Debug)]
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Upstream {
    /// Serves a value on a free port, the same at every path. It is [`Script::Still`] at first.
    pub(crate) fn start(shape: Shape) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let now = clock::now();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                script: Script::Still,
                since: now,
                seq: 1,
                due: now,
                seen: Seen::default(),
            }),
            connections: Mutex::default(),
            closed: AtomicBool::new(false),
            shape,
        });
        let accepting = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("upstream".into())
            .spawn(move || accept(&listener, &accepting))?;
        Ok(Self { shared, address })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes when the value changes, from now on.
    pub(crate) fn play(&self, script: Script) {
        let mut state = lock(&self.shared.state);
        state.script = script;
        state.since = clock::now();
    }

    /// What was asked so far.
    pub(crate) fn seen(&self) -> Seen {
        lock(&self.shared.state).seen.clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Wakes the thread that accepts. Whoever is connected is cut off, which ends the threads that read.
        let _ = TcpStream::connect(self.address);
        for connection in lock(&self.shared.connections)
            .drain(..)
            .filter_map(|weak| weak.upgrade())
        {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Of those that are served; a thread that ends closes its own.
    connections: Mutex<Vec<Weak<TcpStream>>>,
    closed: AtomicBool,
    shape: Shape,
}

#[derive(Debug)]
struct State {
    script: Script,
    since: u64,
    seq: u64,
    due: u64,
    seen: Seen,
}

/// Keeps what is counted bounded, whatever asks.
const MOST_INSTANTS: usize = 1_000_000;

impl State {
    /// Moves the value to what it is at the request's instant, and answers it, who holds `validator`.
    fn answer(&mut self, request: Request, validator: Option<&str>, shape: Shape) -> Vec<u8> {
        let now = request.at;
        match self.script {
            Script::Still => {}
            Script::EachRequest => {
                self.seq += 1;
                self.due = now;
            }
            Script::Every(interval) => {
                let interval = clock::nanos(interval).max(1);
                let steps = now.saturating_sub(self.since) / interval;
                if steps > 0 {
                    self.seq += steps;
                    self.since += steps * interval;
                    self.due = self.since;
                }
            }
        }
        if self.seen.requests.len() < MOST_INSTANTS {
            self.seen.requests.push(request);
        }
        let etag = format!("\"{}\"", self.seq);
        if validator == Some(etag.as_str()) {
            self.seen.not_modified += 1;
            return format!("HTTP/1.1 304 Not Modified\r\netag: {etag}\r\n\r\n").into_bytes();
        }
        self.seen.ok += 1;
        let body = match shape {
            Shape::Padded(size) => payload::value(self.seq, self.due, size),
            Shape::Document(size) => payload::document(self.seq, self.due, size),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: {etag}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        (head + &body).into_bytes()
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let stream = Arc::new(stream);
        let mut connections = lock(&shared.connections);
        connections.retain(|connection| connection.strong_count() > 0);
        connections.push(Arc::downgrade(&stream));
        drop(connections);
        let shared = Arc::clone(shared);
        let serving = std::thread::Builder::new().name("upstream-connection".into());
        // Without a thread the connection is dropped, and the gateway reports a failed poll.
        let _ = serving.spawn(move || serve(&stream, &shared));
    }
}

/// Answers until the other side closes. An error is its end too.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    while let Some((resource, validator)) = request(&mut reader)? {
        let at = clock::now();
        let request = Request { resource, at };
        let answer = lock(&shared.state).answer(request, validator.as_deref(), shared.shape);
        writer.write_all(&answer)?;
    }
    Ok(())
}

/// Reads one request without a body: the resource and its `If-None-Match`, or `None` at the end of the connection.
fn request(reader: &mut impl BufRead) -> io::Result<Option<(u32, Option<String>)>> {
    let mut validator = None;
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let resource = number(line.split(' ').nth(1).unwrap_or_default());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let text = line.trim_end();
        if text.is_empty() {
            return Ok(Some((resource, validator)));
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("if-none-match")
        {
            validator = Some(value.trim().to_owned());
        }
    }
}

/// The number that is the last segment of `path`.
fn number(path: &str) -> u32 {
    let last = path.rsplit('/').next().and_then(|last| last.parse().ok());
    last.unwrap_or(0)
}

/// A thread that panicked while it counted has left nothing half done that matters.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn ask(address: SocketAddr, validator: &str) -> String {
        let mut stream = TcpStream::connect(address).expect("connect");
        write!(
            stream,
            "GET /value HTTP/1.1\r\nhost: a\r\nIf-None-Match: {validator}\r\n\r\n"
        )
        .expect("ask");
        stream.shutdown(Shutdown::Write).expect("half-close");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answer");
        answer
    }

    #[test]
    fn validators_are_honoured_and_counted() {
        let upstream = Upstream::start(Shape::Padded(100)).expect("start");
        assert!(ask(upstream.address(), "\"0\"").ends_with("xx\"}"));
        assert!(ask(upstream.address(), "\"1\"").starts_with("HTTP/1.1 304"));
        upstream.play(Script::EachRequest);
        assert!(ask(upstream.address(), "\"1\"").contains("etag: \"2\""));
        let seen = upstream.seen();
        assert_eq!((seen.requests.len(), seen.ok, seen.not_modified), (3, 2, 1));
    }

    #[test]
    fn resources_are_told_apart() {
        assert_eq!(
            ["/value", "/value/17", "/value/", ""].map(number),
            [0, 17, 0, 0]
        );
    }

    #[test]
    fn by_the_clock_the_change_is_due_on_the_tick() {
        let script = Script::Every(Duration::from_nanos(100));
        let mut state = State {
            script,
            since: 1_000,
            seq: 1,
            due: 0,
            seen: Seen::default(),
        };
        let answer = |state: &mut State, now| {
            let request = Request {
                resource: 0,
                at: now,
            };
            let answer = state.answer(request, None, Shape::Padded(80));
            let answer = String::from_utf8(answer).expect("text");
            let body = answer.split_once("\r\n\r\n").expect("body").1.to_owned();
            payload::read(body.as_bytes()).expect("value")
        };
        assert_eq!(answer(&mut state, 1_099), (1, 0));
        assert_eq!(answer(&mut state, 1_350), (4, 1_300));
        assert_eq!(answer(&mut state, 1_399), (4, 1_300));
        assert_eq!(answer(&mut state, 1_400), (5, 1_400));
    }
}
