//! What clients follow: a legacy API, a Redis server and a publisher, each with a number that grows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::super::support::upstream::{Reply, Request, json, status};
use super::oracle::{Oracle, Subject};
use super::schedule::Mood;

/// Between two changes of everything but what is calm.
const CHANGES: Duration = Duration::from_millis(35);
const CALM_CHANGES: Duration = Duration::from_millis(400);
const PATIENCE: Duration = Duration::from_millis(500);

pub struct Sources {
    numbers: [AtomicU64; Subject::ALL.len()],
    mood: Mutex<Mood>,
    requests: AtomicU64,
    /// Polls of [`Subject::Calm`].
    calm_polls: AtomicU64,
    /// Nothing is to change any more; each writer says its last word.
    resting: AtomicBool,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            numbers: std::array::from_fn(|_| AtomicU64::new(1)),
            mood: Mutex::new(Mood::Well),
            requests: AtomicU64::new(0),
            calm_polls: AtomicU64::new(0),
            resting: AtomicBool::new(false),
        }
    }
}

impl Sources {
    /// The newest number.
    pub fn number(&self, of: Subject) -> u64 {
        self.numbers[of as usize].load(Ordering::SeqCst)
    }

    fn next(&self, of: Subject) -> u64 {
        self.numbers[of as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn set_mood(&self, mood: Mood) {
        *self.mood.lock() = mood;
    }

    pub fn calm_polls(&self) -> u64 {
        self.calm_polls.load(Ordering::SeqCst)
    }

    /// Lets things change, or not.
    pub fn rest(&self, resting: bool) {
        self.resting.store(resting, Ordering::SeqCst);
    }

    fn is_resting(&self) -> bool {
        self.resting.load(Ordering::SeqCst)
    }

    /// The legacy API.
    pub fn answer(&self, request: &Request) -> Reply {
        let path = request.target.as_str();
        let subject = Subject::ALL.into_iter().find(|known| known.path() == path);
        let Some(subject) = subject else {
            return status(404, "");
        };
        if subject == Subject::Calm {
            self.calm_polls.fetch_add(1, Ordering::SeqCst);
        }
        let document = subject.document(self.number(subject)).to_string();
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock();
        match mood {
            Mood::Well => json(&document),
            Mood::Flaps if count.is_multiple_of(2) => json(&document),
            Mood::Hangs => Reply::Hang,
            Mood::Closes | Mood::Flaps => Reply::Raw(Vec::new()),
            Mood::HalfBody => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: ";
                let half = &document[..document.len() / 2];
                Reply::Raw(format!("{head}{}\r\n\r\n{half}", document.len()).into())
            }
            Mood::Status(429) => status(429, "slower").with("retry-after", "1"),
            Mood::Status(code) => status(code, "<html>an error page"),
            Mood::Garbage => json("<html>welcome to the legacy API"),
        }
    }

    /// Everything that changes, changes from now on.
    pub fn change(
        self: &Arc<Self>,
        gateways: Vec<SocketAddr>,
        redis_port: u16,
        oracle: &Arc<Oracle>,
    ) -> Vec<JoinHandle<()>> {
        let (polled, calm, redis, posted) =
            (self.clone(), self.clone(), self.clone(), self.clone());
        let oracle = oracle.clone();
        vec![
            tokio::spawn(async move {
                loop {
                    if !polled.is_resting() {
                        polled.next(Subject::Polled);
                        polled.next(Subject::Large);
                    }
                    sleep(CHANGES).await;
                }
            }),
            tokio::spawn(async move {
                loop {
                    if !calm.is_resting() {
                        calm.next(Subject::Calm);
                    }
                    sleep(CALM_CHANGES).await;
                }
            }),
            tokio::spawn(async move { redis.write_redis(redis_port).await }),
            tokio::spawn(async move { posted.post(&gateways, &oracle).await }),
        ]
    }

    /// Sets the key and sends a message; at rest the same key again, as the server may forget it, and now and then another
    /// message, as one may be lost.
    async fn write_redis(&self, port: u16) {
        let mut connection = None;
        let mut quiet = 0;
        loop {
            let rests = self.is_resting();
            quiet = if rests { quiet + 1 } else { 0 };
            let key = match rests {
                true => self.number(Subject::Keyed),
                false => self.next(Subject::Keyed),
            };
            let mut commands = vec![["SET", "faults:key"].map(str::to_owned).to_vec()];
            commands[0].push(Subject::Keyed.document(key).to_string());
            if !rests || quiet % 40 == 1 {
                let message = self.next(Subject::Messages);
                let mut publish = ["PUBLISH", "faults:messages"].map(str::to_owned).to_vec();
                publish.push(Subject::Messages.document(message).to_string());
                commands.push(publish);
            }
            let run = run(&mut connection, port, &commands);
            if !matches!(timeout(PATIENCE, run).await, Ok(Ok(()))) {
                connection = None;
            }
            sleep(CHANGES).await;
        }
    }

    /// Publishes through the gateway. A number whose fate is unknown is not used again. At rest, when nothing that was accepted
    /// can be lost any more, one more is accepted.
    async fn post(&self, gateways: &[SocketAddr], oracle: &Oracle) {
        let mut was_last = false;
        let mut turn = gateways.iter().cycle();
        loop {
            let rests = self.is_resting();
            if !rests || !was_last {
                let number = self.next(Subject::Posted);
                let document = Subject::Posted.document(number).to_string();
                let gateway = turn.next().expect("a gateway");
                let answer = timeout(PATIENCE * 4, post(*gateway, &document)).await;
                let is_accepted = match answer {
                    Ok(Some((202, body))) => {
                        let body: serde_json::Value =
                            serde_json::from_str(&body).unwrap_or_default();
                        let id = body["id"].as_str().unwrap_or_default();
                        oracle.accepted(Subject::Posted, id, number);
                        oracle.count("posted");
                        true
                    }
                    Ok(Some((503, _))) | Ok(None) | Err(_) => {
                        oracle.uncertain(number);
                        oracle.count("not posted");
                        false
                    }
                    Ok(Some((other, body))) => {
                        oracle.fault(format!("a message got status {other}: {body}"));
                        false
                    }
                };
                was_last = rests && is_accepted;
            }
            sleep(CHANGES).await;
        }
    }
}

/// Status and body; `None`: no whole answer.
async fn post(gateway: SocketAddr, document: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(gateway).await.ok()?;
    let request = format!(
        "POST /publish/posted HTTP/1.1\r\nhost: {gateway}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{document}",
        document.len()
    );
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    let status = answer.get(9..12)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

async fn run(
    connection: &mut Option<TcpStream>,
    port: u16,
    commands: &[Vec<String>],
) -> std::io::Result<()> {
    let stream = match connection {
        Some(stream) => stream,
        None => connection.insert(TcpStream::connect(("127.0.0.1", port)).await?),
    };
    for command in commands {
        let mut bytes = format!("*{}\r\n", command.len());
        for word in command {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(bytes.as_bytes()).await?;
        // `+OK` or a number: one line, and nothing else is under way.
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            if stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        if answer.starts_with(b"-") {
            return Err(std::io::ErrorKind::Other.into());
        }
    }
    Ok(())
}
