//! `admin`

use std::net::SocketAddr;

use super::super::read::{Item, Section};
use super::super::{Admin, Listener, Secret};
use super::keys;
use super::listener::clash;

/// The inner `None`: off. `listeners`: as far as they are known. What stands there by default gives way to them.
pub(super) fn read(root: &Section<'_>, listeners: &[Listener]) -> Option<Option<Admin>> {
    let by_default = !root.has("admin");
    let item = root.get("admin");
    if item.is_off() {
        return Some(None);
    }
    let section = item.section(&keys::ADMIN)?;
    let address = section.get("address");
    let parsed = address.parsed("write 127.0.0.1:9090 or another IP:PORT", |text| {
        let no_address = |_| format!("{} is no IP:PORT", address.shown());
        text.parse::<SocketAddr>().map_err(no_address)
    });
    let token = section.get("token").hide().or_null(|item| token(&item));
    let (parsed, token) = (parsed?, token?);
    if token.is_none() && !parsed.ip().to_canonical().is_loopback() {
        address.problem(
            "this address can be reached from elsewhere, and there is no token \
             (write token: ${file:/run/secrets/admin}, or a loopback address)",
        );
        return None;
    }
    let taken = listeners
        .iter()
        .any(|listener| clash(listener.address, parsed));
    if taken && !by_default {
        address.problem("a listener has this address (write another port)");
        return None;
    }
    Some(Some(Admin {
        address: parsed,
        token,
        by_default,
    }))
}

/// What can stand behind `Authorization: Bearer`.
fn token(item: &Item<'_>) -> Option<Secret> {
    item.parsed(
        "write visible ASCII characters, many and random",
        |text| match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Secret::new(text)),
            false => Err("the token cannot stand in a header".to_owned()),
        },
    )
}
