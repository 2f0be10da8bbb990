//! A service that others run: started, asked after and stopped by commands.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use relume_config::External;
use relume_os::pidfd::PidFd;

use super::signals::Signals;
use super::{UNAVAILABLE, say, tell};
use crate::roles::ROLE;

const SIGKILL: i32 = 9;

/// From one question to the next while the service is well: one process each.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// The same while something is expected to change: on the way up and down.
const ASK_SOON: Duration = Duration::from_millis(200);

/// How long one answer may take. A command that hangs is no "yes".
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// A single "no" may be a restart by whoever else looks after it.
const ASK_TWICE: Duration = Duration::from_secs(1);

pub(super) async fn stand_in(external: &External) -> Result<u8, String> {
    let mut signals = Signals::new()?;
    let up = tokio::select! {
        code = bring_up(external) => code?,
        () = signals.end_asked() => return bring_down(external).await,
    };
    if up != 0 {
        return Ok(up);
    }
    tell("READY=1\nSTATUS=");
    tokio::select! {
        code = watch(external) => code,
        () = signals.end_asked() => {
            tell("STOPPING=1");
            bring_down(external).await
        }
    }
}

/// Starts it unless it runs already, and waits until it says that it does; the code of a start that failed, else 0.
async fn bring_up(external: &External) -> Result<u8, String> {
    if external.status.is_some() && is_up(external).await? {
        say("it is up already: taken up as it is");
        return Ok(0);
    }
    if let Some(start) = &external.start {
        let code = run("start_command", start).await?;
        if code != 0 {
            say(&format!("start_command exited with {code}"));
            return Ok(code);
        }
    }
    // timeout_start ends the wait.
    while external.status.is_some() && !is_up(external).await? {
        tell("STATUS=waiting until status_command exits with 0");
        tokio::time::sleep(ASK_SOON).await;
    }
    Ok(0)
}

/// Comes back when it is not up any more.
async fn watch(external: &External) -> Result<u8, String> {
    if external.status.is_none() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(ASK_AGAIN).await;
        if is_up(external).await? {
            continue;
        }
        tokio::time::sleep(ASK_TWICE).await;
        if !is_up(external).await? {
            say("status_command says that it is not up any more");
            tell("STATUS=status_command says that it is not up any more");
            return Ok(1);
        }
    }
}

async fn bring_down(external: &External) -> Result<u8, String> {
    let Some(stop) = &external.stop else { return Ok(0) };
    let code = run("stop_command", stop).await?;
    if code != 0 {
        say(&format!("stop_command exited with {code}"));
        return Ok(code);
    }
    // timeout_stop ends the wait.
    while external.status.is_some() && is_up(external).await? {
        tokio::time::sleep(ASK_SOON).await;
    }
    Ok(0)
}

async fn is_up(external: &External) -> Result<bool, String> {
    let Some(status) = &external.status else { return Ok(true) };
    match tokio::time::timeout(ANSWER_LIMIT, run("status_command", status)).await {
        Ok(code) => Ok(code? == 0),
        Err(_) => {
            say(&format!("status_command has not answered within {} s", ANSWER_LIMIT.as_secs()));
            Ok(false)
        }
    }
}

/// Runs a command to its end; its exit code, as a shell would give it. Given up, it is killed.
async fn run(key: &str, argv: &[String]) -> Result<u8, String> {
    let Some((program, arguments)) = argv.split_first() else { return Ok(UNAVAILABLE) };
    let failed = |error: &dyn std::fmt::Display| format!("{key}: {program} cannot be started: {error}");
    let mut command = Command::new(program);
    command.args(arguments).env_remove("NOTIFY_SOCKET").env_remove(super::VARIABLE).env_remove(ROLE);
    let mut child = command.spawn().map_err(|error| failed(&error))?;
    let asked = Asked(PidFd::open(child.id()).ok());
    let ended = tokio::task::spawn_blocking(move || child.wait()).await;
    drop(asked);
    let status = ended.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}

/// A command under way. Whoever does not wait for it any more ends it; the thread that waits reaps it.
struct Asked(Option<PidFd>);

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.0 {
            // It may have ended by itself.
            let _ended = pidfd.send_signal(SIGKILL);
        }
    }
}
