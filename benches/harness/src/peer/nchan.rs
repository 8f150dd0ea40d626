//! nginx with the nchan module (Debian: libnginx-mod-nchan), as a pub/sub server of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::Outcome;
use crate::child::Leashed;
use crate::gateway::{PATH, PUBLISH};
use crate::publisher::{Publisher, Target};
use crate::subject::{self, Pulse, Subject};

/// Clients, and what else it has open: below what the limit of open files usually is.
const CONNECTIONS: usize = 10_000;

/// Starts it with one message kept for newcomers; `None` where it is not installed.
pub(crate) fn start(folder: &Path) -> Outcome<Option<Subject>> {
    let module = [
        "/usr/lib/nginx/modules/ngx_nchan_module.so",
        "/usr/share/nginx/modules/ngx_nchan_module.so",
    ]
    .map(Path::new)
    .into_iter()
    .find(|path| path.exists());
    let (Some(program), Some(module)) = (super::nginx(), module) else {
        return Ok(None);
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, subject::free_port()?));
    let file = folder.join("nchan.conf");
    std::fs::write(&file, configuration(module, folder, address))?;
    let arguments = ["-p".into(), folder.into(), "-c".into(), file.into()];
    let mut child = Leashed::start(program, &arguments, &folder.join("nchan.log"), false)?;
    subject::connect(address, &mut child, Duration::from_secs(10))?;
    let target = Target::Post {
        address,
        path: PUBLISH,
    };
    Ok(Some(Subject {
        name: "nginx with nchan",
        child,
        address,
        pulse: Pulse::Published(Publisher::start(target)?),
    }))
}

/// One process does all the work, as in the others.
fn configuration(module: &Path, folder: &Path, listen: SocketAddr) -> String {
    let connections = CONNECTIONS;
    let (module, here) = (module.display(), folder.display());
    format!(
        "load_module {module};\ndaemon off;\nmaster_process off;\npid {here}/nchan.pid;\n\
         error_log stderr;\nevents {{ worker_connections {connections}; }}\nhttp {{\naccess_log off;\nkeepalive_requests 1000000000;\n\
         client_body_temp_path {here}/nb;\nproxy_temp_path {here}/np;\nfastcgi_temp_path {here}/nf;\n\
         uwsgi_temp_path {here}/nu;\nscgi_temp_path {here}/ns;\n\
         server {{ listen {listen} backlog=4096;\n\
         location = {PATH} {{ nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message -1; }}\n\
         location = {PUBLISH} {{ nchan_publisher; nchan_channel_id bench; nchan_message_buffer_length 10; }}\n\
         }}\n}}\n"
    )
}
