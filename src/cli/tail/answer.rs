//! Whether an answer is an event stream, and if not, a sentence that says what came.

use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use reqwest::{Response, Url};
use serde::Deserialize;

use crate::cli::screen::plain;

/// Bytes of a problem's description that are read, and how long it may take.
const MAX_PROBLEM: usize = 64 << 10;
const PROBLEM_TIME: Duration = Duration::from_secs(5);

/// Anything but 200 with an event stream in it (WHATWG HTML, "Server-sent events": such a connection is failed).
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Safe to print.
    pub(super) sentence: String,
}

/// RFC 9457.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

/// Gives the answer back when it is an event stream.
pub(super) async fn judge(mut response: Response) -> Result<Response, Refusal> {
    let status = response.status();
    let header = |name| {
        let value = response.headers().get(name);
        value.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let (content_type, location) = (header(CONTENT_TYPE), header(LOCATION));
    let essence = content_type.as_deref().map(essence);
    let coding = header(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
    if status == StatusCode::OK
        && essence.as_deref() == Some("text/event-stream")
        && coding.is_none()
    {
        return Ok(response);
    }
    let mut sentence = format!("{} answered {}", shown(response.url()), status_text(status));
    if status == StatusCode::OK {
        match (content_type, coding) {
            (Some(_), Some(coding)) if essence.as_deref() == Some("text/event-stream") => {
                sentence += &format!(
                    " with content coding {}, which was not asked for",
                    plain(&coding)
                );
            }
            (Some(other), _) => {
                sentence += &format!(
                    " with content type {}, not text/event-stream",
                    plain(&other)
                )
            }
            (None, _) => sentence += " without a content type, not text/event-stream",
        }
    } else if let Some(location) = location.filter(|_| status.is_redirection()) {
        sentence += &format!(
            " to {}, which is not followed to another origin",
            plain(&location)
        );
    } else if status == StatusCode::NO_CONTENT {
        sentence += ": the stream has ended for good";
    }
    if essence.as_deref() == Some("application/problem+json") {
        let problem = problem(&mut response).await;
        for part in [problem.title, problem.detail] {
            if !part.is_empty() && Some(part.as_str()) != status.canonical_reason() {
                sentence += &format!(": {}", plain(&part));
            }
        }
    }
    Err(Refusal { status, sentence })
}

/// A URL without what may be secret: user, password and query.
pub(super) fn shown(url: &Url) -> String {
    let origin = url.origin().ascii_serialization();
    format!("{origin}{}", url.path())
}

/// A media type without parameters, in lower case.
fn essence(content_type: &str) -> String {
    let essence = content_type.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn status_text(status: StatusCode) -> String {
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    }
}

/// What the answer says about itself; nothing when it cannot be read.
async fn problem(response: &mut Response) -> Problem {
    let read = async {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_PROBLEM {
                return None;
            }
        }
        serde_json::from_slice(&body).ok()
    };
    tokio::time::timeout(PROBLEM_TIME, read)
        .await
        .ok()
        .flatten()
        .unwrap_or_default()
}
