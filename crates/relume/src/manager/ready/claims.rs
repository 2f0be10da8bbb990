//! A run whose main process is another one from now on, as its service says (`MAINPID`).

use relume_core::RunId;
use relume_os::pidfd::{PidFd, ProcessId};

use super::Claim;
use crate::manager::edge::Edge;
use crate::manager::publish::Level;
use crate::manager::runs::Stage;

impl Edge {
    pub(super) fn claim(&mut self, id: RunId, pid: u32) {
        let Some(run) = self.runs.get(&id) else { return };
        let Some((main, _)) = run.main() else { return };
        let Some(voice) = self.ready_runs.voices.get_mut(&id).filter(|voice| !voice.settled) else { return };
        match &mut voice.claim {
            Some(claim) => claim.next = Some(pid),
            None if main.pid == pid => {}
            None => {
                voice.claim = Some(Box::new(Claim { pid, next: None, ended: false }));
                self.trees.claim(id, &run.tree, pid);
            }
        }
    }

    /// Whether the end of a run's main process has to wait: its last words may have named another.
    pub(crate) fn holds_end(&mut self, id: RunId) -> bool {
        self.hear_socket(id);
        let held = self.ready_runs.voices.get_mut(&id).and_then(|voice| voice.claim.as_mut());
        let (Some(claim), Some(run)) = (held, self.runs.get(&id)) else { return false };
        claim.ended = true;
        if let Stage::Main { pidfd, .. } = &run.stage {
            // It stays ready for ever.
            let _gone = self.epoll.delete(pidfd);
        }
        true
    }

    /// Whether the process that was claimed is one of the run's: then it is the main one from now on.
    pub(crate) fn claimed(&mut self, id: RunId, found: Option<(ProcessId, PidFd)>) {
        let Some(voice) = self.ready_runs.voices.get_mut(&id) else { return };
        let Some(claim) = voice.claim.take() else { return };
        match found {
            Some((process, pidfd)) => self.change_main(id, process, pidfd),
            None => {
                let text = format!(
                    "{}: {} is no process of its own: MAINPID ignored",
                    self.name_of_run(id),
                    claim.pid
                );
                self.say(Level::Warn, text);
                if claim.ended {
                    // One that goes on claiming cannot put off the end for ever.
                    self.settle(id);
                    self.main_ended(id);
                    return;
                }
            }
        }
        if let Some(next) = claim.next {
            self.claim(id, next);
        }
    }

    fn settle(&mut self, id: RunId) {
        if let Some(voice) = self.ready_runs.voices.get_mut(&id) {
            voice.settled = true;
        }
    }

    fn change_main(&mut self, id: RunId, process: ProcessId, pidfd: PidFd) {
        let Some(Stage::Main { pidfd: old, .. }) = self.runs.get(&id).map(|run| &run.stage) else { return };
        let _gone = self.epoll.delete(old);
        self.watched.retain(|_, watched| *watched != (id, None));
        self.watch_process(id, None, &pidfd);
        if let Some(run) = self.runs.get_mut(&id) {
            run.stage = Stage::Main { process, pidfd };
        }
        self.note_main(id, process);
        // The old one is a child like any other now.
        self.expect_orphans();
    }
}
