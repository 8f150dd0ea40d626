//! YAML text to a tree with positions. Pure: no substitution, no meaning.
//!
//! One document, no tags; aliases are followed within a bound on the tree's size and depth, so that neither a bomb of
//! aliases nor a million brackets costs more than a problem with its line.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::problem::Problem;

/// A place in the text, both from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A value and where it begins. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// `plain`: without quotes, so that `null`, `true` and `1` are more than text.
    Scalar {
        text: Rc<str>,
        plain: bool,
    },
    List(Rc<[Node]>),
    Map(Rc<[Entry]>),
}

/// A key and its value; no two of a map are equal.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Rc<str>,
    pub(super) mark: Mark,
    pub(super) value: Node,
}

/// Levels of lists and maps.
const MAX_DEPTH: usize = 32;
/// Nodes after all aliases were followed.
const MAX_NODES: usize = 1_000_000;

/// The document; an empty one is a plain empty scalar. Duplicate keys are problems of their own, and reading goes on
/// without them; what cannot be read at all ends it.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Problem>) {
    let mut tree = Tree::default();
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => tree.event(event, span),
            Err(error) => Err(syntax(text, &error)),
        };
        if let Err(problem) = step {
            // Whatever else there is to say about a part of the tree would be guessing.
            tree.problems.push(problem);
            return (None, tree.problems);
        }
    }
    let empty = || scalar(Mark { line: 1, column: 1 }, "", true);
    (Some(tree.document.unwrap_or_else(empty)), tree.problems)
}

/// A scalar that did not come from a text.
pub(super) fn scalar(mark: Mark, text: &str, plain: bool) -> Node {
    let text = text.into();
    Node {
        mark,
        kind: Kind::Scalar { text, plain },
    }
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    anchors: HashMap<usize, Whole>,
    nodes: usize,
    problems: Vec<Problem>,
    document: Option<Node>,
}

/// A list or map whose end has not come.
struct Open {
    mark: Mark,
    anchor: usize,
    /// Of the tree when it began.
    nodes_before: usize,
    /// Levels of the highest child.
    height: usize,
    children: Children,
}

enum Children {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: HashSet<Rc<str>>,
        /// The key whose value comes next.
        key: Option<(Rc<str>, Mark)>,
    },
}

/// A finished value.
#[derive(Clone)]
struct Whole {
    node: Node,
    nodes: usize,
    height: usize,
}

impl Tree {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let mark = Mark::from(&span.start);
        match event {
            Event::DocumentStart(_) if self.document.is_some() => {
                Err(mark.problem("a second document (write one document, without `---` between)"))
            }
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => {
                Err(mark.problem("a YAML tag (write the value without `!`, or quote it)"))
            }
            Event::Scalar(text, style, anchor, None) => {
                let node = scalar(mark, &text, style == ScalarStyle::Plain);
                let value = Whole {
                    node,
                    nodes: 1,
                    height: 0,
                };
                self.add(value, anchor)
            }
            Event::SequenceStart(anchor, None) => {
                self.begin(mark, anchor, Children::List(Vec::new()))
            }
            Event::MappingStart(anchor, None) => {
                let (entries, seen) = (Vec::new(), HashSet::new());
                self.begin(
                    mark,
                    anchor,
                    Children::Map {
                        entries,
                        seen,
                        key: None,
                    },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some(mut target) = self.anchors.get(&anchor).cloned() else {
                    return Err(
                        mark.problem("an alias inside what it stands for (write the value out)")
                    );
                };
                // A problem with the value is shown where the value is used.
                target.node.mark = mark;
                self.add(target, 0)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, children: Children) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            return Err(mark.problem(TOO_DEEP));
        }
        self.open.push(Open {
            mark,
            anchor,
            nodes_before: self.nodes,
            height: 0,
            children,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let kind = match open.children {
            Children::List(list) => Kind::List(list.into()),
            Children::Map { entries, .. } => Kind::Map(entries.into()),
        };
        let mark = open.mark;
        let value = Whole {
            node: Node { mark, kind },
            nodes: self.nodes - open.nodes_before + 1,
            height: open.height + 1,
        };
        // The children are counted again with the whole.
        self.nodes = open.nodes_before;
        self.add(value, open.anchor)
    }

    fn add(&mut self, value: Whole, anchor: usize) -> Result<(), Problem> {
        let mark = value.node.mark;
        self.nodes += value.nodes;
        if self.nodes > MAX_NODES {
            return Err(
                mark.problem("more than a million values, with aliases followed (write fewer)")
            );
        }
        if self.open.len() + value.height > MAX_DEPTH {
            return Err(mark.problem(TOO_DEEP));
        }
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        let path = self.path();
        let Some(open) = self.open.last_mut() else {
            self.document = Some(value.node);
            return Ok(());
        };
        open.height = open.height.max(value.height);
        match &mut open.children {
            Children::List(list) => list.push(value.node),
            Children::Map { entries, seen, key } => match key.take() {
                None => match value.node.kind {
                    Kind::Scalar { text, .. } => *key = Some((text, mark)),
                    _ => {
                        return Err(
                            mark.problem("a key that is a list or map (write `key: value`)")
                        );
                    }
                },
                Some((key, mark)) if seen.insert(key.clone()) => {
                    let mut value = value.node;
                    if matches!(&value.kind, Kind::Scalar { text, plain: true } if text.is_empty())
                    {
                        // Nothing stands nowhere: its problems are shown at its key.
                        value.mark = mark;
                    }
                    entries.push(Entry { key, mark, value });
                }
                Some((_, mark)) => self.problems.push(Problem {
                    path,
                    ..mark.problem("the key stands twice (remove one)")
                }),
            },
        }
        Ok(())
    }

    /// Of the value that comes next.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.children {
                Children::List(list) => push_index(&mut path, list.len()),
                Children::Map {
                    key: Some((key, _)),
                    ..
                } => push_key(&mut path, key),
                Children::Map { key: None, .. } => {}
            }
        }
        path
    }
}

