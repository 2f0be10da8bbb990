//! What the program's `manager::ready` exports to the files that are compiled in.

#[path = "../../../crates/relume/src/manager/ready/ears.rs"]
mod ears;
#[path = "../../../crates/relume/src/manager/ready/words.rs"]
mod words;

pub(crate) use ears::KeptEars;
pub(crate) use words::{STATUS_LIMIT, Words};
