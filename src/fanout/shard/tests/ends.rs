//! Each way to end: its reason, told once, with what the client got.

use std::sync::mpsc::{Receiver, TryRecvError};

use super::*;
use crate::fanout::end::told::observer;
use crate::fanout::{Closing, End, Reason};

impl Rig {
    /// A stream that is taken over, and what its observer is told.
    fn observed(&mut self, channel: &Arc<Channel>) -> (Peer, Receiver<End>) {
        self.observed_with(channel, |_| {})
    }

    fn observed_with(
        &mut self,
        channel: &Arc<Channel>,
        change: impl FnOnce(&mut NewStream),
    ) -> (Peer, Receiver<End>) {
        let (mut stream, peer) = self.stream(channel);
        let (observer, told) = observer();
        stream.observer = observer;
        change(&mut stream);
        self.hand_over(stream);
        self.turn();
        (peer, told)
    }

    /// Ends a stream whose client closes its end too.
    fn see_off(&mut self, mut peer: Peer) -> Vec<u8> {
        let read = self.read_to_end(&mut peer);
        drop(peer);
        self.until(|rig| rig.open() == 0);
        read
    }
}

/// The one end that was told.
fn only(told: &Receiver<End>) -> End {
    let end = told.try_recv().expect("told");
    assert_eq!(told.try_recv().err(), Some(TryRecvError::Disconnected));
    end
}

/// O8: bytes and events are those that the client got, each end is told once and has its own reason.
#[test]
fn an_end_of_ours_is_told_with_what_the_client_got() {
    for closing in [Closing::MaxAge, Closing::Drain, Closing::Reload] {
        let mut rig = Rig::new();
        let channel = said("1");
        let (peer, told) = rig.observed(&channel);
        say(&channel, "2");
        rig.turn();
        assert_eq!(told.try_recv().err(), Some(TryRecvError::Empty));
        match closing {
            Closing::MaxAge => rig.after(Duration::from_secs(4200)),
            Closing::Drain => {
                let retry = (STALL, STALL);
                let window = Duration::ZERO;
                rig.shard.drain(Drain { window, retry });
                rig.after(Duration::from_millis(100))
            }
            _ => {
                channel.retire();
                &mut rig
            }
        };
        rig.turn();
        let read = rig.see_off(peer);
        let last = super::closing(closing.as_str());
        assert_eq!(
            events_of(&read, true),
            [message("1".into()), message("2".into()), last]
        );
        let end = only(&told);
        assert_eq!(end.reason, Reason::Closed(closing));
        assert_eq!((end.bytes, end.events), (read.len() as u64, 2));
    }
}

/// Who leaves, stalls, meets a fault or a thread that stops ends for that reason.
#[test]
fn each_other_end_has_its_reason() {
    let mut rig = Rig::new();
    let channel = said("1");
    let (peer, told) = rig.observed(&channel);
    drop(peer);
    rig.until(|rig| rig.open() == 0);
    assert_eq!(only(&told).reason, Reason::ClientLeft);

    let (_peer, told) = rig.observed(&said(&big("a")));
    rig.after(STALL * 2).turn();
    rig.after(STALL * 2).turn();
    assert_eq!(only(&told).reason, Reason::Stalled);

    let broken = channel_that_breaks(&mut rig);
    let (_peer, told) = rig.observed(&broken);
    assert_eq!(only(&told).reason, Reason::Error);
    rig.shard.deliver = Channel::deliver;

    let (_peer, told) = rig.observed(&channel);
    rig.shard.close_all();
    assert_eq!(only(&told).reason, Reason::Stopped);

    // Never taken over: told all the same.
    let (mut stream, _peer) = rig.stream(&channel);
    let (observer, told) = observer();
    stream.observer = observer;
    rig.hand_over(stream);
    drop(rig);
    assert_eq!(only(&told).reason, Reason::Error);
}

fn channel_that_breaks(rig: &mut Rig) -> Arc<Channel> {
    rig.shard.deliver = or_panic;
    channel("/broken")
}

