//! A shard without its thread: real sockets, and a clock that is set by hand.

mod allocations;
mod ends;
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream as Peer};

use proptest::prelude::*;
use tokio::sync::watch;

use super::life::LINGER;
use super::*;
use crate::channel::{ChannelKey, Cursor, Delivery, Form, History, Spec, StreamId};
use crate::fanout::conn::Life;
use crate::fanout::{Arrival, Carrier, Drain, NewStream, Open, Permit};
use crate::params::Params;
use crate::sse::Encoder;
use crate::sse::parser::{Item, Parser};
use crate::value::Value;

const STALL: Duration = Duration::from_secs(15);

/// Room that a socket is given, on both sides.
const BUFFER: usize = 16 * 1024;

/// Far above what a socket takes without a reader.
const BIG: usize = 1_000_000;

fn channel(name: &str) -> Arc<Channel> {
    let key = ChannelKey::shared(StreamId::new(), Params::default());
    let spec = Spec {
        history: History {
            bytes: 1 << 30,
            ..Spec::plain("").history
        },
        ..Spec::plain(name)
    };
    Arc::new(Channel::new(key, spec))
}

fn said(value: &str) -> Arc<Channel> {
    let channel = channel("/sound");
    say(&channel, value);
    channel
}

fn say(channel: &Channel, value: &str) {
    channel.observe(Value::parse_json(value.as_bytes()).expect("JSON"));
}

fn big(letter: &str) -> String {
    format!("\"{}\"", letter.repeat(BIG))
}

/// [`Channel::deliver`], but nothing can be told of `/broken`.
fn or_panic(channel: &Channel, cursor: &Cursor, form: Form, queue: usize) -> Option<Delivery> {
    assert_ne!(channel.name(), "/broken", "this panic is meant");
    channel.deliver(cursor, form, queue)
}

struct Rig {
    shard: Shard,
    work: Work,
    open: Arc<watch::Sender<usize>>,
    listener: TcpListener,
}

impl Rig {
    fn new() -> Self {
        let limits = Limits {
            queue: 256 * 1024,
            write_stall: STALL,
        };
        let mut shard = Shard::new(limits).expect("a shard");
        // So that what a turn does is no matter of the machine's speed.
        shard.adopting = Duration::MAX;
        Self {
            shard,
            work: Work::new(),
            open: Arc::new(watch::Sender::new(0)),
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
        }
    }

    fn stream(&self, channel: &Arc<Channel>) -> (NewStream, Peer) {
        let address = self.listener.local_addr().expect("bound");
        let peer = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
            .expect("a socket");
        peer.set_recv_buffer_size(BUFFER).expect("small");
        peer.connect(&address.into()).expect("connects");
        let peer = Peer::from(peer);
        let (socket, _) = self.listener.accept().expect("accepts");
        socket2::SockRef::from(&socket)
            .set_send_buffer_size(BUFFER)
            .expect("small");
        socket.set_nonblocking(true).expect("nonblocking");
        socket.set_nodelay(true).expect("at once");
        let stream = NewStream {
            carrier: Carrier::Plain(socket),
            head: b"HEAD\r\n\r\n".to_vec(),
            encoder: Encoder::new(None, true),
            subscription: channel.subscribe(),
            cursor: Cursor::New,
            form: Form::Value,
            heartbeat: Duration::from_secs(20),
            max_age: Duration::from_secs(3600),
            expires: None,
            permit: None,
            observer: None,
        };
        (stream, peer)
    }

    fn hand_over(&self, stream: NewStream) {
        let open = Open::new(self.open.clone());
        let (tcp, tls, arrival) = match Arrival::new(stream, open) {
            (Carrier::Plain(tcp), arrival) => (tcp, None, arrival),
            (Carrier::Tls(tcp, tls), arrival) => (tcp, Some(tls), arrival),
            (Carrier::Http2(_), _) => panic!("no socket"),
        };
        let adopt = Command::Adopt(tcp, tls, Box::new(arrival));
        self.shard.inbox.send(adopt);
    }

    /// A stream that is taken over at once.
    fn adopt(&mut self, channel: &Arc<Channel>) -> Peer {
        let (stream, peer) = self.stream(channel);
        self.hand_over(stream);
        assert_eq!(self.turn(), Next::Wait);
        peer
    }

