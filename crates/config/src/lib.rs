//! Text in, services out: what a config file says, as specs for the supervisor, and everything that is wrong
//! with it, in one go, each with file, line and column.
//!
//! # How it works
//!
//! 1. **Read.** Each format has its own reader (`read`). All of them fill the same tree of
//!    `Node`s, in which every value knows its place. After that no code knows which format it was.
//! 2. **Gather.** The files named by `include` are asked from [`Files`], `${VAR}` is replaced, `defaults` are
//!    merged under the services of their file and of its includes.
//! 3. **Decode.** The tree is a `serde::Deserializer`; the `raw` types are plain derives whose doc
//!    comments are also the JSON Schema and the reference page. An error is noted at its node, the node is cut
//!    off, and the rest is decoded again, so one run shows all errors.
//! 4. **Lower.** Raw values become [`ServiceConfig`]s: defaults filled in, paths absolute, environment merged,
//!    instances spread, rules that span several keys checked, the graph judged.
//!
//! # What it must never do
//!
//! Open a file, read the clock or the process's environment (all of that is handed in), panic on any input,
//! take unbounded time or memory on any input (see `limits`), or print an environment value
//! through `Debug`: those are secrets.
#![forbid(unsafe_code)]

mod alert;
mod de;
mod diagnostic;
mod digest;
mod dotenv;
mod env_files;
mod expand;
mod files;
mod forward;
mod gather;
mod glob;
mod limits;
mod load;
mod lower;
mod maturity;
mod model;
mod names;
mod nearest;
mod node;
mod prepared;
mod raw;
mod read;
mod readiness;
mod resources;
mod schema;
mod secrets;
mod source;
mod stand_in;
mod words;

pub use alert::Alert;
pub use diagnostic::{Diagnostic, Diagnostics, Excerpt, Severity};
pub use files::{Entry, FileError, FileErrorKind, Files};
pub use forward::{Address, Forward, Receiver};
pub use glob::expand as matching;
pub use load::{DISCOVERY, Loaded, Options, Override, load};
pub use model::*;
pub use prepared::Prepared;
pub use readiness::{GrpcTarget, HttpTarget, Probe, ProbeTarget, Probes, Readiness, Said};
pub use resources::{Limits, Resources, Socket, SocketAddress, SocketKind};
pub use schema::{reference_markdown, schema};
pub use stand_in::{Container, Engine, External, Port, StandIn, Volume};
