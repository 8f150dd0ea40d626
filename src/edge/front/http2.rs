//! HTTP/2, by ALPN or by prior knowledge: one task drives the connection, one task serves each request (EDGE X1–X8).
//!
//! A connection that carries streams is never idle, whoever writes them: what lives is known to the protocol itself.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use h2::Reason;
use h2::server::Connection as H2;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{Digest, Stream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use super::super::conn::Connection;
use super::super::pace::Heard;
use super::meter::{Alarm, Meter};
use super::{Guest, Settings};

/// Requests at once on one connection (EDGE X1).
const CONCURRENT: u32 = 128;

/// Largest header list that is taken, whatever HTTP/1.1 may have (EDGE X2).
const MAX_HEADER_LIST: usize = 64 * 1024;

/// Bytes of request bodies that a client may send ahead: of one request, and of all.
const WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// Streams that were reset, whose frames may still come; beyond, the connection ends (EDGE X3).
const RESETS: usize = 64;

/// Malformed requests that a connection may send.
const MALFORMED: u8 = 32;

/// How long a connection without streams is kept.
const IDLE: Duration = Duration::from_secs(75);

/// How long nothing may come of a request's body: longer than any upstream may take to accept what came before, and longer than
/// it takes to refuse the request for it. What is left then is a body after its answer.
pub(super) const SILENCE: Duration = Duration::from_secs(90);

/// How long a connection that was told to end is waited for, once nothing happens on it.
const FAREWELL: Duration = Duration::from_secs(5);

/// How long one that may still bring a request is listened to when the process ends.
const LAST_MOMENT: Duration = Duration::from_millis(250);

/// How long a request may hold up what else is to be done.
const TURN: Duration = Duration::from_micros(500);

/// What Pingora would tell about a connection: whose it is is known here, and told by the task.
static DIGEST: LazyLock<Arc<Digest>> = LazyLock::new(Arc::default);

/// Serves a connection until it is over.
pub(super) async fn serve(guest: Guest, mut connection: Box<Connection>) {
    let alarm = Arc::new(Alarm::default());
    guest.origin.open.is_http2();
    connection.notice_absence(guest.settings.write_stall);
    connection.begin_http2(Meter::new(alarm.clone()));
    let shaken = Box::pin(handshake(connection, Some(options(&guest.settings))));
    match timeout(guest.settings.header_timeout, shaken).await {
        // In a task of its own, without what the handshake needed; whose connection it is, each request says by itself.
        Ok(Ok(mut connection)) => {
            let requests = guest.house.requests.clone();
            requests.spawn(async move {
                // Borrowed: what is moved into a future takes its room twice.
                if attend(&guest, &mut connection, &alarm).await == Over::Calm {
                    calm(&mut connection).await;
                }
            });
        }
        Ok(Err(error)) => debug!(%error, "an HTTP/2 connection did not begin"),
        Err(_) => debug!("an HTTP/2 connection took too long to begin"),
    }
}

fn options(settings: &Settings) -> H2Options {
    // These hold the bound on what HPACK may make of a header block.
    let mut options = default_h2_options();
    let list = settings.max_header_bytes.min(MAX_HEADER_LIST);
    options
        .max_concurrent_streams(CONCURRENT)
        .max_header_list_size(u32::try_from(list).unwrap_or(u32::MAX))
        .initial_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(RESETS))
        .max_send_buffer_size(WINDOW as usize);
    options
}

/// How a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nothing is to be said any more.
    Silently,
    /// The client is to be calm.
    Calm,
}

