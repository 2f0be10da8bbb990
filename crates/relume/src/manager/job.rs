//! Whether a job has something to do.
//!
//! What files can tell is told here, on a spawn thread, which may wait for a disk. What takes a program (`requires`,
//! `unless`) is told by a process of its own, as the service's user and in its environment: a run like every other, so
//! it has a tree, a limit and a log. That process is relume itself with the hidden verb `judge`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use relume_config::JobCheck;
use relume_core::SpawnError;

use super::archive::Archive;
use super::units::Unit;
use crate::config_files::Disk;
use crate::roles::running_program;

/// Files looked at for one job; more are no inputs but a disk.
const MOST_FILES: usize = 100_000;

/// FNV-1a, 64 bits: offset basis and prime (draft-eastlake-fnv). Told apart are versions of files, not enemies.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// What files tell of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// All there is to know.
    Final {
        /// It has been done.
        done: bool,
    },
    /// A program has to be asked too.
    Ask {
        /// It has been done, if what it requires is there.
        done: bool,
    },
}

/// Looks at what files tell.
pub(crate) fn judge(unit: &Unit, archive: &Archive) -> Judgement {
    let Some(check) = &unit.config.hooks.check else { return Judgement::Final { done: false } };
    // Both are looked at: what the inputs are now counts when the job has been done.
    let same = note_inputs(unit, check, archive);
    let done = check.creates.iter().any(|path| path.exists()) || same;
    let asks = !check.requires.is_empty() || (check.unless.is_some() && !done);
    if asks { Judgement::Ask { done } } else { Judgement::Final { done } }
}

/// Whether the inputs are those of the last time. If not, they are noted for when the job is done.
fn note_inputs(unit: &Unit, check: &JobCheck, archive: &Archive) -> bool {
    !check.inputs.is_empty()
        && digest(&check.inputs)
            .is_some_and(|digest| archive.are_inputs_done(&unit.config.spec.name, &digest))
}

/// Paths and contents of all files that match; none where that cannot be said.
fn digest(patterns: &[String]) -> Option<String> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for pattern in patterns {
        paths.extend(relume_config::matching(&Disk, Path::new(pattern)).ok()?);
    }
    paths.sort();
    paths.dedup();
    if paths.len() > MOST_FILES {
        return None;
    }
    let mut hash = BASIS;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    let mut block = vec![0; 64 << 10];
    for path in &paths {
        let name = path.as_os_str().as_encoded_bytes();
        feed(&(name.len() as u64).to_le_bytes());
        feed(name);
        let mut file =
            File::open(path).ok().filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
        let mut length = 0_u64;
        loop {
            match file.read(&mut block) {
                Ok(0) => break,
                Ok(read) => {
                    length += read as u64;
                    feed(&block[..read]);
                }
                Err(_) => return None,
            }
        }
        feed(&length.to_le_bytes());
    }
    Some(format!("{hash:016x}-{}", paths.len()))
}

/// The process that tells; `done`: files have told that it has been done.
pub(crate) fn argv(unit: &Unit, done: bool) -> Result<Vec<OsString>, SpawnError> {
    let fault = |text: String| SpawnError { text, shortage: false };
    let exe = running_program();
    let check = unit.config.hooks.check.clone().unwrap_or_default();
    let text = serde_json::to_string(&check).map_err(|error| fault(error.to_string()))?;
    let word = if done { "done" } else { "open" };
    Ok(vec![exe.into_os_string(), "judge".into(), word.into(), text.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_the_same_until_a_name_or_a_byte_changes() {
        let home = tempfile::tempdir().unwrap();
        let pattern = vec![format!("{}/*.txt", home.path().display())];
        let none = digest(&pattern).unwrap();
        std::fs::write(home.path().join("a.txt"), "1").unwrap();
        let one = digest(&pattern).unwrap();
        assert_ne!(none, one);
        std::fs::write(home.path().join("b.log"), "1").unwrap();
        assert_eq!(digest(&pattern).unwrap(), one);
        std::fs::write(home.path().join("a.txt"), "2").unwrap();
        let other = digest(&pattern).unwrap();
        assert_ne!(other, one);
        std::fs::rename(home.path().join("a.txt"), home.path().join("c.txt")).unwrap();
        assert_ne!(digest(&pattern).unwrap(), other);
    }
}
