//! The supervise thread. It must never wait for anything but events: no disk, network, name service,
//! terminal or log.

use relume_core::{Event, Outbox, Supervisor};

use super::edge::Edge;
use super::publish::{Level, Note};

/// Runs until the core says that all is down; the exit code.
pub(crate) fn run(edge: &mut Edge, core: &mut Supervisor, first: Event) -> i32 {
    let mut out = Outbox::default();
    edge.events.push_back(first);
    loop {
        while let Some(event) = edge.events.pop_front() {
            core.step(Edge::now(), event, &mut out);
            // Known before done: whoever sees an effect can find its reason.
            if !out.facts.is_empty() {
                edge.publisher.send(Note::Facts(std::mem::take(&mut out.facts)));
            }
            for action in out.actions.drain(..) {
                if let Some(code) = edge.perform(core, action) {
                    return code;
                }
            }
        }
        edge.reap_orphans();
        if let Err(error) = edge.wait(core.next_deadline().map(|deadline| deadline.at)) {
            edge.say(Level::Error, format!("{error}; trying again"));
            // An epoll set that cannot be waited on would otherwise turn into a loop at full speed.
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        edge.translate();
    }
}
