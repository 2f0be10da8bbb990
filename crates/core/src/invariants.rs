//! What must hold after every step. Checked in full by tests and the simulator, and for what is cheap in
//! debug builds. What spans several steps (order, rates, liveness) is the simulator's to check.

use alloc::format;
use alloc::string::String;

use crate::id::ServiceId;
use crate::record::Record;
use crate::state::{State, WaitFor};
use crate::supervisor::{Supervisor, Tally};

/// Checks everything; the first thing that does not hold, in words.
///
/// # Errors
/// A sentence that names the service and what is wrong with it.
pub fn check(core: &Supervisor) -> Result<(), String> {
    let mut tally = Tally::default();
    let mut deadlines = 0;
    for (id, record) in &core.memory.services {
        tally.add(Tally::of(record));
        deadlines += usize::from(record.deadline().is_some_and(|at| at > core.now));
        check_record(core, *id, record).map_err(|what| format!("{}: {what}", record.name))?;
    }
    if tally != core.tally {
        return Err(format!("tally is {:?}, the records say {tally:?}", core.tally));
    }
    let indexed = core.deadlines.iter().filter(|(at, _)| *at > core.now).count();
    if indexed != deadlines {
        return Err(format!("{indexed} deadlines are indexed, the states have {deadlines}"));
    }
    if core.services.keys().ne(core.memory.services.keys()) {
        return Err("configured and remembered services differ".into());
    }
    Ok(())
}

fn check_record(core: &Supervisor, id: ServiceId, record: &Record) -> Result<(), String> {
    if let Some(at) = record.deadline()
        && !core.deadline_is_indexed(id, at)
    {
        return Err(format!("its deadline {at} is not indexed"));
    }
    if record.state.run().is_some_and(|run| run.generation > record.generation || run.service != id) {
        return Err("its run is not one of its generations".into());
    }
    let wanted = core.is_wanted(id);
    match &record.state {
        State::Stopped if wanted => Err("wanted up, yet it rests".into()),
        State::Pending { .. } | State::Restarting { .. } if !wanted => {
            Err("wanted down, yet a start is pending".into())
        }
        State::Pending { on: WaitFor::Dependency(need), .. } => {
            let needs = &core.services.get(&id).ok_or("not configured")?.needs;
            let waits = needs.iter().any(|(other, how)| other == need && !core.is_met(*other, *how));
            if waits { Ok(()) } else { Err("waits for a dependency that is as it has to be".into()) }
        }
        State::Pending { on: WaitFor::Predecessor, .. } => {
            if core.has_stray(id) {
                Ok(())
            } else {
                Err("waits for an earlier life that is over".into())
            }
        }
        State::Pending { .. } if core.starts.line_of(id).is_none() => {
            Err("waits for its turn, yet stands in no line".into())
        }
        State::Starting { .. } | State::Running { .. } if !wanted => match core.goal(id) {
            Some(crate::decide::Goal::After(_)) => Ok(()),
            _ => Err("wanted down, yet nothing ends it".into()),
        },
        State::Restarting { retry_at, .. } if *retry_at <= core.now => {
            Err("its restart is due, yet it does not start".into())
        }
        State::Stopped
        | State::Pending { .. }
        | State::Starting { .. }
        | State::Running { .. }
        | State::Stopping { .. }
        | State::Restarting { .. }
        | State::Completed
        | State::Failed { .. } => Ok(()),
    }
}

/// The cheap part, after every step of a debug build.
#[cfg(debug_assertions)]
pub(crate) fn assert_quick(core: &Supervisor) {
    assert!(core.dirty.is_empty(), "a step ended with services left to decide: {:?}", core.dirty);
    if core.memory.services.len() <= 64 {
        let held = check(core);
        assert!(held.is_ok(), "{}", held.err().unwrap_or_default());
    }
}
