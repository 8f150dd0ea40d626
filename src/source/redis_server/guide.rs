//! Who is to be asked, where that changes: sentinels name the master, and the nodes of a cluster who has which keys.
//!
//! One connection, to any of those who know, on which they are asked again and again: a fail-over that nobody tells us of is
//! noticed with the next answer. It is asked at once when somebody finds that the last answer was wrong. Whoever
//! answers may be cut off from the others, so when the server that it names is of no use, another one is asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::dial::{Dialed, Dialer};
use super::fault;
use super::slots::{Slots, named};
use super::supervise::{Tenant, supervise};
use crate::config::Endpoint;
use crate::source::{Cause, SourceError};

/// Between two questions, however many find the answer wrong.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// What those who know are asked.
#[derive(Debug)]
pub(super) enum Question {
    /// Where the master of this name is.
    Master(String),
    /// Who has which slots.
    Slots,
}

/// Knows who is to be asked, as far as anybody said.
pub(super) struct Guide {
    dialer: Arc<Dialer>,
    knowledge: Arc<Knowledge>,
    asking: Mutex<Weak<Asking>>,
}

/// As long as this is held, the guide asks.
pub(super) struct Asking {
    _task: AbortOnDropHandle<()>,
}

/// What was said, who can be asked for more, and what makes that worthwhile.
#[derive(Debug)]
pub(super) struct Knowledge {
    question: Question,
    /// Those that the file names.
    seeds: Vec<Endpoint>,
    known: watch::Sender<Known>,
    wrong: Notify,
    useless: Notify,
    /// Who is asked first the next time.
    turn: AtomicUsize,
}

/// What was said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// `None`: nobody ever said anything.
    slots: Option<Arc<Slots>>,
    /// Why nobody says anything now.
    trouble: Option<SourceError>,
}

impl Guide {
    /// `dialer` leads to the [`candidates`](Knowledge::candidates) of `knowledge`.
    pub(super) fn new(dialer: Dialer, knowledge: Arc<Knowledge>) -> Self {
        Self {
            dialer: Arc::new(dialer),
            knowledge,
            asking: Mutex::default(),
        }
    }

    /// Has it ask. Must be called within a tokio runtime.
    pub(super) fn attend(&self) -> Arc<Asking> {
        let mut kept = self.asking.lock();
        kept.upgrade().unwrap_or_else(|| {
            let asker = Asker {
                knowledge: self.knowledge.clone(),
                every: self.dialer.patience.heartbeat,
                at: None,
            };
            let dialer = self.dialer.clone();
            let task = tokio::spawn(async move {
                supervise(dialer, asker).await;
            });
            let asking = Arc::new(Asking {
                _task: AbortOnDropHandle::new(task),
            });
            *kept = Arc::downgrade(&asking);
            asking
        })
    }

    /// The last answer. Waits for the first one, but not for long. Somebody must [`attend`](Self::attend).
    pub(super) async fn slots(&self) -> Result<Arc<Slots>, SourceError> {
        let mut known = self.watch();
        let is_known = |known: &Known| known.slots.is_some() || known.trouble.is_some();
        let patience = self.dialer.patience.connect + self.dialer.patience.reply;
        match timeout(patience, known.wait_for(is_known)).await {
            Ok(Ok(known)) => match (&known.slots, &known.trouble) {
                (Some(slots), _) => Ok(slots.clone()),
                (None, Some(error)) => Err(error.clone()),
                (None, None) => Err(nobody_answers()),
            },
            Ok(Err(_)) | Err(_) => Err(nobody_answers()),
        }
    }

    /// What is known, and every change of that.
    pub(super) fn watch(&self) -> watch::Receiver<Known> {
        self.knowledge.known.subscribe()
    }

    /// The answer proved wrong: it is asked for again.
    pub(super) fn was_wrong(&self) {
        self.knowledge.wrong.notify_one();
    }

    /// The server that was named is of no use: somebody else is asked.
    pub(super) fn was_useless(&self) {
        self.knowledge.useless.notify_one();
    }

    /// Those who can be asked, in the order of their turns.
    pub(super) fn candidates(&self) -> Vec<Endpoint> {
        self.knowledge.candidates()
    }

    /// Completes when `is_right` does not hold of what is said. May never complete.
    pub(super) async fn denies(&self, is_right: impl Fn(&Slots) -> bool) {
        let denied = |known: &Known| known.slots.as_ref().is_some_and(|slots| !is_right(slots));
        if self.watch().wait_for(denied).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl std::fmt::Debug for Guide {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.knowledge.question {
            Question::Master(name) => write!(f, "the redis master {name}"),
            Question::Slots => write!(f, "a redis cluster: {:?}", self.dialer),
        }
    }
}

impl Knowledge {
    /// Nothing is known yet, but whom to ask.
    pub(super) fn new(question: Question, seeds: Vec<Endpoint>) -> Self {
        Self {
            question,
            // Not all gateways begin with the same one.
            turn: AtomicUsize::new(fastrand::usize(..seeds.len().max(1))),
            seeds,
            known: watch::Sender::default(),
            wrong: Notify::new(),
            useless: Notify::new(),
        }
    }