    /// A turn with the notes and timers that are there, and no events.
    fn turn(&mut self) -> Next {
        self.shard.turn(&Events::with_capacity(1), &mut self.work)
    }

    /// A turn with all events that the sockets have.
    fn events(&mut self) -> Next {
        let mut events = Events::with_capacity(64);
        self.shard
            .poll
            .poll(&mut events, Some(Duration::ZERO))
            .expect("polls");
        self.shard.turn(&events, &mut self.work)
    }

    fn after(&mut self, time: Duration) -> &mut Self {
        self.shard.now += ticks(time);
        self
    }

    fn open(&self) -> usize {
        *self.open.borrow()
    }

    /// Turns until `done`, which must come.
    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !done(self) {
            assert!(began.elapsed() < Duration::from_secs(20), "never");
            self.events();
        }
    }

    /// Reads to the end, while the shard goes on writing.
    fn read_to_end(&mut self, peer: &mut Peer) -> Vec<u8> {
        let mut read = Vec::new();
        self.until(|_| take(peer, &mut read));
        read
    }
}

/// Takes what is there. Returns whether that was the end.
fn take(peer: &mut Peer, into: &mut Vec<u8>) -> bool {
    peer.set_nonblocking(true).expect("nonblocking");
    let mut chunk = vec![0; 1 << 16];
    loop {
        match peer.read(&mut chunk) {
            Ok(0) => return true,
            Ok(count) => into.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error} after {} bytes", into.len()),
        }
    }
}

/// Whether what is there says it.
fn has(peer: &mut Peer, text: &str) -> bool {
    let mut read = Vec::new();
    take(peer, &mut read);
    has_text(&read, text)
}

fn has_text(read: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(read).contains(text)
}

/// The events of a response, whose framing must be whole.
fn events_of(response: &[u8], chunked: bool) -> Vec<(String, String)> {
    let body = response
        .strip_prefix(b"HEAD\r\n\r\n")
        .expect("the head first");
    let body = if chunked {
        dechunked(body)
    } else {
        body.to_vec()
    };
    assert!(body.ends_with(b"\n\n"), "an unfinished event");
    let items = Parser::default().push(&body);
    let event = |item| match item {
        Item::Event(event) => Some((event.name, event.data)),
        _ => None,
    };
    items.into_iter().filter_map(event).collect()
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a size");
        let size = std::str::from_utf8(&body[..end]).expect("hex");
        let size = usize::from_str_radix(size, 16).expect("hex");
        let (chunk, rest) = body[end + 2..].split_at(size);
        whole.extend_from_slice(chunk);
        body = rest.strip_prefix(b"\r\n").expect("a chunk's end");
        if size == 0 {
            assert!(body.is_empty(), "bytes behind the last chunk");
            return whole;
        }
    }
}

