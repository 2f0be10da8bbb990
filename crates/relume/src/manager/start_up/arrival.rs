//! What a manager finds when it comes: the channel to the guardian with all that is kept, and the journal. With a thousand services
//! that takes milliseconds in which nobody supervises, and so does its configuration: a thread of its own sees to the one while
//! the other is read.
//!
//! It must never write anything: a configuration that cannot be used is the end of this process, and all has to be as it was.

use std::panic::resume_unwind;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use relume_os::channel::Channel;
use relume_os::files::Lock;
use relume_os::limits::Limit;
use relume_os::{exec, limits, prctl, signals};

use super::parts::HEARD;
use super::{JOURNAL, SIGXFSZ, Trouble};
use crate::manager::journal::{Journal, Remains};
use crate::manager::keeper::{Keeper, Kept};
use crate::manager::launch::{Inheritance, nofile};
use crate::manager::respawn::{Back, Standby};
use crate::manager::safe_mode;
use crate::manager::translate::number;
use crate::places::Places;
use crate::roles::{CHANNEL_FD, LOCK_FD};

/// Room for the descriptors of a thousand services from the beginning: 32 KiB of the kernel's memory.
const MOST_USUAL: u64 = 4096;

/// What the guardian has given this process.
pub(crate) struct Handed {
    channel: Channel,
    lock: Lock,
    /// It was a manager, which goes on for now.
    standby: Option<Standby>,
}

impl Handed {
    /// To be called once, in a process that is the manager, before anything is opened: if nobody has started it as one, the numbers
    /// would be somebody else's.
    ///
    /// # Errors
    /// Nobody has.
    pub(crate) fn take() -> relume_os::Result<Self> {
        let channel = Channel::from_owned(exec::take_inherited(CHANNEL_FD)?);
        let lock = Lock::from_owned(exec::take_inherited(LOCK_FD)?);
        Ok(Self { channel, lock, standby: Standby::take()? })
    }
}

/// Under way since the first moments of this process.
pub(crate) struct Arrival {
    /// What this process was before, if it has executed itself.
    pub(super) back: Option<Back>,
    /// What services are to inherit.
    pub(super) inherited: Inheritance,
    /// The limit of open files that relume was started with.
    pub(super) nofile: Limit,
    /// The limit that holds now.
    pub(super) descriptors: u64,
    /// The lock of the state directory, held until the process ends.
    pub(super) lock: Lock,
    /// This process comes up beside the manager.
    pub(super) standby: Option<Standby>,
    /// How long the guardian may be silent, once the configuration has said it.
    watchdog: Arc<OnceLock<Option<Duration>>>,
    /// Looks for it.
    pub(super) thread: Finding,
}

/// The thread that looks.
pub(super) type Finding = JoinHandle<relume_os::Result<Found>>;

/// What was found.
pub(super) struct Found {
    pub(super) keeper: Arc<Keeper>,
    pub(super) fds: Kept,
    pub(super) journal: Option<(Journal, Remains)>,
}

impl Arrival {
    /// Begins. To be called once, in a process that is the manager.
    pub(crate) fn begin(places: &Places, handed: Handed) -> relume_os::Result<Self> {
        let back = Back::of_this_process();
        let Handed { channel, lock, standby } = handed;
        let (inherited, nofile) = (Inheritance::of_this_process()?, nofile()?);
        // After what is to be inherited has been read, and before thousands of descriptors come back.
        let descriptors = limits::raise_nofile()?;
        settle()?;
        let journal = places.runtime_dir.join(JOURNAL);
        // Thousands of descriptors are about to come, here or by starts.
        limits::make_room(descriptors.min(MOST_USUAL.max(Journal::descriptors(&journal))));
        let watchdog = Arc::<OnceLock<_>>::default();
        let (anew, limits) = (back.as_ref().map(Back::anew), inherited.limits().to_vec());
        let (patience, stands_by) = (Arc::clone(&watchdog), standby.is_some());
        let look = move || {
            let greeted = match stands_by {
                true => Keeper::greet_predecessor(channel)?,
                false => Keeper::greet(channel, anew, patience)?,
            };
            safe_mode::judge_journal(&journal);
            // Each takes its time.
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name("kept".into());
                let taking = thread.spawn_scoped(scope, || greeted.take_over(limits)).map_err(no_thread)?;
                let journal = Journal::found(&journal)?;
                let (keeper, fds) = taking.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                Ok(Found { keeper, fds, journal })
            })
        };
        let thread = std::thread::Builder::new().name("arrival".into()).spawn(look).map_err(no_thread)?;
        Ok(Self { back, inherited, nofile, descriptors, lock, standby, watchdog, thread })
    }

    /// The guardian may be silent for so long; none: nobody has said.
    pub(super) fn expect(&self, watchdog: Option<Duration>) {
        let _only = self.watchdog.set(watchdog);
    }

    /// Waits for all of it. The rest of `self` is left to be used.
    pub(super) fn join(thread: Finding) -> Result<Found, Trouble> {
        let panicked = |_| Trouble { text: "relume could not start: it panicked".into(), help: None };
        Ok(thread.join().map_err(panicked)??)
    }
}

fn no_thread(error: std::io::Error) -> relume_os::OsError {
    relume_os::OsError::new("start a thread", relume_os::Errno::of(&error))
}

/// Signals are data from now on, and orphans of this tree are this process's.
fn settle() -> relume_os::Result<()> {
    prctl::set_child_subreaper()?;
    signals::block(HEARD)?;
    // Inherited as ignored, it would make the kernel reap children before anybody knows how they ended.
    signals::set_default(number::CHLD)?;
    // A log file that reaches RLIMIT_FSIZE is an error of write(2) and not the end of the manager.
    signals::ignore(SIGXFSZ)
}
