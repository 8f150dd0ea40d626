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

/// [`anonymous`] once it has stopped moving: three equal readings 100 ms apart, or what it is after 3 s.
pub(crate) fn settled(pid: u32) -> Outcome<u64> {
    let end = Instant::now() + Duration::from_secs(3);
    let mut last = anonymous(pid)?;
    let mut same = 0;
    while same < 2 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        let next = anonymous(pid)?;
        same = if next == last { same + 1 } else { 0 };
        last = next;
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
    fn this_process_can_be_weighed() {
        let pid = std::process::id();
        assert!(resident(pid).expect("VmRSS") >= anonymous(pid).expect("RssAnon"));
        assert!(descriptors(pid).expect("descriptors") > 2);
        assert!(descriptors_fall_to(pid, 0, Duration::ZERO).is_err());
    }
}
