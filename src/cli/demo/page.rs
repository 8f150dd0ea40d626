//! The page, with what differs between runs and requests filled in.

use std::fmt::Write;

const HTML: &str = include_str!("page.html");

/// The page, ready but for the nonce of each response.
#[derive(Debug)]
pub(super) struct Page {
    html: String,
}

impl Page {
    /// `plan` is JSON: the interval in milliseconds, by a stream's path.
    pub(super) fn new(plan: &str) -> Self {
        // Inside a script element only `<` could end it (WHATWG HTML, "Restrictions for contents of script elements").
        let plan = plan.replace('<', "\\u003c");
        Self {
            html: HTML.replace("{{plan}}", &plan),
        }
    }

    /// The text, and the Content-Security-Policy that admits this text's own script and style, and requests to its own
    /// origin, and nothing else.
    pub(super) fn render(&self) -> (String, String) {
        let nonce = nonce();
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        (self.html.replace("{{nonce}}", &nonce), policy)
    }
}

/// 128 bits that nobody can guess; hexadecimal digits are base64 too (CSP 3, "nonce-source").
fn nonce() -> String {
    let mut bytes = [0; 16];
    // A system without randomness gives a guessable nonce: the page itself puts no text of others into its markup.
    let random = rustls::crypto::ring::default_provider().secure_random;
    if random.fill(&mut bytes).is_err() {
        bytes = fastrand::u128(..).to_ne_bytes();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_cannot_end_its_element() {
        let page = Page::new(r#"{"</script><b>": 1}"#);
        let (html, _) = page.render();
        assert!(!html.contains("</script><b>"));
        assert!(html.contains(r#"{"\u003c/script>\u003cb>": 1}"#));
    }
}
