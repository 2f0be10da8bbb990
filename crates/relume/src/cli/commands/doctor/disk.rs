//! Whether there is room on the file systems that relume writes to.

use relume_config::ManagerConfig;

use crate::cli::render::doctor::Check;
use crate::room::{self, Room, Shortage};
use crate::sizes::in_words;

/// One check for each file system.
pub(super) fn room(manager: &ManagerConfig) -> Vec<Check> {
    let state = manager.state_dir.clone().unwrap_or_else(|| manager.config_dir.join(".relume"));
    let dirs = [("logs", manager.log_dir.as_path()), ("state", state.as_path())];
    room::look(dirs).iter().map(judge).collect()
}

fn judge(room: &Room) -> Check {
    let what = format!("disk of {}", room.what);
    let said = format!("{} free in {}", in_words(room.free), room.dir.display());
    let advice = "make room, or put log_dir and state_dir elsewhere";
    match room.shortage() {
        Shortage::Nothing if room.free >= room::NOTHING => {
            Check::bad(&what, format!("{said}, but no more files can be made")).advice(advice)
        }
        Shortage::Nothing => Check::bad(&what, said).advice(advice),
        Shortage::Little => Check::warn(&what, said).advice(advice),
        Shortage::None => Check::ok(&what, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::doctor::Verdict;

    /// Shown to fail: with any room taken for enough.
    #[test]
    fn a_full_disk_is_bad_and_one_that_is_nearly_full_is_worth_knowing() {
        let of = |free, files| {
            judge(&Room { what: "logs", dir: "/x".into(), free, total: 1 << 40, files: Some(files) }).verdict
        };
        assert_eq!(of(10 << 30, 900), Verdict::Ok);
        assert_eq!(of(100 << 20, 900), Verdict::Warn);
        assert_eq!(of(1 << 20, 900), Verdict::Bad);
        assert_eq!(of(10 << 30, 0), Verdict::Bad);
    }
}
