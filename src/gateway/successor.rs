//! A process starts its successor and makes way for it (EDGE L15).
//!
//! The successor gets the listening sockets, which are never closed: connections that nobody accepts for a moment wait in
//! the kernel. The order makes ids exact: the successor is ready → nothing is accepted here any more, and requests under way
//! end → what the channels have is sealed and sent → the successor goes on from there and accepts → streams here drain.
//! What the successor reads meanwhile comes back, so that who is still here misses nothing and stands where the others do.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::operators;
use super::sockets::Sockets;
use super::wire::{self, Down, Up};
use super::{Gateway, Standing};
use crate::channel::Channel;

/// Tells a process that its standard input is the way to the process before it.
pub(super) const VARIABLE: &str = "WELLSPRING_SUCCESSOR";

/// How long a successor may take until it can serve.
const START: Duration = Duration::from_secs(30);

/// How long requests under way may keep the successor from accepting.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a successor may take to begin where this process stopped.
const TAKE_OVER: Duration = Duration::from_secs(10);

/// Bytes of values that go to a successor; beyond it gets only the newest value of a channel.
const MAX_PAST: usize = 64 << 20;

/// How this process was started.
#[derive(Debug)]
pub struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
}

/// A process that can serve in this one's place.
#[derive(Debug)]
pub struct Successor {
    process: Process,
    wire: UnixStream,
    /// Definitions of streams that it goes on with.
    takes: Vec<u64>,
}

/// Why there is no successor.
#[derive(Debug, thiserror::Error)]
pub enum NoSuccessor {
    /// It cannot be started.
    #[error("a successor cannot be started: {0}")]
    Start(io::Error),
    /// It ended before it could serve.
    #[error("the successor ended: {0}")]
    Ended(ExitStatus),
    /// It was not ready in time, or is not what was expected.
    #[error("the successor was ended: {0}")]
    Failed(io::Error),
}

impl Launch {
    /// To be called at start: later, what is on the disk may have changed.
    pub fn remember() -> Self {
        let mut arguments = env::args_os();
        let name = arguments.next().map(PathBuf::from).unwrap_or_default();
        Self {
            program: program(&name),
            arguments: arguments.collect(),
        }
    }
}

impl Gateway {
    /// Starts the program that is on the disk now, as this process was started, and waits until it can serve. Everything goes on.
    pub async fn start_successor(&self, launch: &Launch) -> Result<Successor, NoSuccessor> {
        let (ours, theirs) = wire::pair().map_err(NoSuccessor::Start)?;
        let child = Command::new(&launch.program)
            .args(&launch.arguments)
            .env(VARIABLE, "1")
            .stdin(Stdio::from(theirs))
            .spawn()
            .map_err(NoSuccessor::Start)?;
        let mut process = Process(Some(child));
        info!(pid = process.id(), program = %launch.program.display(), "successor started");
        let ready = async {
            let sockets = self.sockets()?;
            let listeners: Vec<_> = sockets
                .iter()
                .map(|(_, socket)| socket.try_clone())
                .collect::<Result<_, _>>()?;
            wire::send_sockets(&ours, &listeners)?;
            ours.set_nonblocking(true)?;
            let mut wire = UnixStream::from_std(ours)?;
            let addresses = sockets.iter().map(|(address, _)| *address).collect();
            wire::send(&mut wire, &Down::Addresses(addresses)).await?;
            match wire::receive(&mut wire).await? {
                Up::Ready(takes) => Ok((wire, takes)),
                other => Err(io::Error::other(format!(
                    "it is not ready but said {other:?}"
                ))),
            }
        };
        let ready = timeout(START, ready).await;
        let ready = ready.unwrap_or_else(|_| Err(io::Error::other("it was not ready in time")));
        match ready {
            Ok((wire, takes)) => Ok(Successor {
                process,
                wire,
                takes,
            }),
            Err(error) => Err(match process.end().await {
                Some(status) => NoSuccessor::Ended(status),
                None => NoSuccessor::Failed(error),
            }),
        }
    }

