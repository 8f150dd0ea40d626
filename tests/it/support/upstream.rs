//! A legacy API under control: it says what the test tells it to say, byte by byte if need be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What came in.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What goes out.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole response.
    Http {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    },
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, and the connection stays open.
    Hang,
    /// A head, then what is sent there, to each connection; nothing at all (`vec![]`) ends them.
    Live {
        head: Vec<u8>,
        more: broadcast::Sender<Vec<u8>>,
    },
    /// These bytes again and again, for as long as they are taken.
    Endless { head: Vec<u8>, again: Vec<u8> },
}

pub fn json(body: &str) -> Reply {
    status(200, body)
}

pub fn status(status: u16, body: &str) -> Reply {
    let headers = vec![("content-type".into(), "application/json".into())];
    Reply::Http {
        status,
        headers,
        body: body.into(),
    }
}

impl Reply {
    pub fn with(self, name: &str, value: &str) -> Self {
        match self {
            Self::Http {
                status,
                mut headers,
                body,
            } => {
                headers.retain(|(known, _)| known != name);
                headers.push((name.into(), value.into()));
                Self::Http {
                    status,
                    headers,
                    body,
                }
            }
            other => other,
        }
    }
}

type Script = Box<dyn FnMut(&Request) -> Reply + Send>;

/// The server. Ends by `Drop`.
pub struct TestUpstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
    open: AtomicUsize,
}

impl TestUpstream {
    pub async fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            requests: Mutex::default(),
            open: AtomicUsize::new(0),
        });
        let task = tokio::spawn(accept(listener, shared.clone()));
        Self {
            address,
            shared,
            task,
        }
    }

    /// One that always says the same.
    pub async fn saying(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    /// From now on.
    pub fn say(&self, reply: Reply) {
        *self.shared.script.lock() = Box::new(move |_| reply.clone());
    }

    /// Its process is gone: connections break, and new ones are refused, until [`TestUpstream::rise`].
    pub fn die(&mut self) {
        self.task.abort();
    }

    /// It is there again, at the same address.
    pub async fn rise(&mut self) {
        let deadline = Instant::now() + super::PATIENCE;
        let listener = loop {
            // A connection that goes out may have the port for a moment.
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(Instant::now() < deadline, "{}: {error}", self.address),
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        };
        self.task = tokio::spawn(accept(listener, self.shared.clone()));
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.requests.lock().len()
    }
}

impl Drop for TestUpstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, shared.clone()));
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    shared.open.fetch_add(1, Ordering::Relaxed);
    while let Some(request) = read_request(&mut stream).await {
        let reply = (shared.script.lock())(&request);
        shared.requests.lock().push(request);
        if !write_reply(&mut stream, reply).await {
            break;
        }
    }
    shared.open.fetch_sub(1, Ordering::Relaxed);
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(0);
    while bytes.len() < head_end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&bytes[head_end..]).into_owned();
    Some(Request {
        at: Instant::now(),
        method,
        target,
        headers,
        body,
    })
}

/// Returns whether the connection goes on.
async fn write_reply(stream: &mut TcpStream, reply: Reply) -> bool {
    match reply {
        Reply::Http {
            status,
            headers,
            body,
        } => {
            let mut head = format!("HTTP/1.1 {status} Whatever\r\n");
            for (name, value) in &headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            if status != 304 && status != 204 {
                head.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            head.push_str("\r\n");
            let mut bytes = head.into_bytes();
            bytes.extend_from_slice(&body);
            stream.write_all(&bytes).await.is_ok()
        }
        Reply::Raw(bytes) => {
            // The other side may have had enough before the end.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            false
        }
        Reply::Hang => std::future::pending().await,
        Reply::Live { head, more } => {
            // Before the head, so that who has that misses nothing.
            let mut more = more.subscribe();
            let mut alive = stream.write_all(&head).await.is_ok();
            let mut byte = [0];
            while alive {
                alive = tokio::select! {
                    bytes = more.recv() => match bytes {
                        Ok(bytes) => !bytes.is_empty() && stream.write_all(&bytes).await.is_ok(),
                        Err(_) => false,
                    },
                    // The other side has left, or asks where it has nothing to ask.
                    _ = stream.read(&mut byte) => false,
                };
            }
            false
        }
        Reply::Endless { head, again } => {
            if stream.write_all(&head).await.is_ok() {
                while stream.write_all(&again).await.is_ok() {}
            }
            false
        }
    }
}