/// A fault of an observer costs nobody anything.
#[test]
fn an_observer_that_panics_is_survived() {
    #[derive(Debug)]
    struct Bad;
    impl crate::fanout::Ended for Bad {
        fn ended(self: Box<Self>, _end: &End) {
            panic!("this panic is meant");
        }
    }
    let mut rig = Rig::new();
    let channel = said("1");
    let (peer, _) = rig.observed_with(&channel, |stream| stream.observer = Some(Box::new(Bad)));
    let mut good = rig.adopt(&channel);
    drop(peer);
    rig.until(|rig| rig.open() == 1);
    say(&channel, "\"news\"");
    rig.turn();
    assert!(has(&mut good, "news"));
}

/// A6, O12: a stream ends when its token does, by the wall's clock, also when that jumps; nobody else does.
#[test]
fn a_token_that_expires_ends_its_stream() {
    let hour = Duration::from_secs(3600);
    let mut rig = Rig::new();
    let channel = said("1");
    let expires = Some(SystemTime::now() + hour);
    let (peer, told) = rig.observed_with(&channel, |stream| stream.expires = expires);
    let later = Some(SystemTime::now() + hour * 3);
    let mut other = rig.observed_with(&channel, |stream| stream.expires = later);
    assert!(
        rig.shard.timeout().is_some_and(|wait| wait <= WALL),
        "it would sleep through a jump of the clock"
    );
    rig.turn();
    assert_eq!(rig.shard.expiring.len(), 2);
    rig.shard.wall = || SystemTime::now() + Duration::from_secs(7200);
    rig.turn();
    assert_eq!(rig.shard.expiring.len(), 1);
    let mut peer = peer;
    let read = rig.read_to_end(&mut peer);
    drop(peer);
    rig.until(|rig| rig.open() == 1);
    assert_eq!(
        events_of(&read, true),
        [message("1".into()), closing("token-expired")]
    );
    assert_eq!(only(&told).reason, Reason::Closed(Closing::TokenExpired));
    say(&channel, "\"news\"");
    rig.turn();
    assert!(has(&mut other.0, "news"));
    drop(other);
    rig.until(|rig| rig.open() == 0);
    assert!(
        rig.shard.expiring.is_empty(),
        "who left is still waited for"
    );
}

/// A6: who is behind when its token expires gets what was on its way and not what came since, within a second; then it
/// is cut.
#[test]
fn an_expired_token_gives_no_right_to_news() {
    for takes in [true, false] {
        let mut rig = Rig::new();
        let channel = said(&big("a"));
        let expires = Some(SystemTime::now() + Duration::from_secs(60));
        let (mut peer, told) = rig.observed_with(&channel, |stream| stream.expires = expires);
        rig.shard.wall = || SystemTime::now() + Duration::from_secs(61);
        rig.turn();
        say(&channel, "\"secret\"");
        rig.turn();
        assert_eq!(rig.open(), 1);
        if takes {
            let read = rig.see_off(peer);
            assert_eq!(
                events_of(&read, true),
                [message(big("a")), closing("token-expired")]
            );
        } else {
            let mut read = Vec::new();
            // It takes a little all the time.
            take(&mut peer, &mut read);
            rig.events();
            rig.after(Duration::from_secs(1)).turn();
            assert_eq!(rig.open(), 0, "it is served beyond its time");
            assert!(!has_text(&read, "secret"));
        }
        assert_eq!(only(&told).reason, Reason::Closed(Closing::TokenExpired));
    }
}

/// A channel that is retired ends its readers, those that are behind and those that come too late.
#[test]
fn a_retired_channel_ends_all_its_readers() {
    let mut rig = Rig::new();
    let (channel, other) = (said(&big("a")), said("1"));
    let (slow, slow_told) = rig.observed(&channel);
    let mut stays = rig.adopt(&other);
    let (late, late_peer) = rig.stream(&channel);
    channel.retire();
    rig.turn();
    rig.hand_over(late);
    rig.after(Duration::from_millis(100)).turn();
    for mut peer in [slow, late_peer] {
        let mut read = Vec::new();
        rig.after(Duration::from_millis(100));
        rig.until(|_| take(&mut peer, &mut read));
        assert_eq!(
            events_of(&read, true),
            [message(big("a")), closing("reload")]
        );
    }
    rig.until(|rig| rig.open() == 1);
    assert_eq!(only(&slow_told).reason, Reason::Closed(Closing::Reload));
    say(&other, "\"news\"");
    rig.turn();
    assert!(has(&mut stays, "news"));
}
