//! Bounds on what a config may cost. A config that is refused is a message; a config that fills the memory is
//! an outage. All of them are far above what 10,000 services need.

/// Bytes of one config file. 10,000 services of 800 bytes are half of it.
pub(crate) const FILE_BYTES: u64 = 16 << 20;
/// Bytes of one `env_file`: the kernel takes no more than that for all strings of an exec either
/// (execve(2), a quarter of the usual 8 MiB stack).
pub(crate) const ENV_FILE_BYTES: u64 = 2 << 20;
/// Values in all files together, after YAML aliases are followed: 10,000 services with 50 values each.
pub(crate) const VALUES: usize = 500_000;
/// Levels of lists and maps inside each other. The deepest key that exists is at 7.
pub(crate) const DEPTH: usize = 64;
/// Config files in one load.
pub(crate) const FILES: usize = 4096;
/// Includes inside each other.
pub(crate) const INCLUDE_DEPTH: usize = 16;
/// Errors shown; whoever has more fixes those first.
pub(crate) const ERRORS: usize = 100;
/// Instances of one service: more processes than that do not fit under the default pid_max of 32768.
pub(crate) const INSTANCES: u32 = 10_000;
/// Warnings shown: a whole file of keys of a later version warns once for each service.
pub(crate) const WARNINGS: usize = 200;
/// Commas, colons, equals signs and brackets of a text before a parser that builds a whole tree sees it.
pub(crate) const STRUCTURE: usize = 2 * VALUES;
/// Services with all their instances: more processes do not fit under the default pid_max of 32768.
pub(crate) const SERVICES: usize = 32_768;
/// Bytes of all services after `defaults`, instances and files of variables have been copied into each: 10,000
/// services of 6 KiB. Without it one long default times many services would fill the memory.
pub(crate) const EXPANDED_BYTES: usize = 64 << 20;
