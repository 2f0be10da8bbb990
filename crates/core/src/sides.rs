//! Runs beside the main one: hooks, and stray lives that recovery found. Each has its bound and is killed
//! with its whole tree when it reaches it.

use core::time::Duration;

use crate::action::Action;
use crate::cause::{Cause, Exit, SpawnError};
use crate::event::Rest;
use crate::fact::What;
use crate::id::{Hook, RunId, RunKind, ServiceId};
use crate::lives::KILL_AGAIN;
use crate::planted::Bug;
use crate::record::{Side, SidePhase};
use crate::state::{StartPhase, State, StopPhase};
use crate::supervisor::{Step, Supervisor};

impl Step<'_> {
    /// Starts a hook.
    pub(crate) fn begin_hook(&mut self, id: ServiceId, hook: Hook, limit: Duration) -> RunId {
        let run = self.core.next_run(id);
        let kind = RunKind::Hook(hook);
        let give_up_at = self.core.now.after(limit);
        self.note(What::RunBegan { run, kind, launch: 0, automatic: false });
        self.note(What::SideMoved { run, kind, phase: SidePhase::Active { give_up_at } });
        self.act(Action::Spawn { run, kind });
        run
    }

    /// Ends a side run with SIGKILL, unless that is under way.
    pub(crate) fn kill_side(&mut self, run: RunId) {
        let Some(side) = self.core.side(run) else { return };
        let exit = match side.phase {
            SidePhase::Killed { .. } => return,
            SidePhase::Active { .. } => None,
            SidePhase::Rest { exit, .. } => Some(exit),
        };
        let phase = SidePhase::Killed { again_at: self.core.now.after(KILL_AGAIN), exit };
        self.note(What::SideMoved { run, kind: side.kind, phase });
        self.kill_tree(run);
    }

    /// The process of a side run exists. One that was to be killed meanwhile is killed now.
    pub(crate) fn side_spawned(&mut self, side: Side) {
        if let SidePhase::Killed { .. } = side.phase {
            self.kill_tree(side.run);
        }
    }

    /// The main process of a side run ended.
    pub(crate) fn side_exited(&mut self, side: Side, exit: Exit, rest: Rest) {
        let phase = match (side.phase, rest) {
            (SidePhase::Active { .. }, Rest::Gone) => return self.side_over(side, Some(exit), None),
            (SidePhase::Killed { .. }, Rest::Gone) => return self.side_over(side, None, None),
            (SidePhase::Active { give_up_at }, Rest::Alive) => SidePhase::Rest { give_up_at, exit },
            (SidePhase::Killed { again_at, exit: None }, Rest::Alive) => {
                SidePhase::Killed { again_at, exit: Some(exit) }
            }
            (SidePhase::Rest { exit: known, .. }, Rest::Gone) => {
                return self.side_over(side, Some(known), None);
            }
            (SidePhase::Rest { .. } | SidePhase::Killed { .. }, Rest::Alive) => {
                return self.note(What::Stale { run: side.run });
            }
        };
        self.note(What::SideMoved { run: side.run, kind: side.kind, phase });
    }

    /// Nothing is left of a side run.
    pub(crate) fn side_emptied(&mut self, side: Side) {
        let exit = match side.phase {
            SidePhase::Active { .. } => Some(Exit::Unknown),
            SidePhase::Rest { exit, .. } => Some(exit),
            SidePhase::Killed { .. } => None,
        };
        self.side_over(side, exit, None);
    }

    /// A side run is over; whoever waited for it goes on.
    pub(crate) fn side_over(&mut self, side: Side, exit: Option<Exit>, error: Option<SpawnError>) {
        let run = side.run;
        self.note(What::SideEnded { run, kind: side.kind, exit, error: error.clone() });
        let Some(record) = self.core.record(run.service) else { return };
        let retired = record.retired;
        let well = exit == Some(Exit::Code(0));
        let asks_to_stop = side.kind == RunKind::Hook(Hook::Stop);
        let state = record.state.clone();
        if side.kind == RunKind::Hook(Hook::Reload) {
            self.answer_reload(run, exit);
        }
        match state {
            // What could not ask does not leave the service unasked. A leftover of an earlier life asks nobody.
            State::Stopping { run: main, phase: StopPhase::Asked { .. }, exit: None, .. }
                if asks_to_stop && !well && main.generation < run.generation =>
            {
                self.ask_by_signal(main);
            }
            State::Starting { run: main, phase: StartPhase::PreStart { hook }, .. } if hook == run => {
                let wanted = self.core.is_wanted(run.service);
                let checks = side.kind == RunKind::Hook(Hook::Check);
                match error {
                    _ if checks && well && wanted => self.over(main, Cause::AlreadyDone, None),
                    _ if checks && wanted && goes_on(exit) => self.go_on_after_check(main),
                    _ if well && wanted => self.spawn_main(main),
                    // It is not wanted any more, and nobody has come to call it off yet.
                    _ if well => self.over(main, self.core.why_down(retired), None),
                    Some(error) if error.shortage => self.over(main, Cause::SpawnFailed(error), None),
                    _ if checks => self.over(main, Cause::HookFailed { hook: Hook::Check, exit }, None),
                    _ => self.over(main, Cause::HookFailed { hook: Hook::PreStart, exit }, None),
                }
            }
            State::Stopping { run: main, why, phase, ready_at, .. } if phase.hook() == Some(run) => {
                if matches!(phase, StopPhase::PreStop { .. }) {
                    self.ask_now(main);
                } else if matches!(phase, StopPhase::Cancel { .. }) {
                    self.over(main, why, None);
                } else {
                    let ended = self.core.record(run.service).and_then(|r| r.last_end.as_ref());
                    let ready_ns = ended.filter(|_| ready_at.is_some()).map_or(0, |end| end.ready_ns);
                    if self.core.has(Bug::TellsEndTwice) {
                        let cause = why.clone();
                        self.note(What::RunEnded { run: main, exit, cause, ready_ns });
                    }
                    self.follow(run.service, why, ready_ns);
                }
            }
            State::Stopped
            | State::Pending { .. }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Restarting { .. }
            | State::Completed
            | State::Failed { .. } => {}
        }
    }
}

/// Whether a check with this end says that there is something to do.
fn goes_on(exit: Option<Exit>) -> bool {
    matches!(exit, Some(Exit::Code(code)) if code != 0 && code != MISSING)
}

/// The exit code of a check that has found something missing.
pub const MISSING: i32 = 2;

impl Supervisor {
    /// The side run of that id.
    pub(crate) fn side(&self, run: RunId) -> Option<Side> {
        self.record(run.service)?.sides.iter().find(|side| side.run == run).copied()
    }
}
