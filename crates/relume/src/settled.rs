//! Places are settled once, by the process that the user starts, and handed on to every process that relume becomes or starts
//! after that, in the environment ([`PLACES`]).
//!
//! Settled anew they could come out differently: a disk is read-only by now, a folder has other modes, the config names another.
//! Another place is another journal and another control socket: every service would run twice. So whoever has been handed its
//! places uses them, whatever has become of them; what is wrong with them, or differs from the config, is said.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use relume_config::ManagerConfig;

use crate::places::{Places, Surroundings, Wanted};
use crate::roles::{AGAIN, PLACES, Role};

/// Places as they were settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settled {
    /// Where everything is.
    pub(crate) places: Places,
    /// What they were settled from; its folder is that of the config.
    wanted: Wanted,
}

impl Settled {
    /// Settles them, and makes their folders.
    ///
    /// # Errors
    /// When a folder cannot be made or belongs to somebody else: with path and reason.
    pub(crate) fn anew(manager: &ManagerConfig, around: &Surroundings) -> std::io::Result<Self> {
        let wanted = wanted(manager);
        Ok(Self { places: Places::settle(&wanted, around)?, wanted })
    }

    /// Those that this process was handed; none: it is the one to settle them.
    pub(crate) fn inherited() -> Option<Self> {
        let mut settled = match Role::of_this_process() {
            Role::Manager | Role::Trial => Self::read(&std::env::var_os(PLACES)?)?,
            // The variable of a relume above this one does not concern it.
            Role::Command | Role::Guardian | Role::Shim | Role::Drill => return None,
        };
        if std::env::var_os(AGAIN).is_some() {
            // The first manager has said it.
            settled.places.moved = None;
        }
        Some(settled)
    }

    /// For the environment of the next one.
    pub(crate) fn handed_on(&self) -> (OsString, OsString) {
        let Self { places, wanted } = self;
        let here = [
            ("state_dir", &places.state_dir),
            ("runtime_dir", &places.runtime_dir),
            ("log_dir", &places.log_dir),
            ("log_file", &places.log_file),
            ("state_file", &places.state_file),
            ("status_file", &places.status_file),
            ("pid_dir", &places.pid_dir),
            (BASE, &wanted.base),
        ];
        let here = here.into_iter().map(|(key, path)| (key.to_owned(), text_of(path)));
        let moved = places.moved.iter().map(|moved| (MOVED.to_owned(), moved.clone()));
        let asked =
            asked(wanted).into_iter().filter_map(|(key, path)| Some((asked_key(key), text_of(path?))));
        let all: BTreeMap<String, String> = here.chain(asked).chain(moved).collect();
        (PLACES.into(), serde_json::json!(all).to_string().into())
    }

    fn read(text: &OsStr) -> Option<Self> {
        let all: BTreeMap<String, String> = serde_json::from_str(text.to_str()?).ok()?;
        let here = |key: &str| path_of(all.get(key)?);
        let asked = |key: &str| here(&asked_key(key));
        let wanted = Wanted {
            base: here(BASE)?,
            state_dir: asked("state_dir"),
            runtime_dir: asked("runtime_dir"),
            log_dir: asked("log_dir"),
            log_file: asked("log_file"),
            state_file: asked("state_file"),
            status_file: asked("status_file"),
            pid_dir: asked("pid_dir"),
        };
        let state_dir = here("state_dir")?;
        let places = Places {
            id: crate::places::id_of(&state_dir),
            state_dir,
            runtime_dir: here("runtime_dir")?,
            log_dir: here("log_dir")?,
            log_file: here("log_file")?,
            state_file: here("state_file")?,
            status_file: here("status_file")?,
            pid_dir: here("pid_dir")?,
            moved: all.get(MOVED).cloned(),
        };
        Some(Self { places, wanted })
    }

    /// Remembers as a thing to say which places `manager` has elsewhere by now.
    pub(crate) fn compare(&mut self, manager: &ManagerConfig) {
        let (then, now) = (&self.wanted, wanted(manager));
        let pairs = asked(then).into_iter().zip(asked(&now)).filter(|((key, _), _)| *key != "log_dir");
        let said: Vec<String> =
            pairs.filter_map(|((key, then), (_, now))| differing(key, then, now)).collect();
        if !said.is_empty() {
            self.say(format!("{}: that takes relume down, then relume up", said.join("; ")));
        }
    }

