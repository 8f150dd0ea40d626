//! The one integration binary: the real edge, real sockets, real servers; a module a theme.

#![expect(clippy::expect_used, reason = "a test says what it expects")]
#![expect(unreachable_pub, reason = "a binary has no outside")]

mod admin;
mod carried;
mod clients;
mod cors;
mod fanout;
mod hops;
mod layers;
mod metrics;
mod passthrough;
mod polling;
mod publish;
mod redis;
mod resume;
mod shutdown;
mod slow;
mod snapshot;
mod stream;
mod support;
mod upstream_lies;
