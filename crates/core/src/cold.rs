//! What outlives a boot of the machine, or a memory that was lost: enough for the next supervisor to keep
//! faith with what was asked, and to give no life the name of an earlier one.
//!
//! A [`Moment`](crate::Moment) means something only within the boot it was taken in, so whoever hands in
//! something of another boot leaves out what has moments in it ([`Remembered::of_another_boot`]).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::id::{RunId, ServiceId};
use crate::record::{End, History, Intent, Record, Snapshot};

/// What is remembered of a service that no journal tells of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its name.
    pub name: String,
    /// What the operator asked last.
    pub intent: Intent,
    /// The last generation taken; new ones are above it.
    pub generation: u64,
    /// Digest of what the latest run was started with.
    pub launch: u64,
    /// Automatic restarts so far.
    pub restarts: u64,
    /// Failures and retries that count against it.
    pub history: History,
    /// How the latest run ended.
    pub last_end: Option<End>,
}

impl Remembered {
    /// What is to be remembered of a service.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        Self {
            name: String::from(&record.name),
            intent: record.intent,
            generation: record.generation,
            launch: record.launch,
            restarts: record.restarts,
            history: (*record.history).clone(),
            last_end: record.last_end.as_deref().cloned(),
        }
    }

    /// Of an earlier relume that has left in order: of what was asked only a stop outlives it, and nothing
    /// counts against anybody.
    #[must_use]
    pub fn after_leaving(mut self) -> Self {
        if self.intent == Intent::Up {
            self.intent = Intent::Auto;
        }
        self.history = History::default();
        self
    }

    /// Without what means something only in the boot it was noted in.
    #[must_use]
    pub fn of_another_boot(self) -> Self {
        Self { last_end: None, ..self.after_leaving() }
    }

    fn into_record(self, service: ServiceId) -> Record {
        let mut record = Record::new(self.name.into());
        record.intent = self.intent;
        record.generation = self.generation;
        record.launch = self.launch;
        record.restarts = self.restarts;
        record.history = self.history.into();
        let own = |end: End| End { run: RunId { service, ..end.run }, ..end };
        record.last_end = self.last_end.map(own).map(Box::new);
        record
    }
}

impl Snapshot {
    /// A memory in which nothing runs and of each service only this is known. Ids are given out in the order
    /// of `services`; of two with one name the first counts. Facts are numbered from `seq` on.
    ///
    /// `Supervisor::recover` takes it like any other: whatever lives all the same is adopted.
    #[must_use]
    pub fn cold(seq: u64, services: impl IntoIterator<Item = Remembered>) -> Self {
        let mut seen = BTreeSet::new();
        let all: Vec<Remembered> =
            services.into_iter().filter(|service| seen.insert(service.name.clone())).collect();
        let ids = (0_u32..).map(ServiceId);
        let next_id = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let services = ids.zip(all).map(|(id, service)| (id, service.into_record(id))).collect();
        Self { seq, next_id, services, ..Self::default() }
    }
}
