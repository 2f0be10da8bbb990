//! What is done before, beside and after the moving of bytes: chunks of a predecessor, and marks in the index.

use std::sync::Arc;

use super::StreamId;
use super::ledger;
use super::report::Report;
use super::slot::Slot;
use super::thread::Worker;
use crate::output_index::{Kind, Record};

impl Worker {
    /// First of all: what a killed predecessor had read and not written goes where its slot says.
    pub(super) fn bring_home(&mut self, inherited: Vec<Slot>) {
        for slot in inherited {
            let target = slot.target();
            if !target.path.is_absolute() {
                // Its path was longer than a slot has room for, and nothing else tells where it belongs.
                self.news.push(Report::Lost { path: target.path.to_path_buf(), bytes: slot.left() });
                continue;
            }
            let key = self.file_for(&Arc::new(target));
            if let Some(file) = self.files.get_mut(&key) {
                file.keep(slot);
                self.retry_file(key);
            }
        }
        self.tell();
    }

    /// Something has happened to the run: after all that its pipe holds, the index says so.
    pub(super) fn mark(&mut self, id: StreamId, kind: Kind) {
        if let Some(pipe) = self.pipes.get(&id) {
            let mut left = pipe.waiting();
            while left > 0 && self.files.get(&pipe_file(self, id)).is_some_and(|file| file.trouble.is_none())
            {
                let wanted = left.min(super::slot::SLOT_BYTES);
                if !self.move_chunk(id, wanted) {
                    break;
                }
                left -= wanted;
            }
        }
        self.mark_now(id, kind);
    }

    /// The index says it at the place that the log has reached; also when the service has closed its output.
    pub(super) fn mark_now(&mut self, id: StreamId, kind: Kind) {
        let (origin, key) = match (self.pipes.get(&id), self.closed.get(&id)) {
            (Some(pipe), _) => (pipe.origin, pipe.file),
            (None, Some(closed)) => {
                let (origin, log) = (closed.origin, Arc::clone(&closed.log));
                // What the file is told by others of it holds: they write to it still.
                (origin, self.file_of(&log.path).unwrap_or_else(|| self.file_for(&log)))
            }
            (None, None) => return,
        };
        let record = Record { offset: 0, at: ledger::now_ns(), run: origin.run, kind };
        let Some(file) = self.files.get_mut(&key) else { return };
        let pass = super::file::Pass { disk: self.disk.as_ref(), now: self.now, news: Vec::new() };
        file.mark(&pass, record);
        self.used(key);
        self.forget_if_unused(key);
    }
}

fn pipe_file(worker: &Worker, id: StreamId) -> u64 {
    worker.pipes.get(&id).map_or(0, |pipe| pipe.file)
}
