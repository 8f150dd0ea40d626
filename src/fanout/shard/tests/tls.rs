//! Streams over TLS: real sessions over loopback.

use std::sync::LazyLock;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection,
    SupportedProtocolVersion,
};

use super::*;
use crate::fanout::end::told::observer;
use crate::fanout::{Closing, Reason};

static CERTIFICATE: LazyLock<CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| generate_simple_self_signed(["gateway.test".into()]).expect("a certificate"));

/// A client over TLS.
struct TlsPeer {
    tcp: Peer,
    tls: ClientConnection,
    /// It was told that nothing follows.
    closed: bool,
}

impl TlsPeer {
    /// Takes what is there. Returns whether that was the end, which must have been announced.
    fn take(&mut self, into: &mut Vec<u8>) -> bool {
        self.tcp.set_nonblocking(true).expect("nonblocking");
        loop {
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => {
                    assert!(self.closed, "cut without close_notify");
                    return true;
                }
                Ok(_) => {
                    let state = self.tls.process_new_packets().expect("whole records");
                    self.closed |= state.peer_has_closed();
                    let begin = into.len();
                    into.resize(begin + state.plaintext_bytes_to_read(), 0);
                    let mut reader = self.tls.reader();
                    reader.read_exact(&mut into[begin..]).expect("it is there");
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(error) => panic!("{error} after {} bytes", into.len()),
            }
        }
    }

    fn flush(&mut self) {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.tcp).expect("sent");
        }
    }
}

fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CERTIFICATE.cert.der().clone();
    let key = PrivateKeyDer::try_from(CERTIFICATE.signing_key.serialize_der()).expect("a key");
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .expect("known")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .expect("fits");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("known")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

/// A session whose handshake is done on both sides; what the server wrote last may still wait in it.
fn session(
    server: &mut Peer,
    peer: Peer,
    version: &'static SupportedProtocolVersion,
) -> (Box<ServerConnection>, TlsPeer) {
    let (server_config, client_config) = configs(version);
    let mut accepted = Box::new(ServerConnection::new(server_config).expect("a session"));
    let name = ServerName::try_from("gateway.test").expect("a name");
    let tls = ClientConnection::new(client_config, name).expect("a session");
    let mut peer = TlsPeer {
        tcp: peer,
        tls,
        closed: false,
    };
    let began = Instant::now();
    peer.tcp.set_nonblocking(true).expect("nonblocking");
    while peer.tls.is_handshaking() || accepted.is_handshaking() {
        assert!(began.elapsed() < Duration::from_secs(20), "no handshake");
        peer.flush();
        if accepted.read_tls(server).is_ok() {
            accepted.process_new_packets().expect("no alert");
        }
        if accepted.is_handshaking() || version == &TLS12 {
            while accepted.wants_write() {
                accepted.write_tls(server).expect("sent");
            }
        }
        assert!(!peer.take(&mut Vec::new()));
    }
    (accepted, peer)
}

impl Rig {
    fn tls_stream(
        &self,
        channel: &Arc<Channel>,
        version: &'static SupportedProtocolVersion,
    ) -> (NewStream, TlsPeer) {
        let (mut stream, peer) = self.stream(channel);
        let Carrier::Plain(mut socket) = stream.carrier else {
            panic!("not plain");
        };
        let (tls, peer) = session(&mut socket, peer, version);
        stream.carrier = Carrier::Tls(socket, tls);
        (stream, peer)
    }

    /// One that is taken over at once.
    fn adopt_tls(&mut self, channel: &Arc<Channel>) -> TlsPeer {
        let (stream, peer) = self.tls_stream(channel, &TLS13);
        self.hand_over(stream);
        self.turn();
        peer
    }
}

/// E9, L14: from the head to the end of the session, in both versions and both framings; what the session had not yet
/// written at the hand-over (tickets) goes first.
#[test]
fn a_stream_over_tls_is_whole() {
    for (version, chunked) in [(&TLS12, true), (&TLS13, true), (&TLS13, false)] {
        let mut rig = Rig::new();
        let channel = said("1");
        let (mut stream, mut peer) = rig.tls_stream(&channel, version);
        let Carrier::Tls(_, session) = &stream.carrier else {
            panic!("not over TLS");
        };
        assert_eq!(session.wants_write(), version == &TLS13, "the tickets");
        let (observer, told) = observer();
        (stream.observer, stream.encoder) = (observer, Encoder::new(None, chunked));
        rig.hand_over(stream);
        rig.turn();
        say(&channel, &big("b"));
        rig.turn();
        let mut read = Vec::new();
        rig.until(|_| {
            peer.take(&mut read);
            read.len() > BIG
        });
        rig.after(Duration::from_secs(4200)).turn();
        rig.until(|_| peer.take(&mut read));
        assert_eq!(
            events_of(&read, chunked),
            [message("1".into()), message(big("b")), closing("max-age")]
        );
        drop(peer);
        rig.until(|rig| rig.open() == 0);
        let end = told.try_recv().expect("told");
        assert_eq!(end.reason, Reason::Closed(Closing::MaxAge));
        assert_eq!(end.bytes, read.len() as u64);
    }
}

