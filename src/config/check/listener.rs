//! `listeners`

use std::net::SocketAddr;

use super::super::read::Item;
use super::{Listener, keys};

pub(super) fn all(item: &Item<'_>) -> Option<Vec<Listener>> {
    let items = item.list()?;
    if items.is_empty() {
        item.problem("no listener (write listeners: [{address: \"0.0.0.0:8080\"}])");
    }
    let mut taken: Vec<SocketAddr> = Vec::new();
    super::all(items.into_iter().map(|item| {
        let section = item.section(&keys::LISTENER)?;
        let address = section.get("address");
        let parsed = address.parsed("write 0.0.0.0:8080, [::]:8080 or 127.0.0.1:8080", |text| {
            let no_address = |_| format!("{} is no IP:PORT", address.shown());
            text.parse::<SocketAddr>().map_err(no_address)
        })?;
        // Port 0 is another one each time.
        if parsed.port() != 0 && taken.contains(&parsed) {
            address.problem(format!("{} stands twice (remove one)", address.shown()));
        }
        taken.push(parsed);
        Some(Listener { address: parsed })
    }))
}
