//! A process takes over from the one that started it; the other side of `successor`.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::{info, warn};

use super::sockets::Sockets;
use super::streams::Streams;
use super::successor::VARIABLE;
use super::wire::{self, Down, Up};
use super::{Gateway, StartError};
use crate::channel::{ChannelKey, EventId, Subscription};
use crate::config::Config;
use crate::params::Params;

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    wire: StdUnixStream,
    sockets: Vec<std::net::TcpListener>,
}

/// A channel that the process before still has readers of.
struct Followed {
    place: usize,
    subscription: Subscription,
    known: EventId,
}

impl Predecessor {
    /// The process that started this one to take over, if one did.
    pub fn from_environment() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let wire = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let sockets = wire::receive_sockets(&wire)?;
        Ok(Some(Self { wire, sockets }))
    }
}

impl Gateway {
    /// As [`Gateway::start`], in the place of `predecessor`: on its listening sockets, and from where it stops. Should it be gone
    /// before that, this one serves all the same.
    pub async fn succeed(config: Config, predecessor: Predecessor) -> Result<Self, StartError> {
        let Predecessor { wire, sockets } = predecessor;
        wire.set_nonblocking(true)?;
        let mut wire = UnixStream::from_std(wire)?;
        let Down::Addresses(addresses) = wire::receive(&mut wire).await? else {
            return Err(io::Error::other("the process before said something else").into());
        };
        let sockets = Sockets::new(addresses.into_iter().zip(sockets).collect());
        let prepared = Self::prepare(config, sockets)?;
        let followed = match take_over(&mut wire, &prepared.gateway).await {
            Ok(followed) => followed,
            Err(error) => {
                warn!(%error, "the process before is gone: beginning without what it had");
                Vec::new()
            }
        };
        let gateway = prepared.open()?;
        // It may be gone by now.
        if wire::send(&mut wire, &Up::Serving).await.is_ok() {
            tell(wire, followed);
        }
        Ok(gateway)
    }
}

/// Takes what the process before has. Returns the channels that it has readers of.
async fn take_over(wire: &mut UnixStream, gateway: &Gateway) -> io::Result<Vec<Followed>> {
    let streams = &gateway.streams;
    let takes: Vec<_> = streams
        .iter()
        .filter_map(|standing| *standing.stream.continuity)
        .collect();
    wire::send(wire, &Up::Ready(takes.clone())).await?;
    let mut followed = Vec::new();
    let mut place = 0;
    loop {
        match wire::receive(wire).await? {
            Down::Channel {
                stream,
                params,
                past,
            } => {
                let continuity = takes.get(stream).copied();
                if let Some(key) = key(streams, continuity, Params::from(params))
                    && let Ok(subscription) = gateway.ground.hub.subscribe(&key)
                {
                    let channel = subscription.channel().clone();
                    if let Err(error) = channel.succeed(&past) {
                        warn!(channel = channel.name(), %error, "a value of the process before cannot be read");
                    }
                    if !past.is_read() {
                        drop(subscription);
                        channel.backdate(&past);
                    } else {
                        let known = past.known();
                        followed.push(Followed {
                            place,
                            subscription,
                            known,
                        });
                    }
                }
                place += 1;
            }
            Down::YourTurn => {
                info!(
                    channels = place,
                    "going on where the process before stopped"
                );
                return Ok(followed);
            }
            Down::Addresses(_) => return Err(io::Error::other("the addresses came twice")),
        }
    }
}

fn key(streams: &Streams, continuity: Option<u64>, params: Params) -> Option<ChannelKey> {
    let mut streams = streams.iter();
    let standing = streams.find(|standing| *standing.stream.continuity == continuity)?;
    Some(ChannelKey::shared(standing.id, params))
}

/// Tells the process before what happens in channels that it has readers of, for as long as it is there.
fn tell(wire: UnixStream, followed: Vec<Followed>) {
    let (mut gone, wire) = wire.into_split();
    // A process that takes nothing is told later, and then at once.
    let (news, coming) = channel(16);
    let mut tasks = tokio::task::JoinSet::new();
    for channel in followed {
        tasks.spawn(watch(channel, news.clone()));
    }
    tasks.spawn(write(wire, coming));
    tokio::spawn(async move {
        // It says nothing any more: this ends with it, and with this all tasks and what they subscribe to.
        let _: io::Result<Down> = wire::receive(&mut gone).await;
        drop(tasks);
    });
}

async fn watch(channel: Followed, news: Sender<Up>) {
    let Followed {
        place,
        subscription,
        mut known,
    } = channel;
    let channel = Arc::clone(subscription.channel());
    let mut version = channel.version();
    loop {
        version.mark_unchanged();
        let past = channel.since(Some(known));
        known = past.known();
        if news.send(Up::News(place, past)).await.is_err() {
            return;
        }
        version.changed().await;
    }
}

async fn write(mut wire: OwnedWriteHalf, mut coming: Receiver<Up>) {
    while let Some(news) = coming.recv().await {
        if wire::send(&mut wire, &news).await.is_err() {
            return;
        }
    }
}
