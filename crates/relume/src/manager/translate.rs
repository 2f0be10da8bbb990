//! *Learned* here: every source that wakes the supervise thread becomes events.
//!
//! How a process ended is read before it is reaped, and whether anything of its tree is left is asked while
//! its zombie still holds pid and session, so neither can be another's by then.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use relume_core::{Event, Exit, Rest, RunId};
use relume_os::cgroup::Removal;
use relume_os::epoll::{Interest, Watch};
use relume_os::exit::{self, ExitStatus};
use relume_os::pidfd::{PidFd, ProcessId};
use relume_os::signals::Arrived;

use crate::output_index::Kind;

use super::edge::{CGROUPS, Edge, FIRST_PROCESS, GUARDIAN, INBOX, SIGNALS, TIMER};
use super::inbox::{News, Reloaded};
use super::journal::{Home, Kept};
use super::keeper::{self, Word};
use super::publish::{Level, Note};
use super::reload::{self, Reading};
use super::runs::{Run, Stage};
use super::schedule::Due;
use super::spawn::Started;
use super::trees::Tree;

/// Signal numbers that are the same on every architecture relume runs on (signal(7)).
pub(crate) mod number {
    pub(crate) const HUP: i32 = 1;
    pub(crate) const INT: i32 = 2;
    pub(crate) const QUIT: i32 = 3;
    pub(crate) const USR1: i32 = 10;
    #[cfg(debug_assertions)]
    pub(crate) const USR2: i32 = 12;
    pub(crate) const TERM: i32 = 15;
    pub(crate) const CHLD: i32 = 17;
    pub(crate) const CONT: i32 = 18;
    pub(crate) const KILL: i32 = 9;
}

/// `si_code` of a signal that the kernel itself sent: a SIGHUP with it comes from a lost terminal.
const SI_KERNEL: i32 = 0x80;

impl Edge {
    /// Turns all that is ready into events.
    pub(crate) fn translate(&mut self) {
        for ready in std::mem::take(&mut self.ready) {
            match ready.token {
                SIGNALS => self.read_signals(),
                TIMER => {
                    // Whatever was due, the next step finds it by the clock.
                    let _fired = self.timer.drain();
                    self.armed = None;
                    self.bite();
                    self.events.push_back(Event::Tick);
                }
                INBOX => self.read_inbox(),
                CGROUPS => self.read_cgroup_events(),
                GUARDIAN => self.hear_guardian(),
                token if token >= FIRST_PROCESS && !self.heard(token) => self.process_ended(token),
                _ => {}
            }
        }
    }

    fn read_signals(&mut self) {
        while let Ok(Some(arrived)) = self.signals.read() {
            self.signalled(arrived);
        }
    }

    fn signalled(&mut self, arrived: Arrived) {
        match arrived.signal {
            number::CHLD => self.expect_orphans(),
            number::TERM | number::INT => self.asked_to_end(arrived),
            number::HUP if arrived.code == SI_KERNEL => {
                self.say(Level::Warn, "the terminal is gone: stopping all services".into());
                self.events.push_back(Event::ShutdownAsked { hurry: false, forget: false });
            }
            number::HUP => self.reload(),
            number::USR1 => self.capture.reopen_all(),
            number::QUIT => {
                self.say(
                    Level::Info,
                    "SIGQUIT: leaving; the services run on until the next relume up".into(),
                );
                self.leave_running = true;
                self.keeper.alive(None);
            }
            #[cfg(debug_assertions)]
            number::USR2 => asked_to_die(),
            _ => {}
        }
    }

    pub(crate) fn hear_guardian(&mut self) {
        while let Some(word) = self.keeper.hear() {
            match word {
                Word::Signal { arrived, again } => {
                    self.attention.signals += 1;
                    // Twice is in a hurry, and the first may have waited in the channel while this process began anew.
                    let ends = matches!(arrived.signal, number::TERM | number::INT);
                    if !(again && ends && self.attention.told_to_end) {
                        self.attention.told_to_end |= ends && !again;
                        self.signalled(arrived);
                    }
                }
                Word::Exited(ended) => self.reaped_by_guardian(ended),
                Word::Replaced(why) => self.notice(why),
                // Said once, before there was anything else to say.
                Word::Go { .. } => {}
                Word::Gone => return self.guardian_lost(),
            }
        }
    }

