//! What has to be so when faults have ended and everything had time to come to rest.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use relume_core::{Condition, Dependency, Intent, Record, ServiceKind, State, WaitFor};

use super::wanted::is_wanted;
use super::{Checks, View};

/// What is known of the programs that stay as they are.
#[derive(Debug)]
pub struct Expected<'a> {
    /// Services whose programs, hooks included, are good from now on.
    good: &'a BTreeSet<String>,
    /// What was found out already: in a dense graph each service is asked about on many paths.
    startable: RefCell<BTreeMap<String, bool>>,
}

impl<'a> Expected<'a> {
    /// With these services good.
    #[must_use]
    pub fn new(good: &'a BTreeSet<String>) -> Self {
        Self { good, startable: RefCell::default() }
    }
}

/// Every service wanted up with a good program and good dependencies is up, what is wanted down is down, and
/// whoever waited for either has been answered.
///
/// # Errors
/// The first service that is not where it belongs.
pub fn at_rest(checks: &Checks, view: &View<'_>, expected: &Expected<'_>) -> Result<(), String> {
    if view.memory.shutdown.is_some() {
        return Ok(());
    }
    for (id, record) in &view.memory.services {
        let wanted = is_wanted(view.memory, view, *id);
        let placed = if wanted { up(view, record, expected) } else { down(record) };
        placed.map_err(|what| format!("{} {what}: {:?}", record.name, record.state))?;
    }
    for (ticket, service) in checks.tickets.waiting() {
        let record = view.memory.services.get(&service);
        let settled = record.is_none_or(|record| {
            matches!(
                record.state,
                State::Running { .. } | State::Completed | State::Stopped | State::Failed { .. }
            )
        });
        if settled {
            let state = record.map(|record| &record.state);
            return Err(format!("ticket {} still waits for {}: {state:?}", ticket.0, view.name(service)));
        }
    }
    Ok(())
}

fn up(view: &View<'_>, record: &Record, expected: &Expected<'_>) -> Result<(), String> {
    let good = expected.good.contains(record.name.as_str());
    match &record.state {
        State::Stopped => Err("is wanted, yet it rests".into()),
        State::Pending { on: WaitFor::Slot | WaitFor::RespawnRate, .. } if !good => Ok(()),
        State::Pending { .. } if can_start(view, &record.name, expected) => {
            Err("could start and waits".into())
        }
        State::Pending { .. } => Ok(()),
        _ if !good || !can_start(view, &record.name, expected) => Ok(()),
        State::Running { .. } | State::Completed => Ok(()),
        State::Starting { .. } | State::Stopping { .. } | State::Restarting { .. } | State::Failed { .. } => {
            Err("has a good program and does not run".into())
        }
    }
}

fn down(record: &Record) -> Result<(), String> {
    if record.state.is_live() { Err("is wanted down, yet it lives".into()) } else { Ok(()) }
}

/// Whether nothing that it depends on keeps it from starting.
fn can_start(view: &View<'_>, name: &str, expected: &Expected<'_>) -> bool {
    if let Some(known) = expected.startable.borrow().get(name) {
        return *known;
    }
    let Some(spec) = view.specs.get(name) else { return false };
    let can = spec.policy.dependencies.iter().all(|(need, how)| will_be(view, need, *how, expected));
    expected.startable.borrow_mut().insert(name.into(), can);
    can
}

fn will_be(view: &View<'_>, name: &str, how: Dependency, expected: &Expected<'_>) -> bool {
    let Some(spec) = view.specs.get(name).filter(|_| expected.good.contains(name)) else { return false };
    let Some((id, record)) = view.memory.services.iter().find(|(_, record)| record.name == name) else {
        return false;
    };
    let oneshot = spec.policy.kind == ServiceKind::Oneshot;
    let reachable = match how.condition {
        Condition::Completed => oneshot,
        Condition::Started | Condition::Ready => oneshot || !matches!(record.state, State::Completed),
    };
    let stopped = record.intent == Intent::Down || !is_wanted(view.memory, view, *id);
    // A oneshot that is done stays done, whatever is asked of it later.
    let done = oneshot && record.state == State::Completed;
    done || (reachable && !stopped && can_start(view, name, expected))
}

/// After the end nothing lives.
///
/// # Errors
/// What still lives.
pub fn nothing_left(view: &View<'_>) -> Result<(), String> {
    match view.kernel.trees.values().find(|tree| tree.may_live()) {
        Some(tree) => Err(format!("relume has left, yet {} of {} lives", tree.run, tree.name)),
        None => Ok(()),
    }
}