    /// Lets the successor serve. This gateway accepts nothing any more, and is to be stopped; until then its streams are given
    /// what the successor reads. When the successor fails this gateway goes on; its streams begin anew.
    pub async fn hand_over(&mut self, mut successor: Successor) -> Result<(), NoSuccessor> {
        let sockets = self.sockets().map_err(NoSuccessor::Start)?;
        for Standing { door, .. } in self.doors.drain(..) {
            door.close().await;
        }
        self.admin = None;
        self.stop.send_replace(true);
        self.settle().await;
        match timeout(TAKE_OVER, self.give(&mut successor)).await {
            Ok(Ok(channels)) => {
                info!(
                    pid = successor.process.id(),
                    channels = channels.len(),
                    "the successor serves"
                );
                successor.process.release();
                tokio::spawn(follow(successor.wire, channels));
                Ok(())
            }
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error,
                    _ => io::Error::other("it did not take over in time"),
                };
                let ended = successor.process.end().await;
                self.resume(sockets);
                Err(ended.map_or(NoSuccessor::Failed(error), NoSuccessor::Ended))
            }
        }
    }

    /// Waits a moment for requests under way: a message that is accepted here must go with the others.
    async fn settle(&self) {
        self.house.requests.close();
        if timeout(PAUSE, self.house.requests.wait()).await.is_err() {
            info!(
                left = self.house.requests.len(),
                "requests go on beside the successor"
            );
        }
        self.house.requests.reopen();
    }

    /// Seals what the successor takes, and sends it. Returns the channels, in the order in which they went.
    async fn give(&self, successor: &mut Successor) -> io::Result<Vec<Arc<Channel>>> {
        let mut left = MAX_PAST;
        let mut given = Vec::new();
        for standing in self.streams.iter() {
            let takes = |takes: &u64| Some(*takes) == *standing.stream.continuity;
            let Some(stream) = successor.takes.iter().position(takes) else {
                continue;
            };
            // Before they are sealed: what a poller reads after that would be lost to it.
            standing.stop.cancel();
            for channel in self.ground.hub.channels(standing.id) {
                let mut past = channel.hand_over();
                if past.bytes() > left {
                    past = past.newest_only();
                }
                left = left.saturating_sub(past.bytes());
                if past.is_empty() && !past.is_read() {
                    continue;
                }
                let frame = Down::channel(stream, &channel.key().params, past);
                wire::send(&mut successor.wire, &frame).await?;
                given.push(channel);
            }
        }
        wire::send(&mut successor.wire, &Down::YourTurn).await?;
        match wire::receive(&mut successor.wire).await? {
            Up::Serving => Ok(given),
            other => Err(io::Error::other(format!(
                "it does not serve but said {other:?}"
            ))),
        }
    }

    /// Goes on after all. What was sealed stays so: those streams begin anew, with the values that they had.
    fn resume(&mut self, sockets: Sockets) {
        warn!("the successor failed: this process serves on");
        self.stop.send_replace(false);
        let mut sockets = sockets;
        for listener in &self.config.listeners {
            let reopened = sockets
                .take_or_bind(listener.address)
                .and_then(|socket| Standing::open(socket, listener, &self.config, &self.house));
            match reopened {
                Ok(standing) => self.doors.push(standing),
                Err(error) => warn!(%error, "a listener stays closed"),
            }
        }
        let admin = operators::bind(self.config.admin.as_ref(), &mut sockets);
        match admin.and_then(|socket| {
            socket
                .map(|socket| self.serve_operators(socket))
                .transpose()
        }) {
            Ok(admin) => self.admin = admin,
            Err(error) => warn!(%error, "the admin listener stays closed"),
        }
        self.renew();
    }
}

/// Writes what the successor reads into the channels here, for as long as there is a successor and this process.
async fn follow(mut wire: UnixStream, channels: Vec<Arc<Channel>>) {
    while let Ok(Up::News(at, past)) = wire::receive(&mut wire).await {
        if let Some(channel) = channels.get(at)
            && let Err(error) = channel.follow(&past)
        {
            warn!(channel = channel.name(), %error, "a value of the successor cannot be read");
        }
    }
}

