//! Where our own cgroup is in the file system: `/proc/self/cgroup` says which, `mountinfo` where that hierarchy is mounted.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Errno, OsError, Result};

/// The directory of this process's cgroup in the v2 hierarchy.
pub(super) fn own_directory() -> Result<PathBuf> {
    directory("self")
}

/// The same of any process: its pid, or `self`.
pub(super) fn directory(process: &str) -> Result<PathBuf> {
    let read = |path: &str| fs::read(path).map_err(|e| OsError::at("read", path, e));
    let none = |text: &str| OsError::new("find our cgroup", Errno::NOENT).because(text);
    let own = own_cgroup(&read(&format!("/proc/{process}/cgroup"))?)
        .ok_or_else(|| none("this kernel has no cgroup v2"))?;
    directory_of(&own, &read("/proc/self/mountinfo")?)
        .ok_or_else(|| none("cgroup v2 is not mounted, or not where our own cgroup could be seen"))
}

/// The path on the line `0::PATH`.
fn own_cgroup(text: &[u8]) -> Option<PathBuf> {
    let line = text.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    Some(PathBuf::from(OsString::from_vec(line.to_vec())))
}

/// The first cgroup2 mount that shows `own`.
fn directory_of(own: &Path, mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo.split(|&b| b == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|&b| b == b' ').collect();
        // A dash ends the optional fields; the file system's type follows.
        let dash = fields.iter().position(|f| *f == b"-")?;
        if fields.get(dash + 1)? != b"cgroup2" {
            return None;
        }
        let (root, mount) = (unescape(fields.get(3)?), unescape(fields.get(4)?));
        // A root that begins with `/..` lies outside of our cgroup namespace, and so does such a cgroup of our own.
        let below = own.strip_prefix(&root).ok()?;
        if below.components().any(|c| c == std::path::Component::ParentDir) {
            return None;
        }
        Some(mount.join(below))
    })
}

/// mountinfo writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let code = field
            .get(at + 1..at + 4)
            .filter(|d| field[at] == b'\\' && d.iter().all(|b| (b'0'..=b'7').contains(b)));
        match code {
            Some(d) => {
                let value = d.iter().fold(0u32, |n, b| n * 8 + u32::from(b - b'0'));
                out.push(u8::try_from(value).unwrap_or(b'?'));
                at += 4;
            }
            None => {
                out.push(field[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime shared:4 - cgroup2 cgroup2 rw\n";

    #[test]
    fn the_mount_is_found_by_type_and_its_escapes_are_undone() {
        let own = own_cgroup(b"9:name=systemd:/x\n0::/a/b\n").unwrap();
        assert_eq!(directory_of(&own, MOUNTS).unwrap(), Path::new("/sys/fs/cgroup/uni fied/a/b"));
    }

    #[test]
    fn a_mount_of_a_part_shows_only_what_is_below_it() {
        let line = b"41 31 0:38 /pod/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(directory_of(Path::new("/pod/x/y"), line).unwrap(), Path::new("/sys/fs/cgroup/y"));
        assert_eq!(directory_of(Path::new("/pod/z"), line), None);
    }

    #[test]
    fn without_cgroup2_or_outside_of_our_namespace_there_is_no_place() {
        assert_eq!(own_cgroup(b"9:name=systemd:/x\n"), None);
        assert_eq!(directory_of(Path::new("/../x"), MOUNTS), None);
        assert_eq!(directory_of(Path::new("/x"), b"1 1 0:1 / /sys rw - sysfs sysfs rw\n\n"), None);
    }
}
