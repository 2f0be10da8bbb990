//! What processes use: processor time, memory, descriptors. Read on demand, and only by whoever may wait for it.
//!
//! Memory is counted cheaply: the resident pages of each process added up, so that pages which several share count several
//! times. [`proportional`] counts each page once and costs a walk through the page tables: for whoever has to be sure.

use std::fs;
use std::io::Read;
use std::time::Duration;

use crate::cgroup::RunCgroup;
use crate::proc::{self, Stat};

/// What a set of processes uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time since they began, with that of their ended children.
    pub cpu: Duration,
    /// Bytes of memory.
    pub memory: u64,
    /// How many they are.
    pub processes: u32,
    /// Descriptors that they have open, as far as we may see them.
    pub fds: u64,
}

impl Usage {
    /// With another set beside it.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
            processes: self.processes.saturating_add(other.processes),
            fds: self.fds.saturating_add(other.fds),
        }
    }
}

/// What one process uses, out of what was read of it.
#[must_use]
pub fn of(stat: &Stat) -> Usage {
    if stat.is_zombie() {
        return Usage { cpu: in_time(stat.cpu_ticks), ..Usage::default() };
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    Usage {
        cpu: in_time(stat.cpu_ticks),
        memory: stat.resident_pages.saturating_mul(page),
        processes: 1,
        fds: descriptors(stat.pid),
    }
}

/// What these processes use; one that is gone uses nothing.
#[must_use]
pub fn of_processes(pids: &[u32]) -> Usage {
    let stats = pids.iter().filter_map(|pid| proc::stat(*pid).ok().flatten());
    stats.fold(Usage::default(), |sum, stat| sum.and(of(&stat)))
}

/// What all in a cgroup use. Time is the kernel's own account, so what has ended counts too; memory is that of the memory
/// controller where there is one, without the cache of files: that is given back when somebody needs it.
#[must_use]
pub fn of_cgroup(cgroup: &RunCgroup) -> Usage {
    let mut usage = of_processes(&cgroup.procs().unwrap_or_default());
    usage.cpu = cgroup.cpu_time().unwrap_or(usage.cpu);
    usage.memory = cgroup.memory().unwrap_or(usage.memory);
    usage
}

/// Memory of these processes with each shared page counted once (proportional set size); none where the kernel does not say.
#[must_use]
pub fn proportional(pids: &[u32]) -> Option<u64> {
    let mut sum = 0_u64;
    for pid in pids {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else {
            // Gone meanwhile, or not ours to read.
            if proc::stat(*pid).ok().flatten().is_some_and(|stat| !stat.is_zombie()) {
                return None;
            }
            continue;
        };
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        sum = sum.saturating_add(kib.saturating_mul(1024));
    }
    Some(sum)
}

/// How often the kernel has killed somebody on this machine for want of memory, within any limit (`/proc/vmstat`, Linux 4.13).
#[must_use]
pub fn oom_kills() -> Option<u64> {
    // Asked at ends of services: a page at a time, and no further than the line, which Linux 6.18 has in the first.
    let mut text = Vec::with_capacity(8 * 1024);
    let mut file = fs::File::open("/proc/vmstat").ok()?;
    let mut part = [0; 4096];
    loop {
        let length = file.read(&mut part).ok()?;
        text.extend_from_slice(part.get(..length)?);
        // A line that may go on in the next page is no number yet.
        let whole = if length == 0 { text.len() } else { text.iter().rposition(|byte| *byte == b'\n')? };
        let count = counter(std::str::from_utf8(text.get(..whole)?).ok()?, "oom_kill");
        if count.is_some() || length == 0 {
            return count;
        }
    }
}

/// One line `KEY VALUE` of a file of such lines.
pub(crate) fn counter(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// How long ago a process was started; none when there is none of that id.
#[must_use]
pub fn age_of(pid: u32) -> Option<Duration> {
    let stat = proc::stat(pid).ok().flatten()?;
    let up: f64 = fs::read_to_string("/proc/uptime").ok()?.split(' ').next()?.parse().ok()?;
    Duration::try_from_secs_f64(up - in_time(stat.start_time).as_secs_f64()).ok()
}

fn in_time(ticks: u64) -> Duration {
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_millis(ticks.saturating_mul(1000) / hertz)
}

/// How many descriptors a process has open: the size of the folder (Linux 6.2), else its entries. 0 where we may not look.
fn descriptors(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/fd");
    match fs::metadata(&path) {
        Ok(meta) if meta.len() > 0 => meta.len(),
        Ok(_) => fs::read_dir(&path).map_or(0, |entries| entries.count() as u64),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_kills_are_counted_as_the_whole_file_says() {
        let whole = || counter(&fs::read_to_string("/proc/vmstat").unwrap(), "oom_kill");
        let (before, count, after) = (whole(), oom_kills(), whole());
        assert!(count.is_some() && before <= count && count <= after, "{before:?} {count:?} {after:?}");
    }

    #[test]
    fn this_process_uses_something_of_everything() {
        let me = std::process::id();
        let usage = of_processes(&[me, 0x7fff_ffff]);
        assert_eq!(usage.processes, 1);
        assert!(usage.memory > 100_000 && usage.fds >= 3, "{usage:?}");
        let shared = proportional(&[me, 0x7fff_ffff]).unwrap();
        assert!(shared > 10_000 && shared < usage.memory * 2, "{shared} of {usage:?}");
    }

    #[test]
    fn a_counter_is_found_by_its_whole_name() {
        assert_eq!(counter("oom 1\noom_kill_x 2\noom_kill 3\n", "oom_kill"), Some(3));
        assert_eq!(counter("", "oom_kill"), None);
    }
}
