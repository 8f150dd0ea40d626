//! Clients: one that reads an event stream as a browser does, one that sends any bytes and reads a response.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use wellspring::sse::parser::{Event, Item, Parser};

use super::soon;

/// The head of a response.
#[derive(Clone, Debug)]
pub struct Head {
    pub status: u16,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a header, joined.
    pub fn all(&self, name: &str) -> String {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect();
        values.join(", ")
    }
}

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    pub head: Head,
    pub body: String,
}

impl Response {
    /// The header line by which a request says that it has this.
    pub fn condition(&self) -> String {
        let etag = self.head.header("etag").expect("an ETag");
        format!("if-none-match: {etag}")
    }
}

/// A connection that is read as HTTP/1.x.
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Self {
        let stream = soon("connected", TcpStream::connect(address))
            .await
            .expect("connects");
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// From this address of the loopback network, such as 127.0.0.2.
    pub async fn open_from(source: &str, address: SocketAddr) -> Self {
        let source = SocketAddr::new(source.parse().expect("an address"), 0);
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(source).expect("binds");
        let stream = soon("connected", socket.connect(address)).await;
        Self::over(stream.expect("connects"))
    }

    pub fn over(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// A plain GET that is held until there is something else than now.
    pub async fn held(address: SocketAddr, target: &str) -> Self {
        let condition = get(address, target, &[]).await.condition();
        let mut connection = Self::open(address).await;
        let head = format!(
            "GET {target} HTTP/1.1\r\nhost: {address}\r\n{condition}\r\nprefer: wait=60\r\n\r\n"
        );
        connection.send(head.as_bytes()).await;
        connection
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    pub async fn head(&mut self) -> Head {
        let end = loop {
            if let Some(at) = self
                .unread
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            assert!(
                self.fill().await,
                "no response: {:?}",
                String::from_utf8_lossy(&self.unread)
            );
        };
        let head: Vec<u8> = self.unread.drain(..end).collect();
        let head = String::from_utf8(head).expect("a head of ASCII");
        let mut lines = head.lines();
        let status = lines
            .next()
            .and_then(|line| line.split(' ').nth(1))
            .and_then(|code| code.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Head {
            status: status.expect("a status"),
            headers,
        }
    }

    /// A response with its body, by its framing. `head_only`: of a HEAD request.
    pub async fn response(&mut self, head_only: bool) -> Response {
        let head = self.head().await;
        let mut body = Vec::new();
        if head_only || matches!(head.status, 204 | 304) {
        } else if let Some(length) = head.header("content-length") {
            let length: usize = length.parse().expect("a length");
            while self.unread.len() < length {
                assert!(self.fill().await, "half a body");
            }
            body = self.unread.drain(..length).collect();
        } else if head.header("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk().await {
                body.extend_from_slice(&chunk);
            }
        } else {
            while self.fill().await {}
            body = std::mem::take(&mut self.unread);
        }
        Response {
            head,
            body: String::from_utf8(body).expect("text"),
        }
    }

    /// The next chunk; `None` is the last one.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line_end = loop {
            if let Some(at) = self.unread.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            assert!(self.fill().await, "the body ended without its last chunk");
        };
        let size = std::str::from_utf8(&self.unread[..line_end]).expect("hex");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        while self.unread.len() < line_end + 2 + size + 2 {
            assert!(self.fill().await, "half a chunk");
        }
        let mut chunk: Vec<u8> = self
            .unread
            .drain(..line_end + 2 + size + 2)
            .skip(line_end + 2)
            .collect();
        assert_eq!(chunk.split_off(size), b"\r\n", "a chunk's end");
        (size > 0).then_some(chunk)
    }

    /// Reads more; `false` at the end.
    pub async fn fill(&mut self) -> bool {
        soon("more bytes", self.stream.read_buf(&mut self.unread))
            .await
            .is_ok_and(|count| count > 0)
    }

    pub fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }
}

/// One request on a connection of its own. `headers` are lines without their ends.
pub async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &str,
) -> Response {
    let connection = Connection::open(address).await;
    request_over(connection, address, method, target, headers, body).await
}

/// The same on this connection.
pub async fn request_over(
    mut connection: Connection,
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[&str],
    body: &str,
) -> Response {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {address}\r\n");
    if !body.is_empty() {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for line in headers {
        head.push_str(&format!("{line}\r\n"));
    }
    connection
        .send(format!("{head}\r\n{body}").as_bytes())
        .await;
    connection.response(method == "HEAD").await
}

pub async fn get(address: SocketAddr, target: &str, headers: &[&str]) -> Response {
    request(address, "GET", target, headers, "").await
}

/// An open event stream.
pub struct EventSource {
    connection: Connection,
    pub head: Head,
    parser: Parser,
    items: std::collections::VecDeque<Item>,
    ended: bool,
}

impl EventSource {
    pub async fn open(address: SocketAddr, target: &str) -> Self {
        Self::open_with(address, target, &[]).await
    }

    pub async fn resume(address: SocketAddr, target: &str, id: &str) -> Self {
        Self::open_with(address, target, &[&format!("last-event-id: {id}")]).await
    }

    pub async fn open_with(address: SocketAddr, target: &str, headers: &[&str]) -> Self {
        Self::over(Connection::open(address).await, address, target, headers).await
    }

    /// The same on this connection.
    pub async fn over(
        mut connection: Connection,
        address: SocketAddr,
        target: &str,
        headers: &[&str],
    ) -> Self {
        let mut head =
            format!("GET {target} HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n");
        for line in headers {
            head.push_str(&format!("{line}\r\n"));
        }
        connection.send(format!("{head}\r\n").as_bytes()).await;
        let head = connection.head().await;
        assert_eq!(head.status, 200, "{head:?}");
        Self {
            connection,
            head,
            parser: Parser::default(),
            items: Default::default(),
            ended: false,
        }
    }

    /// The next thing that the stream says; `None` after its clean end.
    pub async fn item(&mut self) -> Option<Item> {
        while self.items.is_empty() && !self.ended {
            match self.connection.chunk().await {
                Some(chunk) => self.items.extend(self.parser.push(&chunk)),
                None => self.ended = true,
            }
        }
        self.items.pop_front()
    }

    /// The next event; panics at the end of the stream, and when none comes: comments alone are not waited for any longer.
    pub async fn event(&mut self) -> Event {
        soon("an event", async {
            loop {
                match self.item().await {
                    Some(Item::Event(event)) => return event,
                    Some(_) => {}
                    None => panic!("the stream ended"),
                }
            }
        })
        .await
    }

    /// The next event, as name and data.
    pub async fn next(&mut self) -> (String, String) {
        let event = self.event().await;
        (event.name, event.data)
    }

    /// Skips events until one has this name; gives its data.
    pub async fn until(&mut self, name: &str) -> String {
        loop {
            let event = self.event().await;
            if event.name == name {
                return event.data;
            }
        }
    }

    /// Skips events until one has this data.
    pub async fn until_data(&mut self, data: &str) -> Event {
        loop {
            let event = self.event().await;
            if event.data == data {
                return event;
            }
        }
    }
}

/// A name-and-data pair to compare with.
pub fn pair(name: &str, data: &str) -> (String, String) {
    (name.into(), data.into())
}
