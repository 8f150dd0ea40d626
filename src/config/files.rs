//! Which files a configuration was read from, and whether they still say the same.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

/// The files that a configuration was read from: its own, and those that it names. Also those that could not be read.
#[derive(Clone, Debug, Default)]
pub struct Files(Vec<Seen>);

/// A file as it was when it was read.
#[derive(Clone, Debug)]
struct Seen {
    path: PathBuf,
    /// So many of its bytes were asked for.
    limit: u64,
    /// `None`: it could not be read.
    hash: Option<u64>,
}

impl Files {
    /// Whether any of them says something else by now. By content: a file may be replaced, and so may be the folder that a
    /// symbolic link on the way leads to.
    pub fn have_changed(&self) -> bool {
        let changed = |seen: &Seen| hash(&bytes(&seen.path, seen.limit)) != seen.hash;
        self.0.iter().any(changed)
    }

    /// These, as they are now.
    #[must_use]
    pub fn look_again(&self) -> Self {
        let look = |seen: &Seen| Seen {
            hash: hash(&bytes(&seen.path, seen.limit)),
            ..seen.clone()
        };
        Self(self.0.iter().map(look).collect())
    }

    /// Reads at most `limit` bytes, and remembers that.
    pub(super) fn read(&mut self, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let bytes = bytes(path, limit);
        self.0.push(Seen {
            path: path.to_owned(),
            limit,
            hash: hash(&bytes),
        });
        bytes
    }

    pub(super) fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

fn bytes(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hash(read: &io::Result<Vec<u8>>) -> Option<u64> {
    read.as_ref().ok().map(|bytes| xxh3_64(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_counts_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let mut files = Files::default();
        assert!(files.read(&path, 100).is_err());
        assert!(!files.have_changed());
        std::fs::write(&path, "one").expect("written");
        assert!(files.have_changed(), "it is there now");

        let mut files = Files::default();
        assert_eq!(files.read(&path, 100).expect("read"), b"one");
        std::fs::write(&path, "one").expect("written");
        assert!(!files.have_changed(), "the same again");
        std::fs::write(folder.path().join("new"), "two").expect("written");
        std::fs::rename(folder.path().join("new"), &path).expect("renamed");
        assert!(files.have_changed(), "another in its place");
        assert!(!files.look_again().have_changed());
        std::fs::remove_file(&path).expect("removed");
        assert!(files.look_again().0[0].hash.is_none());
    }
}
