//! The config from outside: text in, specs and findings out. One test binary, so that it is linked once.

mod commands;
mod common;
mod examples;
mod files;
mod findings;
mod formats;
mod hostile;
mod readiness;
mod reference;
mod resources;
mod secrets;
mod services;
