//! Servers of other people that push events, where they are installed.

mod flask_sse;
mod nchan;

pub(crate) use flask_sse::FlaskSse;
pub(crate) use nchan::start as nchan;

use std::path::{Path, PathBuf};

/// The nginx that is installed.
pub(crate) fn nginx() -> Option<&'static Path> {
    ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.exists())
}

/// A program on the PATH.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
