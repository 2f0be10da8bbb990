//! Known bugs, planted to show that the simulator would see them. Without the feature `planted`, which no
//! product has, each of them is a constant `false`.

use crate::supervisor::Supervisor;

/// A bug as somebody might write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// News of an earlier run is taken for news of the present one.
    ForgetsGeneration,
    /// A service starts although what it depends on is about to end.
    StartsOnLeaving,
    /// SIGKILL is noted and not sent.
    ForgetsKill,
    /// The window of retries is counted from its middle.
    CountsHalfWindow,
    /// A service that was stable keeps its row of failures.
    NeverStable,
    /// A second client that waits for a service is forgotten.
    LosesTicket,
    /// Services stop without waiting for those that depend on them.
    StopsInAnyOrder,
    /// A restart that was scheduled happens although a stop was asked for.
    RestartsDespiteStop,
    /// A deadline that moves stays where it was in the index.
    KeepsOldDeadline,
    /// A change is made without a fact that says so.
    ChangesInSilence,
    /// The end of a run is told again after its `post_stop` hook.
    TellsEndTwice,
    /// One more automatic restart than `respawn_rate` allows.
    OneTooMany,
    /// What a main process leaves behind is forgotten.
    ForgetsRest,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::ForgetsGeneration,
        Self::StartsOnLeaving,
        Self::ForgetsKill,
        Self::CountsHalfWindow,
        Self::NeverStable,
        Self::LosesTicket,
        Self::StopsInAnyOrder,
        Self::RestartsDespiteStop,
        Self::KeepsOldDeadline,
        Self::ChangesInSilence,
        Self::TellsEndTwice,
        Self::OneTooMany,
        Self::ForgetsRest,
    ];
}

impl Supervisor {
    /// Plants a bug; it stays for the life of this supervisor.
    #[cfg(feature = "planted")]
    pub fn plant(&mut self, bug: Bug) {
        self.planted = Some(bug);
    }

    /// Whether that bug is planted.
    #[cfg(feature = "planted")]
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.planted == Some(bug)
    }

    /// Never, in a product.
    #[cfg(not(feature = "planted"))]
    #[expect(clippy::unused_self, reason = "asked in the same words with the feature and without it")]
    pub(crate) const fn has(&self, _: Bug) -> bool {
        false
    }
}
