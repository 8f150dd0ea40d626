//! `wellspring run`: serve until told to stop, and change as told.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{CONFIG, FAILED, OK, UNAVAILABLE, block_on};
use crate::config::{self, Config, Files};
use crate::gateway::{Gateway, Launch, Predecessor, StartError};

/// Where the configuration is looked for, in this order.
const DEFAULT_FILES: [&str; 2] = ["wellspring.yaml", "/etc/wellspring/wellspring.yaml"];

/// How often `--watch` looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// Files that change are let come to rest for so long: whoever writes them may not be done.
const REST: Duration = Duration::from_millis(200);

pub(super) fn run(config: Option<PathBuf>, watch: bool) -> u8 {
    // Before anything can change what is on the disk.
    let launch = Launch::remember();
    let Some(file) = config.or_else(default_file) else {
        eprintln!("{}", no_file());
        return CONFIG;
    };
    let (config, files) = match config::load_with_files(&file) {
        (Ok(config), files) => (config, files),
        (Err(problems), _) => {
            eprint!("{problems}");
            return CONFIG;
        }
    };
    raise_descriptor_limit();
    let watched = watch.then_some(files);
    block_on(serve(config, &file, watched, &launch))
}

/// Serves until SIGTERM or SIGINT, then stops in order; a second one ends at once.
async fn serve(config: Config, file: &Path, mut watched: Option<Files>, launch: &Launch) -> u8 {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            error!("the system gives no signals: {error}");
            return FAILED;
        }
    };
    let (streams, routes) = (config.streams.len(), config.routes.len());
    let mut gateway = match start(config).await {
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
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            () = changed(&mut watched) => Asked::Reload,
        };
        match asked {
            Asked::Stop => break,
            Asked::Reload => {
                let files = gateway.reload_file(file).1;
                if watched.is_some() {
                    watched = Some(files);
                }
            }
            Asked::HandOver => {
                let successor = tokio::select! {
                    successor = gateway.start_successor(launch) => successor,
                    () = signals.stopped() => break,
                };
                let handed_over = match successor {
                    Ok(successor) => gateway.hand_over(successor).await,
                    Err(error) => Err(error),
                };
                match handed_over {
                    Ok(()) => break,
                    Err(error) => error!("this process goes on: {error}"),
                }
            }
        }
    }
    signals.stop(gateway).await;
    OK
}

/// On the sockets of the process that started this one, if one did.
async fn start(config: Config) -> Result<Gateway, StartError> {
    match Predecessor::from_environment()? {
        Some(predecessor) => Gateway::succeed(config, predecessor).await,
        None => Gateway::start(config),
    }
}

/// Completes when the files say something else, and have come to rest; never without files.
async fn changed(watched: &mut Option<Files>) {
    let Some(files) = watched else {
        return std::future::pending().await;
    };
    loop {
        sleep(LOOK).await;
        if !have_changed(files).await {
            continue;
        }
        loop {
            *files = files.look_again();
            sleep(REST).await;
            if !have_changed(files).await {
                return;
            }
        }
    }
}

async fn have_changed(files: &Files) -> bool {
    // Reading files blocks.
    let files = files.clone();
    let look = tokio::task::spawn_blocking(move || files.have_changed());
    look.await.unwrap_or(false)
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM, SIGINT
    Stop,
    /// SIGHUP
    Reload,
    /// SIGUSR2
    HandOver,
}

/// The signals that mean something here.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    hand_over: Signal,
}

impl Signals {
    /// From here on they are noted and do not kill.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            hand_over: signal(SignalKind::user_defined2())?,
        })
    }

    /// Waits for one of them.
    pub(super) async fn next(&mut self) -> Asked {
        let Self {
            terminate,
            interrupt,
            hangup,
            hand_over,
        } = self;
        tokio::select! {
            () = stopped(terminate, interrupt) => Asked::Stop,
            _ = hangup.recv() => {
                info!("SIGHUP: reading the file again");
                Asked::Reload
            }
            _ = hand_over.recv() => {
                info!("SIGUSR2: starting a successor");
                Asked::HandOver
            }
        }
    }

    /// Waits for one that ends the process.
    pub(super) async fn stopped(&mut self) {
        stopped(&mut self.terminate, &mut self.interrupt).await;
    }

    /// Stops the gateway in order; one more signal to end does so at once.
    pub(super) async fn stop(mut self, gateway: Gateway) {
        tokio::select! {
            () = gateway.stop() => info!("stopped"),
            () = self.stopped() => warn!("ended at once"),
        }
    }
}

async fn stopped(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: stopping; once more ends at once"),
        _ = interrupt.recv() => info!("SIGINT: stopping; once more ends at once"),
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
