//! The supervise thread. It must never wait for anything but events: no disk, network, name service,
//! terminal or log.

use relume_core::{Action, Event, Outbox, RunId, Supervisor};

use super::edge::Edge;
use super::publish::{Level, Note};
use super::respawn::Leap;
use super::start_up::Later;

/// How supervision ends.
#[derive(Debug)]
pub(crate) enum End {
    /// All is down; the exit code.
    Down(i32),
    /// The services run on.
    Detached,
    /// This process executes itself.
    Respawn(Leap),
}

/// Runs until the core says that all is down, or somebody else is to go on.
pub(crate) fn run(edge: &mut Edge, core: &mut Supervisor, out: Outbox, later: Later) -> End {
    let mut later = Some(later);
    let end = supervise(edge, core, out, &mut later);
    if let Some(later) = later {
        // What is left to be captured and shown is.
        edge.outlast_predecessor();
        later.go_on(edge);
    }
    end
}

/// What can wait does until there is no manager before this one any more.
fn supervise(edge: &mut Edge, core: &mut Supervisor, mut out: Outbox, later: &mut Option<Later>) -> End {
    let ended = carry_out(edge, core, &mut out, None);
    let looked = edge.look();
    edge.say_back();
    go_on(edge, later);
    if let Some(code) = ended {
        return End::Down(code);
    }
    // Before clients are served: the first of them is to see safe mode.
    edge.begin_attention();
    if looked.is_ok() {
        edge.translate();
    }
    loop {
        while let Some(event) = edge.events.pop_front() {
            let ended = run_ended(&event);
            edge.note_command(core, &event);
            edge.look_for_parent_death(core, &event);
            core.step(Edge::now(), event, &mut out);
            if let Some(code) = carry_out(edge, core, &mut out, ended) {
                return End::Down(code);
            }
        }
        edge.say_noted();
        edge.clear_up();
        edge.start_due(core);
        if !edge.events.is_empty() {
            continue;
        }
        if core.snapshot().shutdown.is_none() {
            edge.forget();
        }
        if edge.leave_running {
            return End::Detached;
        }
        go_on(edge, later);
        if let Some(door) = edge.open.take_if(|_| later.is_none()) {
            edge.keeper.ready();
            edge.publisher.send(Note::Open(door));
        }
        if let Some(leap) = edge.consider_respawn() {
            edge.note_all_sayings();
            edge.acknowledge_signals();
            return End::Respawn(leap);
        }
        edge.checkpoint(core.snapshot(), &[]);
        edge.reap_orphans();
        if let Err(error) = edge.wait(core.next_deadline().map(|deadline| deadline.at)) {
            edge.say(Level::Error, format!("{error}; trying again"));
            // An epoll set that cannot be waited on would otherwise turn into a loop at full speed.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        edge.translate();
        edge.weigh(core);
    }
}

fn go_on(edge: &mut Edge, later: &mut Option<Later>) {
    if let Some(later) = later.take_if(|_| edge.is_alone()) {
        later.go_on(edge);
    }
}

/// What one step has decided: noted for a successor, then done, then shown and answered. No death comes between an
/// effect and the note of it, and nobody who is to be shown something wakes before those who have something to do.
fn carry_out(edge: &mut Edge, core: &Supervisor, out: &mut Outbox, ended: Option<RunId>) -> Option<i32> {
    for fact in &out.facts {
        edge.note_fact(fact);
        edge.follow(core, fact);
    }
    edge.checkpoint(core.snapshot(), &out.facts);
    if core.snapshot().shutdown.is_some() {
        // There may be no other moment for it.
        edge.say_noted();
    }
    let mut code = None;
    let mut answers = Vec::new();
    for action in out.actions.drain(..) {
        match action {
            // An answer stands on what has been shown.
            Action::Reply { .. } => answers.push(action),
            Action::Spawn { .. } | Action::Signal { .. } | Action::FindMain { .. } | Action::Leave { .. } => {
                code = code.or(edge.perform(core, action));
            }
        }
    }
    edge.clear_up();
    if !out.facts.is_empty() || ended.is_some() {
        edge.publisher.send(Note::Facts { facts: std::mem::take(&mut out.facts), ended });
    }
    for answer in answers {
        code = code.or(edge.perform(core, answer));
    }
    code
}

/// The run whose main process this event tells the end of: what it does to the state and that there is no
/// process any more are shown in one.
fn run_ended(event: &Event) -> Option<RunId> {
    match event {
        Event::Exited { run, .. } | Event::Emptied { run } => Some(*run),
        Event::Tick
        | Event::Configured(_)
        | Event::Commanded { .. }
        | Event::Spawned { .. }
        | Event::SpawnFailed { .. }
        | Event::Ready { .. }
        | Event::MainFound { .. }
        | Event::Returned { .. }
        | Event::Noticed { .. }
        | Event::Probed { .. }
        | Event::ProbeDue { .. }
        | Event::AlertDue { .. }
        | Event::Silent { .. }
        | Event::TooMuchMemory { .. }
        | Event::Extended { .. }
        | Event::ShutdownAsked { .. } => None,
    }
}