    fn asked_to_end(&mut self, arrived: Arrived) {
        self.end_asked += 1;
        let name = relume_os::signals::name(arrived.signal);
        let hurry = self.end_asked > 1;
        let text = if hurry {
            format!("{name} again: killing what is left")
        } else {
            format!("{name}: stopping all services; once more kills them")
        };
        self.say(Level::Info, text);
        self.events.push_back(Event::ShutdownAsked { hurry, forget: false });
    }

    fn read_inbox(&mut self) {
        let mut news = std::mem::take(&mut self.news);
        self.inbox.take(&mut news);
        for one in news.drain(..) {
            match one {
                News::Spawned { run, started } => self.spawned(run, started),
                News::SpawnFailed { run, error } => {
                    self.spawns_under_way = self.spawns_under_way.saturating_sub(1);
                    self.events.push_back(Event::SpawnFailed { run, error });
                }
                News::Judged { run, done } => {
                    self.spawns_under_way = self.spawns_under_way.saturating_sub(1);
                    let exit = Exit::Code(i32::from(!done));
                    self.events.push_back(Event::Exited { run, exit, rest: Rest::Gone });
                }
                News::Due { name, overlap } => self.due.push(Due { name, overlap }),
                News::Say(text) => self.say(Level::Error, text),
                News::Walked { run, members } => self.walked(run, members),
                News::Refused { run, error } => {
                    self.say(Level::Warn, format!("{}: {error}", self.name_of_run(run)));
                }
                News::MainFound { run, process, pidfd } => self.main_found(run, process, pidfd),
                News::Claimed { run, found } => self.claimed(run, found),
                News::Probed { run, number, what } => self.probed(run, number, what),
                News::LineSeen { run } => self.line_seen(run),
                News::Warned(text) => self.say(Level::Warn, text),
                News::TooMuchMemory { run, used, limit } => {
                    self.events.push_back(Event::TooMuchMemory { run, used, limit });
                }
                News::Noticed { service, text } => self.events.push_back(Event::Noticed { service, text }),
                News::Alert { service, which, told } => {
                    self.dossiers.insert((service, which), told);
                    self.events.push_back(Event::AlertDue { service, which });
                }
                News::Asked { ticket, command, noted } => {
                    self.asked.push(noted);
                    self.events.push_back(Event::Commanded { ticket, command });
                }
                News::DownAsked(answer) => {
                    self.say(Level::Info, "asked to stop everything and leave".into());
                    self.asked.push(answer);
                    self.events.push_back(Event::ShutdownAsked { hurry: false, forget: true });
                }
                News::Weigh(asked) => self.to_weigh.push(asked),
                News::RespawnAsked(answer) => self.respawn.asked(answer),
                News::Tried(proved) => self.tried(proved),
                News::CameUpBeside { number, came } => self.came_up_beside(number, came),
                News::DoorClosed => self.respawn.closed(),
                News::Reloaded(reloaded) => self.reloaded(*reloaded),
            }
        }
        self.news = news;
    }

    /// Asked for while it is under way, it is done once more afterwards, however often it was asked for.
    fn reload(&mut self) {
        match self.reading {
            Reading::Idle => {
                self.reading = Reading::UnderWay;
                reload::begin(&self.source, &self.inbox);
            }
            Reading::UnderWay | Reading::Again => self.reading = Reading::Again,
        }
    }

    fn reloaded(&mut self, reloaded: Reloaded) {
        match reloaded {
            Reloaded::Valid(units) => self.take_over(units),
            Reloaded::Invalid(text) => self.say(Level::Error, text),
        }
        if std::mem::take(&mut self.reading) == Reading::Again {
            self.reload();
        }
    }

