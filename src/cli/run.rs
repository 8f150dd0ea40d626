//! `wellspring run`: serve until told to stop.

use std::io;
use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{CONFIG, FAILED, OK, UNAVAILABLE, block_on};
use crate::config;
use crate::gateway::{Gateway, StartError};

/// Where the configuration is looked for, in this order.
const DEFAULT_FILES: [&str; 2] = ["wellspring.yaml", "/etc/wellspring/wellspring.yaml"];

pub(super) fn run(config: Option<PathBuf>) -> u8 {
    let Some(file) = config.or_else(default_file) else {
        eprintln!("{}", no_file());
        return CONFIG;
    };
    let config = match config::load(&file) {
        Ok(config) => config,
        Err(problems) => {
            eprint!("{problems}");
            return CONFIG;
        }
    };
    raise_descriptor_limit();
    block_on(serve(config))
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second SIGINT ends at once.
async fn serve(config: config::Config) -> u8 {
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!("the system gives no signals: {error}");
            return FAILED;
        }
    };
    let (streams, routes) = (config.streams.len(), config.routes.len());
    let gateway = match Gateway::start(config) {
        Ok(gateway) => gateway,
        Err(error @ StartError::Bind { .. }) => {
            error!("{error}");
            return UNAVAILABLE;
        }
        Err(error) => {
            error!("{error}");
            return FAILED;
        }
    };
    info!(streams, routes, "started");
    for address in gateway.addresses() {
        info!(%address, "listening");
    }
    if let Some(address) = gateway.admin_address() {
        info!(%address, "admin listening");
    }
    signals.stop(gateway).await;
    OK
}

/// The signals that end the process in order.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From here on they are noted and do not kill.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one of them, then stops the gateway in order; a second SIGINT ends at once.
    pub(super) async fn stop(mut self, gateway: Gateway) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => break info!("SIGTERM: stopping"),
                _ = self.interrupt.recv() => break info!("SIGINT: stopping; once more ends at once"),
                // A terminal that closes, or an operator who expects a reload, must not cut every stream.
                _ = self.hangup.recv() => warn!("SIGHUP: the file is not read again; restart to change it"),
            }
        }
        tokio::select! {
            () = gateway.stop() => info!("stopped"),
            _ = self.interrupt.recv() => warn!("ended at once"),
        }
    }
}

/// What is told when there is no file.
pub(super) fn no_file() -> String {
    let [here, system] = DEFAULT_FILES;
    format!(
        "no configuration: neither {here} nor {system} is there \
         (write one of them, or name another with --config FILE or WELLSPRING_CONFIG)"
    )
}

pub(super) fn default_file() -> Option<PathBuf> {
    DEFAULT_FILES
        .map(PathBuf::from)
        .into_iter()
        .find(|file| file.exists())
}

/// Each stream is a descriptor: as many as the system allows.
pub(super) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        warn!(%error, soft, "the limit of open files stays");
    }
}
