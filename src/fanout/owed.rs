//! What cursors are owed, asked once for all connections that stand at the same one, so that they share its bytes.

use crate::channel::{Channel, Cursor, Delivery, Form};

/// How a channel is asked: [`Channel::deliver`], but for tests.
pub(super) type Deliver = fn(&Channel, &Cursor, Form, usize) -> Option<Delivery>;

/// The list stays short: cursors of a channel's readers differ only after a stall, and those of who comes back mostly not.
const KNOWN: usize = 16;

/// Answers of channels, to be kept no longer than one look at the rooms: what happens after an answer is told by a note.
#[derive(Debug)]
pub(super) struct Owed {
    deliver: Deliver,
    queue: usize,
    known: Vec<Answer>,
}

#[derive(Debug)]
struct Answer {
    room: u32,
    cursor: Cursor,
    form: Form,
    delivery: Option<Delivery>,
}

impl Owed {
    /// `queue`: bytes that one client may be behind.
    pub(super) fn new(deliver: Deliver, queue: usize) -> Self {
        Self {
            deliver,
            queue,
            known: Vec::new(),
        }
    }

    /// What a reader at `cursor` is owed. `room` stands for the channel.
    pub(super) fn to(
        &mut self,
        room: u32,
        channel: &Channel,
        cursor: Cursor,
        form: Form,
    ) -> Option<&Delivery> {
        let asked = (room, cursor, form);
        let same = |known: &Answer| (known.room, known.cursor, known.form) == asked;
        let at = match self.known.iter().position(same) {
            Some(at) => at,
            None => {
                let delivery = (self.deliver)(channel, &cursor, form, self.queue);
                self.known.truncate(KNOWN - 1);
                self.known.insert(
                    0,
                    Answer {
                        room,
                        cursor,
                        form,
                        delivery,
                    },
                );
                0
            }
        };
        self.known[at].delivery.as_ref()
    }

    /// The index means another channel from now on, or nobody listened to the channel for a while.
    pub(super) fn forget(&mut self, room: u32) {
        self.known.retain(|known| known.room != room);
    }
}
