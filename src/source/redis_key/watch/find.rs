//! Finds out in which way a server announces changes of a key, if it does.

use std::time::Instant;

use tracing::{info, warn};

use super::super::super::redis_server::{Link, Notifications, Standing, Topic};
use super::{KeyWatch, Notified, RETRY_REFUSED, Tracked, Way};
use crate::config::RedisWatch;

impl KeyWatch {
    /// The first way that is wished for and that the server allows; not tracking, if it is refused for this key.
    pub(super) async fn find_way(&self, refused: Option<&str>) -> Way {
        let link = match &*self.standing.borrow() {
            Standing::Up(link) => link.clone(),
            Standing::Connecting | Standing::Down => return Way::None(None),
        };
        // Without an answer the connection ends, and with the next one the way is looked for again.
        match self.wish {
            RedisWatch::Auto => match self.tracking(&link, refused).await {
                Ok(Ok(way)) => way,
                Ok(Err(tracking)) => match self.keyspace(&link).await {
                    Ok(Ok(way)) => way,
                    Ok(Err(keyspace)) => {
                        let why = format!("{tracking}; {keyspace}");
                        self.tell_polled("tracking or keyspace notifications", &why);
                        Way::None(refused.map(|_| Instant::now() + RETRY_REFUSED))
                    }
                    Err(NoAnswer) => Way::None(None),
                },
                Err(NoAnswer) => Way::None(None),
            },
            RedisWatch::Tracking => match self.tracking(&link, refused).await {
                Ok(Ok(way)) => way,
                Ok(Err(why)) => {
                    self.tell_polled("tracking", &why);
                    Way::None(refused.map(|_| Instant::now() + RETRY_REFUSED))
                }
                Err(NoAnswer) => Way::None(None),
            },
            RedisWatch::Keyspace => match self.keyspace(&link).await {
                Ok(Ok(way)) => way,
                Ok(Err(why)) => {
                    self.tell_polled("keyspace notifications", &why);
                    Way::None(None)
                }
                Err(NoAnswer) => Way::None(None),
            },
            RedisWatch::Poll => Way::None(None),
        }
    }

    async fn tracking(&self, link: &Link, refused: Option<&str>) -> Found {
        if let Some(why) = refused {
            return Ok(Err(why.to_owned()));
        }
        let answer = link.track().await.map_err(|_| NoAnswer)?;
        Ok(answer.map(|()| {
            Way::Tracking(Tracked {
                key: self.pushes.clone().track(&self.key),
                was_armed: false,
                read: None,
            })
        }))
    }

    async fn keyspace(&self, link: &Link) -> Found {
        let notifications = link.notifications().await.map_err(|_| NoAnswer)?;
        let assured = notifications.cover(self.class);
        match notifications {
            _ if assured => {}
            // Its owner says that it announces. Until that is known, it is polled as well.
            Notifications::Hidden(why) if self.wish == RedisWatch::Keyspace => {
                self.tell_polled("what the server announces", &why);
            }
            Notifications::Hidden(why) => return Ok(Err(why)),
            Notifications::Known(classes) => {
                let needed = format!("g{}xeK", self.class);
                let why = format!(
                    "notify-keyspace-events is {classes:?}, which leaves changes out (set {needed}, or KA)"
                );
                return Ok(Err(why));
            }
        }
        let channel = format!("__keyspace@{}__:{}", self.client.database(), self.key);
        Ok(Ok(Way::Keyspace(Notified {
            subscription: self.pushes.clone().subscribe(Topic::Channel(channel)),
            assured,
            is_up: None,
            news: false,
        })))
    }

    /// Says once for a server what is not to be had, so that the keys are polled at their interval.
    pub(super) fn tell_polled(&self, what: &'static str, why: &str) {
        if self.client.tells_first(what) {
            let (server, why) = (&self.client, why.escape_debug());
            match self.wish {
                RedisWatch::Auto => info!(?server, %why, "no {what}: keys are polled"),
                _ => warn!(?server, %why, "no {what}: keys are polled"),
            }
        }
    }
}

/// A way, or why it is not to be had.
type Found = Result<Result<Way, String>, NoAnswer>;

/// The connection is about to end.
struct NoAnswer;
