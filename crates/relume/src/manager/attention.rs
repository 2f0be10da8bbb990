//! Guardian and manager watch each other.
//!
//! The supervise thread says from its own loop that it lives, so a loop that hangs is silent; the guardian replaces it then. The
//! guardian's answer is that it reads: what was said and is still unread tells, without waking anybody, that nobody is there.
//! Such a guardian is killed, and this process takes its part ([`super::promotion`]).
//!
//! Whoever comes late himself judges nobody (a stopped machine, a stopped pair).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use relume_core::{Event, Exit, Moment, RunId};
use relume_os::exit::Usage;
use relume_os::pidfd::ProcessId;

use super::edge::Edge;
use super::publish::{Level, Note};
use super::reload::Reading;
use super::safe_mode;
use super::translate::to_exit;
use crate::guardian::CONFIG;
use crate::guardian::link::Ended;

/// Ends that the guardian has told of and that may still be asked for: more than can be on their way at once.
const REAPED_KEPT: usize = 4096;

/// How often it is looked whether the guardian has read what it had not read before, and whether there is room for what is late.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How long the guardian may take to tell of an end: it does so at once, on a machine that lets it.
const TELLING: Duration = Duration::from_millis(500);

/// The same where only what the process has used is not known: a start may wait for it.
const TELLING_USAGE: Duration = Duration::from_millis(20);

/// The shortest period that is kept: below it a busy machine looks like a hang.
const LEAST: Duration = Duration::from_secs(1);

/// What is remembered of the guardian.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    /// When to say next that we live; none: at once.
    next: Option<Moment>,
    /// When that was said last.
    said: Option<Moment>,
    /// The period that was said last.
    period: Option<Duration>,
    /// The last end that was acknowledged.
    acknowledged: u64,
    /// Signals that the guardian has told, and does not know to be dealt with.
    pub(super) signals: usize,
    /// It has told this manager to end, for the first time.
    pub(super) told_to_end: bool,
    /// Runs of whose main process the guardian knows more: until when it may tell.
    untold: BTreeMap<RunId, Moment>,
    /// The same by their processes.
    awaited: HashMap<ProcessId, RunId>,
    /// Those of which it has told since the last look.
    told: Vec<RunId>,
    /// When ends are acknowledged next: each time all runs are looked at.
    acknowledge_at: Option<Moment>,
    /// The journal was made a checkpoint because it was long.
    shortened: bool,
    /// Since when there has been no guardian.
    pub(super) lost: Option<Moment>,
    /// It was silent for so long, and was killed for it.
    pub(super) struck: Option<Duration>,
    /// This manager runs the last good configuration, and no other was taken over since.
    pub(super) safe_mode: bool,
    /// When to try next to take its part.
    pub(super) promote_at: Option<Moment>,
}

impl Attention {
    /// The period that the guardian was told; none: nobody is watched.
    pub(super) fn period(&self) -> Option<Duration> {
        self.period
    }
}

impl Edge {
    /// Does what is due between guardian and manager, and says when it is due again. All events have been stepped
    /// and noted.
    pub(super) fn attend(&mut self) -> Option<Moment> {
        if self.attention.lost.is_some() {
            return self.promote();
        }
        let ends = self.settle_ends();
        if !self.events.is_empty() {
            // They are not waited with.
            return Some(Self::now());
        }
        let now = Self::now();
        let acks = self.acknowledge(now);
        let late = (!self.keeper.catch_up()).then(|| now.after(LOOK_AGAIN));
        if let Some(text) = self.keeper.trouble() {
            self.say(Level::Warn, text);
        }
        let (beat, sayings) = (self.beat(now), self.note_sayings(now));
        [late, beat, ends, sayings, acks].into_iter().flatten().min()
    }

    /// To be called once, before the first wait.
    pub(super) fn begin_attention(&mut self) {
        self.attention.next = Some(Self::now());
        self.reaped.extend(self.keeper.ended());
        self.keep_config();
        // What it has said while it handed over is no news to epoll.
        self.hear_guardian();
        if let Some(why) = safe_mode::reason() {
            self.begin_safe_mode(&why);
        }
    }

    /// The guardian keeps the present configuration.
    pub(super) fn keep_config(&self) {
        if let Some(written) = &self.units.written {
            self.keeper.keep(CONFIG, &written.fds());
        }
    }

    fn begin_safe_mode(&mut self, why: &str) {
        self.publisher.send(Note::SafeMode);
        self.attention.safe_mode = true;
        let text = format!(
            "safe mode, with the last good configuration: {why}; the config files are tried again by themselves"
        );
        self.notice(text);
        if let Err(error) = safe_mode::heal(&self.source, &self.inbox) {
            self.say(Level::Error, format!("nobody looks for a usable config: {error}; say: relume apply"));
        }
    }

    /// Says that we live, and looks whether anybody has heard it.
    fn beat(&mut self, now: Moment) -> Option<Moment> {
        let Some(period) = self.units.manager.watchdog else {
            if self.attention.period.take().is_some() {
                self.keeper.alive(None);
            }
            return None;
        };
        let period = period.max(LEAST);
        let due = self.attention.next.unwrap_or(now);
        if now < due && self.attention.period == Some(period) {
            return Some(due);
        }
        let unheard = self.attention.period.is_some() && self.keeper.is_unheard();
        let next = match self.attention.said.filter(|_| unheard) {
            Some(said) if now.since(due) <= period / 4 => {
                if now.since(said) >= period {
                    self.replace_guardian(period);
                }
                now.after(LOOK_AGAIN)
            }
            _ => {
                self.look_for_kills();
                self.shorten_journal();
                self.keeper.alive(Some(period));
                (self.attention.said, self.attention.period) = (Some(now), Some(period));
                now.after(interval(period))
            }
        };
        self.attention.next = Some(next);
        Some(next)
    }

