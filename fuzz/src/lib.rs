//! Laws of everything that reads what others wrote: each holds for any bytes, and panics where it does not.
//!
//! A law is more than "no panic": what is written is read again as the same, a patch turns the old value into the new one,
//! however bytes are split makes no difference, and another implementation says the same. The targets of cargo-fuzz search
//! for bytes that break a law; `tests/it/fuzz.rs` includes this file and holds the corpus against it in the usual test run.

#![allow(clippy::expect_used, reason = "a law says what it expects")]
#![allow(missing_docs, reason = "each module is one law, told at its top")]

pub mod config;
pub mod dice;
pub mod diff;
pub mod event_id;
pub mod flask_sse;
pub mod http_head;
pub mod json;
pub mod jsonpath;
pub mod proxy_header;
#[path = "../../src/config/schema/verdict.rs"]
pub mod schema;
pub mod sse_encode;
pub mod sse_parse;
pub mod template;

/// Holds for any bytes, or panics.
pub type Law = fn(&[u8]);

/// Each law by the name of its target and of its folder in `corpus/`.
pub const LAWS: &[(&str, Law)] = &[
    ("config", config::holds),
    ("diff", diff::holds),
    ("event_id", event_id::holds),
    ("flask_sse", flask_sse::holds),
    ("http_head", http_head::holds),
    ("json", json::holds),
    ("jsonpath", jsonpath::holds),
    ("proxy_header", proxy_header::holds),
    ("sse_encode", sse_encode::holds),
    ("sse_parse", sse_parse::holds),
    ("template", template::holds),
];