/// A child process, ended when nobody wants it any more.
#[derive(Debug)]
struct Process(Option<Child>);

impl Process {
    fn id(&self) -> Option<u32> {
        self.0.as_ref().map(Child::id)
    }

    /// It lives on by itself.
    fn release(&mut self) {
        self.0 = None;
    }

    /// How it ended, if it does within a moment; else it is killed.
    async fn end(&mut self) -> Option<ExitStatus> {
        let child = self.0.as_mut()?;
        for _ in 0..20 {
            if let Ok(Some(status)) = child.try_wait() {
                self.0 = None;
                return Some(status);
            }
            sleep(Duration::from_millis(25)).await;
        }
        None
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended by itself; a killed process is waited for at once.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Where the program `name` is found, by the way that it was started: a link on that way may lead to another one later.
fn program(name: &Path) -> PathBuf {
    let here = env::current_dir().unwrap_or_default();
    let current = env::current_exe().unwrap_or_default();
    let found = match name.components().count() {
        0 | 1 => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path)
                .map(|folder| here.join(folder).join(name))
                .find(|path| path.is_file())
        }
        _ => Some(here.join(name)),
    };
    let same = |path: &PathBuf| path.canonicalize().ok() == current.canonicalize().ok();
    found.filter(same).unwrap_or(current)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::config;

    /// A program that says what a successor says when it can serve, and then ends.
    fn dying(takes: u64) -> Launch {
        let ready = format!(r#"{{"Ready":[{takes}]}}"#);
        let length = ready.len();
        Launch {
            program: "/bin/sh".into(),
            // It reads the addresses, and something of what comes after that.
            arguments: vec![
                "-c".into(),
                format!(
                    "printf '\\{length:03o}\\0\\0\\0{ready}' >&0; head -c 60 >/dev/null; exit 3"
                )
                .into(),
            ],
        }
    }

    async fn ask(gateway: &Gateway, request: &str) -> String {
        let mut tcp = TcpStream::connect(gateway.addresses()[0])
            .await
            .expect("connects");
        let request = format!("{request}host: a\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.expect("answered");
        answer
    }

    /// CONTRACT §6: a successor that dies when everything is at its door changes nothing but that streams begin anew; what they
    /// had stays.
    #[tokio::test(flavor = "multi_thread")]
    async fn this_process_goes_on_when_its_successor_dies_at_the_last_moment() {
        let file = "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: off\nstreams: [{path: /a, publish: {path: /publish/a}}]\n";
        let config = config::parse("test.yaml", file, &|_| None).expect("good");
        let mut gateway = Gateway::start(config).expect("starts");
        let accepted = ask(
            &gateway,
            "POST /publish/a HTTP/1.1\r\ncontent-length: 0\r\n",
        )
        .await;
        assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
        let value = ask(
            &gateway,
            "GET /a HTTP/1.1\r\naccept: text/event-stream;q=0.1, */*\r\n",
        )
        .await;
        let takes = gateway
            .streams
            .iter()
            .find_map(|standing| *standing.stream.continuity)
            .expect("takes");

        let successor = gateway.start_successor(&dying(takes)).await.expect("ready");
        let error = gateway.hand_over(successor).await.expect_err("it died");
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let status = |answer: &str| answer.lines().next().map(str::to_owned);
        let again = ask(
            &gateway,
            "GET /a HTTP/1.1\r\naccept: text/event-stream;q=0.1, */*\r\n",
        )
        .await;
        assert_eq!(status(&again), Some("HTTP/1.1 200 OK".into()), "{again}");
        assert_eq!(status(&again), status(&value));
        let accepted = ask(
            &gateway,
            "POST /publish/a HTTP/1.1\r\ncontent-length: 0\r\n",
        )
        .await;
        assert!(accepted.starts_with("HTTP/1.1 202"), "{accepted}");
    }
}
