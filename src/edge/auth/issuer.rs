//! Keys that an issuer publishes at a url: fetched, kept fresh, and kept through its outages for a while (EDGE A5).

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use reqwest::{Client, redirect};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};
use url::Url;

use crate::token::KeySet;

/// Bytes of a key set.
const MAX_BODY: usize = 1 << 20;
/// Of one fetch, and of a request that waits for one.
const PATIENCE: Duration = Duration::from_secs(5);
/// A token with a new key has the keys fetched again, once in this time.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long keys are good for: what the issuer says, between the first and the last; the second when it says nothing.
const FRESH: [Duration; 3] = [
    Duration::from_secs(60),
    Duration::from_secs(15 * 60),
    Duration::from_secs(24 * 60 * 60),
];
/// How long keys are believed that cannot be fetched again.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Between failed fetches, at first and at most.
const RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// The issuers of all readings of the file: one that two of them name is asked by one task.
#[derive(Debug, Default)]
pub(super) struct Issuers(Mutex<HashMap<Url, Weak<Issuer>>>);

impl Issuers {
    /// The issuer that publishes at `url`. Within a runtime.
    pub(super) fn get(&self, url: &Url) -> Arc<Issuer> {
        let mut issuers = self.0.lock();
        if let Some(issuer) = issuers.get(url).and_then(Weak::upgrade) {
            return issuer;
        }
        issuers.retain(|_, issuer| issuer.strong_count() > 0);
        let issuer = Arc::new(Issuer::start(url.clone()));
        issuers.insert(url.clone(), Arc::downgrade(&issuer));
        issuer
    }
}

/// One issuer. Its task ends with it.
#[derive(Debug)]
pub(super) struct Issuer {
    state: watch::Receiver<State>,
    asked: Arc<Asked>,
    task: JoinHandle<()>,
}

/// What is known of an issuer.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// How often it was asked.
    pub(super) round: u64,
    /// `None`: there are none yet, or none any more.
    pub(super) keys: Option<Arc<KeySet>>,
}

/// The wish for fresh keys.
#[derive(Debug, Default)]
struct Asked {
    notify: Notify,
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    /// When somebody was granted the wish last.
    last: Option<Instant>,
    /// Whether that is under way.
    pending: bool,
}

impl Issuer {
    fn start(url: Url) -> Self {
        let (sender, state) = watch::channel(State::default());
        let asked = Arc::<Asked>::default();
        let task = tokio::spawn(keep(url, sender, asked.clone()));
        Self { state, asked, task }
    }

    /// The keys, after the first fetch if that is still under way.
    pub(super) async fn state(&self) -> State {
        self.after(0).await
    }

    /// What is known after round `seen`, whose keys a token did not fit. At most once a minute this makes a fetch; else, and when
    /// that takes too long, it is what was known before.
    pub(super) async fn newer(&self, seen: u64) -> State {
        let now = Instant::now();
        let comes = {
            let mut turn = self.asked.turn.lock();
            let granted = !turn.pending && turn.last.is_none_or(|last| now >= last + ASK_AGAIN);
            if granted {
                *turn = Turn {
                    last: Some(now),
                    pending: true,
                };
                self.asked.notify.notify_one();
            }
            turn.pending
        };
        match comes {
            true => self.after(seen).await,
            false => self.state.borrow().clone(),
        }
    }

