//! A client as cheap as can be: a socket, what it has folded, and the manners of an EventSource. It never gives up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use wellspring::sse::parser::{Item, Parser};

use super::oracle::{Fold, Oracle, Subject};

/// What clients are asked to do: counts, so that each is seen once.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    /// Lose the connection.
    pub vanish: u64,
    /// Read nothing for this long.
    pub stall: (u64, Duration),
    /// End.
    pub leave: bool,
}

/// A client of one subject in one form; it leaves by `Drop`.
pub struct Client {
    pub subject: Subject,
    pub fold: Arc<Mutex<Fold>>,
    pub orders: watch::Sender<Orders>,
    task: JoinHandle<()>,
}

/// How a client is not as patient as a browser: the run is to be short.
const IMPATIENCE: u32 = 20;

impl Client {
    pub fn start(
        number: usize,
        addresses: Vec<SocketAddr>,
        subject: Subject,
        form: &'static str,
        oracle: Arc<Oracle>,
    ) -> Self {
        let name = format!("client {number} of {}?deliver={form}", subject.path());
        let fold = Arc::new(Mutex::new(Fold::new(name, subject, form != "value")));
        let (orders, orders_of_it) = watch::channel(Orders::default());
        let reader = Reader {
            addresses,
            turn: number,
            // Of a loopback network there are many addresses, each with ports of its own.
            source: SocketAddr::from(([127, 0, 1, 1 + (number / 5000 % 250) as u8], 0)),
            target: format!("{}?deliver={form}", subject.path()),
            small: subject.may_skip(),
            fold: fold.clone(),
            orders: orders_of_it,
            done: Orders::default(),
            oracle,
            last_id: String::new(),
            retry: Duration::from_millis(1000),
        };
        Self {
            subject,
            fold,
            orders,
            task: tokio::spawn(reader.run()),
        }
    }

