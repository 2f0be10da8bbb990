//! What a thread is told, and how it obeys.
//!
//! A stream whose file becomes another thread's is handed over between two chunks, with all that is known of it. What is
//! ordered of it meanwhile waits with the new thread for its coming.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relume_os::epoll::Interest;
use tokio::sync::oneshot;

use super::compress::Done;
use super::inbox::Hand;
use super::report::{Next, Report};
use super::stream::{FileKey, Flow, Pipe};
use super::thread::{TURN_READS, Worker};
use super::{LogTarget, Look, Origin, Stream, StreamId};
use crate::output_index::Kind;

/// Orders since the thread last looked. They are carried out in the order of the fields.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) attach: Vec<Stream>,
    pub(super) moved: Vec<Moved>,
    pub(super) retarget: BTreeMap<StreamId, Arc<LogTarget>>,
    pub(super) reopen: bool,
    pub(super) compressed: Vec<Done>,
    pub(super) each: Vec<(StreamId, Order)>,
    pub(super) awaited: Vec<Awaited>,
    pub(super) stop: bool,
    /// End as one who is succeeded: what stands in the pipes stays there.
    pub(super) leave: bool,
}

/// Somebody waits for what the pipes of a file hold now.
pub(super) struct Awaited {
    pub(super) path: PathBuf,
    /// Dropped when it is in the file, or when there is no more to be had.
    pub(super) done: oneshot::Sender<()>,
}

/// One order about one stream.
pub(super) enum Order {
    Look(Look),
    Mark(Kind),
    Finish,
    /// Its file is another thread's.
    Give(Arc<LogTarget>, Hand),
}

/// A stream that another thread had until now, and its file from now on.
pub(super) struct Moved {
    pub(super) id: StreamId,
    log: Arc<LogTarget>,
    what: Either,
}

enum Either {
    Open(Box<Pipe>),
    Closed(Closed),
}

/// A stream whose pipe is closed and that awaits `finish`.
pub(super) struct Closed {
    /// What it had.
    pub(super) bytes: u64,
    pub(super) log: Arc<LogTarget>,
    pub(super) origin: Origin,
}

impl Worker {
    pub(super) fn obey(&mut self, orders: Orders) {
        let Orders { attach, moved, retarget, reopen, compressed, each, awaited, stop, leave } = orders;
        for stream in attach {
            self.attach(stream);
        }
        for stream in moved {
            self.adopt(stream);
        }
        for (id, log) in retarget {
            self.retarget(id, log);
        }
        if reopen {
            self.files.values_mut().for_each(|file| file.close());
            self.troubled.clone().into_iter().for_each(|key| self.retry_file(key));
        }
        compressed.iter().for_each(|done| self.packed(done));
        for (id, order) in each {
            self.carry_out(id, order);
        }
        for Awaited { path, done } in awaited {
            self.take_in(&path);
            drop(done);
        }
        self.stopping |= stop;
        self.leaving |= leave;
    }

    /// Moves what the pipes of this file hold; of a service that never stops writing as much as two turns give.
    fn take_in(&mut self, path: &Path) {
        let streams =
            self.file_of(path).and_then(|key| self.files.get(&key)).map(|file| file.streams.clone());
        for id in streams.into_iter().flatten() {
            if self.pipes.get(&id).is_some_and(|pipe| pipe.flow != Flow::Held) {
                self.take_turn(id, 2 * TURN_READS);
            }
        }
    }

    fn carry_out(&mut self, id: StreamId, order: Order) {
        if !self.pipes.contains_key(&id) && !self.closed.contains_key(&id) {
            if self.inbox.is_live(id) {
                self.early.push((id, order));
            }
            return;
        }
        match order {
            Order::Look(look) => {
                if let Some(pipe) = self.pipes.get_mut(&id) {
                    pipe.look = Some(Box::new(look));
                }
            }
            Order::Mark(kind) => self.mark(id, kind),
            Order::Finish => self.finish(id),
            Order::Give(log, to) => self.give(id, log, to),
        }
    }

