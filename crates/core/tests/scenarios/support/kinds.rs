//! The rows of the table: kinds of states, kinds of events, and what one step did to one service.

use relume_core::{
    Command, Config, Event, Exit, Pace, Record, Rest, RunId, ServiceId, StartPhase, State, StopPhase,
    Supervisor, WaitFor,
};

/// Every kind of state, its phase included, with what it means.
pub(crate) const STATES: [(&str, &str); 23] = [
    ("stopped", "Nothing runs and nothing is wanted."),
    ("pending: dependency", "Wanted; a dependency is not as it has to be."),
    ("pending: slot", "Wanted; all `start_parallelism` places are taken."),
    ("pending: turn", "An automatic restart that `respawn_rate` holds back."),
    ("starting: pre_start", "The `pre_start` hook runs; the process does not exist yet."),
    ("starting: spawning", "The edge was asked for the process and has not answered."),
    ("starting: alive", "The process exists and is not ready."),
    (
        "starting: forked",
        "The first process of a `forking` service has ended well; the main one is looked for.",
    ),
    ("running", "Ready, and well as far as is known."),
    ("stopping: cancel", "The `pre_start` hook is being killed; the main process never existed."),
    ("stopping: await spawn", "To be stopped; the edge has not yet said whether the process exists."),
    ("stopping: pre_stop", "The `pre_stop` hook runs; the main process does not know yet."),
    ("stopping: asked", "The stop signal was sent; SIGKILL follows in time."),
    ("stopping: rest", "The main process has ended; the rest of its tree was told to stop."),
    ("stopping: killed", "SIGKILL was sent to the whole tree."),
    ("stopping: post_stop", "The tree is gone; the `post_stop` hook runs."),
    ("restarting: prompt", "Ended cleanly under `always`; the next life begins after `retry_delay`."),
    ("restarting: backoff", "Failed; the next life begins after the backoff."),
    ("restarting: slow", "The retries are used up; one slow attempt each `retry_every`."),
    ("restarting: shortage", "The machine lacked something; tried again soon."),
    ("completed", "Ended as wanted; no restart is due."),
    ("failed", "Ended badly, or never began, and its policy does not restart it."),
    ("failed: given up", "The retries are used up and the policy is to give up."),
];

/// The kind of a state.
pub(crate) fn kind(state: &State) -> &'static str {
    match state {
        State::Stopped => "stopped",
        State::Pending { on: WaitFor::Dependency(_), .. } => "pending: dependency",
        State::Pending { on: WaitFor::Nothing, .. } => "pending: nothing",
        State::Pending { on: WaitFor::Predecessor, .. } => "pending: predecessor",
        State::Pending { on: WaitFor::Slot, .. } => "pending: slot",
        State::Pending { on: WaitFor::RespawnRate, .. } => "pending: turn",
        State::Starting { phase: StartPhase::PreStart { .. }, .. } => "starting: pre_start",
        State::Starting { phase: StartPhase::Spawning, .. } => "starting: spawning",
        State::Starting { phase: StartPhase::Alive, .. } => "starting: alive",
        State::Starting { phase: StartPhase::Forked, .. } => "starting: forked",
        State::Running { .. } => "running",
        State::Stopping { phase: StopPhase::Cancel { .. }, .. } => "stopping: cancel",
        State::Stopping { phase: StopPhase::AwaitSpawn { .. }, .. } => "stopping: await spawn",
        State::Stopping { phase: StopPhase::PreStop { .. }, .. } => "stopping: pre_stop",
        State::Stopping { phase: StopPhase::Asked { .. }, .. } => "stopping: asked",
        State::Stopping { phase: StopPhase::Rest { .. }, .. } => "stopping: rest",
        State::Stopping { phase: StopPhase::Killed { .. }, .. } => "stopping: killed",
        State::Stopping { phase: StopPhase::PostStop { .. }, .. } => "stopping: post_stop",
        State::Restarting { pace: Pace::Prompt, .. } => "restarting: prompt",
        State::Restarting { pace: Pace::Backoff, .. } => "restarting: backoff",
        State::Restarting { pace: Pace::Slow, .. } => "restarting: slow",
        State::Restarting { pace: Pace::Shortage, .. } => "restarting: shortage",
        State::Completed => "completed",
        State::Failed { exhausted: false, .. } => "failed",
        State::Failed { exhausted: true, .. } => "failed: given up",
    }
}

/// The hook whose end the state waits for.
pub(crate) fn waited_hook(state: &State) -> Option<RunId> {
    match state {
        State::Starting { phase: StartPhase::PreStart { hook }, .. }
        | State::Stopping {
            phase: StopPhase::Cancel { hook } | StopPhase::PreStop { hook } | StopPhase::PostStop { hook },
            ..
        } => Some(*hook),
        State::Starting { .. }
        | State::Stopping { .. }
        | State::Stopped
        | State::Pending { .. }
        | State::Running { .. }
        | State::Restarting { .. }
        | State::Completed
        | State::Failed { .. } => None,
    }
}

