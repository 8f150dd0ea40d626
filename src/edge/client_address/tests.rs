use std::net::SocketAddr;

use http::header::FORWARDED;
use proptest::prelude::*;

use super::*;

const TRUSTED: &str = "10.0.0.1";

fn peer(address: &str) -> Peer {
    let address: IpAddr = address.parse().expect("an address");
    Peer {
        address: SocketAddr::new(address, 1234),
        ..Peer::current()
    }
}

fn config() -> config::ClientAddress {
    let networks = ["10.0.0.0/8", "2001:db8::/32"];
    config::ClientAddress {
        trusted_proxies: networks.map(|text| text.parse().expect("a network")).into(),
    }
}

fn headers(lines: &[(HeaderName, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            name,
            HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
        );
    }
    headers
}

fn of(address: &str, lines: &[(HeaderName, &str)]) -> ClientAddress {
    ClientAddress::of_request(&peer(address), &headers(lines), &config())
}

/// The client that a trusted proxy's `X-Forwarded-For` names.
fn listed(value: &str) -> String {
    of(TRUSTED, &[(FORWARDED_FOR, value)]).address.to_string()
}

/// The client that a trusted proxy's `Forwarded` names.
fn named(value: &str) -> String {
    of(TRUSTED, &[(FORWARDED, value)]).address.to_string()
}

/// EDGE Q1: from the right to the first hop that is not trusted.
#[test]
fn the_first_untrusted_hop_from_the_right_is_the_client() {
    assert_eq!(listed("203.0.113.7"), "203.0.113.7");
    assert_eq!(listed("6.6.6.6, 203.0.113.7"), "203.0.113.7");
    assert_eq!(listed("6.6.6.6, 203.0.113.7, 10.2.0.1"), "203.0.113.7");
    assert_eq!(listed("10.3.0.1, 10.2.0.1"), "10.3.0.1");
    assert_eq!(listed(""), TRUSTED);
    let client = of(
        TRUSTED,
        &[(FORWARDED_FOR, "6.6.6.6, 203.0.113.7, 10.2.0.1")],
    );
    let proxies: [IpAddr; 2] = ["10.2.0.1", TRUSTED].map(|text| text.parse().expect("an address"));
    assert_eq!(client.proxies, proxies);
    assert_eq!(
        client.forwarded_for(),
        format!("203.0.113.7, 10.2.0.1, {TRUSTED}")
    );
}

/// EDGE Q2: several lines are one list.
#[test]
fn lines_are_joined_in_order() {
    let lines = [
        (FORWARDED_FOR, "6.6.6.6"),
        (FORWARDED_FOR, "203.0.113.7, , 10.2.0.1"),
        (FORWARDED_FOR, ","),
    ];
    assert_eq!(of(TRUSTED, &lines).address.to_string(), "203.0.113.7");
    let lines = [(FORWARDED, "for=203.0.113.7"), (FORWARDED, "for=10.2.0.1")];
    assert_eq!(of(TRUSTED, &lines).address.to_string(), "203.0.113.7");
}

/// EDGE Q2: ports, brackets, quotes; and EDGE Q5: IPv4 in IPv6 form is IPv4.
#[test]
fn addresses_are_read_in_every_form() {
    for (text, address) in [
        ("203.0.113.7:4711", "203.0.113.7"),
        ("2001:db9::7", "2001:db9::7"),
        ("[2001:db9::7]", "2001:db9::7"),
        ("[2001:db9::7]:4711", "2001:db9::7"),
        ("\"[2001:db9::7]:4711\"", "2001:db9::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:1", "203.0.113.7"),
        ("203.0.113.7:_hidden", "203.0.113.7"),
    ] {
        assert_eq!(listed(text), address, "{text}");
        let quoted = match text.starts_with('"') {
            true => format!("for={text}"),
            false => format!("for=\"{text}\""),
        };
        assert_eq!(named(&quoted), address, "{quoted}");
    }
    assert_eq!(
        of("::ffff:10.0.0.1", &[(FORWARDED_FOR, "1.2.3.4")])
            .address
            .to_string(),
        "1.2.3.4"
    );
}

/// EDGE Q2: what is no address ends the walk at the last hop that is known.
#[test]
fn nonsense_ends_the_walk() {
    for nonsense in [
        "unknown",
        "_hidden",
        "garbage",
        "1.2.3",
        "01.2.3.4",
        "1.2.3.4.5",
        "1.2.3.4:",
        "1.2.3.4:123456",
        "1.2.3.4:-1",
        "[1.2.3.4]",
        "[::1",
        "::1]",
        "[::1]x",
        "fe80::1%eth0",
        "\"1.2.3.4",
        "1.2.3.4 5.6.7.8",
        "\u{e9}",
        "1.2.3.4;5.6.7.8",
        "\"\"",
    ] {
        assert_eq!(
            listed(&format!("6.6.6.6, {nonsense}")),
            TRUSTED,
            "{nonsense}"
        );
        assert_eq!(
            listed(&format!("6.6.6.6, {nonsense}, 10.2.0.1")),
            "10.2.0.1",
            "{nonsense}"
        );
    }
    for nonsense in [
        "for=unknown",
        "for=\"_x\"",
        "for",
        "for=",
        "=",
        "for=\"1.2.3.4",
        "for=\"1.2.3.4\"x",
        "for=1.2.3.4;for=6.6.6.6",
        "proto=http",
        "for=1.2.3.4;x",
        "for==1.2.3.4",
        "\u{e9}",
    ] {
        assert_eq!(
            named(&format!("for=6.6.6.6, {nonsense}")),
            TRUSTED,
            "{nonsense}"
        );
    }
}

