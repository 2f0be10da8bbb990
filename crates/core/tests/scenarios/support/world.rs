//! The world itself: the supervisor, the clock, and what is checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use relume_core::{
    Action, Config, Event, Fact, ManagerPolicy, Moment, Outbox, Outcome, Remembered, RunId, RunKind,
    ServiceId, Snapshot, Supervisor, Survivor, Ticket, What, invariants,
};

use super::kinds::{addressed, kind};

/// One service seen through one step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reached {
    pub(crate) state: &'static str,
    pub(crate) event: String,
    /// The kind of state it was in afterwards; none: forgotten.
    pub(crate) becomes: Option<&'static str>,
    pub(crate) actions: Vec<String>,
    /// The event was told as stale.
    pub(crate) stale: bool,
}

/// A supervisor and all that it said.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) core: Supervisor,
    pub(crate) now: Moment,
    pub(crate) config: Config,
    /// Every fact folded into an empty memory.
    folded: Snapshot,
    pub(crate) facts: Vec<Fact>,
    /// All actions, as they came.
    pub(crate) acted: Vec<Action>,
    /// Actions in words that no expectation has looked at yet; answers apart.
    pub(super) unread: Vec<String>,
    pub(super) answers: BTreeMap<(Ticket, ServiceId), Outcome>,
    pub(super) next_ticket: u64,
    ended: BTreeSet<RunId>,
    spawned: BTreeSet<RunId>,
    pub(super) run_kinds: BTreeMap<RunId, RunKind>,
    names: BTreeMap<ServiceId, String>,
    left: bool,
    reached: Vec<Reached>,
}

impl World {
    pub(crate) fn new() -> Self {
        // Some way into a boot, so that a moment of zero would show.
        let now = Moment(1_000_000_000_000);
        Self {
            core: Supervisor::new(7, now),
            now,
            config: Config { manager: ManagerPolicy::default(), autostart: true, services: Vec::new() },
            folded: Snapshot::default(),
            facts: Vec::new(),
            acted: Vec::new(),
            unread: Vec::new(),
            answers: BTreeMap::new(),
            next_ticket: 1,
            ended: BTreeSet::new(),
            spawned: BTreeSet::new(),
            run_kinds: BTreeMap::new(),
            names: BTreeMap::new(),
            left: false,
            reached: Vec::new(),
        }
    }

