//! The config from outside: text in, specs and findings out. One test binary, so that it is linked once.

mod common;
mod findings;
mod formats;
