//! Which node of a cluster has which keys (Redis cluster specification). Pure.

use redis::Value;

use crate::config::Endpoint;

/// Keys are spread over so many slots.
const SLOTS: u16 = 16384;

/// Which server has which slots, as one of them says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots {
    /// Sorted; they do not overlap.
    ranges: Vec<Range>,
    /// All that are named: those who have slots, and their replicas.
    nodes: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq)]
struct Range {
    first: u16,
    last: u16,
    owner: Endpoint,
}

impl Slots {
    /// One server has them all.
    pub(super) fn of_one(server: Endpoint) -> Self {
        Self {
            nodes: vec![server.clone()],
            ranges: vec![Range {
                first: 0,
                last: SLOTS - 1,
                owner: server,
            }],
        }
    }

    /// Reads the reply to CLUSTER SLOTS; `answering` is who gave it. `None` when it is none. A node that says nothing of its
    /// host is reached at the host of who answered; one whose host is unknown is left out.
    pub(super) fn parse(reply: Value, answering: &Endpoint) -> Option<Self> {
        let mut slots = Self::default();
        for range in array(reply)? {
            let mut parts = array(range)?.into_iter();
            let (first, last) = (number(&parts.next()?)?, number(&parts.next()?)?);
            if first > last || last >= SLOTS {
                return None;
            }
            let mut nodes = parts.map(|node| endpoint(node, answering));
            if let Some(owner) = nodes.next()? {
                slots.add(&owner);
                slots.ranges.push(Range { first, last, owner });
            }
            nodes.flatten().for_each(|replica| slots.add(&replica));
        }
        slots.ranges.sort_by_key(|range| range.first);
        let overlap = |pair: &[Range]| pair[0].last >= pair[1].first;
        (!slots.ranges.windows(2).any(overlap)).then_some(slots)
    }

    /// Who has `slot`.
    pub(super) fn owner(&self, slot: u16) -> Option<&Endpoint> {
        let at = self.ranges.partition_point(|range| range.last < slot);
        let range = self.ranges.get(at)?;
        (range.first <= slot).then_some(&range.owner)
    }

    /// Everybody who is named, each once.
    pub(super) fn nodes(&self) -> &[Endpoint] {
        &self.nodes
    }

    fn add(&mut self, node: &Endpoint) {
        if !self.nodes.contains(node) {
            self.nodes.push(node.clone());
        }
    }
}

/// Which slot `key` is in: of its hash tag, if it has one ("Hash tags" in the specification).
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let tagged = &key[open + 1..];
        let close = tagged.iter().position(|byte| *byte == b'}')?;
        (close > 0).then(|| &tagged[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, which the specification names.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc: u16, _| {
            match crc & 0x8000 {
                0 => crc << 1,
                _ => crc << 1 ^ 0x1021,
            }
        })
    })
}

fn array(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => (*number).try_into().ok(),
        _ => None,
    }
}

fn node_name(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        Value::Nil => Some(String::new()),
        _ => None,
    }
}

fn endpoint(node: Value, answering: &Endpoint) -> Option<Endpoint> {
    let mut parts = array(node)?.into_iter();
    let host = node_name(parts.next()?)?;
    let port = number(&parts.next()?)?;
    named(&host, port, answering)
}

/// A server that another one names: `?` is nobody, and nothing is the host of the one who says it.
pub(super) fn named(host: &str, port: u16, answering: &Endpoint) -> Option<Endpoint> {
    match host {
        "?" => None,
        "" => Some(Endpoint::new(answering.host.clone(), port)),
        host => Some(Endpoint::new(host, port)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![
            host,
            Value::Int(port),
            text("id"),
            Value::Array(vec![]),
        ])
    }

    fn range(first: i64, last: i64, nodes: Vec<Value>) -> Value {
        let mut parts = vec![Value::Int(first), Value::Int(last)];
        parts.extend(nodes);
        Value::Array(parts)
    }

    fn asked() -> Endpoint {
        Endpoint::new("asked", 1)
    }

    /// The values are those of CLUSTER KEYSLOT.
    #[test]
    fn keys_have_the_slots_of_the_specification() {
        for (key, slot) in [
            ("", 0),
            ("123456789", 0x31c3),
            ("foo", 12182),
            ("bar", 5061),
            ("{foo}bar", 12182),
            ("x{foo}{bar}", 12182),
            ("{foo", slot_of(b"{foo")),
            ("somekey", 11058),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
        // An empty tag is none, and the first brace counts.
        assert_eq!(slot_of(b"{}foo"), crc16(b"{}foo") % SLOTS);
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }

    #[test]
    fn every_slot_has_the_owner_that_the_reply_names() {
        let reply = Value::Array(vec![
            range(8192, 16383, vec![node(text("b"), 2), node(text("c"), 3)]),
            range(0, 8000, vec![node(text("a"), 1)]),
        ]);
        let slots = Slots::parse(reply, &asked()).expect("a map");
        let owner = |slot| slots.owner(slot).map(ToString::to_string);
        assert_eq!(owner(0).as_deref(), Some("a:1"));
        assert_eq!(owner(8000).as_deref(), Some("a:1"));
        assert_eq!(owner(8001), None);
        assert_eq!(owner(8192).as_deref(), Some("b:2"));
        assert_eq!(owner(16383).as_deref(), Some("b:2"));
        assert_eq!(slots.nodes().len(), 3);
    }

    #[test]
    fn a_node_without_a_host_is_where_the_answer_came_from() {
        for host in [Value::Nil, text("")] {
            let reply = Value::Array(vec![range(0, 16383, vec![node(host, 7)])]);
            let slots = Slots::parse(reply, &asked()).expect("a map");
            assert_eq!(slots.owner(5), Some(&Endpoint::new("asked", 7)));
        }
        let reply = Value::Array(vec![range(0, 16383, vec![node(text("?"), 7)])]);
        let slots = Slots::parse(reply, &asked()).expect("a map");
        assert_eq!((slots.owner(5), slots.nodes()), (None, [].as_slice()));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for reply in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(5, 4, vec![node(text("a"), 1)])]),
            Value::Array(vec![range(0, 16384, vec![node(text("a"), 1)])]),
            Value::Array(vec![range(0, 1, vec![])]),
            Value::Array(vec![
                range(0, 10, vec![node(text("a"), 1)]),
                range(10, 11, vec![node(text("b"), 1)]),
            ]),
        ] {
            assert_eq!(Slots::parse(reply.clone(), &asked()), None, "{reply:?}");
        }
    }

    proptest! {
        #[test]
        fn a_tag_decides_alone(tag in "[a-z]{1,8}", before in "[a-z]{0,8}", after in "[a-z{}]{0,8}") {
            let key = format!("{before}{{{tag}}}{after}");
            prop_assert_eq!(slot_of(key.as_bytes()), slot_of(tag.as_bytes()));
            prop_assert!(slot_of(key.as_bytes()) < SLOTS);
        }
    }
}
