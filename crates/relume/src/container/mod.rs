//! Looking after one container: the process that is a service's own where its configuration has `container:`.
//!
//! # Theory of operation
//!
//! An engine's containers are not our children, so each has a *keeper*: a small process of this program that makes the
//! container, passes its output on to its own stdout and stderr, hands signals over, and ends as the container ends, with its
//! exit code. To the manager the keeper is a service like any other, so supervision, logs, dependencies, limits on restarts
//! and adoption after relume's own death need no second way; the road not taken was a client of the engine inside the manager,
//! which would have to be asked for a container's end in place of the kernel.
//!
//! A keeper that is killed leaves its container running. The next one knows it by its labels (which relume, which service,
//! which configuration) and takes it up where the output was left. A container that carries a name it should have and labels
//! of nobody or of another relume is not touched: that is an error for a person.
//!
//! It must never: start a container twice, touch one that is not its own, end without having said why.

mod order;

#[cfg(feature = "containers")]
mod engine;
#[cfg(feature = "containers")]
mod life;
#[cfg(feature = "containers")]
mod output;

pub(crate) use order::{Order, VARIABLE};

/// The exit code of a keeper without an engine: sysexits(3), EX_UNAVAILABLE.
const UNAVAILABLE: u8 = 69;

/// The whole life of a keeper.
pub(crate) fn run() -> std::process::ExitCode {
    #[cfg(feature = "containers")]
    return life::run();
    #[cfg(not(feature = "containers"))]
    {
        say("this relume was built without containers");
        std::process::ExitCode::from(UNAVAILABLE)
    }
}

/// A line in the service's log.
fn say(text: &str) {
    // Without a reader there is nobody to tell.
    let _unread = std::io::Write::write_all(&mut std::io::stderr(), format!("relume: {text}\n").as_bytes());
}
