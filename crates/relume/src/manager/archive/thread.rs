//! The thread that writes, and what it does when it cannot.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use relume_proto::EventRecord;

use super::database::{self, Content, Database, Refusal};
use super::file;
use super::queue::{Batch, Question, Queue, Replay, Work};
use super::{Copy, Saved, Voice};
use crate::manager::publish::{Level, Note};

/// How long a disk that refuses is left alone: what could not be written is written within a second of its recovery.
const PAUSE: Duration = Duration::from_millis(800);

/// What goes on without the database, in each message about it.
const MEANWHILE: &str = "supervision goes on";

pub(super) struct Thread {
    path: PathBuf,
    boot: String,
    queue: Arc<Queue>,
    voice: Arc<Voice>,
    state: State,
    /// What an earlier manager may have shown was taken from the queue and not written yet.
    behind: bool,
    /// Events that were dropped in this row of failures.
    dropped: u64,
    /// That it cannot be written has been said, and not yet that it can be again.
    failing_said: bool,
    /// One was moved aside: a second message would be one of the same.
    aside_said: bool,
}

enum State {
    Open(Box<Database>),
    /// Tried again then.
    Failing {
        why: String,
        again: Instant,
    },
    /// Not as long as this manager lives.
    Refused {
        why: String,
    },
}

impl Thread {
    pub(super) fn new(path: PathBuf, boot: String, queue: Arc<Queue>, voice: Arc<Voice>) -> Self {
        let state = State::Failing { why: String::new(), again: Instant::now() };
        Self {
            path,
            boot,
            queue,
            voice,
            state,
            behind: false,
            dropped: 0,
            failing_said: false,
            aside_said: false,
        }
    }

    pub(super) fn run(mut self, opened: &Sender<Copy>, learn: &dyn Fn(&BTreeMap<String, String>)) {
        let fresh = matches!(file::look(&self.path), file::Look::Nothing);
        // Nobody has to wait until a disk has taken an empty database: what it holds is known.
        let tell = |copy: Copy| {
            learn(&copy.inputs);
            // A successor that has the journal does not ask for it.
            let _unasked = opened.send(copy);
        };
        if fresh {
            tell(Copy::default());
            self.open_first();
        } else {
            tell(self.open_first());
        }
        if let State::Open(database) = &self.state
            && let Err(refusal) = database.check()
        {
            self.give_up(refusal);
        }
        loop {
            if let State::Open(database) = &self.state {
                database.rest();
            }
            let not_before = match &self.state {
                State::Failing { again, .. } => Some(*again),
                State::Open(_) | State::Refused { .. } => None,
            };
            let work = self.queue.wait(not_before);
            let closing = work.closing;
            self.work(work);
            if let Some(in_order) = closing {
                return self.close(in_order);
            }
        }
    }

    /// The first opening, which also brings what an earlier relume has left.
    fn open_first(&mut self) -> Copy {
        let mut content = Content::unknown();
        match Database::open(&self.path, &self.boot) {
            Ok(database) => {
                content = database.content();
                self.state = State::Open(Box::new(database));
            }
            Err(Refusal::Failing(why)) => {
                if let Ok(found) = database::read_only(&self.path, &self.boot) {
                    content = found;
                }
                self.give_up(Refusal::Failing(why));
            }
            Err(refusal) => self.give_up(refusal),
        }
        if let Some(damage) = content.damage.take() {
            content.is_changed = true;
            self.give_up(Refusal::Broken(damage));
        }
        if content.is_changed {
            self.write_first(&content.copy);
        }
        content.copy
    }

    /// Before anything happens on the strength of it: what an earlier relume has left in order would pass for
    /// that again, should this one die before its first other transaction.
    fn write_first(&mut self, copy: &Copy) {
        let known = copy.services.iter().map(|service| (service.name.clone(), service.clone()));
        let first = Batch { services: known.collect(), seq: copy.seq, asked: true, ..Batch::default() };
        let done = match &mut self.state {
            State::Open(database) => database.write(&first),
            State::Failing { .. } | State::Refused { .. } => return self.queue.put_back(first),
        };
        if let Err(refusal) = done {
            self.give_up(refusal);
            self.queue.put_back(first);
        }
    }

    fn work(&mut self, work: Work) {
        let Work { mut batch, questions, replay, dropped, closing } = work;
        if let Some(Replay(replay)) = replay {
            let later = std::mem::take(&mut batch.events);
            batch.events = replay().into_iter().chain(later).collect();
            self.behind = true;
        }
        self.dropped += dropped;
        let waiting = std::mem::take(&mut batch.waiting);
        let saved =
            if batch.is_empty() && closing.is_none() { Saved::Yes } else { self.save(batch, closing) };
        if saved == Saved::Yes && std::mem::take(&mut self.behind) {
            self.queue.caught_up();
        }
        for tell in waiting {
            // A client that has gone wants no answer.
            let _gone = tell.send(saved.clone());
        }
        for question in questions {
            self.answer(question);
        }
    }