/// E17: what one wake-up finds leaves in one record, the head with the first event too.
#[test]
fn one_look_is_one_record() {
    let mut rig = Rig::new();
    let channel = said("1");
    let (stream, mut peer) = rig.tls_stream(&channel, &TLS12);
    rig.hand_over(stream);
    rig.turn();
    assert_eq!(records(&mut peer.tcp), 1, "the head and the first event");
    say(&channel, "2");
    say(&channel, "3");
    rig.turn();
    assert_eq!(records(&mut peer.tcp), 1);
}

/// How many records are there, raw.
fn records(peer: &mut Peer) -> usize {
    let mut read = Vec::new();
    take(peer, &mut read);
    let mut rest = &read[..];
    let mut count = 0;
    while let [23, 3, 3, high, low, ..] = *rest {
        rest = &rest[5 + usize::from(high) * 256 + usize::from(low)..];
        count += 1;
    }
    assert!(rest.is_empty(), "half a record");
    count
}

/// B1, B2, B4, B5: who is slow holds a pointer into shared bytes, is moved to the newest, and holds nobody up; who
/// takes nothing any more is closed (B3).
#[test]
fn a_slow_reader_over_tls_is_conflated_and_then_closed() {
    let mut rig = Rig::new();
    let channel = said(&big("a"));
    let mut slow = [rig.adopt_tls(&channel), rig.adopt_tls(&channel)];
    let mut fast = rig.adopt_tls(&channel);
    let ends = |rig: &Rig, at: usize| {
        let unsent = rig.shard.conns[at].unsent.as_ref().expect("much is left");
        assert!(unsent.len() > BIG / 2, "{} are left", unsent.len());
        unsent.then.as_ptr_range().end
    };
    assert_eq!(ends(&rig, 0), ends(&rig, 1), "not shared");
    let mut got = Vec::new();
    for letter in ["b", "c", "d", "e"] {
        say(&channel, &big(letter));
        let last = format!("{letter}\"\n\n\r\n");
        rig.until(|_| {
            fast.take(&mut got);
            got.ends_with(last.as_bytes())
        });
    }
    let mut read = Vec::new();
    let [first, second] = &mut slow;
    rig.until(|_| {
        first.take(&mut read);
        read.ends_with(b"e\"\n\n\r\n")
    });
    let letters: Vec<_> = (["a", "b", "c", "d", "e"].into_iter())
        .filter(|letter| has_text(&read, &big(letter)))
        .collect();
    assert_eq!(letters, ["a", "e"], "it is moved to the newest");
    assert_eq!(rig.open(), 3);
    // The other takes nothing.
    rig.after(STALL * 2).turn();
    rig.after(STALL * 2).turn();
    assert_eq!(rig.open(), 2);
    assert!(!second.closed);
}

/// L17: who says in the session that it leaves has left; what it sends before means nothing, and its new keys are used.
#[test]
fn who_closes_its_session_has_left() {
    let mut rig = Rig::new();
    let channel = said("1");
    let mut peer = rig.adopt_tls(&channel);
    peer.tls.writer().write_all(&[b'x'; 3000]).expect("fits");
    peer.tls.refresh_traffic_keys().expect("TLS 1.3");
    peer.tls
        .writer()
        .write_all(b"under new keys")
        .expect("fits");
    peer.flush();
    rig.events();
    assert_eq!(rig.open(), 1);
    say(&channel, "\"news\"");
    rig.turn();
    let mut read = Vec::new();
    peer.take(&mut read);
    assert!(has_text(&read, "news"));
    peer.tls.send_close_notify();
    peer.flush();
    rig.until(|rig| rig.open() == 0);
    assert_eq!(channel.readers(), 0);
}

/// What a client sends at once is bounded, and garbage under TLS ends it.
#[test]
fn who_floods_or_breaks_the_session_is_closed() {
    let mut rig = Rig::new();
    let channel = said("1");
    let (stream, mut floods) = rig.tls_stream(&channel, &TLS13);
    if let Carrier::Tls(socket, _) = &stream.carrier {
        let socket = socket2::SockRef::from(socket);
        socket.set_recv_buffer_size(1 << 20).expect("large");
    }
    rig.hand_over(stream);
    rig.turn();
    let mut sent = 0;
    while rig.open() == 1 {
        assert!(sent < 64 << 20, "it goes on for ever");
        // As much as the sockets take, so that there is always more to read.
        loop {
            sent += floods.tls.writer().write(&[b'x'; 16_000]).expect("open");
            if floods.tls.write_tls(&mut floods.tcp).is_err() {
                break;
            }
        }
        rig.events();
    }
    let mut breaks = rig.adopt_tls(&channel);
    breaks
        .tcp
        .write_all(&[
            0x17, 3, 3, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7,
        ])
        .expect("sent");
    rig.until(|rig| rig.open() == 0);
}