    fn spawned(&mut self, id: RunId, started: Started) {
        let Started { process, pidfd, cgroup, tag, streams, pipes, kind, unit, ears } = started;
        let began = Self::now();
        let kept = Box::new(Kept {
            name: unit.config.spec.name.clone(),
            kind,
            pid: process.pid,
            start_time: process.start_time,
            // Of a run in a cgroup it is asked for only when that cannot be asked any more.
            tag: if cgroup.is_some() { Box::default() } else { tag.as_str().into() },
            pipes,
            began: began.0,
            ears: ears.as_ref().map(|ears| Box::new(ears.kept())),
            home: cgroup
                .as_ref()
                .map_or(Home::Open, |cgroup| Home::Cgroup(std::sync::Arc::clone(cgroup.path()))),
        });
        self.note_began(id, kept);
        self.spawns_under_way = self.spawns_under_way.saturating_sub(1);
        self.publisher.send(Note::Process { run: id, pid: process.pid, began, cgroup: cgroup.clone() });
        let tree = cgroup.map_or(Tree::Marked { leader: process, tag }, Tree::Cgroup);
        self.watch_process(id, None, &pidfd);
        let stage = Stage::Main { process, pidfd };
        self.runs.insert(id, Box::new(Run::new(tree, streams, unit, stage)));
        self.events.push_back(Event::Spawned { run: id });
        if let Some(ears) = ears {
            self.listen(id, ears);
        }
        if self.spawns_under_way == 0 {
            self.ready_runs.forget_early_lines();
        }
    }

    /// Waits for the end of a process. Where the kernel has no memory for that the end would go unnoticed:
    /// said loudly, and noticed by the reaping of orphans.
    pub(crate) fn watch_process(&mut self, run: RunId, member: Option<u32>, pidfd: &PidFd) {
        let token = self.next_token;
        self.next_token += 1;
        match self.epoll.add(pidfd, token, Interest::READ) {
            Ok(()) => {
                self.watched.insert(token, (run, member));
            }
            Err(error) => self.say(Level::Error, format!("run {run} is not watched: {error}")),
        }
    }

    fn process_ended(&mut self, token: u64) {
        let Some((run, member)) = self.watched.remove(&token) else { return };
        match member {
            None => {
                // Most of those that end by themselves are started again.
                if self.runs.get(&run).is_some_and(|run| !run.asked && !run.killed) {
                    self.spawning.rouse();
                }
                self.main_ended(run);
            }
            Some(pid) => self.member_ended(run, pid),
        }
    }

    /// The main process of a run has ended, or may have.
    ///
    /// That it has is told by its own descriptor and by nothing else: a daemon that was moved out of its cgroup leaves that
    /// empty and lives, and to take that for an end would start another beside it.
    pub(super) fn main_ended(&mut self, id: RunId) {
        let Some((_, pidfd)) = self.runs.get(&id).and_then(|run| run.main()) else { return };
        if matches!(pidfd.has_ended(), Ok(false)) || self.holds_end(id) {
            return;
        }
        let Some((process, pidfd)) = self.runs.get(&id).and_then(|run| run.main()) else { return };
        // The descriptor stays ready for ever once its process is dead; a copy may be open elsewhere.
        let _gone = self.epoll.delete(pidfd);
        let (exit, usage) = match exit::peek_with_usage(pidfd, process.pid) {
            Ok(Some((status, usage))) => (to_exit(status), usage),
            // It has ended; how, the kernel does not say.
            Ok(None) | Err(_) => (Exit::Unknown, None),
        };
        // Not our child: whoever has reaped it tells.
        let Some((exit, usage)) = self.exit_as_told(id, process, (exit, usage)) else { return };
        let exit = self.for_want_of_memory(id, exit);
        if let Some(usage) = usage {
            self.aftermath.used.push((id, usage));
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        let rest = Stage::Rest { members: BTreeMap::new() };
        let Stage::Main { process, pidfd } = std::mem::replace(&mut run.stage, rest) else { return };
        match &run.tree {
            Tree::Cgroup(_) => {
                let alive = self.rest_is_alive(id);
                let _reaped = exit::reap(&pidfd);
                self.exited(id, exit, alive);
            }
            tree @ Tree::Marked { .. } => {
                self.trees.walk(id, tree);
                run.stage = Stage::Walking { exit, process, pidfd };
            }
        }
    }

    /// Whether a cgroup has living processes. If so it is watched from now on, and only then: a service that
    /// leaves nothing behind costs no watch.
    pub(crate) fn rest_is_alive(&mut self, id: RunId) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let Tree::Cgroup(cgroup) = &run.tree else { return false };
        // Of one that is about to be started again the removal would keep the next one waiting.
        if run.asked && matches!(cgroup.remove_if_bare(), Ok(Removal::Removed)) {
            run.cleared = true;
            return false;
        }
        let populated = || cgroup.populated().unwrap_or(false);
        if !populated() {
            return false;
        }
        match self.cgroup_events.add_watch(&cgroup.events_path(), Watch::MODIFIED) {
            Ok(watch) => {
                // What happened between the question and the watch.
                if !populated() {
                    let _unused = self.cgroup_events.remove_watch(watch);
                    return false;
                }
                self.emptying.insert(watch.number(), id);
            }
            Err(error) => {
                // It is killed in time all the same; only the news that it is empty needs another way.
                self.trees.walk(id, &Tree::Cgroup(cgroup.clone()));
                self.say(Level::Warn, format!("what run {id} left is not watched: {error}"));
            }
        }
        true
    }

