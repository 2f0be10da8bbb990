//! One target: collects, sends, confirms, and tries again.

use std::collections::VecDeque;
use std::time::Duration;

use relume_config::Forward;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::sink::{Sent, Sink};
use super::tail::{Mark, Tails};
use super::{Level, Say, Source};

/// The first wait after a failure, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// While a receiver is away the files are looked at so often, so that the size of what goes missing is known.
const LOOK: Duration = Duration::from_secs(1);

/// Lines that come within this time are sent together.
const TOGETHER: Duration = Duration::from_millis(50);

/// What a task is told.
#[derive(Debug, Clone, Default)]
pub(super) struct Orders {
    /// The logs it forwards.
    pub(super) sources: Vec<Source>,
    /// It is to send what it can and end.
    pub(super) end: bool,
}

/// See the module's description.
pub(super) struct Task {
    pub(super) target: Forward,
    pub(super) tails: Tails,
    pub(super) say: Say,
    pub(super) orders: watch::Receiver<Orders>,
    /// Grows when a file has changed.
    pub(super) changes: watch::Receiver<u64>,
}

/// Sent and not confirmed.
struct Pending {
    due: Instant,
    mark: Mark,
}

impl Task {
    /// Until it is told to end.
    pub(super) async fn run(mut self) {
        let mut sink = Sink::new(self.target.clone());
        let mut pending = VecDeque::new();
        let mut wait = FIRST_WAIT;
        let mut failing = false;
        loop {
            self.changes.mark_unchanged();
            let done = self.forward(&mut sink, &mut pending).await;
            match done {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        self.tell(Level::Info, "takes logs again; nothing that is still on disk is left out");
                    }
                    wait = FIRST_WAIT;
                    if self.orders.borrow().end && pending.is_empty() {
                        break;
                    }
                    self.rest(&pending).await;
                }
                Err(why) => {
                    pending.clear();
                    self.tails.rewind();
                    if !std::mem::replace(&mut failing, true) {
                        let text =
                            format!("does not take logs: {why}; they stay in their files and are sent later");
                        self.tell(Level::Warn, &text);
                    }
                    if self.orders.borrow().end {
                        break;
                    }
                    self.endure(wait).await;
                    wait = (wait * 2).min(LONGEST_WAIT);
                }
            }
            self.follow_orders(&mut pending);
        }
        self.keep(true);
    }

    /// Sends all there is, and confirms what has arrived.
    async fn forward(&mut self, sink: &mut Sink, pending: &mut VecDeque<Pending>) -> Result<(), String> {
        loop {
            self.settle(sink, pending)?;
            let batch = self.tails.collect();
            if batch.is_empty() {
                return Ok(());
            }
            match sink.send(&batch).await? {
                Sent::Taken => {
                    let mark = self.tails.mark();
                    self.confirm(mark);
                }
                Sent::Refused(why) => {
                    let text = format!(
                        "refuses {} lines for good: {why}; they are in their files only",
                        batch.len()
                    );
                    self.tell(Level::Warn, &text);
                    let mark = self.tails.mark();
                    self.confirm(mark);
                }
                Sent::OnItsWay(time) => {
                    let mark = self.tails.mark();
                    pending.push_back(Pending { due: Instant::now() + time, mark });
                }
            }
            if self.orders.has_changed().unwrap_or(true) {
                return Ok(());
            }
        }
    }

    /// Confirms what has been on its way long enough.
    fn settle(&mut self, sink: &mut Sink, pending: &mut VecDeque<Pending>) -> Result<(), String> {
        while pending.front().is_some_and(|pending| pending.due <= Instant::now()) {
            if !sink.has_arrived()? {
                // Looked at again in a moment; a connection on which nothing moves is given up by the kernel.
                pending.iter_mut().for_each(|pending| pending.due = Instant::now() + TOGETHER * 4);
                return Ok(());
            }
            if let Some(pending) = pending.pop_front() {
                self.confirm(pending.mark);
            }
        }
        Ok(())
    }

    fn confirm(&mut self, mark: Mark) {
        for gap in self.tails.confirm(mark) {
            (self.say)(Level::Warn, format!("{gap} to {}", self.target.shown));
        }
        self.keep(false);
    }

    /// Until something changes, something is to be confirmed, or cursors are to be written.
    async fn rest(&mut self, pending: &VecDeque<Pending>) {
        let due = pending.front().map(|pending| pending.due);
        let unwritten = self.tails.is_unwritten().then(|| Instant::now() + Duration::from_millis(250));
        let until = due.into_iter().chain(unwritten).min();
        // For ever, as far as anybody can tell.
        let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(86_400 * 365));
        tokio::select! {
            _ = self.changes.changed() => {
                // Whatever is written at the same time goes into the same batch.
                let ends = timeout_at(Instant::now() + TOGETHER, self.orders.changed()).await;
                if ends.is_ok() {
                    self.orders.mark_changed();
                }
                self.tails.look();
            }
            changed = self.orders.changed() => {
                if changed.is_ok() {
                    self.orders.mark_changed();
                }
            }
            () = sleep_until(until) => self.keep(false),
        }
    }

    /// Waits after a failure.
    async fn endure(&mut self, wait: Duration) {
        let end = Instant::now() + wait;
        while Instant::now() < end {
            self.tails.look();
            self.keep(false);
            let step = LOOK.min(end - Instant::now());
            tokio::select! {
                _ = self.orders.changed() => {
                    self.orders.mark_changed();
                    return;
                }
                () = sleep(step) => {}
            }
        }
    }

    fn follow_orders(&mut self, pending: &mut VecDeque<Pending>) {
        if !self.orders.has_changed().unwrap_or(false) {
            return;
        }
        let orders = self.orders.borrow_and_update().clone();
        if !orders.end {
            // Marks are by position: what is not confirmed is sent again.
            pending.clear();
            self.tails.rewind();
            self.tails.set(&orders.sources);
        }
    }

    fn keep(&mut self, now: bool) {
        if let Err(why) = self.tails.write(now) {
            self.tell(Level::Debug, &format!("its place in the logs could not be kept: {why}"));
        }
    }

    fn tell(&self, level: Level, what: &str) {
        (self.say)(level, format!("forwarding: {} {what}", self.target.shown));
    }
}
