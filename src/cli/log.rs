//! Where log lines go: to a thread of their own, which writes them to standard error.
//!
//! Whoever logs never waits: not for a terminal, not for a full pipe that nobody reads. Lines that there is no room for are
//! dropped, and how many is told as soon as there is room again.

pub(super) mod fields;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait to be written.
const ROOM: usize = 4 << 20;
/// How long lines are gathered: whoever logs is to wake nobody each time.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end of the process waits for lines to leave.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Takes whole lines.
#[derive(Clone, Debug, Default)]
pub(super) struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// There is something to write.
    filled: Condvar,
    /// Everything was written.
    emptied: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    waiting: Vec<u8>,
    writing: bool,
    dropped: u64,
}

impl Log {
    /// Starts the thread that writes to `out`. Without a thread, each line is written where it is logged.
    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let log = Self::default();
        let shared = log.0.clone();
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.write_to(out))?;
        Ok(log)
    }

    /// Waits until all lines are written, for a moment at most.
    pub(super) fn flush(&self) {
        let mut lines = self.0.lines.lock();
        while lines.writing || !lines.waiting.is_empty() {
            if self.0.emptied.wait_for(&mut lines, LAST_MOMENT).timed_out() {
                return;
            }
        }
    }
}

impl Shared {
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        loop {
            {
                let mut lines = self.lines.lock();
                lines.writing = false;
                while lines.waiting.is_empty() {
                    self.emptied.notify_all();
                    self.filled.wait(&mut lines);
                }
                lines.writing = true;
                MutexGuard::unlocked(&mut lines, || std::thread::sleep(GATHER));
                batch.clear();
                std::mem::swap(&mut batch, &mut lines.waiting);
                let dropped = std::mem::take(&mut lines.dropped);
                if dropped > 0 {
                    let told =
                        format!("{dropped} log lines were dropped: nobody took them in time\n");
                    batch.extend_from_slice(told.as_bytes());
                }
            }
            // Where nobody listens, there is nobody to tell.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
        }
    }
}

impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut lines = self.0.lines.lock();
        match lines.waiting.len() + line.len() > ROOM {
            true => lines.dropped += 1,
            false => {
                lines.waiting.extend_from_slice(line);
                self.0.filled.notify_one();
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes when it is told to.
    struct Slow(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_lost_is_told() {
        let (go, wait) = channel();
        let (sender, written) = channel();
        let log = Log::to(Slow(wait, sender)).expect("a thread");
        let line = vec![b'x'; 1 << 20];
        // Four may be on their way, four fit, the others are dropped.
        for _ in 0..16 {
            (&log).write_all(&line).expect("never fails");
        }
        let mut all = Vec::new();
        for _ in 0..16 {
            let _ = go.send(());
        }
        while !String::from_utf8_lossy(&all).contains("log lines were dropped") {
            all.extend(
                written
                    .recv_timeout(Duration::from_secs(20))
                    .expect("it is told"),
            );
        }
        log.flush();
        assert!(all.len() >= 4 << 20 && all.len() < 9 << 20, "{}", all.len());
    }
}
