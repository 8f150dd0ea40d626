//! Rooms: all connections of one channel in one shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use slab::Slab;

use super::inbox::Inbox;
use super::wheel::Tick;
use crate::channel::{Channel, Listener};

/// All connections of one channel in this shard. There is none without connections, but while the first one moves in.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) channel: Arc<Channel>,
    /// Their indices in the shard.
    pub(super) conns: Vec<u32>,
    pub(super) heartbeat: Tick,
    listener: Arc<RoomListener>,
}

impl Room {
    /// The shard looks now: what happens from here on is worth a new note.
    pub(super) fn look(&self) {
        // Read and written in one step: either the teller still sees the flag and its change is visible here, or it
        // does not and leaves a note.
        self.listener.queued.swap(false, Ordering::AcqRel);
    }
}

/// The rooms of a shard, by index and by channel.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: Slab<Room>,
    by_channel: HashMap<usize, u32>,
}

impl Rooms {
    pub(super) fn get(&self, index: u32) -> Option<&Room> {
        self.rooms.get(index as usize)
    }

    /// The channel's room, and whether it is new.
    pub(super) fn open(
        &mut self,
        channel: &Arc<Channel>,
        heartbeat: Tick,
        inbox: &Arc<Inbox>,
    ) -> (u32, bool) {
        if let Some(&room) = self.by_channel.get(&identity(channel)) {
            return (room, false);
        }
        let entry = self.rooms.vacant_entry();
        let room = entry.key() as u32;
        let listener = Arc::new(RoomListener {
            inbox: inbox.clone(),
            room,
            queued: AtomicBool::new(false),
        });
        channel.listen(listener.clone());
        self.by_channel.insert(identity(channel), room);
        entry.insert(Room {
            channel: channel.clone(),
            conns: Vec::new(),
            heartbeat,
            listener,
        });
        (room, true)
    }

    /// Puts a connection into a room. Returns its place there.
    pub(super) fn enter(&mut self, room: u32, conn: u32) -> u32 {
        let conns = &mut self.rooms[room as usize].conns;
        conns.push(conn);
        conns.len() as u32 - 1
    }

    /// Takes the connection at `place` out; the last one closes the room. Returns who has its place now.
    pub(super) fn leave(&mut self, room: u32, place: u32) -> Option<u32> {
        let conns = &mut self.rooms[room as usize].conns;
        conns.swap_remove(place as usize);
        let moved = conns.get(place as usize).copied();
        if conns.is_empty() {
            let room = self.rooms.remove(room as usize);
            self.by_channel.remove(&identity(&room.channel));
            let listener: Arc<dyn Listener> = room.listener;
            room.channel.unlisten(&listener);
            shrink(&mut self.rooms);
            if self.by_channel.len() < self.by_channel.capacity() / 4 {
                self.by_channel.shrink_to(2 * self.by_channel.len());
            }
        }
        moved
    }
}

impl std::ops::Index<u32> for Rooms {
    type Output = Room;

    fn index(&self, room: u32) -> &Room {
        &self.rooms[room as usize]
    }
}

#[derive(Debug)]
struct RoomListener {
    inbox: Arc<Inbox>,
    room: u32,
    queued: AtomicBool,
}

impl Listener for RoomListener {
    fn changed(&self) {
        // One note is enough until the shard has begun to look.
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.inbox.changed(self.room);
        }
    }
}

/// A storm that is over gives its memory back, as far as nobody is left who came late. To be called when somebody has left;
/// it looks whenever half of them have, as it takes as long as there are places.
pub(super) fn shrink<T>(places: &mut Slab<T>) {
    let left = places.len();
    if (left == 0 || left.is_power_of_two()) && left < places.capacity() / 4 {
        places.shrink_to_fit();
    }
}

/// Tells channels apart; the room keeps the channel, so the address is not used again meanwhile.
fn identity(channel: &Arc<Channel>) -> usize {
    Arc::as_ptr(channel).addr()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of them at a time, as long as a quarter of the places would do; who stays stays where it is.
    #[test]
    fn places_are_given_back_after_a_storm() {
        let mut places = Slab::new();
        let stays = places.insert("stays");
        let storm: Vec<usize> = (0..10_000).map(|_| places.insert("storm")).collect();
        let most = places.capacity();
        for at in storm {
            places.remove(at);
            shrink(&mut places);
            assert!(places.capacity() <= most);
        }
        assert!(places.capacity() < 10, "{}", places.capacity());
        assert_eq!(places.get(stays), Some(&"stays"));
        assert_eq!(places.insert("comes"), 1);
    }
}
