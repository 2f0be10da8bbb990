//! Resource limits (getrlimit(2)) by name, and raising our own limit of descriptors without handing that on.

use std::fmt;

use crate::error::{Errno, OsError, Result};

/// One kind of limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    number: u32,
}

/// Names as limits.conf(5) and prlimit(1) use them. The place in the list is the kernel's number, the same on every architecture
/// supported; libc's constants are of different types with glibc and musl.
const NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

impl Resource {
    /// Open descriptors of one process.
    pub const NOFILE: Self = Self { number: 7 };
    /// Size of a core file.
    pub const CORE: Self = Self { number: 4 };

    /// By name: `nofile`, `NOFILE` or `RLIMIT_NOFILE`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        let bare = lower.strip_prefix("rlimit_").unwrap_or(&lower);
        Self::all().find(|resource| resource.name() == bare)
    }

    /// Every kind there is.
    pub fn all() -> impl Iterator<Item = Self> {
        (0u32..).take(NAMES.len()).map(|number| Self { number })
    }

    /// Its name, `nofile`.
    #[must_use]
    pub fn name(self) -> &'static str {
        usize::try_from(self.number).ok().and_then(|n| NAMES.get(n)).copied().unwrap_or("unknown")
    }

    pub(crate) fn number(self) -> u32 {
        self.number
    }
}

/// Soft and hard limit, in the resource's own unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What is enforced; `None`: unlimited.
    pub soft: Option<u64>,
    /// How far the soft one may be raised; `None`: unlimited.
    pub hard: Option<u64>,
}

impl Limit {
    /// `65536` (both), `1024:65536` (soft, hard), `unlimited` (also `infinity`) for either.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let one = |word: &str| match word.trim() {
            "unlimited" | "infinity" => Some(None),
            digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse::<u64>().ok().filter(|&n| n != libc::RLIM_INFINITY).map(Some)
            }
            _ => None,
        };
        let limit = match text.split_once(':') {
            Some((soft, hard)) => Self { soft: one(soft)?, hard: one(hard)? },
            None => Self { soft: one(text)?, hard: one(text)? },
        };
        let raw = limit.to_raw();
        (raw.rlim_cur <= raw.rlim_max).then_some(limit)
    }

    pub(crate) fn to_raw(self) -> libc::rlimit64 {
        let raw = |v: Option<u64>| v.unwrap_or(libc::RLIM64_INFINITY);
        libc::rlimit64 { rlim_cur: raw(self.soft), rlim_max: raw(self.hard) }
    }

    fn from_raw(raw: libc::rlimit64) -> Self {
        let own = |v: u64| (v != libc::RLIM64_INFINITY).then_some(v);
        Self { soft: own(raw.rlim_cur), hard: own(raw.rlim_max) }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |v: Option<u64>| v.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
        write!(f, "{}:{}", text(self.soft), text(self.hard))
    }
}

/// This process's limit.
pub fn get(resource: Resource) -> Result<Limit> {
    let mut raw = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: pid 0 is ourselves, a null new limit only asks, `raw` is writable.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource.number,
            std::ptr::null::<libc::rlimit64>(),
            &raw mut raw,
        )
    };
    if rc == 0 {
        Ok(Limit::from_raw(raw))
    } else {
        Err(OsError::new("read a resource limit", Errno::last()).because(resource.name()))
    }
}

/// Sets this process's limit.
pub fn set(resource: Resource, limit: Limit) -> Result<()> {
    let raw = limit.to_raw();
    // SAFETY: pid 0 is ourselves, `raw` is readable, the old limit is not asked for.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource.number,
            &raw const raw,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    if rc == 0 {
        return Ok(());
    }
    let errno = Errno::last();
    Err(OsError::new("set a resource limit", errno)
        .because(format!("{} = {limit}: {errno}", resource.name())))
}

/// All limits of this process as they are now: taken at the very start, they are what services get.
pub fn snapshot() -> Result<Vec<(Resource, Limit)>> {
    Resource::all().map(|r| get(r).map(|limit| (r, limit))).collect()
}

/// Raises our own soft limit of descriptors to the hard one; what it is then.
pub fn raise_nofile() -> Result<u64> {
    let now = get(Resource::NOFILE)?;
    set(Resource::NOFILE, Limit { soft: now.hard, hard: now.hard })?;
    Ok(now.hard.unwrap_or(u64::MAX))
}

/// Has the kernel make its table of our descriptors large enough for so many. In a process of several threads each growth of it waits
/// for all processors (synchronize_rcu), tens of milliseconds at times, so this is to be called before there is a second thread.
pub fn make_room(descriptors: u64) {
    use std::os::fd::AsFd;
    let highest = i32::try_from(descriptors).unwrap_or(i32::MAX).saturating_sub(1);
    // Closed again at once. Beyond the limit it is refused, and the table grows when it has to.
    drop(rustix::io::fcntl_dupfd_cloexec(std::io::stdin().as_fd(), highest));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_one_number_a_pair_or_unlimited() {
        assert_eq!(Limit::parse("65536"), Some(Limit { soft: Some(65536), hard: Some(65536) }));
        assert_eq!(Limit::parse("1024:65536"), Some(Limit { soft: Some(1024), hard: Some(65536) }));
        assert_eq!(Limit::parse("0:unlimited"), Some(Limit { soft: Some(0), hard: None }));
        assert_eq!(Limit::parse("unlimited"), Some(Limit { soft: None, hard: None }));
    }

    #[test]
    fn odd_limits_and_a_soft_one_above_the_hard_one_are_refused() {
        for text in ["", "-1", "x", "1:", ":1", "2:1", "unlimited:5", "1:2:3", "18446744073709551615", "1k"] {
            assert_eq!(Limit::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_resource_reads_back_by_its_name() {
        for (resource, limit) in snapshot().unwrap() {
            assert_eq!(Resource::by_name(resource.name()), Some(resource));
            assert_eq!(Limit::parse(&limit.to_string()), Some(limit));
        }
        assert_eq!(Resource::by_name("RLIMIT_NOFILE"), Some(Resource::NOFILE));
        assert_eq!(Resource::by_name("files"), None);
        for (resource, number) in
            [(Resource::NOFILE, libc::RLIMIT_NOFILE), (Resource::CORE, libc::RLIMIT_CORE)]
        {
            assert_eq!(i64::from(resource.number()), i64::from(number));
        }
        let last = Resource::by_name("rttime").unwrap();
        assert_eq!(
            i64::from(last.number()),
            i64::from(libc::RLIMIT_RTTIME),
            "no name is missing in the list"
        );
    }
}
