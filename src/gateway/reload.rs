//! Reload: the new state is built beside the old one, and what does not change goes on as if nothing had happened.
//!
//! First everything that can fail, so that a reload that fails has changed nothing. Then the new streams, then one switch
//! of what requests see, and last the end of what stands no longer: who is ended comes back to the new state.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use tracing::{error, info, warn};

use super::operators::{self, Operators};
use super::sockets::Sockets;
use super::sources::Sources;
use super::streams::Streams;
use super::{Gateway, Standing, StartError, fanout_limits};
use crate::channel::ChannelKey;
use crate::config::{self, Config, Files, Listener};
use crate::edge::Settings;
use crate::metrics::Reload;

/// What a reload did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// Nothing: the file cannot be used.
    Refused,
    /// The new configuration stands.
    Applied,
    /// It says what stands already.
    Unchanged,
}

impl Gateway {
    /// Reads `file` and changes to what it says, or tells in the log why not. Also gives the files that were read.
    pub fn reload_file(&mut self, file: &Path) -> (Reloaded, Files) {
        let (config, files) = config::load_with_files(file);
        let result = match config {
            Ok(config) => self.reload(config).map_err(|error| error.to_string()),
            Err(problems) => Err(problems.to_string()),
        };
        let reloaded = result.unwrap_or_else(|why| {
            error!("not reloaded: everything stays as it is");
            why.lines().for_each(|line| error!("{line}"));
            Reloaded::Refused
        });
        if reloaded == Reloaded::Unchanged {
            info!("nothing to reload: the file says what stands already");
        }
        self.metrics.reloads.inc(match reloaded {
            Reloaded::Applied => Reload::Applied,
            Reloaded::Refused => Reload::Refused,
            Reloaded::Unchanged => Reload::Unchanged,
        });
        (reloaded, files)
    }

    /// Changes to `config` (EDGE O5). Streams whose definition stays go on untouched, with their channels, readers and ids;
    /// those of the others end with `closing` and the reason `reload`. A failure changes nothing.
    pub fn reload(&mut self, config: Config) -> Result<Reloaded, StartError> {
        if config == *self.config {
            return Ok(Reloaded::Unchanged);
        }
        let config = Arc::new(config);
        let sources = Sources::new(&config, &self.metrics, &self.sources)?;
        let plans = self.plan_doors(&config)?;
        let admin = self.plan_admin(&config)?;

        let streams = Streams::after(&self.streams, &config, &sources, &self.ground);
        self.fanout.change(fanout_limits(&config));
        self.switch.to(config.clone(), streams.ids());
        // Doors that are in no plan close here; connections that came by them go on.
        self.doors = self.change_doors(plans);
        let ended = self.streams.end_all_but(&streams, &self.ground);
        info!(
            streams = config.streams.len(),
            ended,
            routes = config.routes.len(),
            "reloaded"
        );
        self.streams = streams;
        self.sources = sources;
        self.config = config;
        match admin {
            AdminPlan::Keep => {}
            AdminPlan::Off => self.admin = None,
            AdminPlan::On(socket) => {
                // The old one may hold the same port.
                self.admin = None;
                self.admin = Some(self.serve_operators(socket)?);
            }
        }
        if let Some(admin) = &self.admin {
            admin.show(self.running());
        }
        Ok(Reloaded::Applied)
    }

    /// Lets every stream begin anew, with the values that it had: what its channels know is sealed.
    pub(super) fn renew(&mut self) {
        let streams = Streams::after(
            &Streams::default(),
            &self.config,
            &self.sources,
            &self.ground,
        );
        for (old, new) in self.streams.iter().zip(streams.iter()) {
            for channel in self.ground.hub.channels(old.id) {
                let key = ChannelKey {
                    stream: new.id,
                    ..channel.key().clone()
                };
                let past = channel.hand_over();
                if !past.is_empty()
                    && let Ok(subscription) = self.ground.hub.subscribe(&key)
                    && let Err(error) = subscription.channel().succeed(&past)
                {
                    warn!(channel = channel.name(), %error, "a value cannot be kept");
                }
            }
        }
        self.switch.to(self.config.clone(), streams.ids());
        self.streams.end_all_but(&streams, &self.ground);
        self.streams = streams;
    }

    /// A door for each listener of the file. New ones are open, as opening can fail; nobody can know of them yet.
    fn plan_doors(&self, config: &Config) -> Result<Vec<Plan>, StartError> {
        let mut known: Vec<Option<SocketAddr>> = self
            .doors
            .iter()
            .map(|standing| Some(standing.configured))
            .collect();
        let plan = |listener: &Listener| {
            let wanted = Some(listener.address);
            match known.iter().position(|known| *known == wanted) {
                Some(at) => {
                    known[at] = None;
                    Ok(Plan::Change(at, Settings::new(config, listener)?))
                }
                None => {
                    let socket = Sockets::default().take_or_bind(listener.address)?;
                    Standing::open(socket, listener, config, &self.house).map(Plan::Open)
                }
            }
        };
        config.listeners.iter().map(plan).collect()
    }

    fn plan_admin(&self, config: &Config) -> Result<AdminPlan, StartError> {
        if config.admin == self.config.admin {
            return Ok(AdminPlan::Keep);
        }
        // The port may be the one that is open.
        let own: io::Result<Vec<_>> = self.admin.iter().map(Operators::socket).collect();
        let socket = operators::bind(config.admin.as_ref(), &mut Sockets::new(own?))?;
        Ok(socket.map_or(AdminPlan::Off, AdminPlan::On))
    }

    fn change_doors(&mut self, plans: Vec<Plan>) -> Vec<Standing> {
        let mut old: Vec<_> = self.doors.drain(..).map(Some).collect();
        let hang = |plan| match plan {
            Plan::Open(standing) => Some(standing),
            Plan::Change(at, settings) => {
                let standing = old[at].take()?;
                standing.door.change(settings);
                Some(standing)
            }
        };
        plans.into_iter().filter_map(hang).collect()
    }
}

/// What becomes of the admin listener.
enum AdminPlan {
    Keep,
    Off,
    On(TcpListener),
}

/// How a listener of the file gets its door.
enum Plan {
    /// A new one.
    Open(Standing),
    /// The one at this place, changed.
    Change(usize, Settings),
}
