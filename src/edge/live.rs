//! What the file says, as the edge needs it, and how that is exchanged while requests run.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::VARY;
use pingora::proxy::Session;

use super::alike::{self, Alike};
use super::auth::{Gate, Guard};
use super::cors::{self, Header};
use super::forward;
use super::limit::Limits;
use super::route::Router;
use super::upstream::PassThrough;
use crate::channel::StreamId;
use crate::config::{self, Config, Overload};
use crate::metrics::{Metrics, StreamMetrics, UpstreamMetrics};

/// What the file says, as the edge needs it. A request keeps to the one that it began with.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) config: Arc<Config>,
    /// Of the streams, in the order of the file.
    pub(super) ids: Vec<StreamId>,
    pub(super) router: Router,
    pub(super) upstreams: BTreeMap<String, PassThrough>,
    pub(super) limits: Limits,
    /// By the index of the stream.
    pub(super) guards: Vec<Guards>,
    /// Of each guarded path: how others may spell it, the index of its stream, and whether it is that for publishing.
    alikes: Vec<(Alike, usize, bool)>,
    pub(super) counts: Counts,
}

/// Who may use the paths of one stream; `None`: everybody.
#[derive(Debug)]
pub(super) struct Guards {
    pub(super) read: Option<Guard>,
    pub(super) publish: Option<Guard>,
}

/// Where what is served is counted.
#[derive(Debug)]
pub(super) struct Counts {
    /// In the order of the file.
    pub(super) streams: Vec<Arc<StreamMetrics>>,
    pub(super) upstreams: BTreeMap<String, Arc<UpstreamMetrics>>,
}

/// Switches an edge to another reading of the file, all at once: requests that come from then on keep to it.
#[derive(Debug)]
pub struct Switch {
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) gate: Arc<Gate>,
    pub(super) metrics: Arc<Metrics>,
}

impl Switch {
    /// `ids` are those of the streams, in the order of the file.
    pub fn to(&self, config: Arc<Config>, ids: Vec<StreamId>) {
        let live = Live::new(
            config,
            ids,
            (&self.gate, &self.metrics),
            Some(&self.live.load()),
        );
        self.live.store(Arc::new(live));
    }
}

impl Live {
    /// `before`: what the file said until now, whose limits and upstreams go on where they did not change.
    pub(super) fn new(
        config: Arc<Config>,
        ids: Vec<StreamId>,
        (gate, metrics): (&Gate, &Metrics),
        before: Option<&Self>,
    ) -> Self {
        let guards = |stream: &Arc<config::Stream>| Guards {
            read: gate.guard(&stream.auth),
            publish: match &stream.source {
                config::Source::Publish(publish) => gate.guard(&publish.auth),
                _ => None,
            },
        };
        let counts = Counts {
            streams: config
                .streams
                .iter()
                .map(|stream| metrics.stream(stream.path.as_str()))
                .collect(),
            upstreams: config
                .upstreams
                .keys()
                .map(|name| (name.clone(), metrics.upstream(name)))
                .collect(),
        };
        let pass_through = |(name, upstream): (&String, &Arc<_>)| {
            let known = before.and_then(|before| {
                let same = before.config.upstreams.get(name) == Some(upstream);
                before.upstreams.get(name).filter(|_| same).cloned()
            });
            let pass = known.unwrap_or_else(|| PassThrough::new(Arc::clone(upstream)));
            (name.clone(), pass)
        };
        let guards: Vec<Guards> = config.streams.iter().map(guards).collect();
        Self {
            router: Router::new(&config),
            upstreams: config.upstreams.iter().map(pass_through).collect(),
            limits: Limits::new(&config, before.map(|before| &before.limits)),
            alikes: alikes(&config, &guards),
            guards,
            counts,
            ids,
            config,
        }
    }

    /// Who may use a path of a stream, for reading or for publishing.
    pub(super) fn guard(&self, index: usize, publishing: bool) -> Option<&Guard> {
        match publishing {
            true => self.guards[index].publish.as_ref(),
            false => self.guards[index].read.as_ref(),
        }
    }

    /// Streams that ask who uses them, and that an upstream may take `path` for: index, and whether it is for publishing.
    pub(super) fn guarded_alikes(&self, path: &str) -> Vec<(usize, bool)> {
        if self.alikes.is_empty() {
            return Vec::new();
        }
        let path = alike::folded(path);
        let alike = self.alikes.iter().filter(|(alike, ..)| alike.is(&path));
        alike
            .map(|(_, index, publishing)| (*index, *publishing))
            .collect()
    }

    /// How a stream refuses an EventSource.
    pub(super) fn overload(&self, index: usize) -> Overload {
        let own = self.config.streams[index].limits.overload;
        own.unwrap_or(self.config.limits.overload)
    }

    /// What every response of the gateway on a stream's path has, whatever it says.
    pub(super) fn path_headers(&self, index: usize, session: &Session) -> Vec<Header> {
        let stream = &self.config.streams[index];
        let mut headers = cors::response_headers(&stream.cors, &session.req_header().headers);
        headers.extend(forward::vary(stream.forwards()).map(|vary| (VARY, vary)));
        let more = stream.headers.iter();
        headers.extend(more.map(|(name, value)| (name.clone(), value.clone())));
        headers
    }
}

fn alikes(config: &Config, guards: &[Guards]) -> Vec<(Alike, usize, bool)> {
    let mut alikes = Vec::new();
    for (index, (stream, guards)) in config.streams.iter().zip(guards).enumerate() {
        if guards.read.is_some() {
            alikes.push((Alike::new(stream.path.as_str()), index, false));
        }
        if let config::Source::Publish(publish) = &stream.source
            && guards.publish.is_some()
        {
            alikes.push((Alike::new(publish.path.as_str()), index, true));
        }
    }
    alikes
}
