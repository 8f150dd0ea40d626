//! What went wrong with Redis, as a cause class for clients and a sentence for the log (EDGE R5, U19).

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::framer::TOO_LARGE;
use crate::source::{Cause, SourceError};

/// What is said of a server that has no pushes.
const TOO_OLD: &str = "the redis server announces nothing: that needs Redis 6 or newer";

/// Of a command, or of a subscription.
pub(super) fn of_command(error: &RedisError) -> SourceError {
    let detail = match cause(error) {
        Cause::Timeout => "the redis server did not answer in time".to_owned(),
        Cause::TooLarge => {
            "the reply is larger than 1 MiB or has more than 100,000 elements".to_owned()
        }
        _ if error.is_connection_dropped() => return connection_lost(),
        _ if error.redirect_node().is_some() => {
            "the redis server is a node of a cluster, and another one has the key (write url as a list of nodes)".to_owned()
        }
        _ => match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("the redis server says {code}: {detail}"),
            _ => error.to_string(),
        },
    };
    SourceError::new(cause(error), detail)
}

/// Of everything that was under way.
pub(super) fn connection_lost() -> SourceError {
    SourceError::new(Cause::Redis, "the connection to the redis server was lost")
}

/// Of HELLO, AUTH and SELECT. A server may quote these commands in its answer, and they hold the password, so of
/// its answer only the code is told (EDGE R7).
pub(super) fn at_login(error: &RedisError) -> SourceError {
    let detail = match (error.kind(), error.code()) {
        _ if has_no_hello(error) => TOO_OLD.to_owned(),
        (ErrorKind::AuthenticationFailed, _) => {
            "the redis server refused user and password".to_owned()
        }
        (_, Some(code)) => format!("the redis server refused the login: {code}"),
        _ => format!("login at the redis server failed: {}", error.category()),
    };
    SourceError::new(cause(error), detail)
}

/// The library knows the words of Redis 5 alone.
fn has_no_hello(error: &RedisError) -> bool {
    let says = |words| {
        error
            .detail()
            .is_some_and(|detail| detail.starts_with(words))
    };
    error.kind() == ErrorKind::RESP3NotSupported || says("unknown command 'HELLO'")
}

/// Whether the server has no pushes, and will have none before somebody installs another one.
pub(super) fn is_too_old(error: &SourceError) -> bool {
    error.detail == TOO_OLD
}

/// Whether the server reads its data set: it is there and yet of no use.
pub(super) fn is_loading(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::BusyLoading)
}

/// The user may not use the command, key or channel.
pub(super) fn is_forbidden(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

/// The server answered, if with an error.
pub(super) fn is_answer(error: &RedisError) -> bool {
    error.code().is_some()
}

fn cause(error: &RedisError) -> Cause {
    match error.code() {
        Some("NOPERM" | "NOAUTH" | "WRONGPASS") => Cause::Unauthorized,
        Some(TOO_LARGE) => Cause::TooLarge,
        _ if error.kind() == ErrorKind::AuthenticationFailed => Cause::Unauthorized,
        _ if error.is_timeout() => Cause::Timeout,
        _ => Cause::Redis,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE R5: the usual slip, one node of a cluster as if it were the server, is named.
    #[test]
    fn a_redirection_that_nobody_follows_says_what_to_write() {
        let reply = redis::parse_redis_value(b"-MOVED 866 10.0.0.1:6379\r\n").expect("a reply");
        let error = reply.extract_error().expect_err("an error");
        let told = of_command(&error);
        assert_eq!(told.cause, Cause::Redis);
        assert!(told.detail.contains("list of nodes"), "{told}");
    }
}
