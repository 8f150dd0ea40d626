//! `upstreams`

use url::Url;

use super::super::read::{Item, Section};
use super::super::{Timeouts, Upstream};
use super::{headers, keys, tls};

pub(super) fn read(name: String, item: Item<'_>) -> Option<Upstream> {
    let section = item.section(&keys::UPSTREAM)?;
    let url = url(&section.get("url").hide());
    let headers = headers::of_requests(&section.get("headers"));
    let timeouts = timeouts(&section);
    let max_body = section.size("max_body");
    let max_concurrent_polls = section.integer("max_concurrent_polls");
    let budget = section.get("budget").or_null(|item| item.rate());
    let follow_redirects = section.bool("follow_redirects");
    let https = url.as_ref().map(|url| url.scheme() == "https");
    let tls = tls::read(section.get("tls"), https);
    Some(Upstream {
        name,
        url: url?,
        headers: headers?,
        timeouts: timeouts?,
        max_body: max_body?,
        max_concurrent_polls: max_concurrent_polls?,
        budget: budget?,
        follow_redirects: follow_redirects?,
        tls: tls?,
    })
}

fn url(item: &Item<'_>) -> Option<Url> {
    item.parsed(
        "write http://host, https://host:8443 or https://host/base",
        |text| {
            let url = Url::parse(text).map_err(|error| format!("this is no url: {error}"))?;
            if !matches!(url.scheme(), "http" | "https") {
                return Err("the url is neither http nor https".into());
            }
            if !url.has_host() {
                return Err("the url has no host".into());
            }
            if !url.username().is_empty() || url.password().is_some() {
                return Err(
                    "the url holds a user or password: send an authorization header instead".into(),
                );
            }
            match url.query().or(url.fragment()) {
                None => Ok(url),
                Some(_) => {
                    Err("the url holds a query or fragment: queries belong to the streams".into())
                }
            }
        },
    )
}

fn timeouts(section: &Section<'_>) -> Option<Timeouts> {
    let section = section.get("timeouts").section(&keys::TIMEOUTS)?;
    let connect = section.duration("connect");
    let first_byte = section.duration("first_byte");
    let total = section.duration("total");
    Some(Timeouts {
        connect: connect?,
        first_byte: first_byte?,
        total: total?,
    })
}
