//! Which part of a document is meant: JSONPath (RFC 9535), compiled once.
//!
//! `jsonpath-rust` reads the query's text. Its tree is checked and rebuilt into our own ([`query`]), and our own
//! evaluator runs that ([`eval`]): numbers compare as decimals, regular expressions are compiled at load, and the work
//! of one run is bounded (EDGE J7, J8). Selectors come from the configuration alone (EDGE J9).

mod eval;
mod location;
mod query;
mod regexp;

use std::fmt;
use std::sync::Arc;

pub(crate) use location::Located;
pub use location::{Location, Step};

use super::{Json, Malformed, Value};
use query::Query;

/// A compiled JSONPath query. Cheap to clone.
#[derive(Clone)]
pub struct Selector {
    text: Arc<str>,
    query: Arc<Query>,
}

impl Selector {
    /// Compiles `text`. The error is what is wrong, for the configuration's author.
    ///
    /// Stricter than the crate that parses: functions are checked for the types of RFC 9535 §2.4.3, functions that are
    /// not in the RFC are unknown, and a regular expression must compile.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.into(),
            query: Arc::new(Query::parse(text)?),
        })
    }

    /// `$`: the whole document.
    pub fn root() -> Self {
        Self {
            text: "$".into(),
            query: Arc::new(Query::root()),
        }
    }

    /// Whether it selects the whole document, whatever it is.
    pub fn is_root(&self) -> bool {
        self.query.steps.is_empty()
    }

    /// The query's text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the query selects from `value` (CONTRACT.md §6): of one node, its value; of several, an array of their
    /// values in the order of RFC 9535; of none, `[]`, unless the query can only ever select one node: then that is
    /// an error. Text is given back by [`Selector::root`], and nothing can be selected from it otherwise.
    ///
    /// A run that looks at more than a million nodes is an error too (EDGE J7).
    pub fn select(&self, value: &Value) -> Result<Value, Malformed> {
        if self.is_root() {
            return Ok(value.clone());
        }
        let json = value
            .as_json()
            .ok_or_else(|| self.problem("the value is text"))?;
        let nodes = eval::nodes(&self.query, json)
            .ok_or_else(|| self.problem("looks at too many nodes"))?;
        match nodes.as_slice() {
            [] if self.query.is_singular() => Err(self.problem("nothing is there")),
            [one] => Ok(Value::from_json((*one).clone())),
            several => Ok(Value::from_json(Json::Array(
                several.iter().copied().cloned().collect(),
            ))),
        }
    }

    /// Where the selected nodes are: the normalised paths of RFC 9535 §2.7. None when the run looks at more than a
    /// million nodes.
    pub fn locate(&self, json: &Json) -> Vec<Location> {
        eval::locations(&self.query, json).unwrap_or_default()
    }

    fn problem(&self, what: &str) -> Malformed {
        Malformed::new(format!("cannot select {}: {what}", self.text))
    }
}

/// As text: the same text is the same query.
impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Selector").field(&self.text).finish()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::parse_json(text.as_bytes()).expect("valid JSON")
    }

    fn select(selector: &str, from: &str) -> Result<String, String> {
        let selector = Selector::parse(selector).expect("a query");
        selector
            .select(&value(from))
            .map(|value| value.encoded().to_owned())
            .map_err(|error| error.to_string())
    }

    /// CONTRACT §6.
    #[test]
    fn one_node_is_itself_several_are_an_array() {
        let document = r#"{"a":{"b":1.10},"c":[1,2,3]}"#;
        assert_eq!(select("$.a.b", document).as_deref(), Ok("1.10"));
        assert_eq!(select("$.c[*]", document).as_deref(), Ok("[1,2,3]"));
        assert_eq!(select("$.c[?@ > 2]", document).as_deref(), Ok("3"));
        assert_eq!(select("$.c", document).as_deref(), Ok("[1,2,3]"));
        assert_eq!(select("$['c'][-1]", document).as_deref(), Ok("3"));
        assert_eq!(select("$", document).as_deref(), Ok(document));
    }

    /// CONTRACT §6.
    #[test]
    fn nothing_is_an_error_for_a_singular_query_and_an_empty_array_for_others() {
        assert_eq!(
            select("$.a.b", r#"{"a":{}}"#),
            Err("cannot select $.a.b: nothing is there".into())
        );
        assert!(select("$.a[0]", r#"{"a":[]}"#).is_err());
        assert_eq!(select("$.a[*]", r#"{"a":[]}"#).as_deref(), Ok("[]"));
        assert_eq!(select("$.a[0,1]", r#"{"a":[]}"#).as_deref(), Ok("[]"));
        assert_eq!(select("$..b", r#"{"a":[]}"#).as_deref(), Ok("[]"));
        assert_eq!(select("$.a", r#"{"a":null}"#).as_deref(), Ok("null"));
    }

    #[test]
    fn text_has_no_parts() {
        let text = Value::from_text("hello");
        assert_eq!(Selector::root().select(&text).as_ref(), Ok(&text));
        assert!(
            Selector::parse("$.a")
                .expect("a query")
                .select(&text)
                .is_err()
        );
    }

    /// EDGE J7: the run ends; the document does not decide when.
    #[test]
    fn work_is_bounded() {
        let wide = format!("[{}]", vec!["[1,2,3,4,5,6,7,8,9,0]"; 1_000].join(","));
        assert_eq!(
            select("$[?count($..*) > 1]", &wide),
            Err("cannot select $[?count($..*) > 1]: looks at too many nodes".into())
        );
        let explosive = Selector::parse("$..*..*..*..*..*").expect("a query");
        let deep = value(&format!("{}{}", "[".repeat(60), "]".repeat(60)));
        assert!(explosive.select(&deep).is_err());
        assert!(explosive.locate(deep.as_json().expect("JSON")).is_empty());
    }

    #[test]
    fn locations_are_normalised_paths() {
        let document = value(r#"{"a":[{"x'y":1},{"b":2}]}"#);
        let locations = Selector::parse("$.a[-2:][?@>0]")
            .expect("a query")
            .locate(document.as_json().expect("JSON"));
        let texts: Vec<String> = locations.iter().map(Location::to_string).collect();
        assert_eq!(texts, [r"$['a'][0]['x\'y']", "$['a'][1]['b']"]);
    }
}
