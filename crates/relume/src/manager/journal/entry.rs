//! What is noted in the journal.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use relume_core::{Fact, Name, Outcome, RunId, RunKind, ServiceId, Snapshot, Ticket};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::manager::operations::Operation;
use crate::manager::ready::KeptEars;

/// One note. Members are named in the file, so a version that knows more or fewer can read it. Borrowed where it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Entry<'a> {
    /// All there is to know, at the beginning of a half.
    Checkpoint(Box<Checkpoint<'a>>),
    /// Something that is so from now on.
    Fact(Cow<'a, Fact>),
    /// A run has this process.
    Began(RunId, Cow<'a, Kept>),
    /// Nothing is left of a run.
    Gone(RunId),
    /// Somebody waits for this.
    Asked(Cow<'a, Operation>),
    /// What came of it for one service.
    Answered(Ticket, ServiceId, Cow<'a, Outcome>),
}

/// All there is to know.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Checkpoint<'a> {
    /// The core's memory.
    pub(super) snapshot: Cow<'a, Snapshot>,
    /// The runs that have a process.
    #[serde(with = "pairs")]
    pub(super) runs: Cow<'a, BTreeMap<RunId, Box<Kept>>>,
    /// When supervision began.
    pub(super) began: u64,
    /// How often a manager has come back.
    pub(super) recoveries: u64,
    /// How often one has replaced itself on purpose.
    #[serde(default)]
    pub(super) respawns: u64,
    /// What clients wait for.
    #[serde(default)]
    pub(super) operations: Vec<Operation>,
}

/// What names a run's process for a successor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The service.
    pub(crate) name: Name,
    /// What the run is for.
    pub(crate) kind: RunKind,
    /// Its first process, or the main one once that was found.
    pub(crate) pid: u32,
    /// When that was started (field 22 of /proc/PID/stat).
    pub(crate) start_time: u64,
    /// The value of `RELUME_RUN`; empty: what follows from name and generation.
    pub(crate) tag: Box<str>,
    /// Device and inode of each pipe of its output.
    #[serde(default)]
    pub(crate) pipes: SmallVec<[(u64, u64); 1]>,
    /// When it was started, in nanoseconds on CLOCK_MONOTONIC.
    #[serde(default)]
    pub(crate) began: u64,
    /// How it says that it is ready; none for what is no service's own process.
    #[serde(default)]
    pub(crate) ears: Option<Box<KeptEars>>,
    /// Where its processes are.
    #[serde(default)]
    pub(crate) home: Home,
}

/// Where the processes of a run are. That another manager has cgroups says nothing about how this run was started.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Home {
    /// Nobody has noted it.
    #[default]
    Unknown,
    /// Anywhere: they are known by session, descent and tag.
    Open,
    /// In this cgroup.
    Cgroup(Arc<Path>),
}

/// A map whose keys are no strings, as a list of pairs.
mod pairs {
    use std::borrow::Cow;
    use std::collections::BTreeMap;

    use relume_core::RunId;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Kept;

    pub(super) fn serialize<S: Serializer>(
        runs: &BTreeMap<RunId, Box<Kept>>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(runs.iter())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Cow<'static, BTreeMap<RunId, Box<Kept>>>, D::Error> {
        Ok(Cow::Owned(Vec::<(RunId, Box<Kept>)>::deserialize(from)?.into_iter().collect()))
    }
}
