//! Who starts next: services whose dependencies are met queue here, first come, first served.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::id::ServiceId;

/// Two lines, so that a restart held back by the rate holds back nobody else.
#[derive(Debug, Default)]
pub(crate) struct StartQueue {
    next_place: u64,
    places: BTreeMap<ServiceId, (Line, u64)>,
    asked: BTreeSet<(u64, ServiceId)>,
    automatic: BTreeSet<(u64, ServiceId)>,
    /// Those that have not yet been told what they wait for.
    untold: BTreeSet<ServiceId>,
}

/// Which line a service stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Starts that were asked for: a place among the parallel starts is enough.
    Asked,
    /// Automatic restarts: they need the rate's consent too.
    Automatic,
}

impl StartQueue {
    /// Puts a service at the end of a line; one that stands in it already keeps its place.
    pub(crate) fn push(&mut self, service: ServiceId, line: Line) {
        if let Some((known, _)) = self.places.get(&service) {
            if *known == line {
                return;
            }
            self.remove(service);
        }
        let place = self.next_place;
        self.next_place += 1;
        self.places.insert(service, (line, place));
        self.line(line).insert((place, service));
        self.untold.insert(service);
    }

    /// Takes a service out, wherever it stands.
    pub(crate) fn remove(&mut self, service: ServiceId) {
        if let Some((line, place)) = self.places.remove(&service) {
            self.line(line).remove(&(place, service));
            self.untold.remove(&service);
        }
    }

    /// The first of a line.
    pub(crate) fn first(&self, line: Line) -> Option<ServiceId> {
        let places = match line {
            Line::Asked => &self.asked,
            Line::Automatic => &self.automatic,
        };
        places.first().map(|(_, service)| *service)
    }

    /// Those that joined since they were last asked for; each is given out once.
    pub(crate) fn take_untold(&mut self) -> BTreeSet<ServiceId> {
        core::mem::take(&mut self.untold)
    }

    /// The line a service stands in.
    pub(crate) fn line_of(&self, service: ServiceId) -> Option<Line> {
        self.places.get(&service).map(|(line, _)| *line)
    }

    /// Whether automatic restarts wait.
    pub(crate) fn has_automatic(&self) -> bool {
        !self.automatic.is_empty()
    }

    fn line(&mut self, line: Line) -> &mut BTreeSet<(u64, ServiceId)> {
        match line {
            Line::Asked => &mut self.asked,
            Line::Automatic => &mut self.automatic,
        }
    }
}
