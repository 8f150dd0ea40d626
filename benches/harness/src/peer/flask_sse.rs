//! An application with Flask-SSE behind gunicorn's gevent worker, and the Redis server that it needs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Outcome;
use crate::child::Leashed;
use crate::gateway::PATH;
use crate::publisher::{Publisher, Target};
use crate::redis::{self, Redis};
use crate::subject::{self, Pulse, Subject};

/// The application with its Redis server, which must outlive it.
#[derive(Debug)]
pub(crate) struct FlaskSse {
    /// The application.
    pub(crate) subject: Subject,
    _redis: Redis,
}

impl FlaskSse {
    /// Starts both. It has no value for newcomers: they get what comes after them, and no response head before that.
    /// `None` where something of it is not installed.
    pub(crate) fn start(python: Option<&Path>, folder: &Path) -> Outcome<Option<Self>> {
        let (Some(python), Some(program)) = (python.and_then(with_modules), redis::program())
        else {
            return Ok(None);
        };
        let redis = Redis::start(&program, folder)?;
        let server = redis.address();
        std::fs::write(
            folder.join("flask_sse_app.py"),
            format!(
                "from flask import Flask\nfrom flask_sse import sse\n\napp = Flask(__name__)\n\
                 app.config[\"REDIS_URL\"] = \"redis://{server}/0\"\n\
                 app.register_blueprint(sse, url_prefix=\"{PATH}\")\n"
            ),
        )?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, subject::free_port()?));
        let text = format!(
            "-m gunicorn --worker-class gevent --workers 1 --worker-connections 20000 --backlog 4096 --log-level warning --bind {address}"
        );
        let mut arguments: Vec<_> = text.split(' ').map(Into::into).collect();
        arguments.extend(["--chdir".into(), folder.into(), "flask_sse_app:app".into()]);
        let mut child = Leashed::start(&python, &arguments, &folder.join("gunicorn.log"), false)?;
        subject::connect(address, &mut child, Duration::from_secs(20))?;
        let target = Target::FlaskSse {
            server,
            channel: "sse",
        };
        let subject = Subject {
            name: "Flask-SSE",
            child,
            address,
            pulse: Pulse::Published(Publisher::start(target)?),
        };
        Ok(Some(Self {
            subject,
            _redis: redis,
        }))
    }
}

/// `python`, when it has what the application imports.
fn with_modules(python: &Path) -> Option<PathBuf> {
    let status = Command::new(python)
        .args(["-c", "import flask_sse, gunicorn, gevent"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status
        .is_ok_and(|status| status.success())
        .then(|| python.to_owned())
}
