//! One readable line for each event, fact and action.

use std::collections::BTreeMap;
use std::io::Write;

use relume_core::{Action, Event, Fact, Moment, ServiceId, Snapshot, What};

/// Where the lines go; nowhere, unless asked for.
#[derive(Debug)]
pub struct Trace {
    on: bool,
    names: BTreeMap<ServiceId, String>,
}

impl Trace {
    /// One that writes to standard output, or not at all.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on, names: BTreeMap::new() }
    }

    /// Something outside of the core.
    pub fn note(&self, now: Moment, text: impl FnOnce() -> String) {
        if self.on {
            line(&format!("{now} -- {}", text()));
        }
    }

    /// What the core is told.
    pub fn event(&mut self, now: Moment, clock: Moment, event: &Event, memory: &Snapshot) {
        if !self.on {
            return;
        }
        self.names = memory.services.iter().map(|(id, record)| (*id, record.name.to_string())).collect();
        let late = if clock < now { format!(" (clock says {clock})") } else { String::new() };
        let text = match event {
            Event::Configured(config) => {
                let names: Vec<_> = config.services.iter().map(|spec| spec.name.as_str()).collect();
                format!("Configured {names:?} {:?} {:?}", config.manager, config.services)
            }
            other => format!("{other:?}"),
        };
        line(&format!("{now} => {}{late}", self.named(&text)));
    }

    /// What the core says is so.
    pub fn fact(&mut self, fact: &Fact) {
        if !self.on {
            return;
        }
        if let What::Added { service, name } = &fact.what {
            self.names.insert(*service, name.to_string());
        }
        let text = match &fact.what {
            What::Moved { service, to, .. } => format!("{service:?} is {to:?}"),
            what => format!("{what:?}"),
        };
        line(&format!("{}     {}", fact.at, self.named(&text)));
    }

    /// What the core wants done.
    pub fn action(&self, now: Moment, action: &Action) {
        if self.on {
            line(&format!("{now} <= {}", self.named(&format!("{action:?}"))));
        }
    }

    /// Ids replaced by names, runs shortened: `db#3`.
    fn named(&self, text: &str) -> String {
        let mut text = text.to_string();
        for (id, name) in self.names.iter().rev() {
            let run = format!("RunId {{ service: ServiceId({}), generation: ", id.0);
            while let Some(at) = text.find(&run) {
                let Some(end) = text[at..].find(" }") else { break };
                let generation = text[at + run.len()..at + end].to_string();
                text.replace_range(at..at + end + 2, &format!("{name}#{generation}"));
            }
            text = text.replace(&format!("ServiceId({})", id.0), name);
        }
        text
    }
}

fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever reads the trace may stop reading; that is no failure of the run.
    let _ = writeln!(out, "{text}");
}
