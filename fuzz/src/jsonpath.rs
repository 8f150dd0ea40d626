//! A query from the configuration is refused with words, or runs on any document within its bounds; what it selects is what
//! stands where it says, and each place has a name that is a query for it alone (RFC 9535 §2.7; EDGE J7, J8).
//!
//! Input: the query in the first line, then a document; bytes that are no JSON are dice for one.

use wellspring::value::{Json, Location, Selector, Step, Value};

use super::dice::Dice;

pub fn holds(bytes: &[u8]) {
    let mut lines = bytes.splitn(2, |&byte| byte == b'\n');
    let query = String::from_utf8_lossy(lines.next().unwrap_or_default());
    let document = lines
        .next()
        .unwrap_or(b"\xcc\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b");
    let document =
        Value::parse_json(document).unwrap_or_else(|_| Value::from_json(Dice(document).json(5)));
    let json = document.as_json().expect("JSON");
    let selector = match Selector::parse(&query) {
        Ok(selector) => selector,
        Err(why) => return assert!(!why.is_empty()),
    };
    assert_eq!(selector.as_str(), query);
    let locations = selector.locate(json);
    let found: Vec<&Json> = locations
        .iter()
        .map(|location| at(json, location))
        .collect();
    match selector.select(&document) {
        Ok(value) => match (found.as_slice(), value.as_json().expect("JSON")) {
            ([one], selected) => assert_eq!(*one, selected),
            (several, Json::Array(selected)) => {
                assert!(
                    several.iter().copied().eq(selected),
                    "{several:?} {selected:?}"
                );
            }
            (several, selected) => panic!("{several:?} {selected}"),
        },
        Err(_) => assert!(found.is_empty()),
    }
    for location in locations.iter().take(20) {
        let name = location.to_string();
        let one = Selector::parse(&name).expect("a normalised path is a query");
        assert_eq!(one.locate(json), std::slice::from_ref(location), "{name}");
    }
}

fn at<'a>(json: &'a Json, location: &Location) -> &'a Json {
    location
        .0
        .iter()
        .fold(json, |json, step| match (json, step) {
            (Json::Object(members), Step::Member(name)) => &members[name],
            (Json::Array(elements), Step::Index(index)) => &elements[*index],
            _ => panic!("nothing is at {location}"),
        })
}
