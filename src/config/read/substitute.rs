//! References to the environment and to files inside scalars: `${NAME}`, `${NAME:-default}`, `${file:/path}`, and `$${`
//! for a literal `${`. Works on scalars after parsing, so nothing that is put in can change the structure.

/// Where references look.
pub(super) trait Lookup {
    /// A variable of the environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// The text of a file, or why there is none.
    fn file(&self, path: &str) -> Result<String, String>;
}

/// A scalar with its references resolved.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) text: String,
    /// Whether any part came from outside the file: such a text is never shown.
    pub(super) put_in: bool,
}

/// Resolves every reference of `text`, or tells what is wrong with each that cannot be.
pub(super) fn substitute(text: &str, lookup: &dyn Lookup) -> Result<Resolved, Vec<String>> {
    let mut out = String::with_capacity(text.len());
    let mut put_in = false;
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$${") {
            out.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let Some((inner, after)) = after.split_once('}') else {
                problems.push(format!("`${{` without `}}` ({HINT})"));
                rest = "";
                break;
            };
            match reference(inner, lookup) {
                Ok(value) => out.push_str(&value),
                Err(problem) => problems.push(problem),
            }
            put_in = true;
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    match problems.is_empty() {
        true => Ok(Resolved { text: out, put_in }),
        false => Err(problems),
    }
}

const HINT: &str = "write ${NAME}, ${NAME:-default} or ${file:/path}; $${ is a literal ${";

/// What stands for the text between `${` and `}`.
fn reference(inner: &str, lookup: &dyn Lookup) -> Result<String, String> {
    if let Some(path) = inner.strip_prefix("file:") {
        let mut text = lookup.file(path).map_err(|why| {
            format!(
                "the file `{}` cannot be read: {why} (mount it, or write another path)",
                path.escape_debug()
            )
        })?;
        // Editors and `echo` end files with a line break that is no part of a secret.
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        return Ok(text);
    }
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(first) || !name.chars().all(rest) {
        return Err(format!(
            "`${{{}}}` is no reference ({HINT})",
            inner.escape_debug()
        ));
    }
    match (lookup.variable(name), default) {
        // As in a shell: `:-` stands in for an empty variable too.
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "the environment has no `{name}` (set it, or write ${{{name}:-default}})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World;

    impl Lookup for World {
        fn variable(&self, name: &str) -> Option<String> {
            match name {
                "HOST" => Some("h".into()),
                "EMPTY" => Some(String::new()),
                "TRICK" => Some("a: {b: ${HOST}}\n# x".into()),
                _ => None,
            }
        }

        fn file(&self, path: &str) -> Result<String, String> {
            match path {
                "/unix" => Ok("a\nb\n".into()),
                "/dos" => Ok("a\r\n".into()),
                _ => Err("no such file".into()),
            }
        }
    }

    fn text(text: &str) -> String {
        substitute(text, &World).expect("resolves").text
    }

    #[test]
    fn references_are_resolved_once() {
        assert_eq!(text("http://${HOST}:${PORT:-80}/"), "http://h:80/");
        assert_eq!(text("${EMPTY}|${EMPTY:-x}|${NONE:-}"), "|x|");
        assert_eq!(text("${file:/unix}|${file:/dos}"), "a\nb|a");
        assert_eq!(text("$${HOST} $HOST $$ ${HOST}$"), "${HOST} $HOST $$ h$");
        assert_eq!(text("${TRICK}"), "a: {b: ${HOST}}\n# x");
        assert_eq!(text("${NONE:-a:-b}"), "a:-b");
    }

    #[test]
    fn what_came_from_outside_is_marked() {
        let put_in = |text| substitute(text, &World).expect("resolves").put_in;
        assert!(put_in("${HOST}") && put_in("x${NONE:-y}"));
        assert!(!put_in("$${HOST}") && !put_in("plain $"));
    }

    #[test]
    fn every_bad_reference_is_told() {
        let problems =
            substitute("${NONE} ${file:/no} ${a b} ${} ${HOST", &World).expect_err("bad");
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(problems[0].starts_with("the environment has no `NONE`"));
        assert!(problems[1].starts_with("the file `/no` cannot be read: no such file"));
        assert!(problems[2].starts_with("`${a b}` is no reference"));
        assert!(problems[3].starts_with("`${}` is no reference"));
        assert!(problems[4].starts_with("`${` without `}`"));
    }
}
