//! Children that cannot outlive us.
//!
//! A child is started through this same program as `leash`, which asks the kernel to kill it when its parent dies
//! (PR_SET_PDEATHSIG) and then becomes the program. The wish survives `execve`, so that it holds however the parent
//! ends: return, panic, Ctrl-C or SIGKILL. It does not pass to what a child starts: that is killed when the child is
//! dropped. The kernel means the parent *thread*: children are started by the main one.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};

use crate::{Outcome, process};

/// A running child with its log. Dropped, it is killed with all that it started, and waited for.
#[derive(Debug)]
pub(crate) struct Leashed {
    child: Child,
    log: PathBuf,
    since: Instant,
}

impl Leashed {
    /// Starts `program`; what it says on stderr (and stdout, unless `piped`) goes to the file `log`.
    pub(crate) fn start(
        program: &Path,
        arguments: &[OsString],
        log: &Path,
        piped: bool,
    ) -> Outcome<Self> {
        let file = File::create(log)?;
        let stdout = if piped {
            Stdio::piped()
        } else {
            file.try_clone()?.into()
        };
        let stdin = if piped { Stdio::piped() } else { Stdio::null() };
        let program_of_leash = std::env::current_exe()?;
        let since = Instant::now();
        let child = Command::new(program_of_leash)
            .arg("leash")
            .arg(std::process::id().to_string())
            .arg(program)
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(file)
            .spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
            since,
        })
    }

    /// The process, which is also that of the program behind the leash.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started: just before its process was made.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// The first line on stdout of a `piped` child.
    pub(crate) fn first_line(&mut self) -> Outcome<String> {
        let stdout = self.child.stdout.take().ok_or("the child has no pipe")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// The other end of a `piped` child's stdin.
    pub(crate) fn stdin(&mut self) -> Option<&mut ChildStdin> {
        self.child.stdin.as_mut()
    }

    /// Whether it has ended, and how: with the end of its log.
    pub(crate) fn ended(&mut self) -> Outcome<Option<String>> {
        let status = self.child.try_wait()?;
        Ok(status.map(|status| {
            format!(
                "it ended with {status}; its last words:\n{}",
                self.last_words()
            )
        }))
    }

    /// Waits for its end, for `limit` at most.
    pub(crate) fn finish(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                return Err(format!("still running after {limit:?}").into());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// All that it has said to its log.
    pub(crate) fn words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = self.words();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        let family = process::family(self.pid()).unwrap_or_default();
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Workers of the child, such as nginx's, do not all go with it.
        for worker in family.into_iter().skip(1) {
            if let Some(worker) = i32::try_from(worker).ok().and_then(Pid::from_raw) {
                let _ = kill_process(worker, Signal::KILL);
            }
        }
    }
}

/// Becomes `program`, bound to die with `parent`. Returns only when that fails.
pub(crate) fn leash(parent: u32, program: &OsString, arguments: &[OsString]) -> Outcome<bool> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now != Some(parent) {
        return Err("the parent is gone".into());
    }
    let error = Command::new(program).args(arguments).exec();
    Err(format!("{}: {error}", program.display()).into())
}
