//! A crash of any thread but net begins the manager anew, in the same process.

use relume_os::limits::Limit;
use relume_os::{fatal, signals};

use super::successor::{Back, words};
use crate::manager::keeper::said_guardian;
use crate::roles::{AGAIN, CHANNEL_FD, CRASHED, GUARDIAN, LOCK_FD, NOFILE, Role, own_program};

/// The thread whose panics are contained: nothing that supervises depends on it.
pub(crate) const NET: &str = "net";

/// From now on a fatal signal or a panic executes the program again. `back` is what this process was told.
/// `nofile`: the limit of open files that relume was started with.
pub(crate) fn install(back: Option<&Back>, nofile: Limit) -> relume_os::Result<()> {
    // Blocked in the thread that has crashed, a signal is blocked here.
    signals::unblock(&fatal::SIGNALS)?;
    let before = match back {
        Some(Back::Crashed(crash)) => Some(*crash),
        Some(Back::Respawned { .. } | Back::Replaced(_) | Back::Found { .. }) | None => None,
    };
    let mut environment = Role::Manager.environment();
    environment.push((AGAIN.into(), "1".into()));
    environment.push((NOFILE.into(), nofile.to_string().into()));
    environment.extend(said_guardian().map(|pid| (GUARDIAN.into(), pid.to_string().into())));
    fatal::install(&fatal::Plan {
        program: &own_program(),
        argv: &words(),
        environment: &environment,
        keep: &[CHANNEL_FD, LOCK_FD],
        variable: CRASHED,
        before,
    })?;
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        if std::thread::current().name() != Some(NET) {
            begin_anew();
        }
    }));
    Ok(())
}

/// Nothing else is left to be done.
pub(crate) fn begin_anew() -> ! {
    fatal::begin_anew();
    // It has crashed too often, or cannot be executed: the guardian starts another.
    std::process::abort();
}