    fn attach(&mut self, stream: Stream) {
        let (id, who, begins) = (stream.id, stream.who.clone(), stream.begins);
        let (log, origin) = (Arc::clone(&stream.log), stream.origin);
        let key = self.file_for(&log);
        let attached = Pipe::new(stream, key, &self.room)
            .and_then(|pipe| self.epoll.add(&pipe, id.0, Interest::READ_ONCE).map(|()| pipe));
        match attached {
            Ok(pipe) => {
                self.watch_width(pipe.is_watched());
                self.pipes.insert(id, Box::new(pipe));
                self.join(key, id);
                if begins {
                    self.mark_now(id, Kind::Started);
                }
            }
            Err(fault) => {
                self.closed.insert(id, Closed { bytes: 0, log, origin });
                self.forget_if_unused(key);
                self.news.push(Report::Trouble { fault, next: Next::Dropped { service: who.into() } });
                self.news.push(Report::Closed { id });
            }
        }
    }

    fn join(&mut self, key: FileKey, id: StreamId) {
        if let Some(file) = self.files.get_mut(&key) {
            file.streams.push(id);
        }
    }

    pub(super) fn part(&mut self, key: FileKey, id: StreamId) {
        if let Some(file) = self.files.get_mut(&key) {
            file.streams.retain(|other| *other != id);
        }
        self.forget_if_unused(key);
    }

    fn retarget(&mut self, id: StreamId, log: Arc<LogTarget>) {
        let key = self.file_for(&log);
        let Some(pipe) = self.pipes.get_mut(&id) else { return self.forget_if_unused(key) };
        let before = std::mem::replace(&mut pipe.file, key);
        if before == key {
            return;
        }
        let held = pipe.flow == Flow::Held;
        self.join(key, id);
        self.part(before, id);
        if held {
            self.enqueue(id);
        }
    }

    fn give(&mut self, id: StreamId, log: Arc<LogTarget>, to: Hand) {
        let what = if let Some(pipe) = self.pipes.remove(&id) {
            // Others may hold copies of the pipe. It fails only if it is not there.
            let _ = self.epoll.delete(&*pipe);
            self.part(pipe.file, id);
            Either::Open(pipe)
        } else if let Some(closed) = self.closed.remove(&id) {
            Either::Closed(closed)
        } else {
            return;
        };
        if let Err(back) = self.inbox.give(to, Moved { id, log, what }) {
            self.adopt(back);
        }
    }

    pub(super) fn adopt(&mut self, moved: Moved) {
        let Moved { id, log, what } = moved;
        match what {
            Either::Closed(closed) => drop(self.closed.insert(id, Closed { log, ..closed })),
            Either::Open(mut pipe) => {
                let key = self.file_for(&log);
                pipe.file = key;
                if let Err(fault) = self.epoll.add(&*pipe, id.0, Interest::READ_ONCE) {
                    let service = String::from(&pipe.who);
                    self.news.push(Report::Trouble { fault, next: Next::Dropped { service } });
                    self.news.push(Report::Closed { id });
                    self.closed.insert(id, Closed { bytes: pipe.bytes, log, origin: pipe.origin });
                    self.forget_if_unused(key);
                } else {
                    self.watch_width(pipe.is_watched());
                    self.pipes.insert(id, pipe);
                    self.join(key, id);
                    self.enqueue(id);
                }
            }
        }
        let (mine, others) = std::mem::take(&mut self.early).into_iter().partition(|(other, _)| *other == id);
        self.early = others;
        let mine: Vec<(StreamId, Order)> = mine;
        mine.into_iter().for_each(|(id, order)| self.carry_out(id, order));
    }

    /// Its run is gone: what is in the pipe now is the last of it, and goes first.
    pub(super) fn finish(&mut self, id: StreamId) {
        if let Some(Closed { bytes, .. }) = self.closed.remove(&id) {
            self.inbox.forget(id);
            self.news.push(Report::Finished { id, bytes });
        } else if let Some(pipe) = self.pipes.get_mut(&id) {
            pipe.last_bytes = Some(pipe.waiting() as u64);
            if pipe.flow != Flow::Held {
                self.take_turn(id, usize::MAX);
            }
        }
    }
}
