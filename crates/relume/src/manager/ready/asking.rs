//! Which probes of a run are asked now: follows from what the core has decided about it, and from the configuration.

use relume_config::{Probe, ProbeTarget};
use relume_core::{Check, Event, Fact, RunId, State, Supervisor, What};

use super::prober::{Asked, Pace, Probed};
use super::{Readying, Voice};
use crate::manager::edge::Edge;
use crate::manager::publish::Note;
use crate::manager::units::Unit;

impl Edge {
    /// What the core has decided changes what is asked.
    pub(crate) fn follow(&mut self, core: &Supervisor, fact: &Fact) {
        match &fact.what {
            What::Probed { run, failure, health, .. } => {
                let Some(voice) = self.ready_runs.voices.get_mut(run) else { return };
                voice.health = health.clone().into();
                self.show_trouble(*run, failure.clone());
                self.ask_on(*run);
            }
            What::Moved { to: State::Running { run, since }, .. } => self.began_running(*run, *since, None),
            What::Moved { to: State::Stopping { run, .. }, .. } => {
                self.note_quiet(*run, |quiet| quiet.over = true);
                if let Some(voice) = self.ready_runs.voices.get_mut(run) {
                    voice.over = true;
                    voice.asking.clear();
                }
                self.ready_runs.dogs.leave(*run);
            }
            What::Moved { service, to: State::Stopped | State::Completed | State::Failed { .. }, .. } => {
                // It is not meant to run any more, so it has no next life to store anything for.
                if let Some(record) = core.record(*service) {
                    self.ready_runs.stored.forget(&self.keeper, &record.name, None);
                    self.release_sockets(&record.name, record.generation);
                }
            }
            What::Returned { .. }
            | What::Noticed { .. }
            | What::Added { .. }
            | What::Retired { .. }
            | What::Removed { .. }
            | What::IntentSet { .. }
            | What::ReplaceSet { .. }
            | What::Moved { .. }
            | What::RunBegan { .. }
            | What::RunEnded { .. }
            | What::HistorySet { .. }
            | What::SideMoved { .. }
            | What::SideEnded { .. }
            | What::ConfigApplied { .. }
            | What::ConfigRefused { .. }
            | What::ShutdownBegan { .. }
            | What::StillAlive { .. }
            | What::LooksForking { .. }
            | What::Stale { .. }
            | What::Adopted { .. } => {}
        }
    }

    /// It counts as ready from now on; `watched`: as an earlier manager has last seen it alive.
    pub(super) fn began_running(
        &mut self,
        run: RunId,
        since: relume_core::Moment,
        watched: Option<super::ears::Watched>,
    ) {
        self.note_quiet(run, |quiet| quiet.running = Some(since));
        if let Some(voice) = self.ready_runs.voices.get_mut(&run) {
            voice.running = Some(since);
            voice.said = true;
            self.show_trouble(run, None);
            self.ask_on(run);
            self.watch(run, watched);
        }
    }

    /// Asks what is to be asked, and nothing else any more.
    pub(super) fn ask_on(&mut self, id: RunId) {
        let Some(unit) = self.unit_now(id) else { return };
        let Readying { prober, voices, next_asking, .. } = &mut self.ready_runs;
        let Some(voice) = voices.get_mut(&id) else { return };
        let wanted = voice.wanted(id, &unit);
        voice.asking.retain(|asking| wanted.contains(&asking.asked));
        for asked in wanted {
            if voice.asking.iter().any(|asking| asking.asked == asked) {
                continue;
            }
            *next_asking += 1;
            voice.asking.push(prober.begin(asked, *next_asking));
        }
        voice.awaited |= unit.config.readiness.is_awaited();
        if !voice.said || voice.over || voice.running.is_some() {
            return;
        }
        let started = voice.health.has_started(&unit.config.spec.policy.checks);
        if awaited_line(&unit).is_some() {
            if voice.line && started {
                let (check, failure) = (Check::Readiness, None);
                self.events.push_back(Event::Probed { run: id, check, failure, counts: true });
            }
        } else if voice.awaited
            && !voice.told_ready
            && voice.asking.iter().all(|asking| asking.asked.check == Check::Liveness)
        {
            voice.told_ready = true;
            self.events.push_back(Event::Ready { run: id });
        }
    }

