//! A line between a client and a server that can be cut and mended.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::eventually;

/// Ends by `Drop`.
#[derive(Debug)]
pub struct Relay {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
    open: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Relay {
    pub async fn to(server: SocketAddr) -> Self {
        Self::between(IpAddr::from([127, 0, 0, 1]), server).await
    }

    /// From this address of ours.
    pub async fn between(here: IpAddr, server: SocketAddr) -> Self {
        let listener = TcpListener::bind((here, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (cut, state) = watch::channel(false);
        let open = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(accept(listener, server, state, open.clone()));
        Self {
            address,
            cut,
            open,
            task,
        }
    }

    /// Breaks every connection: nothing of what the server sends from now on arrives. New ones are taken, and nothing
    /// answers until [`Relay::mend`].
    pub async fn cut(&self) {
        self.cut.send_replace(true);
        eventually("every connection is broken", || {
            self.open.load(Ordering::SeqCst) == 0
        })
        .await;
    }

    pub fn mend(&self) {
        self.cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    state: watch::Receiver<bool>,
    open: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (mut mended, cut, open) = (state.clone(), state.clone(), open.clone());
        connections.spawn(async move {
            if mended.wait_for(|cut| !cut).await.is_ok() {
                open.fetch_add(1, Ordering::SeqCst);
                carry(client, server, cut).await;
                open.fetch_sub(1, Ordering::SeqCst);
            }
        });
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut cut: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        return;
    };
    let broken = async { cut.wait_for(|cut| *cut).await.is_ok() };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = broken => {}
    }
}
