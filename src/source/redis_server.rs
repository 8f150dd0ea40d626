//! One Redis server, shared by all sources that read it: one connection for commands, one for pushes.
//!
//! Each connection is made when the first source needs it, kept and made anew as long as any source holds it
//! (`supervise`), and closed with the last one. Commands of many channels share their connection and pipeline by nature.
//! While a server is away, everything fails at once with the cause; nothing waits for it.

mod commands;
mod dial;
mod fault;
mod framer;
mod link;
mod mailbox;
mod pushes;
mod registry;
mod supervise;
mod tracking;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustls::RootCertStore;

pub use dial::Unusable;

pub(in crate::source) use commands::{Commands, Line};
pub(in crate::source) use framer::MAX_BYTES;
pub(in crate::source) use link::{Link, Notifications};
pub(in crate::source) use mailbox::Delivery;
pub(in crate::source) use pushes::{Pushes, Standing, Subscription, TrackedKey};
pub(in crate::source) use registry::Topic;
pub(in crate::source) use tracking::Mark;

use crate::config;
use dial::{Dialer, Patience};

/// The way to one configured server. A clone shares its connections.
#[derive(Clone)]
pub struct RedisClient(Arc<Shared>);

struct Shared {
    dialer: Arc<Dialer>,
    // Weak: who uses a connection keeps it; the client itself does not.
    commands: Mutex<Weak<Commands>>,
    pushes: Mutex<Weak<Pushes>>,
    /// What was told about the server in the log, which is told once.
    told: Mutex<HashSet<&'static str>>,
}

impl RedisClient {
    /// Connects to nothing yet. Fails when the URL is of a kind that is not supported, and for `rediss://` when
    /// the system has no certificate authorities.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the configuration's servers are shared by Arc"
    )]
    pub fn new(server: Arc<config::RedisServer>) -> Result<Self, Unusable> {
        Self::with(server.url.expose(), None, Patience::default())
    }

    fn with(url: &str, roots: Option<RootCertStore>, patience: Patience) -> Result<Self, Unusable> {
        Ok(Self(Arc::new(Shared {
            dialer: Arc::new(Dialer::new(url, roots, patience)?),
            commands: Mutex::default(),
            pushes: Mutex::default(),
            told: Mutex::default(),
        })))
    }

    /// The connection for commands. Must be called within a tokio runtime.
    pub(in crate::source) fn commands(&self) -> Arc<Commands> {
        share(&self.0.commands, || Commands::start(self.0.dialer.clone()))
    }

    /// The connection for pushes. Must be called within a tokio runtime.
    pub(in crate::source) fn pushes(&self) -> Arc<Pushes> {
        share(&self.0.pushes, || Pushes::start(self.0.dialer.clone()))
    }

    /// The number of the database that is read.
    pub(in crate::source) fn database(&self) -> i64 {
        self.0.dialer.database()
    }

    /// Whether `what` is told about this server for the first time.
    pub(in crate::source) fn tells_first(&self, what: &'static str) -> bool {
        self.0.told.lock().insert(what)
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisClient").field(&self.0.dialer).finish()
    }
}

fn share<T>(kept: &Mutex<Weak<T>>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut kept = kept.lock();
    kept.upgrade().unwrap_or_else(|| {
        let made = Arc::new(make());
        *kept = Arc::downgrade(&made);
        made
    })
}

#[cfg(test)]
#[path = "../../tests/it/support/redis.rs"]
pub(in crate::source) mod test_redis;

#[cfg(test)]
pub(in crate::source) mod testing {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// Fails the test when `future` takes longer than anything here should.
    pub(in crate::source) async fn soon<T>(future: impl Future<Output = T>) -> T {
        timeout(Duration::from_secs(20), future)
            .await
            .expect("in time")
    }

    /// Waits until `condition` holds, which nothing announces.
    pub(in crate::source) async fn eventually(mut condition: impl FnMut() -> bool) {
        soon(async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    impl RedisClient {
        /// With deadlines that suit tests.
        pub(in crate::source) fn for_test(url: &str) -> Self {
            Self::with(url, None, impatient()).expect("a usable URL")
        }

        pub(in crate::source) fn for_test_trusting(url: &str, roots: RootCertStore) -> Self {
            Self::with(url, Some(roots), impatient()).expect("a usable URL")
        }
    }

    fn impatient() -> Patience {
        Patience {
            connect: Duration::from_secs(2),
            reply: Duration::from_millis(1500),
            heartbeat: Duration::from_millis(300),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn server(url: &str) -> Arc<config::RedisServer> {
        Arc::new(config::RedisServer {
            name: "main".into(),
            url: Secret::new(url),
        })
    }

    /// EDGE R7.
    #[test]
    fn the_password_is_never_shown() {
        for url in [
            "redis://ann:hunter2@127.0.0.1:1/3",
            "redis+unix:///run/redis.sock?user=ann&pass=hunter2",
        ] {
            let client = RedisClient::new(server(url)).expect("a usable URL");
            let shown = format!("{client:?}");
            assert!(
                !shown.contains("hunter2") && !shown.contains("ann"),
                "{shown}"
            );
        }
    }

    /// EDGE R7: a certificate is always verified, and what is wrong is said without the URL.
    #[test]
    fn urls_that_cannot_be_served_are_refused_without_being_quoted() {
        for url in [
            "rediss://ann:hunter2@localhost:1/#insecure",
            "http://hunter2@x/",
            "redis://hunter2@/",
        ] {
            let error = RedisClient::new(server(url)).expect_err(url);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
