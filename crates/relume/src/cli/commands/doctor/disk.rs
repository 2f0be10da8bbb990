//! Whether there is room on the file systems that relume writes to.

use std::path::{Path, PathBuf};

use relume_config::ManagerConfig;

use crate::cli::render::doctor::Check;

/// Less than this is trouble soon, in bytes: a busy service writes as much in minutes.
const LITTLE: u64 = 256 << 20;

/// Less than this is trouble now: the database, the status file and a rotation need it at once.
const NOTHING: u64 = 16 << 20;

/// One check for each file system.
pub(super) fn room(manager: &ManagerConfig) -> Vec<Check> {
    let state = manager.state_dir.clone().unwrap_or_else(|| manager.config_dir.join(".relume"));
    let mut seen = Vec::new();
    [("logs", manager.log_dir.clone()), ("state", state)]
        .into_iter()
        .filter_map(|(what, dir)| {
            let there = existing(&dir)?;
            let stat = rustix::fs::statvfs(&there).ok()?;
            if seen.contains(&stat.f_fsid) {
                return None;
            }
            seen.push(stat.f_fsid);
            Some(judge(
                what,
                &there,
                stat.f_bavail.saturating_mul(stat.f_frsize),
                stat.f_files,
                stat.f_favail,
            ))
        })
        .collect()
}

/// The folder itself, or the nearest above it that exists.
fn existing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().find(|above| above.is_dir()).map(Path::to_path_buf)
}

fn judge(what: &str, dir: &Path, free: u64, files: u64, files_free: u64) -> Check {
    let what = format!("disk of {what}");
    let said = format!("{} free in {}", in_words(free), dir.display());
    let advice = "make room, or put log_dir and state_dir elsewhere";
    if free < NOTHING {
        Check::bad(&what, said).advice(advice)
    } else if files > 0 && files_free < 100 {
        Check::bad(&what, format!("{said}, but no more files can be made")).advice(advice)
    } else if free < LITTLE {
        Check::warn(&what, said).advice(advice)
    } else {
        Check::ok(&what, said)
    }
}

fn in_words(bytes: u64) -> String {
    match bytes {
        0..1_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::doctor::Verdict;

    #[test]
    fn a_full_disk_is_bad_and_one_that_is_nearly_full_is_worth_knowing() {
        let of = |free, files_free| judge("logs", Path::new("/x"), free, 1_000, files_free).verdict;
        assert_eq!(of(10 << 30, 900), Verdict::Ok);
        assert_eq!(of(100 << 20, 900), Verdict::Warn);
        assert_eq!(of(1 << 20, 900), Verdict::Bad);
        assert_eq!(of(10 << 30, 0), Verdict::Bad);
    }
}