    /// Waits until its socket is closed.
    pub async fn leave(mut self) {
        self.orders.send_modify(|orders| orders.leave = true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reader {
    addresses: Vec<SocketAddr>,
    /// Each connection goes to the next of them.
    turn: usize,
    source: SocketAddr,
    target: String,
    /// A small window, so that whoever stalls is behind soon.
    small: bool,
    fold: Arc<Mutex<Fold>>,
    orders: watch::Receiver<Orders>,
    /// What of the orders was done.
    done: Orders,
    oracle: Arc<Oracle>,
    last_id: String,
    retry: Duration,
}

/// How a connection ended.
enum End {
    /// By the other side, or by an order: another one follows.
    Ended,
    Leave,
}

impl Reader {
    async fn run(mut self) {
        loop {
            self.turn += 1;
            let replica = self.turn % self.addresses.len();
            let was_down = self.oracle.is_down[replica].load(Ordering::SeqCst);
            let (deaths, began) = (self.oracle.deaths(), Instant::now());
            match self.connect(self.addresses[replica]).await {
                Ok(stream) => match self.read(stream, began).await {
                    End::Ended => {}
                    End::Leave => return,
                },
                Err(error) => {
                    let is_down = self.oracle.is_down[replica].load(Ordering::SeqCst);
                    let died = deaths != self.oracle.deaths();
                    self.oracle.count("refused");
                    if !was_down && !is_down && !died {
                        self.oracle
                            .fault(format!("{}: no connection: {error}", self.fold.lock()));
                    }
                }
            }
            if self.orders.borrow().leave {
                return;
            }
            sleep(self.retry / IMPATIENCE).await;
        }
    }

    async fn connect(&self, address: SocketAddr) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        if self.small {
            socket.set_recv_buffer_size(8 * 1024)?;
        }
        socket.bind(self.source)?;
        let mut stream = socket.connect(address).await?;
        let mut head = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\naccept: text/event-stream\r\n",
            self.target, address
        );
        if !self.last_id.is_empty() {
            head.push_str(&format!("last-event-id: {}\r\n", self.last_id));
        }
        head.push_str("\r\n");
        // Whether it could be sent is seen by what is read.
        let _ = stream.write_all(head.as_bytes()).await;
        Ok(stream)
    }

    async fn read(&mut self, mut stream: TcpStream, began: Instant) -> End {
        self.oracle.count("connections");
        self.fold.lock().connected(began);
        let mut body = Body::default();
        let mut parser = Parser::resuming(self.last_id.clone());
        let mut buffer = Vec::with_capacity(8 * 1024);
        loop {
            buffer.clear();
            tokio::select! {
                read = stream.read_buf(&mut buffer) => match read {
                    Ok(0) | Err(_) => return End::Ended,
                    Ok(_) => {}
                },
                _ = self.orders.changed() => {
                    let orders = self.orders.borrow_and_update().clone();
                    let done = std::mem::replace(&mut self.done, orders.clone());
                    if orders.leave {
                        return End::Leave;
                    }
                    if orders.vanish != done.vanish {
                        // Without a word: a reset, and what was under way is lost.
                        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                        return End::Ended;
                    }
                    if orders.stall.0 != done.stall.0 {
                        sleep(orders.stall.1).await;
                    }
                    continue;
                }
            }
            match body.push(&buffer) {
                Ok(bytes) => self.take(&mut parser, &bytes),
                Err(why) => {
                    self.oracle.fault(format!("{}: {why}", self.fold.lock()));
                    return End::Ended;
                }
            }
            self.last_id = parser.last_event_id().to_owned();
            match body.status {
                None | Some(200) => {}
                // A browser's page would ask again by itself.
                Some(status) => {
                    self.oracle.count(&format!("status {status}"));
                    if status != 503 {
                        self.oracle
                            .fault(format!("{}: status {status}", self.fold.lock()));
                    }
                    return End::Ended;
                }
            }
            if body.is_whole {
                return End::Ended;
            }
        }
    }

    fn take(&mut self, parser: &mut Parser, bytes: &[u8]) {
        for item in parser.push(bytes) {
            match item {
                Item::Event(event) => {
                    self.fold
                        .lock()
                        .take(&self.oracle, &event.name, &event.data, &event.id);
                }
                Item::Retry(milliseconds) => self.retry = Duration::from_millis(milliseconds),
                Item::Comment(_) | Item::TooLarge => {}
            }
        }
    }
}

/// An HTTP/1.1 response in chunks, as it comes.
#[derive(Default)]
struct Body {
    unread: Vec<u8>,
    status: Option<u16>,
    is_whole: bool,
}

impl Body {
    /// What of the body these bytes complete.
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        self.unread.extend_from_slice(bytes);
        if self.status.is_none() {
            let Some(end) = position(&self.unread, b"\r\n\r\n") else {
                return Ok(Vec::new());
            };
            let head: Vec<u8> = self.unread.drain(..end + 4).collect();
            let status = head
                .get(9..12)
                .and_then(|code| std::str::from_utf8(code).ok());
            let status = status.and_then(|code| code.parse().ok());
            self.status = Some(status.ok_or("no status")?);
            if self.status != Some(200) {
                return Ok(Vec::new());
            }
        }
        let mut plain = Vec::new();
        let mut at = 0;
        while let Some(line) = position(&self.unread[at..], b"\r\n") {
            let size = std::str::from_utf8(&self.unread[at..at + line]).map_err(|_| "no size")?;
            let size =
                usize::from_str_radix(size, 16).map_err(|_| format!("a size of {size:?}"))?;
            let (from, to) = (at + line + 2, at + line + 2 + size);
            if self.unread.len() < to + 2 {
                break;
            }
            if &self.unread[to..to + 2] != b"\r\n" {
                return Err("a chunk that does not end where it says".into());
            }
            plain.extend_from_slice(&self.unread[from..to]);
            at = to + 2;
            self.is_whole = size == 0;
        }
        self.unread.drain(..at);
        Ok(plain)
    }
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
