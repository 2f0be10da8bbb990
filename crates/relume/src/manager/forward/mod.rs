//! Forwarding: what stands in log files is sent to where it was asked to be sent, too.
//!
//! # Theory of operation
//!
//! A forwarder is a *reader* of log files, like `relume logs -f`, with a cursor that is kept. So the log and the old
//! files that rotation keeps are its buffer: bounded by what the log may take on disk, there before anything was lost,
//! and the same whether the receiver is slow, dead, or does not exist. Nothing in capture or supervision knows of it.
//!
//! One thread (`forward`, a runtime of its own) has one [`task`] for each target. A task collects a batch from the logs
//! it forwards, hands it to a [`sink`], and moves its cursors when the sink says that the receiver has it. When it
//! fails, the task goes back to the cursors that are confirmed and tries again, ever more rarely, down to four times a minute.
//! Therefore: at least once, in order within one log. What rotation removed meanwhile is a *gap*: announced with its
//! size, in relume's own log and in the stream itself.
//!
//! What a cursor means depends on the protocol. Fluent and OTLP acknowledge. Over TCP syslog has no answer: a batch
//! counts as received when the other kernel has acknowledged it and the connection still stood a second later. UDP says
//! nothing; a local socket takes a message or blocks.
//!
//! It must never: keep anybody waiting; hold more than a batch in memory; read what is no regular file; say more than
//! once that a receiver is away.

mod fluent;
mod journald;
mod net;
mod otlp;
mod record;
mod sink;
mod store;
mod syslog;
mod tail;
mod task;
mod watcher;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relume_config::{Forward, Stderr};
use tokio::sync::watch;

use super::publish::{Level, Note, Publisher};
use super::units::Units;
use crate::output_index::Channel;
use crate::places::Places;
use tail::Tails;

/// A log that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    /// The service; `relume` for relume itself.
    name: String,
    path: PathBuf,
    channel: Channel,
    /// relume's own log, whose lines say how bad they are.
    own: bool,
}

/// Which logs go where.
type Plan = BTreeMap<Forward, Vec<Source>>;

/// Says something to people.
type Say = Arc<dyn Fn(Level, String) + Send + Sync>;

/// The thread, as others see it.
pub(crate) struct Forwarding {
    plan: watch::Sender<Option<Plan>>,
    /// For the one who waits for the end.
    ended: Mutex<Receiver<()>>,
    own_log: PathBuf,
}

impl Forwarding {
    /// Starts the thread. Where each log begins to be sent is settled before this returns, so what services write
    /// from now on is sent.
    pub(crate) fn start(units: &Units, places: &Places, publisher: &Publisher) -> std::io::Result<Self> {
        let publisher = publisher.clone();
        let say: Say = Arc::new(move |level, text| publisher.send(Note::Say { level, text }));
        Self::start_with(plan_of(units, &places.log_file), places, say)
    }

    fn start_with(first: Plan, places: &Places, say: Say) -> std::io::Result<Self> {
        let dir = places.state_dir.join("forward");
        let opened: BTreeMap<Forward, Tails> = first
            .iter()
            .map(|(target, sources)| (target.clone(), Tails::open(&dir, target, sources)))
            .collect();
        let (plan, plans) = watch::channel(Some(first));
        let (end, ended) = channel();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
        std::thread::Builder::new().name("forward".into()).spawn(move || {
            runtime.block_on(watcher::run(watcher::Begin { plans, opened, dir, say }));
            // A name service that does not answer is not waited for.
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(Self { plan, ended: Mutex::new(ended), own_log: places.log_file.clone() })
    }

    /// The configuration that holds from now on.
    pub(crate) fn reconfigure(&self, units: &Units) {
        let plan = plan_of(units, &self.own_log);
        self.plan.send_if_modified(|known| {
            let new = known.as_ref() != Some(&plan);
            *known = Some(plan);
            new
        });
    }

    /// Sends what can be sent within this time, and ends. The rest is sent by the next relume.
    pub(crate) fn finish(&self, patience: Duration) {
        self.plan.send_replace(None);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        match ended.recv_timeout(patience) {
            Ok(()) | Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Which logs go where, by this configuration.
fn plan_of(units: &Units, own_log: &Path) -> Plan {
    let mut plan = Plan::new();
    let own = Source { name: "relume".into(), path: own_log.to_owned(), channel: Channel::Out, own: true };
    for target in &units.manager.log_forward {
        plan.entry(target.clone()).or_default().push(own.clone());
    }
    for unit in units.order.iter().filter_map(|name| units.get(name)) {
        let log = &unit.config.log;
        let name = &unit.config.spec.name;
        for target in &log.rules.forward {
            let sources = plan.entry(target.clone()).or_default();
            let source = |path, channel| Source { name: name.to_string(), path, channel, own: false };
            sources.push(source(log.file.to_path_buf(), Channel::Out));
            if log.rules.stderr == Stderr::Separate {
                sources.push(source(log.stderr_file(), Channel::Err));
            }
        }
    }
    plan
}
