//! Streams over HTTP/2: a small task each, beside the connection's own, which drives the socket.
//!
//! It is the shard's discipline in the words of flow control (RFC 9113 §5.2): nothing is handed over before there is
//! room for it. A client that opens no window costs a pointer into shared bytes, is owed nothing until it took those,
//! and gets everything since as one; other streams of its connection do not notice (EDGE X7). No DATA frame is empty
//! (EDGE E17): the last one carries `closing`.
//!
//! A connection has a place for each frame that waits to be written, and keeps as many as it once needed: a stream hands
//! over one at a time, the first bytes with the first event.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use h2::SendStream;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use super::end::{EXPIRY, WALL};
use super::socket::Outgoing;
use super::{Arrival, Closing, Drain, Held, Limits, Reason};
use crate::channel::{Channel, Cursor, Form, Tally};
use crate::sse::{Encoder, Frame};

/// The most that one DATA frame may hold without being asked for (RFC 9113 §6.5.2).
const PIECE: usize = 16 * 1024;

/// The first bytes and the first event leave as one frame, up to so many: they are copied, and a client that reads nothing
/// is to cost little.
const JOINED: usize = 4 * 1024;

/// Serves a stream. Must be called within a runtime; the connection's is the right one.
pub(super) fn adopt(
    body: SendStream<Bytes>,
    arrival: Arrival,
    limits: Limits,
    drain: watch::Receiver<Option<Drain>>,
) {
    let mut stream = Http2Stream::new(body, arrival, limits, drain);
    stream.begin();
    // Borrowed: what is moved into a future takes its room twice, and this one is there for each stream.
    tokio::spawn(async move { stream.run().await });
}

#[derive(Debug)]
struct Http2Stream {
    body: SendStream<Bytes>,
    cursor: Cursor,
    form: Form,
    encoder: Encoder,
    limits: Limits,
    heartbeat: Duration,
    /// When it ends by itself, and what its client is told then.
    until: Instant,
    closing: Closing,
    /// The last bytes are among what is unsent, or sent.
    ending: bool,
    unsent: Outgoing,
    /// When it last took bytes, or began to be owed some.
    written: Instant,
    bytes: u64,
    events: u64,
    held: Held,
    drain: watch::Receiver<Option<Drain>>,
}

/// What a stream waits for.
enum Wake {
    Room,
    News,
    Time,
    Drain,
}

impl Http2Stream {
    fn new(
        body: SendStream<Bytes>,
        arrival: Arrival,
        limits: Limits,
        drain: watch::Receiver<Option<Drain>>,
    ) -> Self {
        let now = Instant::now();
        Self {
            body,
            cursor: arrival.cursor,
            form: arrival.form,
            encoder: arrival.encoder,
            limits,
            heartbeat: jittered(arrival.heartbeat),
            until: now + jittered(arrival.max_age),
            closing: Closing::MaxAge,
            ending: false,
            unsent: Outgoing::from(Bytes::from(arrival.head)),
            written: now,
            bytes: 0,
            events: 0,
            held: arrival.held,
            drain,
        }
    }

    /// The first event leaves with what goes before it, and both with the head, which is not sent yet (EDGE E15).
    fn begin(&mut self) {
        let channel = self.held.subscription.channel().clone();
        self.take_owed(&channel);
        self.unsent.join(JOINED);
        // Where that fails it fails again.
        let _ = self.send(Instant::now());
    }

    async fn run(&mut self) {
        let reason = self.serve().await;
        if reason != Reason::ClientLeft && !(self.ending && self.unsent.is_empty()) {
            // Its end is not on its way: what is left of the stream is given up.
            self.body.send_reset(h2::Reason::CANCEL);
        }
        self.held.account.close(reason, self.bytes, self.events);
    }

    async fn serve(&mut self) -> Reason {
        if self.drain.borrow_and_update().is_some() {
            self.drain_within(Duration::ZERO);
        }
        let channel = self.held.subscription.channel().clone();
        let mut news = channel.version();
        let timer = sleep_until(self.due());
        tokio::pin!(timer);
        loop {
            if let Some(reason) = self.go_on(&channel) {
                return reason;
            }
            self.set(timer.as_mut());
            let free = self.is_free();
            let woken = tokio::select! {
                biased;
                room = room(&mut self.body, free) => room,
                changed = self.drain.changed() => changed.ok().map(|()| Wake::Drain),
                () = news.changed(), if free => Some(Wake::News),
                () = &mut timer => Some(Wake::Time),
            };
            match woken {
                Some(Wake::Room | Wake::News | Wake::Time) => {}
                Some(Wake::Drain) => {
                    let window = self.drain.borrow_and_update().map(|drain| drain.window);
                    self.drain_within(window.unwrap_or_default());
                }
                None if self.drain.has_changed().is_err() => return Reason::Stopped,
                None => return Reason::ClientLeft,
            }
        }
    }

    /// Lets `timer` wake it in time.
    fn set(&self, timer: Pin<&mut Sleep>) {
        let due = self.due();
        if due < timer.deadline() || timer.is_elapsed() {
            timer.reset(due);
        }
    }

