//! What a swarm saw, counted over all its clients.

use crate::payload;

/// Counts since the last [`Swarm::run`](super::Swarm::run) began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Events with our value.
    pub(crate) events: u64,
    /// Of all of them, from the change to the client, nanoseconds.
    pub(crate) latencies: Vec<u64>,
    /// Bytes read from the sockets.
    pub(crate) bytes: u64,
    /// Reads that gave bytes: fewer than events when several came at once.
    pub(crate) reads: u64,
    /// Sequences that were skipped.
    pub(crate) lost: u64,
    /// Events that came again.
    pub(crate) duplicated: u64,
    /// Events older than one before.
    pub(crate) disordered: u64,
    /// Events of another kind, such as `stale`; the first one is kept.
    pub(crate) foreign: u64,
    /// What the first event of another kind was.
    pub(crate) first_foreign: Option<String>,
    /// Connections that ended although nobody asked them to; why the first one did.
    pub(crate) ended: u64,
    /// Why the first of these ended.
    pub(crate) first_end: Option<String>,
}

impl Tally {
    /// Counts an event for a client that has seen `last`, and says what it has seen then.
    pub(crate) fn event(
        &mut self,
        name: &[u8],
        data: &[u8],
        last: Option<u64>,
        now: u64,
    ) -> Option<u64> {
        let Some((seq, due)) = payload::read(data).filter(|_| name.is_empty()) else {
            self.foreign += 1;
            self.first_foreign.get_or_insert_with(|| {
                format!(
                    "{} {}",
                    String::from_utf8_lossy(name),
                    String::from_utf8_lossy(data)
                )
            });
            return last;
        };
        self.events += 1;
        self.latencies.push(now.saturating_sub(due));
        match last {
            Some(last) if seq == last => self.duplicated += 1,
            Some(last) if seq < last => self.disordered += 1,
            Some(last) => self.lost += seq - last - 1,
            None => {}
        }
        Some(last.map_or(seq, |last| last.max(seq)))
    }

    /// Counts a connection that ended.
    pub(crate) fn end(&mut self, why: String) {
        self.ended += 1;
        self.first_end.get_or_insert(why);
    }

    /// Adds what another thread saw.
    pub(crate) fn add(&mut self, other: Self) {
        self.events += other.events;
        self.latencies.extend(other.latencies);
        self.bytes += other.bytes;
        self.reads += other.reads;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.disordered += other.disordered;
        self.foreign += other.foreign;
        self.first_foreign = self.first_foreign.take().or(other.first_foreign);
        self.ended += other.ended;
        self.first_end = self.first_end.take().or(other.first_end);
    }

    /// What went wrong, in words; `None` when every event came once and in order on connections that stayed.
    pub(crate) fn faults(&self) -> Option<String> {
        let counts = [
            (self.lost, "lost"),
            (self.duplicated, "duplicated"),
            (self.disordered, "out of order"),
            (self.foreign, "of another kind"),
            (self.ended, "connections ended"),
        ];
        let words: Vec<String> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .chain(
                self.first_foreign
                    .iter()
                    .map(|what| format!("first: {what}")),
            )
            .chain(self.first_end.iter().map(|why| format!("first: {why}")))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(sequences: &[u64]) -> Tally {
        let mut tally = Tally::default();
        let mut last = None;
        for seq in sequences {
            last = tally.event(b"", payload::value(*seq, 10, 100).as_bytes(), last, 30);
        }
        tally
    }

    #[test]
    fn faults_are_told_apart() {
        assert_eq!(seen(&[5, 6, 7]).faults(), None);
        assert_eq!(seen(&[5, 6, 7]).latencies, [20, 20, 20]);
        assert_eq!(
            seen(&[5, 8, 8, 9]).faults().as_deref(),
            Some("2 lost, 1 duplicated")
        );
        assert_eq!(
            seen(&[5, 6, 4, 7]).faults().as_deref(),
            Some("1 out of order")
        );
    }

    #[test]
    fn other_events_are_no_values() {
        let mut tally = Tally::default();
        let value = payload::value(1, 1, 100);
        assert_eq!(tally.event(b"stale", b"{}", Some(3), 9), Some(3));
        assert_eq!(
            tally.event(b"snapshot", value.as_bytes(), Some(3), 9),
            Some(3)
        );
        assert_eq!((tally.events, tally.foreign), (0, 2));
        assert_eq!(
            tally.faults().as_deref(),
            Some("2 of another kind, first: stale {}")
        );
    }
}
