//! The core against stories of what happens to services: one plain sentence each, grouped by subject, and the
//! table of every state and event that is made from them.

mod support;

mod cold;
mod commands;
mod configuration;
mod crossing;
mod dependencies;
mod forking;
mod health;
mod hooks;
mod planning;
mod readiness;
mod recovering;
mod requests;
mod respawn_rate;
mod restarting;
mod shutdown;
mod stale;
mod starting;
mod stopping;

mod random;
mod table;
mod walk;
