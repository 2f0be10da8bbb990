//! A world for the core to live in: a clock that only moves when told to, one-line verbs for all that can
//! happen, and readable expectations. Every step is checked in full, whatever the scenario looks at.

mod expect;
mod kinds;
mod say;
mod scenario;
mod svc;
mod verbs;
mod world;

pub(crate) use kinds::{STATES, waited_hook};
pub(crate) use scenario::{Scenario, scenarios};
pub(crate) use svc::{HOOK, Svc, secs, svc};
pub(crate) use world::{Reached, World};

pub(crate) use relume_core::*;
