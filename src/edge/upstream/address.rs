//! Where an upstream is: all addresses of its name, which of them answer, and whose turn it is (EDGE U5).
//!
//! Names are resolved in the background, so that no request waits for DNS but the first; when that fails, what was known
//! stands. An address that takes no connection is passed over at once and tried again every second, by us.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::{debug, info};

/// How often addresses that are down are tried.
const CHECK: Duration = Duration::from_secs(1);
/// Every so many checks the name is resolved again.
const CHECKS_PER_LOOKUP: u32 = 5;
/// For a lookup, and for a check.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of one upstream.
#[derive(Debug)]
pub(super) struct Addresses {
    host: String,
    port: u16,
    known: ArcSwap<Vec<Arc<Address>>>,
    next: AtomicUsize,
    /// One lookup at a time.
    lookup: tokio::sync::Mutex<()>,
    watched: AtomicBool,
}

/// One of them.
#[derive(Debug)]
pub(in crate::edge) struct Address {
    pub(in crate::edge) socket: SocketAddr,
    down: AtomicBool,
}

impl Addresses {
    /// `host` is a name or an address, without brackets.
    pub(super) fn new(host: &str, port: u16) -> Arc<Self> {
        let literal = host.parse::<IpAddr>().ok();
        let known = literal.map(|ip| Address::up(SocketAddr::new(ip, port)));
        Arc::new(Self {
            host: host.to_owned(),
            port,
            known: ArcSwap::from_pointee(known.into_iter().collect()),
            next: AtomicUsize::new(0),
            lookup: tokio::sync::Mutex::default(),
            // A literal never changes, and where there is no other address there is none to pass over.
            watched: AtomicBool::new(literal.is_some()),
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.load().len()
    }

    /// The next one: of those that are up and not `tried`; else of those not `tried`; else any. `None`: the name never
    /// resolved.
    pub(super) async fn pick(self: &Arc<Self>, tried: &[SocketAddr]) -> Option<Arc<Address>> {
        if self.known.load().is_empty() {
            let _alone = self.lookup.lock().await;
            if self.known.load().is_empty() {
                self.look_up().await;
            }
        }
        if !self.watched.swap(true, Ordering::Relaxed) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
        self.turn(tried)
    }

    fn turn(&self, tried: &[SocketAddr]) -> Option<Arc<Address>> {
        let known = self.known.load();
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || {
            let count = known.len();
            (0..count).map(move |offset| (turn.wrapping_add(offset)) % count)
        };
        let find = |wanted: &dyn Fn(&Address) -> bool| in_turn().find(|&at| wanted(&known[at]));
        let fresh = |address: &Address| !tried.contains(&address.socket);
        find(&|address| fresh(address) && !address.is_down())
            .or_else(|| find(&fresh))
            .or_else(|| find(&|_| true))
            .map(|at| known[at].clone())
    }

    /// Takes what the name says now; a failure changes nothing.
    async fn look_up(&self) {
        let found = timeout(PATIENCE, tokio::net::lookup_host((&*self.host, self.port))).await;
        match found {
            Ok(Ok(found)) => self.know(found),
            Ok(Err(error)) => {
                debug!(host = self.host, %error, "an upstream's name does not resolve")
            }
            Err(_) => debug!(host = self.host, "resolving an upstream's name takes long"),
        }
    }

    /// Those that stay keep their state.
    fn know(&self, found: impl IntoIterator<Item = SocketAddr>) {
        let mut found: Vec<SocketAddr> = found.into_iter().collect();
        found.sort_unstable();
        found.dedup();
        let known = self.known.load();
        if found.is_empty()
            || known
                .iter()
                .map(|known| known.socket)
                .eq(found.iter().copied())
        {
            return;
        }
        let addresses = found.into_iter().map(|socket| {
            let kept = known.iter().find(|known| known.socket == socket);
            kept.cloned().unwrap_or_else(|| Address::up(socket))
        });
        self.known.store(Arc::new(addresses.collect()));
    }

    /// Tries those that are down.
    async fn check(&self) {
        for address in self
            .known
            .load_full()
            .iter()
            .filter(|address| address.is_down())
        {
            let answers = timeout(PATIENCE, TcpStream::connect(address.socket)).await;
            if matches!(answers, Ok(Ok(_))) {
                address.down.store(false, Ordering::Relaxed);
                info!(host = self.host, address = %address.socket, "an upstream's address is back");
            }
        }
    }

    /// It took no connection.
    pub(super) fn mark_down(&self, address: &Address) {
        if !address.down.swap(true, Ordering::Relaxed) && self.len() > 1 {
            info!(host = self.host, address = %address.socket, "an upstream's address takes no connections; it is passed over");
        }
    }
}

#[cfg(test)]
impl Addresses {
    /// These, whatever the name says.
    pub(super) fn set(&self, sockets: &[SocketAddr]) {
        self.know(sockets.iter().copied());
    }
}

impl Address {
    fn up(socket: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            socket,
            down: AtomicBool::new(false),
        })
    }

    fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }
}

/// Until nobody has the addresses any more.
async fn watch(addresses: Weak<Addresses>) {
    let mut checks: u32 = 0;
    loop {
        sleep(CHECK).await;
        let Some(addresses) = addresses.upgrade() else {
            return;
        };
        checks = checks.wrapping_add(1);
        if checks.is_multiple_of(CHECKS_PER_LOOKUP) {
            addresses.look_up().await;
        }
        addresses.check().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn addresses(ports: &[u16]) -> Arc<Addresses> {
        let addresses = Addresses::new("name.test", 80);
        addresses.know(ports.iter().map(|&port| at(port)));
        addresses
    }

    fn turns(addresses: &Addresses, count: usize) -> Vec<u16> {
        let turns = (0..count).filter_map(|_| addresses.turn(&[]));
        turns.map(|address| address.socket.port()).collect()
    }

    #[test]
    fn addresses_take_turns_and_those_that_are_down_are_passed_over() {
        let addresses = addresses(&[1, 2, 3]);
        assert_eq!(turns(&addresses, 4), [1, 2, 3, 1]);
        let second = addresses.known.load()[1].clone();
        addresses.mark_down(&second);
        assert!(!turns(&addresses, 6).contains(&2));
        let tried = [at(1), at(3)];
        let left = addresses.turn(&tried).expect("there is one");
        assert_eq!(
            left.socket,
            at(2),
            "better one that was down than one that just failed"
        );
        let all = [at(1), at(2), at(3)];
        assert!(addresses.turn(&all).is_some());
    }

    /// EDGE U5: a failed lookup keeps what was known, and a changed answer keeps the state of who stays.
    #[tokio::test]
    async fn lookups_keep_what_is_known() {
        let addresses = addresses(&[1, 2]);
        addresses.mark_down(&addresses.known.load()[1].clone());
        addresses.know([at(3), at(2)]);
        assert_eq!(turns(&addresses, 2), [3, 3]);
        addresses.know([]);
        assert_eq!(addresses.len(), 2);
        // `.test` never resolves (RFC 6761).
        addresses.look_up().await;
        assert_eq!(addresses.len(), 2);
    }

    #[tokio::test]
    async fn an_address_that_takes_connections_again_is_checked_back_in() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("binds");
        let port = listener.local_addr().expect("bound").port();
        let addresses = addresses(&[1, port]);
        for address in addresses.known.load().iter() {
            addresses.mark_down(address);
        }
        addresses.check().await;
        assert_eq!(turns(&addresses, 2), [port, port]);
    }

    #[tokio::test]
    async fn a_literal_needs_no_lookup() {
        for (host, expected) in [("::1", "[::1]:7"), ("127.0.0.1", "127.0.0.1:7")] {
            let addresses = Addresses::new(host, 7);
            let address = addresses.pick(&[]).await.expect("is there");
            assert_eq!(address.socket.to_string(), expected);
        }
    }
}
