//! `cluster`, and what of a stream replicas share

use super::super::read::Item;
use super::super::{Cluster, RedisServer, Sharing, Source};
use super::{Named, keys};

pub(super) fn read(item: Item<'_>, servers: &Named<RedisServer>) -> Option<Option<Cluster>> {
    item.or_null(|item| {
        let section = item.section(&keys::CLUSTER)?;
        let redis = servers.find(&section.get("redis"));
        let name = section
            .get("name")
            .parsed("write a name such as wellspring", |text| {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
                match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
                    true => Ok(text.to_owned()),
                    false => Err("a name is 1 to 64 letters, digits, `.`, `_` and `-`".to_owned()),
                }
            });
        Some(Cluster {
            redis: redis?,
            name: name?,
        })
    })
}

/// What a stream shares. `definition` is equal where the definitions are.
pub(super) fn sharing(
    source: &Source,
    cluster: Option<&Cluster>,
    path: &str,
    definition: u64,
) -> Option<Sharing> {
    let in_cluster = |identity| {
        cluster.map(|cluster| Sharing {
            server: cluster.redis.clone(),
            space: format!("cluster:{}", cluster.name),
            identity,
        })
    };
    match source {
        // What is read with clients' own credentials leaves no process.
        Source::Http(http) if !http.forward_headers.is_empty() => None,
        // It is a log that all have, with ids that mean the same to all.
        Source::RedisStream(_) => None,
        Source::Http(_) | Source::RedisKey(_) | Source::RedisPubSub(_) | Source::Sse(_) => {
            in_cluster(format!("{path} {definition:016x}"))
        }
        // Whoever may publish decides what it is, and no definition.
        Source::Publish(publish) => in_cluster(path.to_owned()).or_else(|| {
            publish.server.as_ref().map(|server| Sharing {
                server: server.clone(),
                space: "publish".to_owned(),
                identity: path.to_owned(),
            })
        }),
    }
}
