//! One connection for pushes that stands, and what its server can do. The server is asked when somebody first needs to
//! know, and once: a user with few rights leaves no more traces in the server's ACL log than that (EDGE R4).

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::OnceCell;

use super::fault;
use crate::source::SourceError;

/// A connection that stands.
#[derive(Debug)]
pub(in crate::source) struct Link {
    pub(super) connection: Connection,
    tracking: OnceCell<Result<(), String>>,
    notifications: OnceCell<Notifications>,
}

/// [`MultiplexedConnection`], which is not `Debug`.
pub(super) struct Connection(pub(super) MultiplexedConnection);

/// An error that the server answered with.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// Another node of the cluster is to be asked.
    pub(super) is_redirection: bool,
}

/// Which keyspace notifications the server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Notifications {
    /// `notify-keyspace-events` as the server says it, such as `AKE`.
    Known(String),
    /// The server does not tell us, for this reason.
    Hidden(String),
}

impl Link {
    pub(super) fn new(connection: MultiplexedConnection) -> Self {
        Self {
            connection: Connection(connection),
            tracking: OnceCell::new(),
            notifications: OnceCell::new(),
        }
    }

    /// Has the server track this connection; `Err` in the middle says why it does not.
    pub(in crate::source) async fn track(&self) -> Result<Result<(), String>, SourceError> {
        let asked = self.tracking.get_or_try_init(|| async {
            let mut command = redis::cmd("CLIENT");
            command.arg("TRACKING").arg("ON");
            let answer = self.ask(&command).await?;
            Ok::<_, SourceError>(answer.map(drop).map_err(|refusal| refusal.why))
        });
        asked.await.cloned()
    }

    /// Whether the server is known to track this connection.
    pub(super) fn is_tracked(&self) -> bool {
        matches!(self.tracking.get(), Some(Ok(())))
    }

    /// Which notifications the server sends. It is not told to send others: that is its owner's decision.
    pub(in crate::source) async fn notifications(&self) -> Result<Notifications, SourceError> {
        let asked = self.notifications.get_or_try_init(|| async {
            let mut command = redis::cmd("CONFIG");
            command.arg("GET").arg("notify-keyspace-events");
            Ok::<_, SourceError>(match self.ask(&command).await? {
                Ok(answer) => match setting(answer) {
                    Some(classes) => Notifications::Known(classes),
                    None => Notifications::Hidden("CONFIG GET tells nothing".to_owned()),
                },
                Err(refusal) => Notifications::Hidden(refusal.why),
            })
        });
        asked.await.cloned()
    }

    /// The answer, or the error that the server answered with; the outer error: it did not answer.
    pub(super) async fn ask(
        &self,
        command: &redis::Cmd,
    ) -> Result<Result<Value, Refusal>, SourceError> {
        let mut connection = self.connection.0.clone();
        let answer = connection.send_packed_command(command).await;
        match answer.and_then(Value::extract_error) {
            Ok(value) => Ok(Ok(value)),
            Err(error) if fault::is_answer(&error) => Ok(Err(Refusal {
                why: fault::of_command(&error).detail,
                is_redirection: error.redirect_node().is_some(),
            })),
            Err(error) => Err(fault::of_command(&error)),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Notifications {
    /// Whether every change of a key of the class `class` (`$`, `l`, `s`, `h`, `z`, `d`) is announced: by its own commands,
    /// by generic ones, by expiry and by eviction (Redis documentation, "Redis keyspace notifications").
    pub(in crate::source) fn cover(&self, class: char) -> bool {
        match self {
            Self::Known(classes) => {
                let has = |class| classes.contains(class);
                has('K') && (has('A') || ['g', class, 'x', 'e'].into_iter().all(has))
            }
            Self::Hidden(_) => false,
        }
    }
}

/// The value of a CONFIG GET of one setting: a map in RESP3.
fn setting(answer: Value) -> Option<String> {
    let value = match answer {
        Value::Map(pairs) => pairs.into_iter().next()?.1,
        Value::Array(items) => items.into_iter().nth(1)?,
        _ => return None,
    };
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_cover_a_key_when_no_kind_of_change_is_left_out() {
        for (classes, class, covers) in [
            ("AKE", '$', true),
            ("AK", 'z', true),
            ("AE", '$', false),
            ("g$xeK", '$', true),
            ("g$xeK", 'h', false),
            ("g$xK", '$', false),
            ("xK", '$', false),
            ("", '$', false),
        ] {
            let known = Notifications::Known(classes.into());
            assert_eq!(known.cover(class), covers, "{classes} {class}");
        }
        assert!(!Notifications::Hidden("NOPERM".into()).cover('$'));
    }

    #[test]
    fn a_setting_is_read_from_either_protocol() {
        let text = |text: &str| Value::BulkString(text.into());
        let pair = (text("notify-keyspace-events"), text("AKE"));
        assert_eq!(
            setting(Value::Map(vec![pair.clone()])).as_deref(),
            Some("AKE")
        );
        assert_eq!(
            setting(Value::Array(vec![pair.0, pair.1])).as_deref(),
            Some("AKE")
        );
        assert_eq!(setting(Value::Map(vec![])), None);
        assert_eq!(setting(Value::Nil), None);
    }
}
