//! How a server is asked whether it lives, and whether it still is the one to ask.

use std::time::Instant;

use redis::Value;
use redis::aio::MultiplexedConnection;

use super::fault;
use crate::source::{Cause, SourceError};

/// What a server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    Ping,
    /// Allowed to every user, so that one who may not ask the question does not fill the server's ACL log (EDGE R4).
    Hello,
    /// Whether it is the master: ROLE.
    Master,
}

impl Probe {
    /// Any answer shows life, but for one: that the server is of no use now. Gives when it was asked.
    pub(super) async fn ask(
        &mut self,
        connection: &MultiplexedConnection,
    ) -> Result<Instant, SourceError> {
        let asked = Instant::now();
        let answer = connection
            .clone()
            .send_packed_command(&self.command())
            .await;
        match answer.and_then(Value::extract_error) {
            Ok(value) => self.judge(&value).map(|()| asked),
            Err(error) if fault::is_forbidden(&error) => {
                *self = Self::Hello;
                Ok(asked)
            }
            // A server that wants a login which we do not have answers all else in the same way.
            Err(error) if fault::is_loading(&error) || error.code() == Some("NOAUTH") => {
                Err(fault::of_command(&error))
            }
            Err(error) if fault::is_answer(&error) => Ok(asked),
            Err(error) => Err(fault::of_command(&error)),
        }
    }

    fn command(self) -> redis::Cmd {
        match self {
            Self::Ping => redis::cmd("PING"),
            Self::Hello => redis::cmd("HELLO"),
            Self::Master => redis::cmd("ROLE"),
        }
    }

    fn judge(self, answer: &Value) -> Result<(), SourceError> {
        match (self, answer) {
            (Self::Master, Value::Array(parts)) if !is_master(parts) => Err(SourceError::new(
                Cause::Redis,
                "the redis server that the sentinels name is not the master",
            )),
            _ => Ok(()),
        }
    }
}

fn is_master(role: &[Value]) -> bool {
    matches!(role.first(), Some(Value::BulkString(name)) if name == b"master")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_not_the_one_to_ask_is_of_no_use() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let role = |name| Value::Array(vec![bulk(name), Value::Int(1)]);
        assert!(Probe::Master.judge(&role("master")).is_ok());
        assert!(Probe::Master.judge(&role("slave")).is_err());
        assert!(
            Probe::Ping
                .judge(&Value::SimpleString("PONG".into()))
                .is_ok()
        );
    }
}
