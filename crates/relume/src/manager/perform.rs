//! *Done* here: every action of the core becomes system calls, or an order to another thread.
//!
//! Nothing here fails: what goes wrong shows as an event, or as an exit that does not come and a SIGKILL that
//! the core sends in its place.

use std::sync::Arc;

use relume_core::{Action, Reach, RunId, RunKind, Signal, SpawnError, Supervisor};

use super::edge::Edge;
use super::publish::{Level, Note};
use super::spawn::Order;
use super::translate::number;
use super::trees::Tree;

impl Edge {
    /// Carries out one action; the exit code, when it is time to leave.
    pub(crate) fn perform(&mut self, core: &Supervisor, action: Action) -> Option<i32> {
        match action {
            Action::Spawn { run, kind } => self.spawn(core, run, kind),
            Action::Signal { run, signal: Signal::Stop(signal), to } => {
                if let Some(run) = self.runs.get_mut(&run) {
                    run.asked = true;
                }
                self.signal(core, run, signal, to);
                self.wake(run);
            }
            Action::Signal { run, signal: Signal::Asked(signal), to } => self.signal(core, run, signal, to),
            Action::Signal { run, signal: Signal::Kill, to: Reach::Main } => {
                self.signal(core, run, number::KILL, Reach::Main);
            }
            Action::Signal { run, signal: Signal::Kill, to: Reach::Tree } => {
                self.kill(run);
            }
            Action::FindMain { run } => self.find_main(core, run),
            Action::Reply { ticket, service, outcome } => {
                let outcome = self.note_answer(ticket, service, outcome);
                self.publisher.send(Note::Reply { ticket, service, outcome });
            }
            Action::Leave { code } => {
                // The loop ends here, and the last output may take longer than a watchdog's patience.
                self.keeper.alive(None);
                return Some(code);
            }
        }
        None
    }

    /// Whom a hook is about: what stops or reloads a service has to know its process.
    fn main_pid_for(&self, core: &Supervisor, run: RunId, kind: RunKind) -> Option<u32> {
        let (RunKind::Hook(_) | RunKind::Probe(_)) = kind else { return None };
        let main = core.record(run.service)?.state.run()?;
        self.runs.get(&main)?.main().map(|(process, _)| process.pid)
    }

    fn spawn(&mut self, core: &Supervisor, run: RunId, kind: RunKind) {
        let unit = core.record(run.service).and_then(|record| self.units.get(&record.name)).cloned();
        match unit {
            Some(unit) => {
                self.spawns_under_way += 1;
                let main_pid = self.main_pid_for(core, run, kind);
                let told = match kind {
                    RunKind::Alert(which) => self.dossiers.remove(&(run.service, which)).unwrap_or_default(),
                    RunKind::Service | RunKind::Job | RunKind::Hook(_) | RunKind::Probe(_) => Vec::new(),
                };
                self.spawning.order(Order { run, kind, unit, main_pid, told, credentials: None });
            }
            None => {
                // The core's services and ours come from one configuration; a hook of a service that has just
                // left it is the one exception.
                let error = SpawnError { text: "it is no longer configured".into(), shortage: false };
                self.events.push_back(relume_core::Event::SpawnFailed { run, error });
            }
        }
    }

    fn signal(&mut self, core: &Supervisor, id: RunId, signal: i32, to: Reach) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.killed |= signal == number::KILL;
        match (to, run.main()) {
            (Reach::Main, Some((_, pidfd))) => {
                if let Err(error) = pidfd.send_signal(signal) {
                    self.say(Level::Warn, format!("{}: {error}", name_of(core, id)));
                }
            }
            // Its end is on its way to the core.
            (Reach::Main, None) => {}
            (Reach::Tree, _) => match &run.tree {
                Tree::Cgroup(cgroup) => {
                    if let Err(error) = cgroup.signal_all(signal) {
                        self.say(Level::Warn, format!("{}: {error}", name_of(core, id)));
                    }
                }
                tree @ Tree::Marked { .. } => self.trees.signal(id, tree, signal),
            },
        }
    }

    /// A stopped process (SIGSTOP, SIGTSTP) acts on no signal to end until it goes on.
    fn wake(&self, id: RunId) {
        if let Some((_, pidfd)) = self.runs.get(&id).and_then(|run| run.main()) {
            // Gone already is as well.
            let _gone = pidfd.send_signal(number::CONT);
        }
    }

    /// SIGKILL, until nothing is left of the tree.
    fn kill(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.killed = true;
        if let Some((_, pidfd)) = run.main() {
            // At once and for certain, whatever the tree's way of dying.
            let _gone = pidfd.send_signal(number::KILL);
        }
        match &run.tree {
            Tree::Cgroup(cgroup) => {
                if cgroup.kill().is_err() {
                    // Before Linux 5.14 there is no cgroup.kill.
                    self.trees.kill(id, &run.tree);
                }
            }
            tree @ Tree::Marked { .. } => self.trees.kill(id, tree),
        }
    }

    fn find_main(&mut self, core: &Supervisor, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let unit = core.record(id.service).and_then(|record| self.units.get(&record.name));
        let pid_file =
            unit.and_then(|unit| unit.config.pid_file.as_deref().map(std::path::Path::to_path_buf));
        let cancelled = Arc::clone(run.cancelled.get_or_insert_default());
        if let Err(error) = self.trees.find_main(id, run.tree.clone(), pid_file, cancelled) {
            // timeout_start ends the wait.
            self.say(
                Level::Warn,
                format!("{}: cannot look for its main process: {error}", name_of(core, id)),
            );
        }
    }
}

fn name_of(core: &Supervisor, run: RunId) -> &str {
    core.record(run.service).map_or("a service that is gone", |record| &record.name)
}
