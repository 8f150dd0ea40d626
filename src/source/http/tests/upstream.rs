//! An upstream that keeps to a script, byte by byte.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Answers each request with the next line of its script, over whichever connection it comes. Ends with its last handle.
pub(super) struct Scripted {
    pub(super) url: String,
    requests: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

/// One answer.
pub(super) struct Line {
    bytes: Vec<u8>,
    then: Then,
}

enum Then {
    /// The next request comes over this connection.
    KeepAlive,
    /// FIN.
    Close,
    /// Nothing, until the client leaves.
    Hang,
    /// The same bytes without end.
    Flood(Vec<u8>),
}

/// Status, headers, and a body with its length; the connection is kept.
pub(super) fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Line {
    let body = body.as_ref();
    let head = format!(
        "HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    Line {
        bytes: [head.as_bytes(), body].concat(),
        then: Then::KeepAlive,
    }
}

/// `200` with JSON.
pub(super) fn ok(body: &str) -> Line {
    answer(200, "Content-Type: application/json\r\n", body)
}

/// These bytes and a clean close.
pub(super) fn raw(bytes: impl AsRef<[u8]>) -> Line {
    Line {
        bytes: bytes.as_ref().to_vec(),
        then: Then::Close,
    }
}

/// These bytes and silence.
pub(super) fn hang(bytes: impl AsRef<[u8]>) -> Line {
    Line {
        then: Then::Hang,
        ..raw(bytes)
    }
}

/// `head`, then `unit` without end.
pub(super) fn flood(head: &str, unit: impl AsRef<[u8]>) -> Line {
    Line {
        then: Then::Flood(unit.as_ref().to_vec()),
        ..raw(head)
    }
}

impl Scripted {
    pub(super) async fn start(script: impl IntoIterator<Item = Line>) -> Self {
        Self::start_with(|_| script).await
    }

    /// A script that knows where it is played.
    pub(super) async fn start_with<I: IntoIterator<Item = Line>>(
        script: impl FnOnce(&str) -> I,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let script = Arc::new(Mutex::new(
            script(&url).into_iter().collect::<VecDeque<Line>>(),
        ));
        let (seen, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, script.clone(), seen.clone()));
            }
        });
        Self {
            url,
            requests,
            task,
        }
    }

    /// The next request as it came, head and body.
    pub(super) async fn request(&mut self) -> String {
        self.requests.recv().await.expect("a request")
    }

    /// How many requests came that nobody took.
    pub(super) fn waiting(&self) -> usize {
        self.requests.len()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Line>>>,
    seen: mpsc::UnboundedSender<String>,
) {
    while let Some(request) = receive(&mut stream).await {
        let line = script.lock().expect("not poisoned").pop_front();
        let _ = seen.send(request);
        let Some(line) = line else { return };
        // A client may leave at any byte.
        let _ = stream.write_all(&line.bytes).await;
        match line.then {
            Then::KeepAlive => {}
            Then::Close => {
                let _ = stream.shutdown().await;
                return;
            }
            Then::Hang => {
                let _ = stream.read_u8().await;
                return;
            }
            Then::Flood(unit) => {
                while stream.write_all(&unit).await.is_ok() {}
                return;
            }
        }
    }
}

async fn receive(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    let head = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length: usize = length.map_or(0, |value| value.trim().parse().expect("a length"));
    while bytes.len() < head + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(String::from_utf8(bytes).expect("text"))
}
