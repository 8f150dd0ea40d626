//! What the kernel says of a process: CPU time, memory, descriptors (proc(5)).

use std::ops::Sub;
use std::time::{Duration, Instant};

use crate::Outcome;

/// CPU time of all threads of a process, seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    /// In user mode.
    pub(crate) user: f64,
    /// In the kernel on its behalf.
    pub(crate) system: f64,
}

impl Cpu {
    /// User and system.
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            system: self.system - earlier.system,
        }
    }
}

/// CPU time so far, from `/proc/PID/stat`.
pub(crate) fn cpu(pid: u32) -> Outcome<Cpu> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    cpu_of(&stat).ok_or_else(|| format!("/proc/{pid}/stat is not understood").into())
}

/// [`cpu`] of the process and all that it started: of a server with workers.
pub(crate) fn cpu_of_family(pid: u32) -> Outcome<Cpu> {
    let mut sum = Cpu {
        user: 0.0,
        system: 0.0,
    };
    for member in family(pid)? {
        let used = cpu(member)?;
        sum.user += used.user;
        sum.system += used.system;
    }
    Ok(sum)
}

/// The process, its children, theirs, and so on.
pub(crate) fn family(pid: u32) -> Outcome<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(other) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // One that ends meanwhile is nobody's child.
        let stat = std::fs::read_to_string(format!("/proc/{other}/stat")).unwrap_or_default();
        parents.extend(parent_of(&stat).map(|parent| (other, parent)));
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(&member) = family.get(next) {
        family.extend(children(&parents, member));
        next += 1;
    }
    Ok(family)
}

fn children(parents: &[(u32, u32)], of: u32) -> impl Iterator<Item = u32> {
    parents
        .iter()
        .filter(move |(_, parent)| *parent == of)
        .map(|(child, _)| *child)
}

fn parent_of(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Anonymous resident memory (`RssAnon`), bytes: what the process itself has written, without files and kernel buffers.
pub(crate) fn anonymous(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&status, "RssAnon:")
        .ok_or_else(|| format!("/proc/{pid}/status has no RssAnon").into())
}

/// Resident memory (`VmRSS`), bytes.
pub(crate) fn resident(pid: u32) -> Outcome<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    kilobytes(&status, "VmRSS:").ok_or_else(|| format!("/proc/{pid}/status has no VmRSS").into())
}

/// [`anonymous`] once it has not moved for `quiet`, or what it is after twice that.
pub(crate) fn settled(pid: u32, quiet: Duration) -> Outcome<u64> {
    let end = Instant::now() + quiet * 2;
    let mut last = anonymous(pid)?;
    let mut since = Instant::now();
    while since.elapsed() < quiet && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50));
        let next = anonymous(pid)?;
        if next != last {
            (last, since) = (next, Instant::now());
        }
    }
    Ok(last)
}

/// Open descriptors.
pub(crate) fn descriptors(pid: u32) -> Outcome<usize> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Waits until the process has at most `most` descriptors: that it has noticed its clients leaving.
pub(crate) fn descriptors_fall_to(pid: u32, most: usize, limit: Duration) -> Outcome<()> {
    let end = Instant::now() + limit;
    loop {
        let open = descriptors(pid)?;
        if open <= most {
            return Ok(());
        }
        if Instant::now() >= end {
            return Err(format!("{open} descriptors are still open {limit:?} after all clients left, {most} expected").into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cpu_of(stat: &str) -> Option<Cpu> {
    // The name, in parentheses, may hold anything; the fields after it are numbers: state is the third of all.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let seconds = |index: usize| {
        fields
            .get(index)?
            .parse::<f64>()
            .ok()
            .map(|count| count / ticks)
    };
    Some(Cpu {
        user: seconds(11)?,
        system: seconds(12)?,
    })
}

fn kilobytes(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    let count: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(count * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let ticks = rustix::param::clock_ticks_per_second();
        let stat = format!(
            "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 {} {} 13",
            3 * ticks,
            2 * ticks
        );
        assert_eq!(parent_of(&stat), Some(1));
        let cpu = cpu_of(&stat).expect("fields");
        assert_eq!((cpu.user, cpu.system), (3.0, 2.0));
    }

    #[test]
    fn status_lines() {
        let status = "VmRSS:\t    100 kB\nRssAnon:\t     12 kB\n";
        assert_eq!(kilobytes(status, "RssAnon:"), Some(12 * 1024));
        assert_eq!(kilobytes(status, "VmSwap:"), None);
    }

    #[test]
    fn a_family_holds_children_and_theirs() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & wait' & wait"])
            .spawn()
            .expect("a shell");
        let end = Instant::now() + Duration::from_secs(10);
        let family = loop {
            let family = family(child.id()).expect("a family");
            if family.len() == 3 || Instant::now() > end {
                break family;
            }
        };
        assert_eq!((family.len(), family[0]), (3, child.id()));
        for pid in family.into_iter().rev() {
            let pid = rustix::process::Pid::from_raw(pid as i32).expect("a process");
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        }
        child.wait().expect("its end");
    }

    #[test]
    fn this_process_can_be_weighed() {
        let pid = std::process::id();
        assert!(resident(pid).expect("VmRSS") >= anonymous(pid).expect("RssAnon"));
        assert!(descriptors(pid).expect("descriptors") > 2);
        assert!(descriptors_fall_to(pid, 0, Duration::ZERO).is_err());
    }
}
