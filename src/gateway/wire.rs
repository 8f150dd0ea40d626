//! Between a process and its successor: a pair of Unix sockets. First the listening sockets travel, then frames: a length
//! of four bytes, then JSON.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::channel::past::Past;
use crate::params::Params;

/// So many sockets travel at once: the kernel takes 253.
const MAX_SOCKETS: usize = 250;

/// Bytes of one frame: more than any value has.
const MAX_FRAME: u32 = 256 << 20;

/// From a process to its successor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Down {
    /// What the sockets were asked for as, in their order.
    Addresses(Vec<SocketAddr>),
    /// What a channel has. Channels are counted as they come.
    Channel {
        /// Index among the streams that the successor named.
        stream: usize,
        /// Values of its parameters.
        params: Vec<Box<str>>,
        /// What there is.
        past: Past,
    },
    /// That was all: the sockets are the successor's.
    YourTurn,
}

/// From a successor to the process before it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Up {
    /// It can serve. For these definitions of streams it takes what there is.
    Ready(Vec<u64>),
    /// It serves.
    Serving,
    /// What happened since in a channel, by its place among those that came.
    News(usize, Past),
}

impl Down {
    pub(super) fn channel(stream: usize, params: &Params, past: Past) -> Self {
        Self::Channel {
            stream,
            params: params.0.to_vec(),
            past,
        }
    }
}

/// Sends sockets, which stay open here too.
pub(super) fn send_sockets(wire: &StdUnixStream, sockets: &[TcpListener]) -> io::Result<()> {
    if sockets.len() > MAX_SOCKETS {
        return Err(io::Error::other("too many listening sockets"));
    }
    let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    // Descriptors travel with at least one byte.
    sendmsg(
        wire,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Takes the sockets that [`send_sockets`] sends.
pub(super) fn receive_sockets(wire: &StdUnixStream) -> io::Result<Vec<TcpListener>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(wire, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors.map(TcpListener::from));
        }
    }
    Ok(sockets)
}

/// Sends one frame.
pub(super) async fn send<T: Serialize + Sync>(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &T,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(frame)?;
    let length = u32::try_from(bytes.len()).ok();
    let length = length.filter(|length| *length <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("a frame is too large"))?;
    to.write_all(&length.to_le_bytes()).await?;
    to.write_all(&bytes).await
}

/// Receives one frame.
pub(super) async fn receive<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> io::Result<T> {
    let length = from.read_u32_le().await?;
    if length > MAX_FRAME {
        return Err(io::Error::other("a frame is too large"));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// A pair: ours, and one for the successor's standard input.
pub(super) fn pair() -> io::Result<(StdUnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    Ok((ours, theirs.into()))
}
