//! What is fuzzed: every parser that sees bytes of somebody else, each through the door that relume uses.
//!
//! A target must end without a panic, within libFuzzer's time and memory, and hold what it asserts. What it finds becomes an
//! ordinary test beside the parser; the bytes themselves go into `seeds/`. See `run`.

mod config;
mod manager;
mod words;

pub use config::{config_ini, config_json, config_toml, config_yaml, env_file};
pub use manager::{channel, journal};
pub use words::{api, notify, state};
