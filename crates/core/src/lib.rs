//! The supervision of services as a pure state machine.
//!
//! # Theory of operation
//!
//! A [`Supervisor`] is told what happens ([`Event`]) and at which [`Moment`]; it answers with what is to be
//! done ([`Action`]) and with what is so from now on ([`Fact`]). It has no clock, no file, no thread, no
//! randomness but a seeded generator, and no error type: it does not touch the world, so it cannot fail.
//! Trouble in doing an action comes back as an event. The same history in gives the same bytes out, so any
//! failure replays from one number.
//!
//! Three things are never mixed. [`Intent`] is what the operator asked for. [`Goal`] is what the graph of
//! dependencies therefore wants now. [`State`] is what is so. A step *absorbs* one event, *settles* goals
//! through the graph with a work list, *decides* for each marked service with one pure match, and *applies*
//! each decision by noting facts: folding a fact into the [`Snapshot`] is the only way in which anything
//! remembered changes, so a checkpoint and the facts since are the supervisor's memory, always.
//!
//! A wait lives inside the state that waits, together with its deadline; leaving the state is how a wait
//! ends. A life of a service has a name of its own ([`RunId`]), chosen before its process exists, so news of
//! an earlier life is recognised.
//!
//! # What it must never do
//!
//! Read a clock, open anything, wait, log, print, panic on any event, start a second life of a service, or
//! change a record other than by a fact.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod absorb;
mod action;
mod cause;
mod cold;
mod configure;
mod decide;
mod event;
mod fact;
pub mod graph;
mod health;
mod id;
pub mod invariants;
mod lives;
mod moment;
mod name;
mod orders;
mod plan;
pub mod planted;
mod policy;
mod rare;
mod record;
mod recover;
mod requests;
mod restart;
mod rng;
mod settle;
mod sides;
mod starts;
mod state;
mod supervisor;
mod word;

pub use action::{Action, Outbox, Outcome, Signal};
pub use cause::{Away, Cause, Exit, SpawnError};
pub use cold::Remembered;
pub use decide::Goal;
pub use event::{Command, Config, Event, Rest};
pub use fact::{Fact, What};
pub use health::{Check, Checks, Count, Health, Rule};
pub use id::{Hook, RunId, RunKind, ServiceId, Ticket};
pub use lives::{KILL_AGAIN, SLOT_HELD};
pub use moment::Moment;
pub use name::Name;
pub use plan::{Change, Fate};
pub use policy::*;
pub use rare::{Rare, Usual};
pub use record::{
    End, History, Intent, REMOVED_KEPT, RESTARTS_KEPT, Record, Shutdown, Side, SidePhase, Snapshot,
};
pub use recover::Survivor;
pub use restart::SHORTAGE_DELAY;
pub use rng::Rng;
pub use sides::MISSING;
pub use state::{Pace, StartPhase, State, StopPhase, WaitFor};
pub use supervisor::{Deadline, Supervisor};
pub use word::Word;
