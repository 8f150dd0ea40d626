//! A query as the evaluator wants it. What cannot be run is refused here, so running cannot fail but for its bounds.

use jsonpath_rust::parser::{model, parse_json_path};
use regex::Regex;

use super::regexp;
use crate::value::{Json, Number};

/// `$…` or, inside a filter, `@…`.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) from_root: bool,
    pub(super) steps: Vec<Segment>,
}

/// RFC 9535 §2.5.
#[derive(Debug)]
pub(super) struct Segment {
    /// `..`: applied to the node and to everything below it.
    pub(super) descends: bool,
    pub(super) picks: Vec<Pick>,
}

/// RFC 9535 §2.3.
#[derive(Debug)]
pub(super) enum Pick {
    Name(Box<str>),
    Wildcard,
    Index(i64),
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
    },
    Filter(Test),
}

/// What is true or false of a node.
#[derive(Debug)]
pub(super) enum Test {
    Or(Vec<Self>),
    And(Vec<Self>),
    Not(Box<Self>),
    Exists(Query),
    Compare(Operand, Order, Operand),
    /// `match()` (`whole`) and `search()`.
    Regexp {
        subject: Operand,
        pattern: Pattern,
        whole: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// RFC 9535 §2.4.1 ValueType: a value, or nothing.
#[derive(Debug)]
pub(super) enum Operand {
    Literal(Json),
    /// A singular query.
    Query(Query),
    Length(Box<Self>),
    Count(Query),
    ValueOf(Query),
}

#[derive(Debug)]
pub(super) enum Pattern {
    Fixed(Regex),
    /// From the document: compiled at each use.
    Found(Operand),
}

impl Query {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        refuse_gaps(text)?;
        let parsed =
            parse_json_path(text).map_err(|error| first_line_that_says_what(&error.to_string()))?;
        absolute(parsed)
    }

    pub(super) fn root() -> Self {
        Self {
            from_root: true,
            steps: Vec::new(),
        }
    }

    /// Whether it can never select more than one node (RFC 9535 §2.3.5.1).
    pub(super) fn is_singular(&self) -> bool {
        self.steps.iter().all(|segment| {
            !segment.descends
                && matches!(segment.picks.as_slice(), [Pick::Name(_) | Pick::Index(_)])
        })
    }
}

/// The parsing crate allows whitespace inside names and numbers, so that `$.a b` is the member `a b`: it is refused here.
/// Nowhere outside strings does RFC 9535 let whitespace follow a dot or stand between two characters of names.
fn refuse_gaps(text: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii();
    let mut quote = None;
    let mut escaped = false;
    let mut before_gap = ' ';
    let mut in_gap = false;
    for character in text.chars() {
        if let Some(open) = quote {
            if !escaped && character == open {
                quote = None;
            }
            escaped = !escaped && character == '\\';
        } else if matches!(character, ' ' | '\t' | '\n' | '\r') {
            in_gap = true;
            continue;
        } else if matches!(character, '\'' | '"') {
            quote = Some(character);
        }
        if in_gap
            && quote.is_none()
            && (before_gap == '.' || is_name(before_gap) && is_name(character))
        {
            return Err(format!(
                "not a JSONPath query: whitespace before {character:?}; write ['…'] for such a name"
            ));
        }
        (before_gap, in_gap) = (character, false);
    }
    Ok(())
}

/// The parser's messages draw a picture of several lines; its last line names what was expected.
fn first_line_that_says_what(message: &str) -> String {
    let said = message
        .lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    format!(
        "not a JSONPath query: {}",
        said.trim_start_matches(['=', ' '])
    )
}

fn absolute(query: model::JpQuery) -> Result<Query, String> {
    Ok(Query {
        from_root: true,
        steps: each(query.segments, segment)?,
    })
}

fn relative(segments: Vec<model::Segment>) -> Result<Query, String> {
    Ok(Query {
        from_root: false,
        steps: each(segments, segment)?,
    })
}

fn segment(segment: model::Segment) -> Result<Segment, String> {
    Ok(match segment {
        model::Segment::Descendant(below) => Segment {
            descends: true,
            ..self::segment(*below)?
        },
        model::Segment::Selector(one) => Segment {
            descends: false,
            picks: vec![pick(one)?],
        },
        model::Segment::Selectors(several) => Segment {
            descends: false,
            picks: each(several, pick)?,
        },
    })
}

fn pick(selector: model::Selector) -> Result<Pick, String> {
    Ok(match selector {
        model::Selector::Name(name) => Pick::Name(name.into()),
        model::Selector::Wildcard => Pick::Wildcard,
        model::Selector::Index(index) => Pick::Index(index),
        model::Selector::Slice(start, end, step) => Pick::Slice {
            start,
            end,
            step: step.unwrap_or(1),
        },
        model::Selector::Filter(filter) => Pick::Filter(self::filter(filter)?),
    })
}

fn filter(filter: model::Filter) -> Result<Test, String> {
    match filter {
        model::Filter::Or(tests) => each(tests, self::filter).map(Test::Or),
        model::Filter::And(tests) => each(tests, self::filter).map(Test::And),
        model::Filter::Atom(model::FilterAtom::Filter { expr, not }) => {
            self::filter(*expr).map(|test| negate(test, not))
        }
        model::Filter::Atom(model::FilterAtom::Test { expr, not }) => {
            test(*expr).map(|test| negate(test, not))
        }
        model::Filter::Atom(model::FilterAtom::Comparison(comparison)) => compare(*comparison),
    }
}

fn negate(test: Test, not: bool) -> Test {
    if not { Test::Not(Box::new(test)) } else { test }
}

fn test(test: model::Test) -> Result<Test, String> {
    match test {
        model::Test::RelQuery(segments) => relative(segments).map(Test::Exists),
        model::Test::AbsQuery(query) => absolute(query).map(Test::Exists),
        model::Test::Function(function) => match *function {
            model::TestFunction::Match(subject, pattern) => {
                regular_expression(subject, pattern, true)
            }
            model::TestFunction::Search(subject, pattern) => {
                regular_expression(subject, pattern, false)
            }
            other => Err(format!(
                "{} gives no yes or no: compare it with something",
                name_of(&other)
            )),
        },
    }
}

fn regular_expression(
    subject: model::FnArg,
    pattern: model::FnArg,
    whole: bool,
) -> Result<Test, String> {
    let subject = argument(subject)?;
    let pattern = match argument(pattern)? {
        Operand::Literal(Json::String(text)) => Pattern::Fixed(regexp::compile(&text, whole)?),
        other => Pattern::Found(other),
    };
    Ok(Test::Regexp {
        subject,
        pattern,
        whole,
    })
}

fn compare(comparison: model::Comparison) -> Result<Test, String> {
    let (left, order, right) = match comparison {
        model::Comparison::Eq(left, right) => (left, Order::Equal, right),
        model::Comparison::Ne(left, right) => (left, Order::NotEqual, right),
        model::Comparison::Lt(left, right) => (left, Order::Less, right),
        model::Comparison::Lte(left, right) => (left, Order::LessOrEqual, right),
        model::Comparison::Gt(left, right) => (left, Order::Greater, right),
        model::Comparison::Gte(left, right) => (left, Order::GreaterOrEqual, right),
    };
    Ok(Test::Compare(comparable(left)?, order, comparable(right)?))
}

fn comparable(comparable: model::Comparable) -> Result<Operand, String> {
    Ok(match comparable {
        model::Comparable::Literal(literal) => Operand::Literal(self::literal(literal)?),
        model::Comparable::Function(function) => self::function(function)?,
        model::Comparable::SingularQuery(query) => {
            let (from_root, segments) = match query {
                model::SingularQuery::Root(segments) => (true, segments),
                model::SingularQuery::Current(segments) => (false, segments),
            };
            let steps = segments
                .into_iter()
                .map(|segment| Segment {
                    descends: false,
                    picks: vec![match segment {
                        model::SingularQuerySegment::Name(name) => Pick::Name(name.into()),
                        model::SingularQuerySegment::Index(index) => Pick::Index(index),
                    }],
                })
                .collect();
            Operand::Query(Query { from_root, steps })
        }
    })
}

/// A function that gives a value.
fn function(function: model::TestFunction) -> Result<Operand, String> {
    match function {
        model::TestFunction::Length(of) => Ok(Operand::Length(Box::new(argument(*of)?))),
        model::TestFunction::Count(of) => nodes(of, "count()").map(Operand::Count),
        model::TestFunction::Value(of) => nodes(of, "value()").map(Operand::ValueOf),
        other => Err(format!("{} gives no value", name_of(&other))),
    }
}

/// An argument that must be a value: a literal, a singular query or a function of values (RFC 9535 §2.4.3).
fn argument(argument: model::FnArg) -> Result<Operand, String> {
    match argument {
        model::FnArg::Literal(literal) => self::literal(literal).map(Operand::Literal),
        model::FnArg::Test(test) => {
            let query = match *test {
                model::Test::Function(function) => return self::function(*function),
                model::Test::RelQuery(segments) => relative(segments)?,
                model::Test::AbsQuery(query) => absolute(query)?,
            };
            if query.is_singular() {
                Ok(Operand::Query(query))
            } else {
                Err("a function of a value got a query that may select several nodes: use value() or count()".into())
            }
        }
        model::FnArg::Filter(_) => Err("a function of a value got a condition".into()),
    }
}

/// An argument that must be a query.
fn nodes(argument: model::FnArg, function: &str) -> Result<Query, String> {
    match argument {
        model::FnArg::Test(test) => match *test {
            model::Test::RelQuery(segments) => relative(segments),
            model::Test::AbsQuery(query) => absolute(query),
            model::Test::Function(_) => Err(format!("{function} takes a query, not a function")),
        },
        _ => Err(format!("{function} takes a query")),
    }
}

fn literal(literal: model::Literal) -> Result<Json, String> {
    Ok(match literal {
        model::Literal::Int(value) => Json::Number(value.into()),
        model::Literal::Float(value) => Number::from_f64(value)
            .map(Json::Number)
            .ok_or("a number in the query is too big")?,
        model::Literal::String(text) => Json::String(text.into()),
        model::Literal::Bool(value) => Json::Bool(value),
        model::Literal::Null => Json::Null,
    })
}

fn name_of(function: &model::TestFunction) -> String {
    match function {
        model::TestFunction::Length(_) => "length()".into(),
        model::TestFunction::Value(_) => "value()".into(),
        model::TestFunction::Count(_) => "count()".into(),
        model::TestFunction::Search(..) => "search()".into(),
        model::TestFunction::Match(..) => "match()".into(),
        model::TestFunction::Custom(name, _) => format!("unknown function {name}()"),
    }
}

fn each<T, U>(items: Vec<T>, convert: impl Fn(T) -> Result<U, String>) -> Result<Vec<U>, String> {
    items.into_iter().map(convert).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE J7: what the parsing crate lets through although RFC 9535 does not.
    #[test]
    fn ill_typed_queries_are_refused() {
        for text in [
            "$[?length(@.a)]",
            "$[?count(@..*)]",
            "$[?value(@.a)]",
            "$[?length(@.*) > 1]",
            "$[?count(1) > 1]",
            "$[?match(@.*, 'a')]",
            "$[?match(@.a, 'a') == true]",
            "$[?in(@.a, $.b)]",
            "$[?search(@.a, '(')]",
            "$[?match(@.a, '[')]",
            "$[?count(length(@.a)) > 1]",
            "$[?length(match(@.a, 'b')) > 1]",
            "$[?@.a > 1e999]",
        ] {
            assert!(Query::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn broken_queries_are_refused_in_one_line() {
        for text in [
            "",
            "a",
            "$.",
            "$[",
            "$.a[?",
            "$ ",
            " $",
            "$..",
            "$[01]",
            "$[?@.a == ]",
            "$['a",
            "$.a b",
            "$. a",
            "$[?@.a b == 1]",
            "$[?@. a]",
            "$[?@.a == 1 2]",
        ] {
            let message = Query::parse(text).expect_err(text);
            assert!(
                message.starts_with("not a JSONPath query: ") && !message.contains('\n'),
                "{message}"
            );
            assert!(message.len() > "not a JSONPath query: ".len(), "{message}");
        }
    }

    #[test]
    fn whitespace_is_allowed_where_the_rfc_allows_it() {
        for text in [
            "$ .a",
            "$ ['a b'] [ 0 , 1 ]",
            "$[ ? @.a == 'x  y' && ( !@.b || @['c d'] < 1 ) ]",
            "$[?length( @.a ) == 1]",
            r"$['a\'b c'] .d",
            "$.é",
        ] {
            assert!(Query::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn singular_means_names_and_indexes_alone() {
        for (text, singular) in [
            ("$", true),
            ("$.a[0]['b']", true),
            ("$.a[-1]", true),
            ("$.*", false),
            ("$..a", false),
            ("$[0,1]", false),
            ("$[0:1]", false),
            ("$[?@.a]", false),
        ] {
            assert_eq!(
                Query::parse(text).expect(text).is_singular(),
                singular,
                "{text}"
            );
        }
    }
}
