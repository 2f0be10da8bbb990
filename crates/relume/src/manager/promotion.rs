//! The guardian is dead: this process takes its part.
//!
//! It executes itself as the guardian. Its children stay its children, so no end of a service is lost; its descriptors stay open, so
//! no byte in a pipe is lost; what it knows is in the journal, which a new manager reads as after any other death. Before the exec
//! it lets starts that are under way come to their end and the capture thread finish the chunk it has in hand; both are only
//! kinder than being killed, which recovery also survives, so neither is waited for long.

use std::path::Path;
use std::time::Duration;

use relume_core::Moment;

use super::edge::Edge;
use super::publish::Level;
use crate::guardian::link::{How, Why};
use crate::guardian::table;

/// How long starts under way may hold it up. Services are supervised meanwhile, but nobody guards us.
const STARTS: Duration = Duration::from_millis(100);

/// How long the chunk in hand may: a disk that is slower than that is slower than our patience.
const CHUNK: Duration = Duration::from_millis(100);

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(1);

/// The program that runs this process, whatever lies at its path by now: it is known to work.
const OWN_PROGRAM: &str = "/proc/self/exe";

impl Edge {
    /// Becomes the guardian as soon as that costs nothing; comes back with when to try again.
    pub(super) fn promote(&mut self) -> Option<Moment> {
        let (now, lost) = (Self::now(), self.attention.lost?);
        if !self.is_alone() {
            // A manager would come up between the two.
            return Some(now.after(LOOK));
        }
        if let Some(at) = self.attention.promote_at.filter(|at| *at > now) {
            return Some(at);
        }
        if self.spawns_under_way > 0 && now.since(lost) < STARTS {
            return Some(now.after(LOOK));
        }
        let error = {
            let _between_chunks = self.capture.halt(CHUNK);
            let hung = self.attention.struck;
            let (how, text) = match hung {
                Some(period) => (How::Silence, format!("its guardian had not answered for {period:?}")),
                None => (How::Signal, "the death of its guardian".to_owned()),
            };
            let why = Why { text, how, since: Self::now().0 };
            let period = self.attention.period();
            table::become_guardian(Path::new(OWN_PROGRAM), &self.keeper.table(why, period))
        };
        let text = format!(
            "this process cannot take the guardian's part: {error}; trying again, nobody would start it again"
        );
        self.say(Level::Error, text);
        let at = now.after(AGAIN);
        self.attention.promote_at = Some(at);
        Some(at)
    }
}