    /// Those that the file names.
    pub(super) fn seeds(&self) -> &[Endpoint] {
        &self.seeds
    }

    /// Those who can be asked, each time beginning with another one.
    pub(super) fn candidates(&self) -> Vec<Endpoint> {
        let mut candidates = match (&self.question, &self.known.borrow().slots) {
            // The others of a cluster know as much, and the file may name those of long ago.
            (Question::Slots, Some(slots)) => slots.nodes().to_vec(),
            _ => Vec::new(),
        };
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        if !candidates.is_empty() {
            let first = first % candidates.len();
            candidates.rotate_left(first);
        }
        for index in 0..self.seeds.len() {
            let seed = &self.seeds[(first + index) % self.seeds.len()];
            if !candidates.contains(seed) {
                candidates.push(seed.clone());
            }
        }
        candidates
    }

    fn is_known(&self) -> bool {
        self.known.borrow().slots.is_some()
    }

    fn learn(&self, slots: Slots) {
        self.known.send_if_modified(|known| {
            let is_new = known.slots.as_deref() != Some(&slots);
            known.trouble = None;
            if is_new {
                known.slots = Some(Arc::new(slots));
            }
            is_new
        });
    }
}

impl Known {
    /// Who has the slot.
    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        self.slots.as_ref()?.owner(slot)
    }
}

fn nobody_answers() -> SourceError {
    SourceError::new(
        Cause::Timeout,
        "nobody says which redis server is to be asked",
    )
}

/// The connection on which is asked.
struct Asker {
    knowledge: Arc<Knowledge>,
    every: Duration,
    at: Option<Endpoint>,
}

impl Asker {
    async fn ask(&self, connection: &MultiplexedConnection) -> Result<Slots, SourceError> {
        let strange = || SourceError::new(Cause::Redis, "the answer names no redis server");
        let at = self.at.as_ref().ok_or_else(strange)?;
        let slots = match &self.knowledge.question {
            Question::Master(name) => {
                let command = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name];
                match send(connection, &command).await? {
                    Value::Nil => {
                        let why = "the sentinel knows no master of this name";
                        return Err(SourceError::new(Cause::Redis, why));
                    }
                    answer => master(answer, at).map(Slots::of_one),
                }
            }
            Question::Slots => {
                if self.knowledge.is_known() && is_lost(connection).await? {
                    let why = "the node of the redis cluster does not see the others";
                    return Err(SourceError::new(Cause::Redis, why));
                }
                Slots::parse(send(connection, &["CLUSTER", "SLOTS"]).await?, at)
            }
        };
        slots.ok_or_else(strange)
    }
}

async fn send(connection: &MultiplexedConnection, words: &[&str]) -> Result<Value, SourceError> {
    let mut command = redis::Cmd::new();
    command.arg(words);
    let answer = connection.clone().send_packed_command(&command).await;
    let answer = answer.and_then(Value::extract_error);
    answer.map_err(|error| fault::of_command(&error))
}

/// A node that was cut off goes on saying what it knew, and that the cluster is down. During a fail-over all say so: then
/// nobody knows better than we do.
async fn is_lost(connection: &MultiplexedConnection) -> Result<bool, SourceError> {
    match send(connection, &["CLUSTER", "INFO"]).await {
        Ok(Value::BulkString(info)) => {
            Ok(String::from_utf8_lossy(&info).contains("cluster_state:fail"))
        }
        // Without the right to ask it is believed.
        Ok(_) => Ok(false),
        Err(error) if error.cause == Cause::Unauthorized => Ok(false),
        Err(error) => Err(error),
    }
}

impl Tenant for Asker {
    async fn dial(&mut self, dialer: &Dialer) -> Result<Dialed, SourceError> {
        let dialed = dialer.dial().await?;
        self.at.clone_from(&dialed.at);
        Ok(dialed)
    }

    fn up(&mut self, _connection: &MultiplexedConnection) {}

    async fn work(&mut self, connection: MultiplexedConnection) -> SourceError {
        loop {
            match self.ask(&connection).await {
                Ok(slots) => self.knowledge.learn(slots),
                Err(error) => return error,
            }
            tokio::select! {
                () = sleep(self.every) => {}
                () = self.knowledge.wrong.notified() => sleep(SHORTEST_PAUSE).await,
                () = self.knowledge.useless.notified() => {
                    return SourceError::new(Cause::Redis, "the server that was named is of no use");
                }
            }
        }
    }

    fn down(&mut self, error: SourceError) -> Duration {
        self.knowledge
            .known
            .send_modify(|known| known.trouble = Some(error));
        Duration::ZERO
    }
}

/// Reads the reply to SENTINEL GET-MASTER-ADDR-BY-NAME: host and port.
fn master(reply: Value, answering: &Endpoint) -> Option<Endpoint> {
    let Value::Array(parts) = reply else {
        return None;
    };
    let mut texts = parts.into_iter().map(|part| match part {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        _ => None,
    });
    let (host, port) = (texts.next()??, texts.next()??);
    named(&host, port.parse().ok()?, answering)
}