    /// Does what can be done now. Returns why it is over, if it is.
    fn go_on(&mut self, channel: &Channel) -> Option<Reason> {
        loop {
            let now = Instant::now();
            if self.send(now).is_err() {
                return Some(Reason::ClientLeft);
            }
            if channel.is_retired() {
                self.end_for(Closing::Reload, now);
            }
            if (self.held.expires).is_some_and(|expires| expires <= SystemTime::now()) {
                self.end_for(Closing::TokenExpired, now);
            }
            if !self.is_free() {
                return self.is_overdue(now);
            }
            if self.ending {
                return Some(Reason::Closed(self.closing));
            }
            if now >= self.until {
                self.end(channel);
            } else if !self.take_owed(channel) {
                if now < self.written + self.heartbeat {
                    return None;
                }
                self.unsent = self.encoder.frame(Frame::heartbeat()).into();
            }
            // What it begins to be owed now.
            self.written = now;
        }
    }

    fn is_free(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Why it is given up, when it takes too long for what is unsent.
    fn is_overdue(&self, now: Instant) -> Option<Reason> {
        if self.cut().is_some_and(|cut| now >= cut) {
            return Some(Reason::Closed(self.closing));
        }
        (now >= self.written + self.limits.write_stall).then_some(Reason::Stalled)
    }

    /// When it is given up though it may still be taking bytes.
    fn cut(&self) -> Option<Instant> {
        (self.closing == Closing::TokenExpired).then(|| self.until + EXPIRY)
    }

    /// When it must be looked at next.
    fn due(&self) -> Instant {
        let due = match self.is_free() {
            true => (self.written + self.heartbeat).min(self.until),
            false => self.written + self.limits.write_stall,
        };
        let expiry = match (self.cut(), self.held.expires) {
            (Some(cut), _) => Some(cut),
            (None, Some(expires)) => {
                let left = expires.duration_since(SystemTime::now());
                Some(Instant::now() + left.unwrap_or_default().min(WALL))
            }
            (None, None) => None,
        };
        expiry.map_or(due, |expiry| expiry.min(due))
    }

    /// Hands over what there is room for.
    fn send(&mut self, now: Instant) -> Result<(), h2::Error> {
        while !self.is_free() {
            self.body.reserve_capacity(self.unsent.len().min(PIECE));
            let room = self.body.capacity().min(PIECE);
            if room == 0 {
                break;
            }
            let piece = self.unsent.split_to(room);
            self.bytes += piece.len() as u64;
            self.written = now;
            let last = self.ending && self.is_free();
            self.body.send_data(piece, last)?;
        }
        Ok(())
    }

    /// Puts what it is owed behind what is unsent. Returns whether that was something.
    fn take_owed(&mut self, channel: &Channel) -> bool {
        let owed = channel.deliver(&self.cursor, self.form, self.limits.queue);
        let Some(delivery) = owed else {
            return false;
        };
        self.cursor = delivery.cursor;
        self.events += u64::from(delivery.events);
        let mut tally = Tally::default();
        tally.add(&delivery, channel.metrics());
        tally.settle(channel.metrics());
        let frame = delivery.frame.map(|frame| self.encoder.frame(&frame));
        self.unsent.then = frame.unwrap_or_default();
        !self.unsent.is_empty()
    }

    /// Its last bytes. Only when it is free.
    fn end(&mut self, channel: &Channel) {
        // A token that has expired gives no right to what came since.
        if self.closing != Closing::TokenExpired {
            self.take_owed(channel);
        }
        let retry = match self.closing {
            Closing::Drain => self.drain.borrow().map(|drain| drain.retry),
            _ => None,
        };
        self.unsent = Outgoing {
            first: std::mem::take(&mut self.unsent.then),
            then: self.encoder.end(&self.closing.event(retry)).into(),
        };
        self.ending = true;
    }

    /// Ends it at `at`, or as soon as it is free.
    fn end_for(&mut self, closing: Closing, at: Instant) {
        if !self.ending && at <= self.until {
            self.until = at;
            self.closing = closing;
        }
    }

    /// Ends it at a moment of its own within `window` (EDGE L14).
    fn drain_within(&mut self, window: Duration) {
        self.end_for(
            Closing::Drain,
            Instant::now() + window.mul_f64(fastrand::f64()),
        );
    }
}

/// Completes when there is room for what is unsent, if it is not `free`; `None`: the client has left.
async fn room(body: &mut SendStream<Bytes>, free: bool) -> Option<Wake> {
    poll_fn(|cx| {
        if body.poll_reset(cx).is_ready() {
            return Poll::Ready(None);
        }
        if free {
            return Poll::Pending;
        }
        match body.poll_capacity(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Ok(_))) => Poll::Ready(Some(Wake::Room)),
            Poll::Ready(_) => Poll::Ready(None),
        }
    })
    .await
}

/// 90 to 110 percent, so that what was opened together does not beat together (EDGE T1, L16).
fn jittered(duration: Duration) -> Duration {
    duration.mul_f64(0.9 + 0.2 * fastrand::f64())
}

#[cfg(test)]
mod tests;
