//! What the tests of this crate share: children that end with the test, and plans that are quick to write.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use relume_os::exit::{self, ExitStatus, Reaped};
use relume_os::pipes::Pipe;
use relume_os::spawn::{SpawnError, SpawnFds, SpawnMethod, SpawnPlan, SpawnRequest, Spawned, Spawner};

/// Longest wait for anything; a machine under load is no reason to fail.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) const METHODS: [SpawnMethod; 2] = [SpawnMethod::Clone3, SpawnMethod::Clone];

static ALONE: Mutex<()> = Mutex::new(());

/// Tests that look at this process's children or descriptors, or execute files they have just written, take turns.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub(crate) fn request(argv: &[&str]) -> SpawnRequest {
    SpawnRequest {
        argv: argv.iter().map(OsString::from).collect(),
        environment: vec![(
            "PATH".into(),
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()),
        )],
        ..SpawnRequest::default()
    }
}

pub(crate) fn sh(script: &str) -> SpawnRequest {
    request(&["/bin/sh", "-c", script])
}

/// A child that is killed and reaped when the test ends, however it ends.
pub(crate) struct Child {
    pub(crate) spawned: Spawned,
}

impl Child {
    pub(crate) fn start(
        request: &SpawnRequest,
        fds: &SpawnFds<'_>,
        method: SpawnMethod,
    ) -> Result<Self, SpawnError> {
        let plan = SpawnPlan::prepare(request)?;
        let mut spawner = Spawner::with_method(method).unwrap();
        Ok(Self { spawned: spawner.spawn(&plan, fds)? })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.spawned.id.pid
    }

    /// How it ended; peeked, then reaped, which must agree.
    pub(crate) fn end(&self) -> ExitStatus {
        assert!(self.spawned.pidfd.wait_ended(LONG).unwrap(), "the child did not end");
        let peeked = exit::peek(&self.spawned.pidfd, self.pid()).unwrap().unwrap();
        match exit::reap(&self.spawned.pidfd).unwrap() {
            Reaped::Exited { pid, status, .. } => {
                assert_eq!((pid, status), (self.pid(), peeked));
                status
            }
            other @ (Reaped::Alive | Reaped::NotOurs) => panic!("not reaped: {other:?}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.spawned.pidfd.send_signal(9);
        let _ = self.spawned.pidfd.wait_ended(LONG);
        let _ = exit::reap(&self.spawned.pidfd);
    }
}

/// Runs to the end: what it wrote to standard output and error, and how it ended.
pub(crate) fn output(
    request: &SpawnRequest,
    method: SpawnMethod,
) -> Result<(String, ExitStatus), SpawnError> {
    let pipe = Pipe::new().unwrap();
    if let Some(c) = &request.credentials {
        relume_os::pipes::give_to(&pipe.write, c.uid, c.gid).unwrap();
    }
    let write = Some(pipe.write.as_fd());
    let child =
        Child::start(request, &SpawnFds { stdout: write, stderr: write, ..SpawnFds::default() }, method)?;
    drop(pipe.write);
    let mut text = String::new();
    File::from(pipe.read).read_to_string(&mut text).unwrap();
    Ok((text, child.end()))
}

#[expect(clippy::print_stderr, reason = "a test that was not run must be seen")]
pub(crate) fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
