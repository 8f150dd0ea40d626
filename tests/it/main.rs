//! The one integration binary: the real edge, real sockets, real servers; a module a theme.

#![expect(clippy::expect_used, reason = "a test says what it expects")]
#![expect(unreachable_pub, reason = "a binary has no outside")]

mod admin;
mod attacks;
mod auth;
mod carried;
mod clients;
mod cluster;
mod compression;
mod cors;
mod fanout;
mod faults;
mod front;
mod fuzz;
mod hops;
mod http2;
mod isolation;
mod layers;
mod limits;
mod metrics;
mod passthrough;
mod polling;
mod publish;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod redis_streams;
mod reload;
mod replicas;
mod resume;
mod scenes;
mod secrets;
mod shutdown;
mod slow;
mod snapshot;
mod sse;
mod stream;
mod support;
mod tls;
mod upgrade;
mod upstream_lies;
mod upstream_tls;
mod vanish;
mod watch;
mod websocket;