/// The services an event speaks of, each with the kind of the event as that service sees it.
pub(crate) fn addressed(
    core: &Supervisor,
    event: &Event,
    now: relume_core::Moment,
) -> Vec<(ServiceId, String)> {
    match event {
        Event::Tick => core.ids().filter_map(|id| Some((id, due(core.record(id)?, now)?.into()))).collect(),
        Event::Configured(config) => {
            core.ids().filter_map(|id| Some((id, configured(core, id, config)?.into()))).collect()
        }
        Event::Commanded { command, .. } => {
            let (services, what) = match command {
                Command::Start(services) => (services.clone(), "start asked"),
                Command::Restart(services) => (services.clone(), "restart asked"),
                Command::Stop { services, with_dependents: true } => {
                    (core.with_dependents(services), "stop asked")
                }
                Command::Stop { services, .. } => (services.clone(), "stop asked"),
                Command::Reload(services) => (services.clone(), "reload asked"),
                Command::Signal { services, .. } => (services.clone(), "signal asked"),
            };
            services.into_iter().map(|id| (id, what.into())).collect()
        }
        Event::ShutdownAsked { hurry, .. } => {
            let what = if *hurry { "hurry asked" } else { "shutdown asked" };
            core.ids().map(|id| (id, what.into())).collect()
        }
        // Of relume itself, not of any service.
        Event::Returned { .. } => Vec::new(),
        Event::Spawned { run } => of_run(core, *run, "spawned"),
        Event::SpawnFailed { run, error } if error.shortage => {
            of_run(core, *run, "spawn failed for a shortage")
        }
        Event::SpawnFailed { run, .. } => of_run(core, *run, "spawn failed"),
        Event::Ready { run } => of_run(core, *run, "ready"),
        Event::MainFound { run } => of_run(core, *run, "main found"),
        Event::Exited { run, exit, rest } => of_run(core, *run, exited(core, *run, *exit, *rest)),
        Event::Emptied { run } => of_run(core, *run, "emptied"),
        Event::Probed { run, failure: None, .. } => of_run(core, *run, "probe succeeded"),
        Event::Probed { run, .. } => of_run(core, *run, "probe failed"),
        Event::ProbeDue { run, .. } => of_run(core, *run, "probe due"),
        Event::AlertDue { service, .. } => vec![(*service, "alert due".into())],
        Event::Silent { run } => of_run(core, *run, "silent"),
        Event::TooMuchMemory { run, .. } => of_run(core, *run, "too much memory"),
        Event::Noticed { service, .. } => {
            service.iter().map(|service| (*service, "something noticed".into())).collect()
        }
        Event::Extended { run, .. } => of_run(core, *run, "asks for more time"),
    }
}

fn exited(core: &Supervisor, run: RunId, exit: Exit, rest: Rest) -> &'static str {
    let hook = core.record(run.service).is_some_and(|record| record.state.run() != Some(run));
    let well = match core.spec(run.service) {
        Some(spec) if !hook => exit.is_success(&spec.policy.restart),
        _ => exit == Exit::Code(0),
    };
    match (well, rest) {
        (true, Rest::Gone) => "exited well, tree gone",
        (true, Rest::Alive) => "exited well, tree alive",
        (false, Rest::Gone) => "exited badly, tree gone",
        (false, Rest::Alive) => "exited badly, tree alive",
    }
}

fn of_run(core: &Supervisor, run: RunId, what: &str) -> Vec<(ServiceId, String)> {
    let Some(record) = core.record(run.service) else { return Vec::new() };
    let what = if record.state.run() == Some(run) {
        what.into()
    } else if waited_hook(&record.state) == Some(run) {
        format!("its hook: {what}")
    } else if record.sides.iter().any(|side| side.run == run) {
        format!("a run beside: {what}")
    } else {
        "news of an earlier run".into()
    };
    vec![(run.service, what)]
}

fn due(record: &Record, now: relume_core::Moment) -> Option<&'static str> {
    if record.state.deadline().is_some_and(|at| at <= now) {
        return Some("its deadline");
    }
    let due = |side: &&relume_core::Side| match side.phase {
        relume_core::SidePhase::Active { give_up_at } | relume_core::SidePhase::Rest { give_up_at, .. } => {
            give_up_at <= now
        }
        relume_core::SidePhase::Killed { again_at, .. } => again_at <= now,
    };
    let side = record.sides.iter().find(due)?;
    let waited = waited_hook(&record.state) == Some(side.run);
    Some(if waited { "its hook: time limit" } else { "a run beside: time limit" })
}

fn configured(core: &Supervisor, id: ServiceId, config: &Config) -> Option<&'static str> {
    let (record, spec) = (core.record(id)?, core.spec(id)?);
    let new = config.services.iter().find(|new| new.name == spec.name);
    Some(match new {
        None => "left out of the configuration",
        Some(_) if record.retired => "back in the configuration",
        Some(new) if new.launch != spec.launch => "configured with another launch",
        Some(_) => "configured, its launch the same",
    })
}