    /// Hands the supervisor one event, and checks everything that can be checked afterwards.
    #[track_caller]
    pub(crate) fn tell(&mut self, event: Event) {
        let seen = addressed(&self.core, &event, self.now);
        let before: Vec<(ServiceId, &'static str)> = self.kinds();
        let mut out = Outbox::default();
        self.core.step(self.now, event, &mut out);
        self.note_reached(&seen, &before, &out);
        self.take(out);
    }

    fn kinds(&self) -> Vec<(ServiceId, &'static str)> {
        self.core.ids().filter_map(|id| Some((id, kind(&self.core.record(id)?.state)))).collect()
    }

    fn note_reached(
        &mut self,
        seen: &[(ServiceId, String)],
        before: &[(ServiceId, &'static str)],
        out: &Outbox,
    ) {
        for fact in &out.facts {
            if let What::RunBegan { run, kind, .. } = &fact.what {
                self.run_kinds.insert(*run, *kind);
            }
        }
        for (id, state) in before {
            let becomes = self.core.record(*id).map(|record| kind(&record.state));
            let event = match seen.iter().find(|(other, _)| other == id) {
                Some((_, event)) => event.clone(),
                None if becomes != Some(state) => "a step of another service".into(),
                None => continue,
            };
            let own = |action: &&Action| match action {
                Action::Spawn { run, .. } | Action::Signal { run, .. } | Action::FindMain { run } => {
                    run.service == *id
                }
                Action::Reply { service, .. } => service == id,
                Action::Leave { .. } => false,
            };
            let actions = out.actions.iter().filter(own).map(|action| self.say_bare(action)).collect();
            let stale = out.facts.iter().any(|f| matches!(f.what, What::Stale { run } if run.service == *id));
            self.reached.push(Reached { state, event, becomes, actions, stale });
        }
    }

    #[track_caller]
    fn take(&mut self, out: Outbox) {
        self.take_facts(out.facts);
        for action in &out.actions {
            if let Action::Signal { run, .. } | Action::FindMain { run } = action {
                assert!(!self.ended.contains(run), "{}, which is over", self.say(action));
            }
        }
        self.take_actions(out.actions);
        self.check();
    }

    #[track_caller]
    fn take_facts(&mut self, facts: Vec<Fact>) {
        for fact in facts {
            assert_eq!(fact.seq, self.folded.seq + 1, "facts count up without a gap");
            match &fact.what {
                What::Added { service, name } => {
                    self.names.insert(*service, name.to_string());
                }
                What::RunEnded { run, .. } | What::SideEnded { run, .. } => {
                    assert!(self.ended.insert(*run), "the end of {run} was told twice");
                }
                What::Retired { .. }
                | What::Removed { .. }
                | What::IntentSet { .. }
                | What::ReplaceSet { .. }
                | What::Moved { .. }
                | What::RunBegan { .. }
                | What::HistorySet { .. }
                | What::Probed { .. }
                | What::SideMoved { .. }
                | What::ConfigApplied { .. }
                | What::ConfigRefused { .. }
                | What::ShutdownBegan { .. }
                | What::Returned { .. }
                | What::Noticed { .. }
                | What::StillAlive { .. }
                | What::LooksForking { .. }
                | What::Stale { .. }
                | What::Adopted { .. } => {}
            }
            self.folded.fold(&fact);
            self.facts.push(fact);
        }
    }

    #[track_caller]
    fn take_actions(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.check_action(&action);
            if let Action::Reply { ticket, service, outcome } = &action {
                let before = self.answers.insert((*ticket, *service), outcome.clone());
                assert_eq!(before, None, "{ticket:?} was answered twice for {}", self.name_of(*service));
            } else {
                self.unread.push(self.say(&action));
            }
            self.acted.push(action);
        }
    }

    #[track_caller]
    fn check(&self) {
        assert_eq!(&self.folded, self.core.snapshot(), "folding the facts gives the snapshot");
        if let Err(broken) = invariants::check(&self.core) {
            panic!("{broken}");
        }
        if let Some(deadline) = self.core.next_deadline() {
            assert!(deadline.at > self.now, "{deadline:?} was due in the step that has just ended");
        }
    }

    #[track_caller]
    fn check_action(&mut self, action: &Action) {
        match action {
            Action::Spawn { run, kind } => {
                assert!(self.spawned.insert(*run), "{} was asked for twice", self.say(action));
                let main = matches!(kind, RunKind::Service | RunKind::Job);
                // `exit_when` may begin the shutdown in the very step of a start, after it.
                let began = matches!(self.facts.last().map(|f| &f.what), Some(What::Moved { .. }))
                    && self.core.snapshot().shutdown.is_some();
                let fine = !main || began || self.core.is_wanted(run.service);
                assert!(fine, "{} is not wanted", self.say(action));
            }
            Action::Leave { .. } => {
                assert!(!self.left, "it left twice");
                let busy = |id: &ServiceId| self.core.record(*id).is_some_and(|record| record.is_busy());
                assert_eq!(self.core.ids().find(busy), None, "it left while something ran");
                self.left = true;
            }
            Action::Signal { .. } | Action::FindMain { .. } | Action::Reply { .. } => {}
        }
    }

    /// Lets time pass, stopping at each deadline on the way.
    #[track_caller]
    pub(crate) fn wait(&mut self, seconds: f64) {
        let until = self.now.after(Duration::from_secs_f64(seconds));
        for _ in 0..100_000 {
            match self.core.next_deadline() {
                Some(deadline) if deadline.at <= until => {
                    self.now = self.now.max(deadline.at);
                    self.tell(Event::Tick);
                }
                _ => {
                    self.now = until;
                    return self.tell(Event::Tick);
                }
            }
        }
        panic!("time does not pass: {:?}", self.core.next_deadline());
    }

    /// The manager dies and comes up again with the memory it had; `survivors` is what the kernel shows.
    #[track_caller]
    pub(crate) fn recover(&mut self, survivors: &[Survivor]) {
        let snapshot = self.core.snapshot().clone();
        self.come_up(snapshot, survivors);
    }

    /// The manager dies, and its memory is lost with it.
    #[track_caller]
    pub(crate) fn recover_without_memory(&mut self, survivors: &[Survivor]) {
        self.folded = Snapshot::default();
        self.ended.clear();
        self.run_kinds.clear();
        self.names.clear();
        self.come_up(Snapshot::default(), survivors);
    }

    /// The machine was started again, or the journal is lost: `services` is what the cold copy tells.
    #[track_caller]
    pub(crate) fn recover_cold(&mut self, services: Vec<Remembered>, survivors: &[Survivor]) {
        let snapshot = Snapshot::cold(self.core.snapshot().seq, services);
        self.folded = snapshot.clone();
        self.ended.clear();
        self.run_kinds.clear();
        self.names = snapshot.services.iter().map(|(id, record)| (*id, record.name.to_string())).collect();
        self.come_up(snapshot, survivors);
    }

    #[track_caller]
    fn come_up(&mut self, snapshot: Snapshot, survivors: &[Survivor]) {
        // A spawn in flight is issued again, and so is the departure.
        self.spawned.clear();
        self.left = false;
        // Clients of the manager that died have to ask again.
        self.answers.clear();
        let mut out = Outbox::default();
        self.core = Supervisor::recover(self.config.clone(), snapshot, survivors, (7, self.now), &mut out);
        for fact in &out.facts {
            if let What::RunBegan { run, kind, .. } = &fact.what {
                self.run_kinds.insert(*run, *kind);
            }
        }
        // Here a run may get a signal and then be found to be over: a recovery takes many runs in one step.
        self.take_facts(out.facts);
        self.take_actions(out.actions);
        // What was due while nobody was there is due at once.
        self.tell(Event::Tick);
    }

    /// Tells a part of the scenario in a world of its own.
    #[track_caller]
    pub(crate) fn apart(&mut self, story: impl FnOnce(&mut Self)) {
        let mut other = Self::new();
        story(&mut other);
        self.reached.append(&mut other.reached);
    }

    /// How many rows were reached so far.
    pub(crate) fn steps(&self) -> usize {
        self.reached.len()
    }

    /// What the scenario reached, in the order of its steps.
    pub(crate) fn finish(self) -> Vec<Reached> {
        self.reached
    }

    pub(crate) fn name_of(&self, id: ServiceId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| format!("service {}", id.0))
    }
}
