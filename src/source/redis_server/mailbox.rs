//! What waits for one listener: bounded, so that a listener that does not come costs no more than this.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::source::SourceError;

const MAX_MESSAGES: usize = 1024;
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// What a listener is told.
#[derive(Clone, Debug)]
pub(in crate::source) enum Delivery {
    /// Subscribed.
    Up,
    /// Not subscribed any more, or yet.
    Down(SourceError),
    /// A message.
    Message(Bytes),
    /// A message that was not even read, as it is larger than 1 MiB.
    TooLarge,
    /// So many messages were dropped because the listener did not keep up.
    Missed(u64),
}

/// One listener's deliveries, oldest first.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    queue: Mutex<Queue>,
    arrived: Notify,
}

impl Mailbox {
    /// Says it once, however often it is called.
    pub(super) fn up(&self) {
        self.put(|queue| queue.state(Delivery::Up));
    }

    /// Says it once, with the first reason.
    pub(super) fn down(&self, error: &SourceError) {
        self.put(|queue| queue.state(Delivery::Down(error.clone())));
    }

    /// `None` stands for a message that is too large.
    pub(super) fn message(&self, payload: Option<Bytes>) {
        self.put(|queue| queue.message(payload.map_or(Delivery::TooLarge, Delivery::Message)));
    }

    /// For the one listener. Cancel-safe: a delivery is taken only when it is returned.
    pub(super) async fn next(&self) -> Delivery {
        loop {
            // A permit is kept for a listener that is not waiting yet, so nothing that comes in between is missed.
            let arrived = self.arrived.notified();
            if let Some(delivery) = self.queue.lock().pop() {
                return delivery;
            }
            arrived.await;
        }
    }

    fn put(&self, change: impl FnOnce(&mut Queue)) {
        change(&mut self.queue.lock());
        self.arrived.notify_one();
    }
}

#[derive(Debug, Default)]
struct Queue {
    deliveries: VecDeque<Delivery>,
    messages: usize,
    bytes: usize,
    missed: u64,
    last_state: Option<bool>,
}

impl Queue {
    fn state(&mut self, delivery: Delivery) {
        let is_up = matches!(delivery, Delivery::Up);
        if self.last_state.replace(is_up) == Some(is_up) {
            return;
        }
        // A listener that sleeps through many outages needs to know of one gap only.
        let length = self.deliveries.len();
        if length >= 2 && self.deliveries.range(length - 2..).all(is_state) {
            self.deliveries.truncate(length - 2);
        }
        self.deliveries.push_back(delivery);
    }

    fn message(&mut self, delivery: Delivery) {
        self.messages += 1;
        self.bytes += size(&delivery);
        self.deliveries.push_back(delivery);
        while self.messages > MAX_MESSAGES || self.bytes > MAX_BYTES {
            self.drop_oldest_message();
        }
    }

    fn drop_oldest_message(&mut self) {
        if let Some(oldest) = self
            .deliveries
            .iter()
            .position(|delivery| !is_state(delivery))
            && let Some(dropped) = self.deliveries.remove(oldest)
        {
            self.count_out(&dropped);
            self.missed += 1;
        }
        // The message may have stood between two outages, which are one now. States alternate, so they go in pairs.
        let states = self
            .deliveries
            .iter()
            .take_while(|delivery| is_state(delivery))
            .count();
        self.deliveries.drain(..states.saturating_sub(1) / 2 * 2);
    }

    fn pop(&mut self) -> Option<Delivery> {
        if self.missed > 0 && !self.deliveries.front().is_some_and(is_state) {
            return Some(Delivery::Missed(std::mem::take(&mut self.missed)));
        }
        let delivery = self.deliveries.pop_front()?;
        self.count_out(&delivery);
        if self.deliveries.is_empty() {
            self.deliveries.shrink_to(16);
        }
        Some(delivery)
    }

    fn count_out(&mut self, delivery: &Delivery) {
        if !is_state(delivery) {
            self.messages -= 1;
            self.bytes -= size(delivery);
        }
    }
}

fn is_state(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Up | Delivery::Down(_))
}

fn size(delivery: &Delivery) -> usize {
    match delivery {
        Delivery::Message(payload) => payload.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Cause;

    fn drain(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop())
            .map(|delivery| match delivery {
                Delivery::Up => "up".into(),
                Delivery::Down(error) => format!("down {}", error.detail),
                Delivery::Message(payload) => format!("{} bytes", payload.len()),
                Delivery::TooLarge => "too large".into(),
                Delivery::Missed(count) => format!("missed {count}"),
            })
            .collect()
    }

    fn down(detail: &str) -> Delivery {
        Delivery::Down(SourceError::new(Cause::Redis, detail))
    }

    fn message(length: usize) -> Delivery {
        Delivery::Message(vec![b'x'; length].into())
    }

    /// EDGE R8: what a slow listener can hold is bounded, and it is told what it missed before it gets what is left.
    #[test]
    fn the_oldest_messages_make_room_and_are_counted() {
        let mut queue = Queue::default();
        queue.state(Delivery::Up);
        for length in 0..MAX_MESSAGES + 7 {
            queue.message(message(length));
        }
        let told = drain(&mut queue);
        assert_eq!(told[..3], ["up", "missed 7", "7 bytes"]);
        assert_eq!(told.len(), 2 + MAX_MESSAGES);

        for _ in 0..10 {
            queue.message(message(1024 * 1024));
        }
        assert_eq!(drain(&mut queue)[..2], ["missed 6", "1048576 bytes"]);
        assert_eq!((queue.messages, queue.bytes), (0, 0));
    }

    #[test]
    fn a_state_is_told_once() {
        let mut queue = Queue::default();
        queue.state(down("first"));
        queue.state(down("second"));
        queue.state(Delivery::Up);
        queue.state(Delivery::Up);
        assert_eq!(drain(&mut queue), ["down first", "up"]);
    }

    /// Whatever was left out, a listener sees that there was a gap, and how it stands now.
    #[test]
    fn outages_that_nobody_saw_take_no_room() {
        let mut queue = Queue::default();
        queue.state(Delivery::Up);
        queue.message(message(1));
        for outage in 0..1000 {
            queue.state(down(&outage.to_string()));
            queue.state(Delivery::Up);
        }
        assert_eq!(drain(&mut queue), ["up", "1 bytes", "down 999", "up"]);
        for outage in 0..1000 {
            queue.state(down(&outage.to_string()));
            queue.state(Delivery::Up);
        }
        for outage in 0..2 * MAX_MESSAGES {
            queue.message(message(1));
            queue.state(down(&outage.to_string()));
            queue.state(Delivery::Up);
        }
        assert!(
            queue.deliveries.len() <= 3 * MAX_MESSAGES + 2,
            "{}",
            queue.deliveries.len()
        );
        queue.state(down("last"));
        assert_eq!(
            drain(&mut queue).last().map(String::as_str),
            Some("down last")
        );
    }

    #[tokio::test]
    async fn a_listener_wakes_when_something_comes() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        let listener = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { (mailbox.next().await, mailbox.next().await) }
        });
        tokio::task::yield_now().await;
        mailbox.up();
        mailbox.message(None);
        let told = listener.await.expect("no panic");
        assert!(
            matches!(told, (Delivery::Up, Delivery::TooLarge)),
            "{told:?}"
        );
    }
}