/// Takes requests until the connection is over. It is there for each connection: nothing large may live while it waits.
async fn attend(guest: &Guest, connection: &mut H2<Stream, Bytes>, alarm: &Alarm) -> Over {
    let mut malformed = 0_u8;
    let mut ending = false;
    // Its settings must come in the time of a head.
    let mut until = Instant::now() + guest.settings.header_timeout;
    loop {
        // Matched at once: what is named takes room as long as the loop waits.
        let took = match tokio::select! {
            biased;
            () = alarm.rung() => {
                debug!("an HTTP/2 client sends frames that cost and bring nothing");
                return Over::Calm;
            }
            () = guest.stopped(), if !ending => {
                // New requests go elsewhere; streams end by their own (EDGE X8).
                connection.graceful_shutdown();
                ending = true;
                until = Instant::now() + LAST_MOMENT;
                continue;
            }
            accepted = HttpSession::from_h2_conn(connection, DIGEST.clone()) => accepted,
            () = sleep_until(until) => {
                if !alarm.has_settings() && !ending {
                    debug!("an HTTP/2 connection took too long to begin");
                    return Over::Silently;
                }
                if connection.has_streams() {
                    until = Instant::now() + if ending { LAST_MOMENT } else { IDLE };
                } else if ending {
                    return Over::Silently;
                } else {
                    connection.graceful_shutdown();
                    ending = true;
                    until = Instant::now() + FAREWELL;
                }
                continue;
            }
        } {
            Ok(Some(H2Accept::Session(request))) => begin(guest, request),
            Ok(Some(H2Accept::Rejected)) => {
                malformed += 1;
                if malformed > MALFORMED {
                    debug!("an HTTP/2 client sends malformed requests");
                    return Over::Calm;
                }
                Duration::ZERO
            }
            Ok(None) => return Over::Silently,
            Err(error) => {
                debug!(%error, "an HTTP/2 connection failed");
                return Over::Silently;
            }
        };
        // Others of this thread, and of this connection, are not to wait for many requests that take long.
        if took > TURN {
            tokio::task::yield_now().await;
        }
        if !ending {
            until = until.max(Instant::now() + IDLE);
        }
    }
}

/// Serves a request. A stream is handed over at once, and its head is written before the next request is taken: what a hundred
/// requests in a row take is thus taken once. Returns how long that took.
fn begin(guest: &Guest, request: HttpSession) -> Duration {
    let began = Instant::now();
    let mut server = guest.clone();
    let heard = (!request.is_body_done()).then(Heard::new);
    server.origin.heard.clone_from(&heard);
    let silence = server.settings.body_silence;
    let origin = server.origin.clone();
    let served = origin.scope(async move {
        let silent = async {
            match heard {
                Some(heard) => heard.nothing_for(silence).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = server.serve(ServerSession::new_http2(request)) => {}
            () = silent => {
                debug!("a request ends, as nothing came of its body any more");
            }
        }
    });
    run(&guest.house.requests, served);
    began.elapsed()
}

/// Runs `request` as far as it comes by itself at once, and then in a task of its own. A panic of it is a bug that costs this
/// request, not the others of its connection.
fn run(requests: &TaskTracker, request: impl Future<Output = ()> + Send + 'static) {
    let mut caught = Box::pin(AssertUnwindSafe(request).catch_unwind());
    match caught.as_mut().now_or_never() {
        Some(Ok(())) => {}
        Some(Err(_)) => error!("a request panicked"),
        None => drop(requests.spawn(caught)),
    }
}

/// Tells the client to be calm and ends the connection.
async fn calm(connection: &mut H2<Stream, Bytes>) {
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let closed = std::future::poll_fn(|cx| connection.poll_closed(cx));
    let _ = timeout(FAREWELL, closed).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE X7: a request that panics is no end of those beside it; what can be done at once takes no task.
    #[tokio::test]
    async fn a_request_costs_others_nothing() {
        let requests = TaskTracker::new();
        run(&requests, async { panic!("a bug") });
        run(&requests, async {});
        assert!(requests.is_empty());
        let (go_on, told) = tokio::sync::oneshot::channel::<()>();
        let (done, ended) = tokio::sync::oneshot::channel();
        run(&requests, async {
            told.await.expect("told");
            done.send(()).expect("heard");
        });
        run(&requests, async {
            tokio::task::yield_now().await;
            panic!("a bug")
        });
        assert_eq!(requests.len(), 2);
        go_on.send(()).expect("it waits");
        ended.await.expect("it goes on");
        requests.close();
        requests.wait().await;
    }
}