    /// Has `manager` name the places that are in force and not those of the next start.
    pub(crate) fn hold(&mut self, manager: &mut ManagerConfig) {
        let then = &self.wanted;
        // Unlike the others it may be changed while relume runs. Where it has not been, it stays where it was moved to.
        if then.log_dir.as_ref() != Some(&manager.log_dir) {
            self.places.log_dir.clone_from(&manager.log_dir);
        }
        manager.state_dir.clone_from(&then.state_dir);
        manager.runtime_dir.clone_from(&then.runtime_dir);
        manager.log_file.clone_from(&then.log_file);
        manager.state_file.clone_from(&then.state_file);
        manager.status_file.clone_from(&then.status_file);
        manager.pid_dir.clone_from(&then.pid_dir);
    }

    /// Makes folders again that somebody has removed. What cannot be had is said and lived with.
    pub(crate) fn restore(&mut self, around: &Surroundings) {
        if let Err(error) = self.places.restore(around) {
            self.say(format!("{error}; it is used all the same, because relume runs there"));
        }
    }

    fn say(&mut self, text: String) {
        let before = self.places.moved.take().map(|before| format!("{before}\n")).unwrap_or_default();
        self.places.moved = Some(before + &text);
    }
}

/// The origin of a `log_dir` that nobody has asked for.
pub(crate) const MOVED_LOGS: &str = "log_dir";

const BASE: &str = "base";
const MOVED: &str = "moved";

fn asked_key(key: &str) -> String {
    format!("asked_{key}")
}

/// What was asked for, by the names of the settings.
fn asked(wanted: &Wanted) -> [(&'static str, Option<&PathBuf>); 7] {
    [
        ("state_dir", wanted.state_dir.as_ref()),
        ("runtime_dir", wanted.runtime_dir.as_ref()),
        ("log_dir", wanted.log_dir.as_ref()),
        ("log_file", wanted.log_file.as_ref()),
        ("state_file", wanted.state_file.as_ref()),
        ("status_file", wanted.status_file.as_ref()),
        ("pid_dir", wanted.pid_dir.as_ref()),
    ]
}

fn differing(key: &str, then: Option<&PathBuf>, now: Option<&PathBuf>) -> Option<String> {
    let text = |path: Option<&PathBuf>| path.map_or("the default".into(), |path| path.display().to_string());
    (then != now)
        .then(|| format!("{key} is {} in the config, and relume goes on with {}", text(now), text(then)))
}

fn wanted(manager: &ManagerConfig) -> Wanted {
    Wanted {
        base: manager.config_dir.clone(),
        state_dir: manager.state_dir.clone(),
        runtime_dir: manager.runtime_dir.clone(),
        log_dir: Some(manager.log_dir.clone()),
        log_file: manager.log_file.clone(),
        state_file: manager.state_file.clone(),
        status_file: manager.status_file.clone(),
        pid_dir: manager.pid_dir.clone(),
    }
}

/// A path may hold any bytes, a JSON string may not: each byte is written as the character of that number.
fn text_of(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().copied().map(char::from).collect()
}

fn path_of(text: &str) -> Option<PathBuf> {
    let bytes: Option<Vec<u8>> = text.chars().map(|letter| u8::try_from(letter).ok()).collect();
    Some(OsString::from_vec(bytes?).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(folder: &Path) -> Settled {
        let wanted = Wanted {
            base: folder.to_owned(),
            state_dir: Some("state".into()),
            runtime_dir: Some(OsString::from_vec(b"odd \xff\n\"name".to_vec()).into()),
            log_dir: Some(folder.join("logs")),
            ..Wanted::default()
        };
        let places = Places::settle(&wanted, &Surroundings::from_env()).unwrap();
        Settled { places, wanted }
    }

    #[test]
    fn places_are_read_as_they_were_handed_on_whatever_bytes_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let settled = settled(folder.path());
        let (_, text) = settled.handed_on();
        assert_eq!(Settled::read(&text), Some(settled));
    }

    #[test]
    fn what_is_no_list_of_places_is_none() {
        for text in ["", "{}", "[]", r#"{"base":"/"}"#] {
            assert_eq!(Settled::read(OsStr::new(text)), None, "{text:?}");
        }
    }

    #[test]
    fn a_place_that_is_gone_is_made_again_and_one_that_is_not_ours_is_lived_with() {
        let folder = tempfile::tempdir().unwrap();
        let mut settled = settled(folder.path());
        let state = settled.places.state_dir.clone();
        std::fs::remove_dir_all(&state).unwrap();
        settled.restore(&Surroundings::from_env());
        assert!(state.is_dir() && settled.places.moved.is_none());
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::write(&state, "a file by now").unwrap();
        settled.restore(&Surroundings::from_env());
        assert_eq!(settled.places.state_dir, state);
        assert!(settled.places.moved.unwrap().contains("it is used all the same"));
    }
}
