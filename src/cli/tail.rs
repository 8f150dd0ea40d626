//! `wellspring tail`: an event stream for people. Reading order: `follow` (connections) → `answer` (what came) → `print` (what
//! is shown) → `document` and `patch` (what changed).

mod answer;
mod document;
mod follow;
mod patch;
mod print;

use std::io;
use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;

use self::document::Document;
use self::follow::{Ended, Request};
use self::print::{Printer, Style};
use super::screen::Colours;
use super::{FAILED, OK, block_on};

/// What to follow, and how to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The stream, such as http://localhost:8080/v1/prices/ACME
    #[arg(value_parser = url)]
    url: Url,
    /// Sent with each request, such as "Authorization: Bearer ..."; may be given several times
    #[arg(long = "header", value_name = "HEADER", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Print each event as a line of JSON: {"time","id","event","data"}
    #[arg(long)]
    json: bool,
    /// Ask for patches, keep the document and show what changed; with --json, print the patches as they come
    #[arg(long)]
    patch: bool,
}

/// Follows until Ctrl-C (0), until nobody reads the output (0), or until there is no stream (1).
pub(super) fn tail(args: Args) -> u8 {
    let style = match (args.json, args.patch) {
        (true, _) => Style::Json,
        (false, true) => Style::Changes(Colours::for_stdout(), Document::default()),
        (false, false) => Style::Text(Colours::for_stdout()),
    };
    let mut printer = Printer::new(style, io::stdout());
    let request = request(args);
    block_on(async move {
        let ended = tokio::select! {
            ended = follow::follow(request, |event| printer.event(event, SystemTime::now())) => ended,
            Ok(()) = tokio::signal::ctrl_c() => return OK,
        };
        match ended {
            Ended::Unread => OK,
            Ended::Failed(sentence) => {
                eprintln!("{sentence}");
                FAILED
            }
        }
    })
}

fn request(args: Args) -> Request {
    let mut headers = HeaderMap::new();
    for (name, value) in args.headers {
        headers.append(name, value);
    }
    let names_form = args.url.query_pairs().any(|(name, _)| name == "deliver");
    let preferred = (args.patch && !names_form).then(|| {
        let mut url = args.url.clone();
        url.query_pairs_mut().append_pair("deliver", "json-patch");
        url
    });
    Request {
        url: args.url,
        preferred,
        headers,
    }
}

fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(format!("`{other}` is neither http nor https")),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text
        .split_once(':')
        .ok_or("a header is written `Name: value`")?;
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| "that is no header name")?;
    let mut value = HeaderValue::from_str(value.trim()).map_err(|_| "that is no header value")?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn line(words: &[&str]) -> Result<Request, clap::Error> {
        let line = Line::try_parse_from([&["tail"], words].concat())?;
        Ok(request(line.args))
    }

    #[test]
    fn patches_are_asked_for_unless_the_url_names_a_form() {
        let preferred =
            |words: &[&str]| line(words).expect("a request").preferred.map(String::from);
        assert_eq!(preferred(&["http://h/a"]), None);
        assert_eq!(
            preferred(&["http://h/a", "--patch"]).as_deref(),
            Some("http://h/a?deliver=json-patch")
        );
        assert_eq!(
            preferred(&["http://h/a?b=%20c", "--patch"]).as_deref(),
            Some("http://h/a?b=%20c&deliver=json-patch")
        );
        assert_eq!(preferred(&["http://h/a?deliver=value", "--patch"]), None);
    }

    #[test]
    fn headers_may_come_several_times() {
        let request = line(&[
            "http://h/",
            "--header",
            "X-A: 1",
            "--header",
            "x-a:2",
            "--header",
            "Authorization: Bearer a:b",
        ]);
        let headers = request.expect("a request").headers;
        assert_eq!(
            headers.get_all("x-a").iter().collect::<Vec<_>>(),
            ["1", "2"]
        );
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert!(!format!("{headers:?}").contains("Bearer"), "EDGE O3");
    }

    #[test]
    fn what_cannot_be_asked_is_wrong_usage() {
        for words in [
            &["ftp://h/"][..],
            &["h/a"],
            &["file:///etc/passwd"],
            &[],
            &["http://h/", "--header", "no colon"],
            &["http://h/", "--header", "a b: c"],
            &["http://h/", "--header", ": c"],
            &["http://h/", "--header", "a: b\r\nc: d"],
        ] {
            let error = line(words).expect_err("wrong usage");
            assert!(error.use_stderr(), "{words:?}");
        }
    }
}
