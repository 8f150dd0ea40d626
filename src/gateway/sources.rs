//! What sources share: one client and one gate per upstream, one client per Redis server.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::StartError;
use super::sharing::Shared;
use crate::config::{Config, RedisServer, Source, Stream, Upstream};
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::poller::gate::Gate;
use crate::source::http::HttpClient;
use crate::source::redis_server::{RedisClient, Unusable};

/// By the names that the file gives them.
#[derive(Debug, Default)]
pub(super) struct Sources {
    http: BTreeMap<String, Http>,
    redis: BTreeMap<String, Redis>,
}

#[derive(Clone, Debug)]
struct Http {
    upstream: Arc<Upstream>,
    client: HttpClient,
    gate: Arc<Gate>,
}

#[derive(Clone, Debug)]
struct Redis {
    server: Arc<RedisServer>,
    client: RedisClient,
    /// For logs that replicas share.
    logs: RedisClient,
}

/// What one stream's source is read with.
#[derive(Clone, Debug)]
pub(super) enum Access {
    /// An upstream.
    Http(HttpClient, Arc<Gate>),
    /// A Redis server.
    Redis(RedisClient),
    /// Nothing: clients bring the messages.
    Nothing,
}

impl Sources {
    /// Those of `config`; those that it leaves as they are in `before` go on, with their connections and their memory of
    /// failures.
    pub(super) fn new(
        config: &Config,
        metrics: &Metrics,
        before: &Self,
    ) -> Result<Self, StartError> {
        let http = config.upstreams.values().map(|upstream| {
            let known = before.http.get(&upstream.name);
            let known = known.filter(|known| known.upstream == *upstream);
            let http = match known {
                Some(known) => known.clone(),
                None => Http {
                    upstream: upstream.clone(),
                    client: http_client(upstream, metrics.upstream(&upstream.name))?,
                    gate: Arc::new(gate(upstream)),
                },
            };
            Ok((upstream.name.clone(), http))
        });
        let redis = config.redis.values().map(|server| {
            let known = before.redis.get(&server.name);
            let known = known.filter(|known| known.server == *server);
            let redis = match known {
                Some(known) => known.clone(),
                None => Redis {
                    server: server.clone(),
                    client: redis_client(server)?,
                    logs: usable(server, RedisClient::for_logs(server))?,
                },
            };
            Ok((server.name.clone(), redis))
        });
        Ok(Self {
            http: http.collect::<Result<_, StartError>>()?,
            redis: redis.collect::<Result<_, StartError>>()?,
        })
    }

    /// What `stream` is read with.
    pub(super) fn access(&self, stream: &Stream) -> Access {
        match &stream.source {
            Source::Http(source) => self.http(&source.upstream),
            Source::Sse(source) => self.http(&source.upstream),
            Source::RedisKey(source) => Access::Redis(self.redis(&source.server)),
            Source::RedisPubSub(source) => Access::Redis(self.redis(&source.server)),
            Source::RedisStream(source) => Access::Redis(self.redis(&source.server)),
            Source::Publish(_) => Access::Nothing,
        }
    }

    /// Where replicas share what is read, if they do.
    pub(super) fn shared(&self, stream: &Stream) -> Option<Arc<Shared>> {
        let sharing = stream.sharing.clone()?;
        let client = self.redis[&sharing.server.name].logs.clone();
        Some(Arc::new(Shared::new(client, sharing, stream)))
    }

    fn http(&self, upstream: &Upstream) -> Access {
        let Http { client, gate, .. } = &self.http[&upstream.name];
        Access::Http(client.clone(), gate.clone())
    }

    /// The client for a server of the file.
    pub(super) fn redis(&self, server: &RedisServer) -> RedisClient {
        self.redis[&server.name].client.clone()
    }
}

pub(super) fn http_client(
    upstream: &Arc<Upstream>,
    counts: Arc<UpstreamMetrics>,
) -> Result<HttpClient, StartError> {
    HttpClient::new(upstream.clone(), counts).map_err(|error| StartError::Upstream {
        name: upstream.name.clone(),
        error: error.to_string(),
    })
}

pub(super) fn redis_client(server: &RedisServer) -> Result<RedisClient, StartError> {
    usable(server, RedisClient::new(server))
}

fn usable(
    server: &RedisServer,
    client: Result<RedisClient, Unusable>,
) -> Result<RedisClient, StartError> {
    client.map_err(|error| StartError::Redis {
        name: server.name.clone(),
        error: error.to_string(),
    })
}

fn gate(upstream: &Upstream) -> Gate {
    let budget = upstream
        .budget
        .and_then(|rate| Some((NonZeroU32::new(rate.count)?, rate.per)));
    Gate::new(upstream.max_concurrent_polls, budget)
}