    /// The service as it is configured now; as the run was started, where it is no longer.
    pub(super) fn unit_now(&self, id: RunId) -> Option<std::sync::Arc<Unit>> {
        let started = &self.runs.get(&id)?.unit;
        Some(self.units.get(&started.config.spec.name).unwrap_or(started).clone())
    }

    /// News of the probes of a run.
    pub(crate) fn probed(&mut self, id: RunId, number: u64, what: Probed) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        // Of probes that were ended meanwhile nothing is believed.
        let Some(asking) = voice.asking.iter().find(|asking| asking.number == number) else { return };
        let check = asking.asked.check;
        match what {
            Probed::Answered { failure, counts } => {
                self.show_trouble(id, failure.clone());
                self.events.push_back(Event::Probed { run: id, check, failure, counts });
            }
            Probed::Due => self.events.push_back(Event::ProbeDue { run: id, check }),
        }
    }

    /// The line that the readiness of a run waits for was seen in its output.
    pub(crate) fn line_seen(&mut self, id: RunId) {
        match self.ready_runs.voices.get_mut(&id) {
            Some(voice) => {
                voice.line = true;
                self.ask_on(id);
            }
            // Of a run that is gone nothing is to be remembered.
            None if self.runs.contains_key(&id) || self.spawns_under_way == 0 => {}
            None => drop(self.ready_runs.lines.insert(id)),
        }
    }

    fn show_trouble(&mut self, id: RunId, trouble: Option<String>) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let before = voice.shown();
        voice.trouble = trouble.map(String::into_boxed_str);
        let text = voice.shown();
        if text != before {
            self.publisher.send(Note::Told { run: id, text });
        }
    }

    /// Another configuration holds: what is asked follows it. To be told before the core hears of it, for which those that
    /// waited are ready now if nothing is asked any more.
    pub(crate) fn probe_anew(&mut self) {
        self.give_voices();
        for id in self.ready_runs.voices.keys().copied().collect::<Vec<_>>() {
            self.ask_on(id);
            // What a probe has said that is asked no more concerns nobody.
            if self.ready_runs.voices.get(&id).is_some_and(|voice| voice.asking.is_empty()) {
                self.show_trouble(id, None);
            }
        }
    }
}

impl Voice {
    fn wanted(&self, run: RunId, unit: &Unit) -> Vec<Asked> {
        let (config, spec) = (&unit.config.readiness, &unit.config.spec);
        if !self.said || self.over {
            return Vec::new();
        }
        let started = self.health.has_started(&spec.policy.checks);
        let asked = |check| {
            let probe: Option<&Probe> = config.probes.get(check);
            let probe = probe.filter(|probe| !matches!(probe.target, ProbeTarget::LogLine(_)))?;
            let steady = |since: relume_core::Moment| Pace::Steady(since.after(probe.start_period));
            let pace = match (check, started, self.running) {
                (Check::Startup, false, _) => Pace::Eager,
                (Check::Startup, true, _) | (_, false, _) => return None,
                (Check::Readiness | Check::Health, true, None) => Pace::Eager,
                // A start period is over once it is ready.
                (Check::Readiness | Check::Health, true, Some(since)) => Pace::Steady(since),
                (Check::Liveness, true, since) => steady(since.unwrap_or_default()),
            };
            Some(Asked { run, check, pace, probe: probe.clone(), name: spec.name.to_string() })
        };
        Check::ALL.into_iter().filter_map(asked).collect()
    }
}

/// The text whose line makes a service ready.
pub(crate) fn awaited_line(unit: &Unit) -> Option<&str> {
    match unit.config.readiness.probes.readiness.as_ref().map(|probe| &probe.target) {
        Some(ProbeTarget::LogLine(text)) => Some(text),
        _ => None,
    }
}
