//! What the simulated programs do: one nuisance each.

use std::time::Duration;

use relume_core::{Exit, ServiceKind};

use crate::dice::Dice;

/// How a program misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nuisance {
    /// Not at all.
    Good,
    /// Ends with an error as soon as it runs.
    ExitsAtOnce,
    /// Runs for a while, then ends with an error; again and again.
    Flaps,
    /// Ends with success, though it should stay.
    ExitsZero,
    /// Ignores the stop signal.
    Deaf,
    /// Never says that it is ready.
    NeverReady,
    /// Leaves children behind that heed the stop signal.
    LeavesChildren,
    /// Leaves children behind that ignore it.
    LeavesDeafChildren,
    /// Puts itself in the background.
    Daemonizes,
    /// Does not even die of SIGKILL for a while (D state).
    Uninterruptible,
    /// Takes long to stop.
    SlowToStop,
    /// Its file is missing: it cannot be started.
    Absent,
}

impl Nuisance {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::ExitsAtOnce,
        Self::Flaps,
        Self::ExitsZero,
        Self::Deaf,
        Self::NeverReady,
        Self::LeavesChildren,
        Self::LeavesDeafChildren,
        Self::Daemonizes,
        Self::Uninterruptible,
        Self::SlowToStop,
        Self::Absent,
    ];
}

/// What a program is run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// As a service.
    Service(ServiceKind),
    /// As a hook: meant to end soon and well.
    Hook,
}

/// What one process tree is going to do, unless it is signalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// By which program.
    pub nuisance: Nuisance,
    /// When its main process ends by itself, and how.
    pub ends: Option<(Duration, Exit)>,
    /// When it says that it is ready.
    pub ready: Option<Duration>,
    /// Processes beside the main one.
    pub children: u32,
    /// Whether the main process ignores the stop signal.
    pub deaf: bool,
    /// Whether the others do.
    pub deaf_children: bool,
    /// How long stopping takes.
    pub stop_takes: Duration,
    /// How the main process ends when it is asked to.
    pub stop_exit: Exit,
    /// How long dying of SIGKILL takes.
    pub kill_takes: Duration,
    /// Whether its first process leaves the real one behind.
    pub daemon: bool,
}

const TERMINATED: Exit = Exit::Signal { number: 15, core_dumped: false };
const ABORTED: Exit = Exit::Signal { number: 6, core_dumped: true };

impl Plan {
    /// What a tree of the program `nuisance` does in `role`.
    #[must_use]
    pub fn draw(nuisance: Nuisance, role: Role, dice: &mut Dice) -> Self {
        let mut plan = Self::good(nuisance, role, dice);
        let bad = dice.pick(&[Exit::Code(1), Exit::Code(7), ABORTED, Exit::Code(0)]);
        let bad = if bad == Exit::Code(0) { Exit::Code(2) } else { bad };
        match nuisance {
            Nuisance::Good | Nuisance::Absent => {}
            Nuisance::ExitsAtOnce => {
                plan.ends = Some((dice.millis(0, 20), bad));
                plan.daemon = false;
            }
            Nuisance::Flaps => plan.ends = Some((dice.millis(500, 15_000), bad)),
            Nuisance::ExitsZero => {
                plan.ends = Some((dice.millis(0, 3_000), Exit::Code(0)));
                plan.daemon = false;
            }
            Nuisance::Deaf => plan.deaf = true,
            Nuisance::NeverReady => {
                plan.ready = None;
                plan.ends = None;
            }
            Nuisance::LeavesChildren | Nuisance::LeavesDeafChildren => {
                plan.children += 2;
                plan.deaf_children = nuisance == Nuisance::LeavesDeafChildren;
                if plan.ends.is_none() && dice.chance(400) {
                    plan.ends = Some((dice.millis(100, 5_000), bad));
                }
            }
            Nuisance::Daemonizes => {
                plan.ends = Some((dice.millis(0, 500), Exit::Code(0)));
                plan.daemon = true;
            }
            Nuisance::Uninterruptible => {
                plan.deaf = true;
                plan.kill_takes = dice.millis(1_000, 20_000);
            }
            Nuisance::SlowToStop => plan.stop_takes = dice.millis(1_000, 15_000),
        }
        plan
    }

    fn good(nuisance: Nuisance, role: Role, dice: &mut Dice) -> Self {
        let done = Some((dice.millis(0, 3_000), Exit::Code(0)));
        let ends = match role {
            Role::Hook | Role::Service(ServiceKind::Oneshot | ServiceKind::Forking) => done,
            Role::Service(ServiceKind::Simple | ServiceKind::Notify) => None,
        };
        Self {
            nuisance,
            ends,
            ready: Some(dice.millis(0, 3_000)),
            children: 0,
            deaf: false,
            deaf_children: false,
            stop_takes: dice.millis(0, 300),
            stop_exit: dice.pick(&[TERMINATED, Exit::Code(0), Exit::Code(1)]),
            kill_takes: dice.millis(0, 3),
            daemon: role == Role::Service(ServiceKind::Forking),
        }
    }
}