    async fn after(&self, seen: u64) -> State {
        let mut state = self.state.clone();
        let later = timeout(PATIENCE, state.wait_for(|state| state.round > seen)).await;
        match later {
            Ok(Ok(state)) => state.clone(),
            // The time is over, or the task.
            _ => self.state.borrow().clone(),
        }
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Fetches, and fetches again when it is time to.
async fn keep(url: Url, state: watch::Sender<State>, asked: Arc<Asked>) {
    let client = client(&url);
    // Paths and queries of such urls are nobody's secret, but nothing for a log either.
    let issuer = url.host_str().unwrap_or_default().to_owned();
    let [mut retry, most] = RETRY;
    let mut believed = None;
    loop {
        let fetched = match &client {
            Ok(client) => fetch(client, &url).await,
            Err(why) => Err(why.clone()),
        };
        let wait = match fetched {
            Ok((keys, fresh)) => {
                if believed.is_none() {
                    info!(%issuer, "the keys of tokens are there");
                }
                retry = RETRY[0];
                believed = Some(Instant::now() + KEPT.max(fresh));
                publish(&state, Some(Some(Arc::new(keys))));
                fresh
            }
            Err(why) => {
                let lost = believed.is_some_and(|until| until <= Instant::now());
                warn!(%issuer, kept = believed.is_some() && !lost, "the keys of tokens cannot be fetched: {why}");
                if lost {
                    believed = None;
                }
                publish(&state, lost.then_some(None));
                let wait = retry;
                retry = (retry * 2).min(most);
                wait
            }
        };
        asked.turn.lock().pending = false;
        tokio::select! {
            () = sleep(wait) => {}
            () = asked.notify.notified() => {}
        }
    }
}

/// Ends a round; `keys` in the place of those before, if it brought a change.
fn publish(state: &watch::Sender<State>, keys: Option<Option<Arc<KeySet>>>) {
    state.send_modify(|state| {
        state.round += 1;
        if let Some(keys) = keys {
            state.keys = keys;
        }
    });
}

fn client(url: &Url) -> Result<Client, String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // reqwest would panic.
        return Err("no TLS provider is installed in this process".to_owned());
    }
    let builder = Client::builder()
        .user_agent(concat!("wellspring/", env!("CARGO_PKG_VERSION")))
        .timeout(PATIENCE)
        .redirect(redirect::Policy::none())
        .referer(false)
        // The proxies in our environment are the operator's, not the issuer's.
        .no_proxy()
        .no_gzip()
        .no_brotli()
        .no_deflate()
        .no_zstd();
    let builder = match url.scheme() {
        "https" => builder.https_only(true),
        // Without TLS nothing is verified, so a machine without authorities can still do this.
        _ => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| error.to_string())
}

async fn fetch(client: &Client, url: &Url) -> Result<(KeySet, Duration), String> {
    let failed = |error: reqwest::Error| match error.is_timeout() {
        true => format!("no answer within {PATIENCE:?}"),
        false => error.without_url().to_string(),
    };
    let mut response = client.get(url.clone()).send().await.map_err(failed)?;
    if response.status() != StatusCode::OK {
        return Err(format!("status {}", response.status().as_u16()));
    }
    let fresh = fresh(response.headers());
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(failed)? {
        if body.len() + piece.len() > MAX_BODY {
            return Err(format!("more than {MAX_BODY} bytes"));
        }
        body.extend_from_slice(&piece);
    }
    match KeySet::of_jwks(&body) {
        Ok(keys) => Ok((keys, fresh)),
        Err(why) => Err(why.to_string()),
    }
}

/// How long the issuer calls its keys fresh (RFC 9111 §5.2.2.1), within bounds.
fn fresh(headers: &HeaderMap) -> Duration {
    let [least, usual, most] = FRESH;
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let max_age = directives.find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse().ok()?;
        name.trim()
            .eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    });
    max_age.map_or(usual, |age| age.clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EDGE A5: an issuer can neither have itself asked all the time nor never again.
    #[test]
    fn freshness_is_bounded() {
        let of = |value: &'static str| {
            let value = http::HeaderValue::from_static(value);
            fresh(&HeaderMap::from_iter([(CACHE_CONTROL, value)]))
        };
        let seconds = Duration::from_secs;
        assert_eq!(of("public, Max-Age=3600"), seconds(3600));
        assert_eq!(of("max-age=0"), seconds(60));
        assert_eq!(of("max-age=31536000"), seconds(86_400));
        assert_eq!(of("no-store"), seconds(900));
        assert_eq!(of("max-age=x"), seconds(900));
        assert_eq!(fresh(&HeaderMap::new()), seconds(900));
    }
}
