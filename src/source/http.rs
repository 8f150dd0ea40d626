//! Polls a REST resource: one request, judged from its head inwards, and nothing that looks like a value by accident (EDGE §8).
//!
//! Reading order: `request` (what is asked) → `client` (how it travels) → `judge` below (what the status means) → `media`
//! and `coding` (whether the body may be a value) → `body` (bytes to value) → `memory` (what the next poll asks against).
//! `events` goes the same way once and stays: it follows an event stream.

mod body;
mod client;
mod coding;
mod events;
mod failure;
mod media;
mod memory;
mod pacing;
mod personal;
mod request;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, StatusCode};
use reqwest::Response;

use self::body::{Content, Digest};
pub use self::client::{BuildError, HttpClient};
use self::coding::Coding;
pub use self::events::EventFeed;
use self::memory::Memory;
use self::personal::personal;
use self::request::Order;
use super::{Answer, Cause, Reading, Source, SourceError};
use crate::config;
use crate::params::{Forwarded, Params};

/// Reads one resource of an upstream, again and again. It lives as long as the channel that it feeds.
pub struct HttpSource {
    client: HttpClient,
    /// What is asked is made of these for each reading: there is a source for each channel, and rarely a reading.
    spec: Arc<config::HttpSource>,
    params: Params,
    /// `None`: no client's headers are sent, and others get what is read.
    forwarded: Option<Arc<Forwarded>>,
    memory: Memory,
    remark: Option<&'static str>,
}

impl HttpSource {
    /// What `spec` says, for the resource that `params` name, with the headers that its client sent. `client` is that of
    /// `spec.upstream`.
    pub fn new(
        client: HttpClient,
        spec: Arc<config::HttpSource>,
        params: Params,
        forwarded: Option<Arc<Forwarded>>,
    ) -> Self {
        Self {
            client,
            spec,
            params,
            forwarded,
            memory: Memory::default(),
            remark: None,
        }
    }

    /// One poll without its total deadline. The memory changes after the last await only, so a dropped poll leaves no trace.
    async fn poll(&mut self) -> Result<Answer, SourceError> {
        let mut order = Order::render(&self.spec, &self.params, self.forwarded.as_deref())?;
        let conditional = order.is_get() && self.memory.add_conditions(order.headers_mut());
        let response = self.client.send(order).await?;
        if self.forwarded.is_none() {
            self.remark = personal(response.headers()).or(self.remark);
        }
        let not_before = pacing::not_before(response.headers());
        let status = Some(response.status().as_u16());
        let reading = match self.judge(&response, conditional)? {
            Verdict::Value => self.value(response).await?,
            Verdict::NotModified => Reading::NotModified,
            Verdict::Absent => {
                // What comes after is a new value, even when it equals the one before (CONTRACT.md §6, Gone).
                self.memory.forget();
                Reading::Absent
            }
        };
        Ok(Answer {
            reading,
            not_before,
            status,
        })
    }

    /// What a status means, before any byte of the body is looked at (EDGE U13, U15).
    fn judge(&self, response: &Response, conditional: bool) -> Result<Verdict, SourceError> {
        let status = response.status();
        if status == StatusCode::NOT_MODIFIED && conditional {
            return Ok(Verdict::NotModified);
        }
        if self.spec.success.contains(&status.as_u16()) {
            return Ok(Verdict::Value);
        }
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
            return Ok(Verdict::Absent);
        }
        Err(refusal(status, response.headers(), SystemTime::now()))
    }

    async fn value(&mut self, response: Response) -> Result<Reading, SourceError> {
        let charset = media::check(response.headers(), self.spec.format)?;
        let coding = Coding::of(response.headers())?;
        let limit = self.client.upstream().max_body;
        let status = response.status();
        let validators = memory::Validators::of(response.headers(), status, SystemTime::now());
        let content = Content {
            bytes: body::receive(response, coding.raw_limit(limit)).await?,
            coding,
            limit,
            charset,
            format: self.spec.format,
            status,
        };
        let digest = body::digest(content, self.memory.fingerprint()).await?;
        Ok(match digest {
            Digest::Same(fingerprint) => {
                self.memory.remember(validators, fingerprint);
                Reading::Unchanged
            }
            Digest::New(value, fingerprint) => {
                self.memory.remember(validators, fingerprint);
                Reading::Value(value)
            }
        })
    }
}

impl Source for HttpSource {
    async fn read(&mut self) -> Result<Answer, SourceError> {
        let total = self.client.upstream().timeouts.total;
        match tokio::time::timeout(total, self.poll()).await {
            Ok(result) => result,
            Err(_) => Err(SourceError::new(
                Cause::Timeout,
                format!("no whole answer within {total:?}"),
            )),
        }
    }

    fn forget(&mut self) {
        self.memory.forget();
    }

    fn remark(&self) -> Option<&'static str> {
        self.remark
    }
}

/// What is asked is left out: its query, headers and body may hold secrets.
impl fmt::Debug for HttpSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSource")
            .field("upstream", &self.client.upstream().name)
            .field("format", &self.spec.format)
            .field("success", &self.spec.success)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// What a response is, by its head.
enum Verdict {
    /// Its body is a value, if it holds what it should.
    Value,
    /// The value is the one that our validators name.
    NotModified,
    /// There is no such resource.
    Absent,
}

/// A status that is neither a value nor an absence. `Retry-After` and `X-Poll-Interval` lengthen the wait on any of them.
fn refusal(status: StatusCode, headers: &HeaderMap, now: SystemTime) -> SourceError {
    let retry_after = pacing::retry_after(headers, now);
    let cause = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Cause::Unauthorized,
        StatusCode::TOO_MANY_REQUESTS => Cause::RateLimited,
        StatusCode::SERVICE_UNAVAILABLE if retry_after.is_some() => Cause::RateLimited,
        _ => Cause::Status,
    };
    let detail = match status.canonical_reason() {
        Some(reason) => format!("status {} ({reason})", status.as_u16()),
        None => format!("status {}", status.as_u16()),
    };
    SourceError {
        cause,
        detail,
        retry_after: retry_after.max(pacing::poll_interval(headers)),
    }
}