    fn save(&mut self, batch: Batch, closing: Option<bool>) -> Saved {
        match self.try_to_save(&batch, closing.is_some()) {
            Ok(()) => {
                self.works_again();
                Saved::Yes
            }
            Err(why) => {
                // Where nobody will ever take it, it need not wait.
                if !matches!(self.state, State::Refused { .. }) {
                    self.queue.put_back(batch);
                }
                Saved::No(why)
            }
        }
    }

    fn try_to_save(&mut self, batch: &Batch, last: bool) -> Result<(), String> {
        // The second time with a new database in place of one that was moved aside.
        for _ in 0..2 {
            self.open_again(last);
            let done = match &mut self.state {
                State::Open(database) => database.write(batch),
                State::Failing { why, .. } | State::Refused { why } => return Err(why.clone()),
            };
            match done {
                Ok(()) => return Ok(()),
                Err(refusal) => self.give_up(refusal),
            }
        }
        match &self.state {
            State::Open(_) => Err("it was damaged, and moved aside".into()),
            State::Failing { why, .. } | State::Refused { why } => Err(why.clone()),
        }
    }

    /// Opens what was not open, or has been taken away.
    fn open_again(&mut self, at_once: bool) {
        match &self.state {
            State::Open(database) if database.is_in_place() => return,
            State::Failing { again, .. } if *again > Instant::now() && !at_once => return,
            State::Refused { .. } => return,
            State::Open(_) => {
                let text = format!("{} was taken away while relume was running; made anew", self.shown());
                self.voice.say(Level::Warn, text);
                self.voice.send(Note::RememberAll);
            }
            State::Failing { .. } => {}
        }
        match Database::open(&self.path, &self.boot) {
            Ok(database) => self.state = State::Open(Box::new(database)),
            Err(refusal) => self.give_up(refusal),
        }
    }

    /// The database cannot be used: what follows from that, said once.
    fn give_up(&mut self, refusal: Refusal) {
        // Closed first: nothing of ours is open when the file is moved.
        self.state = State::Failing { why: String::new(), again: Instant::now() };
        match refusal {
            Refusal::Broken(why) => self.begin_anew(&why),
            Refusal::NotOurs(why) => {
                let text = format!(
                    "{} is not used and not touched: {why}; {MEANWHILE}, but what is stopped on request \
                     starts again after a reboot, and events are only kept in memory",
                    self.shown()
                );
                self.voice.say(Level::Error, text);
                self.queue.refuse(&why);
                self.state = State::Refused { why };
            }
            Refusal::Failing(why) => self.is_failing(why),
        }
    }

    fn begin_anew(&mut self, why: &str) {
        let aside = match file::move_aside(&self.path) {
            Ok(aside) => aside,
            Err(error) => return self.is_failing(format!("{why}; it cannot be moved aside: {error}")),
        };
        let text = format!(
            "{} is damaged ({why}): moved aside to {}, and a new one is begun; {MEANWHILE}, but what was \
             stopped on request before may start again, and older events are only there",
            self.shown(),
            aside.display()
        );
        let level = if self.aside_said { Level::Debug } else { Level::Error };
        self.aside_said = true;
        self.voice.say(level, text);
        match Database::open(&self.path, &self.boot) {
            Ok(database) => self.state = State::Open(Box::new(database)),
            Err(Refusal::Broken(why) | Refusal::NotOurs(why) | Refusal::Failing(why)) => self.is_failing(why),
        }
        self.voice.send(Note::RememberAll);
    }

    fn is_failing(&mut self, why: String) {
        if !self.failing_said {
            let text = format!(
                "{} cannot be used now: {why}; {MEANWHILE}, states and events are kept in memory meanwhile",
                self.shown()
            );
            self.voice.say(Level::Error, text);
            self.failing_said = true;
        }
        self.state = State::Failing { why, again: Instant::now() + PAUSE };
    }

    fn works_again(&mut self) {
        if std::mem::take(&mut self.failing_said) {
            self.voice.say(Level::Info, format!("{} can be written again", self.shown()));
        }
        if self.dropped > 0 {
            let text = format!(
                "{} events are missing from the history in {}: it could not be written fast enough",
                self.dropped,
                self.shown()
            );
            self.voice.say(Level::Warn, text);
            self.dropped = 0;
        }
    }

    fn answer(&mut self, question: Question) {
        let Question { after, before, answer } = question;
        let found: Result<Vec<EventRecord>, Refusal> = match &self.state {
            State::Open(database) => database.history(after, before),
            State::Failing { .. } | State::Refused { .. } => Ok(Vec::new()),
        };
        let found = found.unwrap_or_else(|refusal| {
            self.give_up(refusal);
            Vec::new()
        });
        // A client that has gone wants no answer.
        let _gone = answer.send(found);
    }

    fn close(&mut self, in_order: bool) {
        let state = State::Refused { why: "relume has left".into() };
        if let State::Open(database) = std::mem::replace(&mut self.state, state)
            && let Err(Refusal::Broken(why) | Refusal::NotOurs(why) | Refusal::Failing(why)) =
                database.close(in_order)
        {
            self.voice.say(Level::Error, format!("{} could not be completed: {why}", self.shown()));
        }
    }

    fn shown(&self) -> String {
        self.path.display().to_string()
    }
}