fn closing(reason: &str) -> (String, String) {
    ("closing".into(), format!(r#"{{"reason":"{reason}"}}"#))
}

fn message(data: String) -> (String, String) {
    ("message".into(), data)
}

/// EDGE E9, L14, H4: who reads steadily but slowly gets the whole last event and the end of the body, however long that
/// takes, in both framings; the wait for its end of the connection begins when it has all.
#[test]
fn an_end_with_much_to_send_is_whole() {
    for chunked in [true, false] {
        let mut rig = Rig::new();
        let channel = said(&big("a"));
        let (mut stream, mut peer) = rig.stream(&channel);
        stream.encoder = Encoder::new(None, chunked);
        stream.max_age = Duration::from_secs(60);
        rig.hand_over(stream);
        rig.turn();
        assert!(!rig.shard.conns[0].is_free());
        say(&channel, &big("b"));
        rig.turn();

        // Its age passes while it reads the first value: it is given the second with its end.
        let mut read = Vec::new();
        for _ in 0..7 {
            rig.after(Duration::from_secs(10)).turn();
            take(&mut peer, &mut read);
            rig.events();
        }
        rig.until(|rig| {
            take(&mut peer, &mut read) || rig.shard.conns[0].life == Life::Ending { by: Tick::MAX }
        });
        for _ in 0..3 {
            assert_eq!(rig.shard.conns[0].life, Life::Ending { by: Tick::MAX });
            rig.after(LINGER * 2).turn();
            assert_eq!(rig.open(), 1, "cut while it reads");
            let had = read.len();
            while read.len() == had {
                take(&mut peer, &mut read);
                rig.events();
            }
        }
        read.extend(rig.read_to_end(&mut peer));
        assert_eq!(
            events_of(&read, chunked),
            [message(big("a")), message(big("b")), closing("max-age")]
        );

        rig.after(LINGER / 2).turn();
        assert_eq!(rig.open(), 1, "it may still close its end");
        rig.after(LINGER).turn();
        assert_eq!(rig.open(), 0);
    }
}

/// EDGE B3: its end is waited for only while it takes bytes.
#[test]
fn an_end_that_nobody_takes_stalls() {
    let mut rig = Rig::new();
    let channel = said("1");
    let _peer = rig.adopt(&channel);
    say(&channel, &big("a"));
    rig.shard.end(0);
    assert_eq!(rig.shard.conns[0].life, Life::Ending { by: Tick::MAX });
    rig.after(STALL / 2).turn();
    assert_eq!(rig.open(), 1);
    rig.after(STALL).turn();
    assert_eq!(rig.open(), 0);
}

/// L14: a drain takes no time from who is ending already, neither from its last bytes nor from its own end.
#[test]
fn a_drain_leaves_those_alone_that_are_ending() {
    let mut rig = Rig::new();
    let (slow, shut) = (said("1"), said("2"));
    let mut slow_peer = rig.adopt(&slow);
    let _shut_peer = rig.adopt(&shut);
    say(&slow, &big("a"));
    rig.shard.end(0);
    rig.shard.end(1);
    rig.shard.drain(Drain {
        window: Duration::ZERO,
        retry: (STALL, STALL),
    });
    rig.after(LINGER / 2).turn();
    assert_eq!(rig.open(), 2);
    rig.after(LINGER).turn();
    assert_eq!(rig.open(), 1, "the one that did not close its end");
    let read = rig.read_to_end(&mut slow_peer);
    assert_eq!(
        events_of(&read, true)[1..],
        [message(big("a")), closing("max-age")]
    );
}

/// L14: who comes while streams are ended gets the value and its own end.
#[test]
fn a_newcomer_in_a_drain_is_told_and_ended() {
    let mut rig = Rig::new();
    rig.shard.drain(Drain {
        window: Duration::from_secs(30),
        retry: (STALL, STALL),
    });
    let mut peer = rig.adopt(&said("1"));
    rig.after(Duration::from_secs(1)).turn();
    let read = rig.read_to_end(&mut peer);
    assert_eq!(
        events_of(&read, true),
        [message("1".into()), closing("drain")]
    );
    drop(peer);
    rig.until(|rig| rig.open() == 0);
}

/// An event that cannot be told costs its room; every other note, event, timer and command of the same turn is heard.
#[test]
fn a_panic_costs_the_room_it_happened_to() {
    let mut rig = Rig::new();
    let broken = channel("/broken");
    let (good, other, silent) = (said("1"), said("2"), said("3"));
    let mut broken_peers = [rig.adopt(&broken), rig.adopt(&broken)];
    let mut good_peer = rig.adopt(&good);
    let leaver = rig.adopt(&other);
    let mut silent_peer = rig.adopt(&silent);
    let (stream, mut newcomer) = rig.stream(&silent);
    rig.events();
    rig.shard.deliver = or_panic;

    drop(leaver);
    say(&broken, "1");
    say(&good, "\"news\"");
    rig.hand_over(stream);
    rig.after(Duration::from_secs(30)).events();

    for peer in &mut broken_peers {
        assert!(take(peer, &mut Vec::new()), "still open");
    }
    assert!(has(&mut good_peer, "news"), "the note behind it is lost");
    assert_eq!(other.readers(), 0, "the event of the same turn is lost");
    assert!(has(&mut silent_peer, ":\n\n"), "the timer is lost");
    assert!(has(&mut newcomer, "data: 3"), "the command is lost");
    assert_eq!((broken.readers(), rig.open()), (0, 3));

    // The room is gone without a trace: the channel can be told again.
    rig.shard.deliver = Channel::deliver;
    let mut again = rig.adopt(&broken);
    say(&broken, "\"mended\"");
    rig.turn();
    assert!(has(&mut again, "mended"));
}

/// What happens to one connection costs that one: when it moves in, when it ends, and when what it holds cannot be given back.
#[test]
fn a_panic_costs_the_connection_it_happened_to() {
    #[derive(Debug)]
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("this panic is meant");
        }
    }
    let mut rig = Rig::new();
    let (broken, good) = (channel("/broken"), said("1"));
    let mut good_peer = rig.adopt(&good);
    let mut ended = rig.adopt(&broken);
    rig.shard.deliver = or_panic;

    let ((bad, mut bad_peer), (fine, mut fine_peer)) = (rig.stream(&broken), rig.stream(&good));
    rig.hand_over(bad);
    rig.hand_over(fine);
    rig.turn();
    assert!(take(&mut bad_peer, &mut Vec::new()), "still open");
    assert!(
        has(&mut fine_peer, "data: 1"),
        "the command behind it is lost"
    );
    assert_eq!((broken.readers(), rig.open()), (1, 3));

    // All are of age, with the broken one among them.
    rig.after(Duration::from_secs(4200)).turn();
    assert!(take(&mut ended, &mut Vec::new()), "still open");
    for peer in [&mut good_peer, &mut fine_peer] {
        assert!(has(peer, "closing"), "the timer is lost");
    }
    rig.after(LINGER * 2).turn();
    assert_eq!((broken.readers(), good.readers(), rig.open()), (0, 0, 0));

    let (mut stream, bad_peer) = rig.stream(&good);
    let bad: Permit = Box::new(Bad);
    stream.permit = Some(bad);
    rig.hand_over(stream);
    let leaver = rig.adopt(&good);
    rig.events();
    drop((bad_peer, leaver));
    rig.until(|rig| rig.open() == 0);
    assert_eq!(good.readers(), 0);
}

