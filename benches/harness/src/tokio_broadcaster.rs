//! What a service written by hand on tokio does: a task a client, and a broadcast channel.
//!
//! It obeys stdin as the [broadcaster](crate::broadcaster) does. A task that falls behind the channel skips what it
//! missed, and the swarm reports that as lost.

use std::io::{self, BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;

use crate::broadcaster::{HEAD, listen, order};
use crate::{Outcome, clock, payload};

/// Events that the channel holds for those who are behind.
const DEPTH: usize = 64;

/// Serves until stdin ends.
pub(crate) fn serve() -> Outcome<()> {
    let listener = listen()?;
    println!("{}", listener.local_addr()?.port());
    io::stdout().flush()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let (orders, coming) = mpsc::unbounded_channel();
    // A thread of its own, as reading stdin blocks; its end is that of the process.
    std::thread::Builder::new()
        .name("stdin".into())
        .spawn(move || {
            for line in io::stdin().lock().lines().map_while(Result::ok) {
                if orders.send(order(&line)).is_err() {
                    return;
                }
            }
        })?;
    runtime.block_on(async {
        let newest: Arc<[u8]> = payload::chunk(0, 1, clock::now()).into();
        let (events, _) = broadcast::channel(DEPTH);
        let state = Arc::new(State {
            newest: std::sync::RwLock::new(newest),
            events,
        });
        tokio::spawn(accept(TcpListener::from_std(listener)?, Arc::clone(&state)));
        beat(&state, coming).await;
        Ok(())
    })
}

struct State {
    /// For newcomers.
    newest: std::sync::RwLock<Arc<[u8]>>,
    events: broadcast::Sender<Arc<[u8]>>,
}

/// Sends events as ordered, until nobody orders any more.
async fn beat(state: &State, mut orders: mpsc::UnboundedReceiver<Option<Duration>>) {
    let mut beat: Option<(Duration, u64)> = None;
    let mut seq = 1;
    loop {
        let wait = beat.map(|(_, next)| Duration::from_nanos(next.saturating_sub(clock::now())));
        tokio::select! {
            order = orders.recv() => {
                let Some(order) = order else { return };
                beat = order.map(|every| (every, clock::now() + clock::nanos(every)));
            }
            () = sleep(wait.unwrap_or_default()), if wait.is_some() => {
                let Some((every, next)) = &mut beat else { continue };
                seq += 1;
                let event: Arc<[u8]> = payload::chunk(0, seq, *next).into();
                *next += clock::nanos(*every);
                if let Ok(mut newest) = state.newest.write() {
                    *newest = Arc::clone(&event);
                    // An error means that nobody listens.
                    let _ = state.events.send(event);
                }
            }
        }
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        // An error is one of a client that left already.
        if let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(client(socket, Arc::clone(&state)));
        }
    }
}

/// Serves one client; an error is its end.
async fn client(mut socket: TcpStream, state: Arc<State>) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut request = [0; 2048];
    // A request arrives whole: it is smaller than a segment on loopback.
    if socket.read(&mut request).await? == 0 {
        return Ok(());
    }
    let (first, mut events) = {
        let newest = state.newest.read().map_err(|_| io::ErrorKind::Other)?;
        // Under the lock, so that nothing comes between the newest and the next.
        ([HEAD, &newest].concat(), state.events.subscribe())
    };
    socket.write_all(&first).await?;
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(event) => socket.write_all(&event).await?,
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return Ok(()),
            },
            count = socket.read(&mut request) => if count? == 0 {
                return Ok(());
            },
        }
    }
}