/// Appends a key to a path such as `upstreams.main`; keys that are no words are quoted.
pub(super) fn push_key(path: &mut String, key: &str) {
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if key.is_empty() || !key.bytes().all(word) {
        path.push_str(&format!("[{key:?}]"));
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// Appends an index to a path such as `streams[0]`.
pub(super) fn push_index(path: &mut String, index: usize) {
    path.push_str(&format!("[{index}]"));
}

const TOO_DEEP: &str = "more than 32 levels (write a flatter file)";

impl Mark {
    pub(super) fn problem(self, text: impl Into<String>) -> Problem {
        Problem {
            line: self.line,
            column: self.column,
            path: String::new(),
            text: text.into(),
        }
    }
}

impl From<&Marker> for Mark {
    fn from(marker: &Marker) -> Self {
        Self {
            line: marker.line().max(1),
            column: marker.col() + 1,
        }
    }
}

fn syntax(text: &str, error: &ScanError) -> Problem {
    // As YAML 1.2 (§5.4) breaks them.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let told = Mark::from(error.marker());
    // The parser tells of what is missing at the end in the line after it, and may count more characters than there are.
    let last = lines.len();
    let line = lines
        .get(told.line.min(last) - 1)
        .copied()
        .unwrap_or_default();
    let end = line.chars().count() + 1;
    let mark = match told.line > last {
        true => Mark {
            line: last,
            column: end,
        },
        false => Mark {
            column: told.column.min(end),
            ..told
        },
    };
    mark.problem(format!(
        "not YAML: {}{}",
        error.info(),
        hint(line, error.info())
    ))
}

/// What to write, as far as the line and what the parser says tell.
fn hint(line: &str, what: &str) -> &'static str {
    let unquoted = |needle: &str| {
        let before = line.find(needle).map(|at| &line[..at]);
        before.is_some_and(|before| before.matches(['"', '\'']).count() % 2 == 0)
    };
    if line.contains('\t') {
        " (write spaces instead of tabs)"
    } else if unquoted("${") {
        " (quote what holds `${`, as in \"${NAME}\")"
    } else if what.contains("flow mapping") || what.contains("flow sequence") {
        " (close what { or [ opened, and quote a value that holds { or }, as in path: \"/quotes/{symbol}\")"
    } else if what.contains("quoted scalar") {
        " (the quote that is opened here is never closed)"
    } else if what.contains("mapping values are not allowed") || what.contains("block") {
        " (keys of one map begin in the same column, deeper than the key that holds them; quote text that holds `: `)"
    } else {
        " (a space follows each colon; quote text that holds `: ` or ` #`, or begins with one of {[*&!%@`)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn problems(text: &str) -> Vec<String> {
        let (_, problems) = parse(text);
        problems.iter().map(ToString::to_string).collect()
    }

    /// The tree on one line: quoted text in quotes, positions left out.
    fn shown(node: &Node) -> String {
        match &node.kind {
            Kind::Scalar { text, plain: true } => text.to_string(),
            Kind::Scalar { text, plain: false } => format!("{text:?}"),
            Kind::List(list) => {
                format!("[{}]", list.iter().map(shown).collect::<Vec<_>>().join(","))
            }
            Kind::Map(map) => {
                let entry = |e: &Entry| format!("{}:{}", e.key, shown(&e.value));
                format!(
                    "{{{}}}",
                    map.iter().map(entry).collect::<Vec<_>>().join(",")
                )
            }
        }
    }

    fn tree(text: &str) -> String {
        let (node, problems) = parse(text);
        assert_eq!(problems, [], "{text}");
        shown(&node.expect("a document"))
    }

    #[test]
    fn documents_become_trees() {
        assert_eq!(
            tree("a: 1\nb:\n  - x\n  - {c: 'd'}\n"),
            "{a:1,b:[x,{c:\"d\"}]}"
        );
        assert_eq!(tree(""), "");
        assert_eq!(tree("# nothing\n---\n"), "");
        assert_eq!(tree("\u{feff}a: 1\r\nb: 2\r\n"), "{a:1,b:2}");
        assert_eq!(tree("a: &x [1]\nb: *x\n"), "{a:[1],b:[1]}");
    }

    #[test]
    fn places_count_from_one_in_characters() {
        let (node, _) = parse("é: {ü: x}\nb:\nc: |\n  text\n");
        let Some(Node {
            kind: Kind::Map(map),
            ..
        }) = node
        else {
            panic!("a map");
        };
        let Kind::Map(inner) = &map[0].value.kind else {
            panic!("a map");
        };
        assert_eq!(inner[0].mark, Mark { line: 1, column: 5 });
        assert_eq!(inner[0].value.mark, Mark { line: 1, column: 8 });
        assert_eq!(
            map[1].value.mark,
            Mark { line: 2, column: 1 },
            "nothing is shown at its key"
        );
    }

    /// EDGE O4: the second of two keys is told, with its place, and the rest is still read.
    #[test]
    fn duplicate_keys_are_told() {
        let text = "a:\n  - b: 1\n    \"b\": 2\na: [[{x: 1, x: 2}]]\nc: 3\n";
        assert_eq!(
            problems(text),
            [
                "3:5: a[0].b: the key stands twice (remove one)",
                "4:13: a[0][0].x: the key stands twice (remove one)",
                "4:1: a: the key stands twice (remove one)",
            ]
        );
        let (node, _) = parse(text);
        assert_eq!(shown(&node.expect("a document")), "{a:[{b:1}],c:3}");
    }

    #[test]
    fn what_is_not_read_is_told_with_its_line() {
        for (text, want) in [
            ("a: 1\n---\nb: 2\n", "2:1: a second document"),
            ("a: !!str 1\n", "1:4: a YAML tag"),
            ("a: !x {}\n", "a YAML tag"),
            ("? [a]\n: b\n", "1:3: a key that is a list or map"),
            ("a: &r [*r]\n", "1:8: an alias inside what it stands for"),
            (
                "a: *x\n",
                "1:4: not YAML: while parsing node, found unknown anchor",
            ),
            ("a:\n\t- b\n", "2:2: not YAML: tabs disallowed"),
            ("a: 'b\n", "1:4: not YAML: "),
            ("a: b: c\n", "1:5: not YAML: "),
            // What is missing is missing at the end of the file, not behind it.
            ("a:\n  b: {c", "2:8: not YAML: "),
            ("a:\r  b: {c", "2:8: not YAML: "),
            ("%pw\u{2028}i\u{4}", "1:7: not YAML: "),
        ] {
            let problems = problems(text);
            assert_eq!(problems.len(), 1, "{text}: {problems:?}");
            assert!(problems[0].contains(want), "{text}: {problems:?}");
        }
    }

    /// `{a: ${X}}` cannot be YAML: the message says what to do.
    #[test]
    fn an_unquoted_reference_in_braces_gets_its_own_hint() {
        for text in ["a: {x: ${X}}\n", "a: {x: ${X:-2s}, y: 1}\n", "a: [${X}]\n"] {
            assert!(
                problems(text)[0].ends_with("(quote what holds `${`, as in \"${NAME}\")"),
                "{text}"
            );
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let below = format!("*a{}", level - 1);
            bomb += &format!("a{level}: &a{level} [{}]\n", vec![below; 10].join(", "));
        }
        assert!(problems(&bomb)[0].contains("more than a million values"));
        assert!(problems(&"[".repeat(40))[0].contains("more than 32 levels"));
        // Here the parser's own bound comes first.
        assert_eq!(problems(&"[".repeat(100_000)).len(), 1);
        let mut tower = "a0: &a0 [x]\n".to_owned();
        for level in 1..1000 {
            tower += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
        }
        assert!(problems(&tower)[0].contains("more than 32 levels"));
    }

    proptest! {
        /// Any text: no panic, and a tree or a problem.
        #[test]
        fn any_text_is_a_tree_or_a_problem(text in "[-a{}\\[\\]:,&*!|> \n\t'\"#?%$]{0,60}") {
            let (node, problems) = parse(&text);
            prop_assert!(node.is_some() || !problems.is_empty());
        }
    }
}