/// B4: a storm of newcomers does not hold up who is there; each is heard in the order of its coming.
#[test]
fn newcomers_move_in_for_a_bounded_time_a_turn() {
    let mut rig = Rig::new();
    rig.shard.adopting = Duration::ZERO;
    let channel = said("1");
    let mut first = rig.adopt(&channel);
    let mut peers = Vec::new();
    for _ in 0..3 {
        let (stream, peer) = rig.stream(&channel);
        rig.hand_over(stream);
        peers.push(peer);
    }
    rig.shard.inbox.send(Command::Stop);
    assert_eq!(rig.turn(), Next::GoOn);
    assert_eq!(rig.shard.conns.len(), 2);
    say(&channel, "\"news\"");
    assert_eq!(rig.turn(), Next::GoOn);
    assert_eq!(rig.shard.conns.len(), 3);
    assert!(has(&mut first, "news"));
    assert_eq!(rig.turn(), Next::GoOn);
    for peer in &mut peers {
        assert!(has(peer, "news"));
    }
    assert_eq!(rig.turn(), Next::Stop);
}

/// B5: what newcomers are owed is made once and shared, also when it is put together for them.
#[test]
fn newcomers_share_the_bytes_of_their_first_event() {
    let mut rig = Rig::new();
    let channel = said(&big("a"));
    let mut peers = Vec::new();
    for _ in 0..2 {
        let (mut stream, peer) = rig.stream(&channel);
        // Of another life: a reset goes before the value.
        stream.cursor = Cursor::After(None);
        rig.hand_over(stream);
        peers.push(peer);
    }
    rig.turn();
    let ends = |at: usize| {
        let unsent = rig.shard.conns[at].unsent.as_ref().expect("much is left");
        assert!(unsent.first.is_empty());
        unsent.then.as_ptr_range().end
    };
    assert_eq!(ends(0), ends(1));
    for peer in &mut peers {
        let mut read = Vec::new();
        rig.until(|_| {
            take(peer, &mut read);
            read.ends_with(b"a\"\n\n\r\n")
        });
        assert!(has_text(&read, "event: reset"));
    }
}

