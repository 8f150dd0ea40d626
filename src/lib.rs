//! Wellspring turns polling into push: it polls each distinct REST resource or Redis key once, however many clients
//! watch it, and pushes what changed as Server-Sent Events. Everything else passes through to the legacy API.
//!
//! # The map
//!
//! Data enters at the top and leaves at the bottom:
//!
//! ```text
//! config ─► source (http | redis | sse | publish) ─► poller ─► value (select) ─► channel (significance, log, diff) ─► sse ─► fanout ─► client
//!                                                                            ▲                                           ▲
//!                                                        hub: key → channel ◄┴──── edge (route, cors, auth, negotiate) ──┘
//! ```
//!
//! Read in this order: [`value`] (what is followed), [`diff`], [`sse`] (how it looks on the wire), [`channel`] (one writer,
//! many cursors), [`source`] (what is read), [`poller`] (when), [`fanout`] (who gets it), [`edge`] (how they ask),
//! [`cluster`] (channels that replicas share: there the poller writes a draft, and the channel follows a log in Redis),
//! [`token`] (whom to believe), [`admin`] (how operators ask), [`gateway`] (the wiring), [`config`] (what the file says),
//! `cli` (the commands).
//!
//! What happens is counted in [`metrics`], which knows no other room: its handles travel with what they count.
//!
//! Arrows point one way. A source knows nothing of clients; the edge knows nothing of sources; `value`, `diff`, `sse`, `params`, `token` and the
//! channel's `log` are pure. `tests/it/layers.rs` reads the `use crate::` lines against this.
//!
//! # What always holds
//!
//! - One read at a time per channel, however many readers; none while nobody wants the channel.
//! - A client is never told that it is current when nobody can say so: an id that is not known gets the whole value.
//! - A patch is only given to a reader that has the value before it.
//! - Whatever a source does, its last good value stays, and streams stay open.
//! - No byte of a source or a client becomes a field, a header, a path segment or a key by itself.
//! - A change of the file ends no stream whose definition stays, and a request sees one reading of the file. Event ids outlive
//!   the process when it hands over to a successor.
//! - Of a channel that replicas share, no client sees what does not stand in the shared log.
//! - An event is encoded at most once in each form, and compressed once, however many readers get it.
//! - A slow reader costs a pointer into shared bytes and holds nobody up.
//!
//! # Where this is unlike what you may expect
//!
//! Pingora's `Server` is not used, its `HttpProxy` is: listening sockets, TLS, signals and the order of stopping are ours
//! (`edge::accept`, `edge::front`, [`gateway`]), because the server sleeps through its grace period and owns the accepted
//! connections' buffers. So is the head of an HTTP/1 request: it is read strictly before Pingora sees it. The
//! configuration is read by a small reader over a tree with positions instead of serde, because all problems are to be
//! told at once. `config` uses the types of `value`, `sse`, `channel` and `token` that it parses into.

/// Tests count what is allocated.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

pub mod admin;
pub mod channel;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod diff;
pub mod edge;
pub mod fanout;
pub mod gateway;
pub mod metrics;
pub mod params;
pub mod poller;
pub mod source;
pub mod sse;
pub mod token;
pub mod value;