    fn exited(&mut self, run: RunId, exit: Exit, alive: bool) {
        self.hear_last_words(run);
        let rest = if alive { Rest::Alive } else { Rest::Gone };
        let streams = self.runs.get(&run).into_iter().flat_map(|run| &run.streams);
        // At once: in the index of the log the end stands before the next beginning.
        streams.for_each(|stream| self.capture.mark(*stream, to_mark(exit)));
        self.events.push_back(Event::Exited { run, exit, rest });
        if !alive {
            self.close(run);
        }
    }

    fn read_cgroup_events(&mut self) {
        let mut changed = Vec::new();
        // On an overflow of the queue the events are lost: then all are looked at.
        let mut overflow = self
            .cgroup_events
            .drain(|change| match change.watch {
                Some(watch) => changed.push(watch.number()),
                None => changed.push(-1),
            })
            .is_err();
        overflow |= changed.contains(&-1);
        if overflow {
            changed = self.emptying.keys().copied().collect();
        }
        for watch in changed {
            let Some(id) = self.emptying.get(&watch).copied() else { continue };
            let Some(Run { tree: Tree::Cgroup(cgroup), stage, .. }) = self.runs.get(&id).map(|run| &**run)
            else {
                self.emptying.remove(&watch);
                continue;
            };
            if cgroup.populated().unwrap_or(false) {
                continue;
            }
            self.emptying.remove(&watch);
            if matches!(stage, Stage::Main { .. }) {
                // Where the main process that was found is a zombie by now, its own end is told first.
                self.main_ended(id);
            } else {
                self.emptied(id);
            }
        }
    }

    fn emptied(&mut self, run: RunId) {
        self.events.push_back(Event::Emptied { run });
        self.close(run);
    }

    /// The walk has told who is left of a run's tree.
    fn walked(&mut self, id: RunId, members: Vec<(ProcessId, PidFd)>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let known = match &mut run.stage {
            Stage::Rest { members } => members,
            Stage::Walking { exit, pidfd, .. } => {
                let exit = *exit;
                let _reaped = exit::reap(pidfd);
                let alive = !members.is_empty();
                run.stage = Stage::Rest { members: BTreeMap::new() };
                self.watch_members(id, members);
                self.exited(id, exit, alive);
                return;
            }
            Stage::Main { .. } => return,
        };
        if members.is_empty() && known.is_empty() {
            self.emptied(id);
        } else {
            self.watch_members(id, members);
        }
    }

    fn watch_members(&mut self, id: RunId, found: Vec<(ProcessId, PidFd)>) {
        for (process, pidfd) in found {
            let Some(Stage::Rest { members }) = self.runs.get(&id).map(|run| &run.stage) else { return };
            if members.contains_key(&process.pid) {
                continue;
            }
            self.watch_process(id, Some(process.pid), &pidfd);
            if let Some(Stage::Rest { members }) = self.runs.get_mut(&id).map(|run| &mut run.stage) {
                members.insert(process.pid, pidfd);
            }
        }
    }

