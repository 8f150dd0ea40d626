//! Watches the frames that an HTTP/2 client sends, for what costs us work and brings it nothing (EDGE X3): resets, pings,
//! settings, priorities, empty data. A client may send some at once and some a second; beyond, it is to be calm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

/// Bytes of the connection preface.
const PREFACE: usize = 24;

/// Frames that may come at once, and a second.
const BURST: f64 = 1000.0;
const RATE: f64 = 100.0;

/// Reads frame heads out of the bytes as they come (RFC 9113 §4.1).
#[derive(Debug)]
pub(in super::super) struct Meter {
    /// Bytes to skip: the preface, or the rest of a frame.
    skip: usize,
    head: [u8; 9],
    have: usize,
    allowance: f64,
    since: Instant,
    alarm: Arc<Alarm>,
}

/// What the connection's loop is told.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    settings: AtomicBool,
    over: AtomicBool,
    wake: Notify,
}

impl Alarm {
    /// Whether the client has said its settings, as it must first.
    pub(super) fn has_settings(&self) -> bool {
        self.settings.load(Ordering::Relaxed)
    }

    /// Completes when the client sent too much.
    pub(super) async fn rung(&self) {
        self.wake.notified().await;
    }
}

impl Meter {
    pub(super) fn new(alarm: Arc<Alarm>) -> Box<Self> {
        Box::new(Self {
            skip: PREFACE,
            head: [0; 9],
            have: 0,
            allowance: BURST,
            since: Instant::now(),
            alarm,
        })
    }

    /// Whether the client sent too much: nothing more of it is read.
    pub(in super::super) fn is_over(&self) -> bool {
        self.alarm.over.load(Ordering::Relaxed)
    }

    /// Looks at what came.
    pub(in super::super) fn watch(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (self.head.len() - self.have).min(bytes.len());
            self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have == self.head.len() {
                self.have = 0;
                self.frame();
            }
        }
    }

    fn frame(&mut self) {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const SETTINGS: u8 = 4;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        const END_STREAM: u8 = 1;
        let [a, b, c, kind, flags, ..] = self.head;
        self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let costs = match kind {
            // Paid for by the stream, or by the window.
            HEADERS | CONTINUATION | WINDOW_UPDATE => false,
            DATA => self.skip == 0 && flags & END_STREAM == 0,
            SETTINGS => {
                self.alarm.settings.store(true, Ordering::Relaxed);
                true
            }
            // RST_STREAM, PING, PRIORITY, GOAWAY, and what nobody knows.
            _ => true,
        };
        if costs && !self.pay(Instant::now()) {
            self.alarm.over.store(true, Ordering::Relaxed);
            self.alarm.wake.notify_one();
        }
    }

    fn pay(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.allowance = (self.allowance + passed * RATE).min(BURST) - 1.0;
        self.allowance >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(9 + usize::from(length), 0xff);
        frame
    }

    fn fed(bytes: &[u8], piece: usize) -> (bool, bool) {
        let alarm = Arc::new(Alarm::default());
        let mut meter = Meter::new(alarm.clone());
        for piece in bytes.chunks(piece) {
            meter.watch(piece);
        }
        (meter.is_over(), alarm.has_settings())
    }

    /// EDGE X3: floods are noticed, however they are cut; requests, bodies and windows are none.
    #[test]
    fn floods_are_noticed() {
        let preface = vec![b'x'; PREFACE];
        for piece in [1, 7, 9, 4096] {
            for (kind, length) in [(3, 4), (6, 8), (4, 0), (2, 5), (0, 0), (0x77, 3)] {
                let flood = [preface.clone(), frame(kind, 0, length).repeat(1100)].concat();
                assert!(fed(&flood, piece).0, "kind {kind}");
                let some = [preface.clone(), frame(kind, 0, length).repeat(900)].concat();
                assert!(!fed(&some, piece).0, "kind {kind}");
            }
            for (kind, flags, length) in [(1, 5, 30), (0, 0, 1), (0, 1, 0), (8, 0, 4), (9, 4, 9)] {
                let work = [preface.clone(), frame(kind, flags, length).repeat(5000)].concat();
                assert_eq!(fed(&work, piece), (false, false), "kind {kind}");
            }
            assert!(fed(&[preface.clone(), frame(4, 0, 6)].concat(), piece).1);
        }
    }

    #[test]
    fn allowance_comes_back() {
        let mut meter = Meter::new(Arc::default());
        let start = Instant::now();
        while meter.pay(start) {}
        assert!(!meter.pay(start));
        assert!(meter.pay(start + Duration::from_secs(1)));
    }
}
