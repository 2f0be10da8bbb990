//! Folding the facts from any checkpoint gives the memory of the core.

use relume_core::{Fact, Snapshot};

/// What a manager leaves behind: a checkpoint and the facts since.
#[derive(Debug, Default)]
pub struct Journal {
    checkpoint: Snapshot,
    facts: Vec<Fact>,
}

impl Journal {
    /// Records one fact.
    pub fn append(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// What a reader of the journal comes to know.
    #[must_use]
    pub fn read(&self) -> Snapshot {
        let mut read = self.checkpoint.clone();
        for fact in &self.facts {
            read.fold(fact);
        }
        read
    }

    /// Reads the journal, compares it with the memory of the core, and begins it anew.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&mut self, memory: &Snapshot) -> Result<(), String> {
        let read = self.read();
        if &read != memory {
            return Err(difference(&read, memory));
        }
        self.checkpoint = read;
        self.facts.clear();
        Ok(())
    }
}

/// Where two memories differ.
fn difference(read: &Snapshot, memory: &Snapshot) -> String {
    for (id, record) in &memory.services {
        if read.services.get(id) != Some(record) {
            let found = read.services.get(id);
            return format!("{}: the facts say {found:?}, the core says {record:?}", record.name);
        }
    }
    format!("the facts give {read:?}, the core says {memory:?}")
}