    fn member_ended(&mut self, id: RunId, pid: u32) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if let Stage::Rest { members } = &mut run.stage
            && let Some(pidfd) = members.remove(&pid)
        {
            let _gone = self.epoll.delete(&pidfd);
            let _reaped = exit::reap(&pidfd);
            if members.is_empty() {
                // One that was forked meanwhile is found by another walk.
                self.trees.walk(id, &run.tree);
            }
        }
    }

    fn main_found(&mut self, id: RunId, process: ProcessId, pidfd: PidFd) {
        if !matches!(self.runs.get(&id).map(|run| &**run), Some(Run { stage: Stage::Rest { .. }, .. })) {
            return;
        }
        self.watch_process(id, None, &pidfd);
        if let Some(run) = self.runs.get_mut(&id) {
            run.stage = Stage::Main { process, pidfd };
        }
        self.note_main(id, process);
        self.events.push_back(Event::MainFound { run: id });
    }

    /// A run's main process is another one from now on: shown, and noted for a successor.
    pub(super) fn note_main(&mut self, id: RunId, process: ProcessId) {
        let began = Self::now();
        let cgroup = self.runs.get(&id).and_then(|run| run.tree.cgroup());
        self.publisher.send(Note::Process { run: id, pid: process.pid, began, cgroup });
        if let Some(kept) = self.kept.get(&id).cloned() {
            let (pid, start_time) = (process.pid, process.start_time);
            self.note_began(id, Box::new(Kept { pid, start_time, began: began.0, ..*kept }));
        }
        let name = self.kept.get(&id).map(|kept| keeper::process_name(&kept.name, id.generation));
        if let (Some(name), Some((_, pidfd))) = (name, self.runs.get(&id).and_then(|run| run.main())) {
            self.keeper.keep(&name, &[pidfd.as_fd()]);
        }
    }

    /// Nothing of the run is left: its output is drained, its cgroup removed.
    fn close(&mut self, id: RunId) {
        let Some(run) = self.runs.remove(&id) else { return };
        self.note_gone(id);
        run.cancelled.iter().for_each(|cancelled| cancelled.store(true, Ordering::Relaxed));
        self.stop_listening(id);
        run.streams.iter().for_each(|stream| self.capture.finish_soon(*stream));
        self.aftermath.capture = true;
        if let (Tree::Cgroup(cgroup), false) = (run.tree, run.cleared) {
            self.aftermath.emptied.push(cgroup);
        }
    }

    /// Output of lives that go on under a new configuration goes where that says.
    pub(crate) fn retarget(&self) {
        for run in self.runs.values() {
            let Some(unit) = self.units.get(&run.unit.config.spec.name) else { continue };
            let targets = [Some(&unit.out), unit.err.as_ref()];
            for (stream, target) in run.streams.iter().zip(targets.into_iter().flatten()) {
                self.capture.retarget(*stream, std::sync::Arc::clone(target));
            }
        }
    }

    pub(crate) fn say(&self, level: Level, text: String) {
        self.publisher.send(Note::Say { level, text });
    }
}

/// For tests: at the act of which number, or, where no file says so, by a panic at once.
#[cfg(debug_assertions)]
fn asked_to_die() {
    let acts = std::env::var_os("RELUME_DIE_AT").and_then(|file| std::fs::read_to_string(file).ok());
    match acts.and_then(|text| text.trim().parse().ok()) {
        Some(acts) => relume_os::tally::arm(acts),
        None => panic!("SIGUSR2: asked for in a debug build"),
    }
}

/// An end as the index of the log says it.
pub(crate) fn to_mark(exit: Exit) -> Kind {
    match exit {
        Exit::Code(code) => Kind::Exited(u32::from_ne_bytes(code.to_ne_bytes())),
        Exit::Signal { number, .. } => Kind::Killed(number.unsigned_abs()),
        Exit::OutOfMemory { .. } => Kind::Killed(number::KILL.unsigned_abs()),
        Exit::Unknown => Kind::Ended,
    }
}

/// The kernel's word for an end in the core's.
pub(crate) fn to_exit(status: ExitStatus) -> Exit {
    match status {
        ExitStatus::Code(code) => Exit::Code(code),
        ExitStatus::Signal { number, core_dumped } => Exit::Signal { number, core_dumped },
        ExitStatus::Unknown => Exit::Unknown,
    }
}