/// RFC 7239 §4: names in any case, in any order, with commas within quotes; its own word on scheme and host.
#[test]
fn forwarded_is_read_by_its_grammar() {
    let header = "for=6.6.6.6;proto=http, For=\"[2001:db9::7]:80\" ; PROTO=https;host=\"shop.example:8443\";by=\"_a,b\", for=10.2.0.1;proto=http";
    let client = of(TRUSTED, &[(FORWARDED, header)]);
    assert_eq!(client.address.to_string(), "2001:db9::7");
    assert_eq!(
        (client.proto, client.host),
        ("https", Some(HeaderValue::from_static("shop.example:8443")))
    );
    // A quote that a client leaves open swallows nothing that stands after it for good.
    assert_eq!(named("for=\"6.6.6.6, for=\"[2001:db9::7]\""), TRUSTED);
}

/// Both headers are no puzzle: the one that all proxies know counts, and that they differ is told.
#[test]
fn two_stories_are_told_apart() {
    let lines = |named: &'static str| [(FORWARDED_FOR, "203.0.113.7"), (FORWARDED, named)];
    let client = of(TRUSTED, &lines("for=6.6.6.6"));
    assert_eq!(
        (client.address.to_string().as_str(), client.disputed),
        ("203.0.113.7", true)
    );
    let client = of(TRUSTED, &lines("for=\"203.0.113.7:99\""));
    assert!(!client.disputed);
}

/// EDGE P21: a trusted proxy's word on scheme and host is kept, if it is one.
#[test]
fn scheme_and_host_come_from_the_trusted_proxy() {
    let lines = |proto, host| {
        [
            (FORWARDED_FOR, "203.0.113.7"),
            (FORWARDED_PROTO, proto),
            (FORWARDED_HOST, host),
        ]
    };
    let client = of(TRUSTED, &lines("HTTPS", "shop.example"));
    assert_eq!(
        (client.proto, client.host),
        ("https", Some(HeaderValue::from_static("shop.example")))
    );
    let client = of(TRUSTED, &lines("gopher", "a b"));
    assert_eq!((client.proto, client.host), ("http", None));
    let client = of("192.0.2.1", &lines("https", "shop.example"));
    assert_eq!((client.proto, client.host), ("http", None));
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,60}",
        "([0-9]{1,3}\\.){3}[0-9]{1,3}(, ([0-9]{1,3}\\.){3}[0-9]{1,3}){0,3}",
        "(for=|For=|;|,|\"|\\\\|\\[|\\]|:|proto=https|10\\.0\\.0\\.1|6\\.6\\.6\\.6|::1| ){0,12}",
    ]
}

const CLAIMS: [&str; 8] = [
    "x-forwarded-for",
    "forwarded",
    "x-real-ip",
    "cf-connecting-ip",
    "true-client-ip",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-client-ip",
];

proptest! {
    /// EDGE Q3: what a peer says that is not trusted changes nothing.
    #[test]
    fn strangers_say_nothing(claims in prop::collection::vec((0..CLAIMS.len(), any_value()), 0..6)) {
        let mut lines = HeaderMap::new();
        for (name, value) in claims {
            lines.append(CLAIMS[name], HeaderValue::from_str(&value).expect("a value"));
        }
        let peer = peer("192.0.2.1");
        prop_assert_eq!(ClientAddress::of_request(&peer, &lines, &config()), ClientAddress::of_peer(&peer));
    }

    /// EDGE Q2: whatever is written, the walk ends; all but the client are trusted; and nothing left of the client counts.
    #[test]
    fn the_chain_is_trusted_up_to_the_client(value in any_value(), left in any_value(), forwarded: bool) {
        let name = if forwarded { FORWARDED } else { FORWARDED_FOR };
        let client = of(TRUSTED, &[(name.clone(), &value)]);
        let last = client.proxies.last().unwrap_or(&client.address);
        prop_assert_eq!(last.to_string(), TRUSTED);
        prop_assert!(client.proxies.iter().all(|hop| config().trusts(*hop)));
        if !config().trusts(client.address) {
            let more = of(TRUSTED, &[(name.clone(), &left), (name, &value)]);
            prop_assert_eq!(more.proxies, client.proxies);
        }
    }

    #[test]
    fn any_bytes_are_survived(value in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let lines = [FORWARDED_FOR, FORWARDED, FORWARDED_PROTO, FORWARDED_HOST].map(|name| (name, value.clone()));
            let lines: HeaderMap = lines.into_iter().collect();
            ClientAddress::of_request(&peer(TRUSTED), &lines, &config());
        }
    }
}
