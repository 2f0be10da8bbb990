//! Simulation of the supervision core, development only.
//!
//! # Theory of operation
//!
//! The core is the one of the product. Around it stand a fake kernel with process trees ([`world`]), programs
//! that misbehave ([`programs`]), an operator ([`operator`]) and faults ([`faults`]), everything drawn from
//! one seed ([`options`]). A run has two phases. In the first, faults happen and the promises of safety
//! ([`checks`]) are checked at every fact, action and step. In the second, faults have ended and programs are
//! good or hopeless for ever: everything must come to rest where it belongs, and a shutdown must end with
//! nothing left. Each seed runs twice and must say the same to the last byte.
//!
//! # What it must never do
//!
//! Ask the core whether the core is right, read a clock, or draw a number from anywhere but its seed.

#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a check names the few states and facts that it is about; it judges the others by silence"
)]

mod calm;
pub mod checks;
pub mod dice;
pub mod faults;
pub mod hash;
pub mod operator;
pub mod options;
pub mod programs;
mod run;
pub mod sim;
pub mod trace;
pub mod world;

pub use run::{Failure, Outcome, Settings, run_twice};
