//! The command line from outside: what it prints and how it ends, against a manager that is played by a few
//! lines, against none, and against files. What needs a real manager stands in `tests/real`.

#![expect(clippy::unwrap_used, reason = "a test that meets an error has failed, here and now")]

mod asking;
mod logs;
mod played;
mod usage;
mod verbs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A folder to work in, with a state directory beside where the config would be.
pub(crate) struct Home {
    dir: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// The program in this folder, with nothing of the tester's environment that it would act on.
    pub(crate) fn relume(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_relume")));
        for (key, _) in std::env::vars_os() {
            if key.to_str().is_none_or(|key| key.starts_with("RELUME_") || key == "DEBUG") {
                command.env_remove(key);
            }
        }
        command.args(args).current_dir(self.dir.path()).env("LC_ALL", "C.UTF-8");
        command.env("XDG_STATE_HOME", self.path("home"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Answer {
        Answer::of(&self.relume(args).output().unwrap())
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Answer {
    fn of(output: &Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}