    /// What a start has noted is made a checkpoint, once: each further one would write over history that a disk in trouble may not
    /// have taken yet, and the next manager begins with one anyway.
    fn shorten_journal(&mut self) {
        if !self.attention.shortened && self.untold.is_none() && self.journal.is_long() {
            self.attention.shortened = true;
            self.checkpoint_due = true;
        }
    }

    /// Why this manager is in safe mode; none: it is not, or not any more.
    pub(super) fn safe_mode(&self) -> Option<String> {
        safe_mode::reason().filter(|_| self.attention.safe_mode)
    }

    /// Another configuration holds: the end of safe mode, where there was one.
    pub(super) fn end_safe_mode(&mut self) {
        if std::mem::take(&mut self.attention.safe_mode) {
            self.notice("safe mode is over: the config files are in force again".into());
        }
    }

    /// Something about relume itself that people should know, also later.
    pub(super) fn notice(&mut self, text: String) {
        self.events.push_back(Event::Noticed { service: None, text });
    }

    fn replace_guardian(&mut self, period: Duration) {
        self.say(Level::Error, format!("the guardian has not answered for {period:?}: replacing it"));
        if let Err(error) = self.keeper.kill_guardian() {
            self.say(Level::Error, format!("the guardian cannot be killed: {error}"));
        }
        self.attention.struck = Some(period);
        // Once is enough, and a guardian that does not even die of it is not waited for at full speed.
        self.attention.said = Some(Self::now());
    }

    /// There is no guardian any more.
    pub(super) fn guardian_lost(&mut self) {
        let _gone = self.epoll.delete(&*self.keeper);
        self.publisher.send(Note::GuardianGone);
        let text = "the guardian is gone: this process takes its part and starts a new manager";
        self.say(Level::Warn, text.into());
        self.attention.lost = Some(Self::now());
    }

    /// A process that was handed to the guardian has ended.
    pub(super) fn reaped_by_guardian(&mut self, ended: Ended) {
        if self.reaped.len() == REAPED_KEPT {
            self.reaped.pop_front();
        }
        self.attention.told.extend(self.attention.awaited.remove(&ended.process));
        self.reaped.push_back(ended);
    }

    /// How a run's main process has ended, where the guardian knows more: it has reaped the process a moment ago. None: it is
    /// about to tell, and is waited for. Beside it what the process has used, which the kernel says to nobody else.
    pub(super) fn exit_as_told(
        &mut self,
        run: RunId,
        process: ProcessId,
        (exit, usage): (Exit, Option<Usage>),
    ) -> Option<(Exit, Option<Usage>)> {
        let told = self.reaped.iter().find(|ended| ended.process == process).copied();
        let exit = match (exit, told) {
            (Exit::Unknown, Some(ended)) => to_exit(ended.status),
            _ => exit,
        };
        let usage = usage.or(told.map(|ended| ended.usage));
        if usage.is_none() && self.attention.lost.is_none() {
            let patience = if exit == Exit::Unknown { TELLING } else { TELLING_USAGE };
            let now = Self::now();
            let until = *self.attention.untold.entry(run).or_insert(now.after(patience));
            if now < until {
                self.attention.awaited.insert(process, run);
                return None;
            }
        }
        self.attention.untold.remove(&run);
        self.attention.awaited.remove(&process);
        Some((exit, usage))
    }

    /// Ends that were waited for and are told by now, or never; says until when the others are waited for.
    fn settle_ends(&mut self) -> Option<Moment> {
        let (now, attention) = (Self::now(), &mut self.attention);
        // To ask of each at each turn would take a second where a thousand end at once.
        let mut runs = std::mem::take(&mut attention.told);
        if attention.untold.values().any(|until| *until <= now) {
            runs.extend(attention.untold.iter().filter(|(_, until)| **until <= now).map(|(run, _)| *run));
        }
        for run in runs {
            self.main_ended(run);
            if self.runs.get(&run).and_then(|run| run.main()).is_none() {
                self.attention.untold.remove(&run);
            }
        }
        self.attention.untold.values().min().copied()
    }

    /// Tells the guardian which signals it need not tell again: those of which all that follows is noted.
    pub(super) fn acknowledge_signals(&mut self) {
        // A config that is being read is put in force later.
        if self.attention.signals > 0 && self.reading == Reading::Idle {
            self.keeper.signals_heard(std::mem::take(&mut self.attention.signals));
        }
    }

    /// Tells the guardian which ends it need not tell again: those of which the journal knows, and those that are no run's. When to do
    /// so, if there are some and it is too early.
    fn acknowledge(&mut self, now: Moment) -> Option<Moment> {
        self.acknowledge_signals();
        let last = self.reaped.back().map_or(0, |ended| ended.number);
        if last <= self.attention.acknowledged {
            return None;
        }
        let at = *self.attention.acknowledge_at.get_or_insert(now.after(LOOK_AGAIN));
        if now < at {
            return Some(at);
        }
        self.attention.acknowledge_at = None;
        let open: HashSet<u32> = self.runs.values().filter_map(|run| run.own_child()).collect();
        let waits = self
            .reaped
            .iter()
            .find(|ended| ended.number > self.attention.acknowledged && open.contains(&ended.process.pid));
        let upto = waits.map_or(last, |ended| ended.number - 1);
        if upto > self.attention.acknowledged {
            self.attention.acknowledged = upto;
            self.keeper.acknowledge(upto);
        }
        None
    }
}

/// Between two words. With the default period of 10 s that is one wake-up in 6 s.
fn interval(period: Duration) -> Duration {
    period * 3 / 5
}