/// A room that was left and is entered again in one turn is not answered from before: what happened while nobody
/// listened would be told to nobody.
#[test]
fn a_room_that_is_new_is_asked_anew() {
    /// Given back when the room is gone already.
    #[derive(Debug)]
    struct Says(Arc<Channel>);
    impl Drop for Says {
        fn drop(&mut self) {
            say(&self.0, "\"newest\"");
        }
    }
    let mut rig = Rig::new();
    let channel = said("1");
    let (mut stream, peer) = rig.stream(&channel);
    stream.permit = Some(Box::new(Says(channel.clone())));
    rig.hand_over(stream);
    socket2::SockRef::from(&peer)
        .set_linger(Some(Duration::ZERO))
        .expect("resets");
    drop(peer);
    let (stream, mut peer) = rig.stream(&channel);
    rig.hand_over(stream);
    rig.turn();
    assert_eq!(channel.readers(), 1, "the first had left before it came");
    rig.turn();
    assert!(has(&mut peer, "newest"));
}

/// B3: what a client takes counts, also before its socket says that it is writable.
#[test]
fn who_takes_little_is_not_stalled() {
    let mut rig = Rig::new();
    let channel = said(&big("a"));
    let mut peer = rig.adopt(&channel);
    let mut read = Vec::new();
    for _ in 0..3 {
        take(&mut peer, &mut read);
        rig.after(STALL).turn();
        assert_eq!(rig.open(), 1, "closed after {} bytes", read.len());
    }
    rig.after(STALL).turn();
    rig.after(STALL).turn();
    assert_eq!(rig.open(), 0, "it takes nothing any more");
}

/// L17: who closes its side has left; what it sent before means nothing.
#[test]
fn who_closes_its_side_has_left() {
    let mut rig = Rig::new();
    let channel = said("1");
    let mut peer = rig.adopt(&channel);
    peer.write_all(b"anything").expect("sent");
    rig.events();
    assert_eq!(rig.open(), 1);
    peer.shutdown(Shutdown::Write).expect("half closed");
    rig.until(|rig| rig.open() == 0);
    assert_eq!(channel.readers(), 0);
}

/// A change that comes while the shard looks leaves a note.
#[test]
fn a_change_while_it_looks_is_not_missed() {
    let mut rig = Rig::new();
    let channel = said("1");
    let mut peer = rig.adopt(&channel);
    rig.shard.deliver = |channel, cursor, form, queue| {
        let delivery = channel.deliver(cursor, form, queue);
        if channel.readers() == 1 {
            say(channel, "\"meanwhile\"");
        }
        delivery
    };
    say(&channel, "2");
    rig.turn();
    rig.shard.deliver = Channel::deliver;
    rig.turn();
    assert!(has(&mut peer, "meanwhile"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whoever comes and leaves in whatever order: everybody who is there is in the right room, and gets its news once.
    #[test]
    fn everybody_is_where_the_rooms_say(steps in prop::collection::vec((any::<bool>(), 0..3_usize, any::<prop::sample::Index>()), 1..40)) {
        let mut rig = Rig::new();
        let channels = [said("0"), said("0"), said("0")];
        let mut peers: Vec<(usize, Peer)> = Vec::new();
        for (comes, to, who) in steps {
            if comes || peers.is_empty() {
                peers.push((to, rig.adopt(&channels[to])));
            } else {
                drop(peers.swap_remove(who.index(peers.len())));
                let left = peers.len();
                rig.until(|rig| rig.open() == left);
            }
            for (at, conn) in &rig.shard.conns {
                prop_assert_eq!(rig.shard.rooms[conn.room].conns[conn.place as usize], at as u32);
            }
        }
        for (to, channel) in channels.iter().enumerate() {
            let here = peers.iter().filter(|(room, _)| *room == to).count();
            prop_assert_eq!(channel.readers(), here);
            say(channel, &format!("\"to {to}\""));
        }
        rig.turn();
        for (to, mut peer) in peers {
            let mut read = Vec::new();
            take(&mut peer, &mut read);
            let told = String::from_utf8_lossy(&read).matches("data: \"to ").count();
            prop_assert!(has_text(&read, &format!("to {to}")) && told == 1, "{}", told);
        }
    }
}
