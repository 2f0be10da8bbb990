//! Options of `logs`.

use clap::Args;
use jiff::Zoned;
use regex::bytes::{Regex, RegexBuilder};

use crate::cli::commands::logs_time;

const EXAMPLES: &str = "Examples:
  relume logs                    the last 10 lines of every service, in the order they were written
  relume logs -n 100 web         the last 100 of one
  relume logs -f web worker      follow two, until Ctrl+C; rotation loses nothing
  relume logs 'web*' group/jobs  services by pattern and by group
  relume logs --since 10m --grep 'error|panic' web
  relume logs --since '5 minutes ago' -n 50 -f
  relume logs --run -1 web       all that the life before the present one has written
  relume logs -n all web > web.txt
  relume logs --self             relume's own log

Works while no manager is running, and over old files that rotation has compressed. With --since, --until, --grep \
or --run all lines that match are shown unless -n is given. On a terminal, lines between the output say when \
services started and ended, and escape sequences in the output are made harmless.";

/// Options of `logs`.
#[derive(Debug, Clone, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogsArgs {
    /// Only these services (or group/NAME, or a pattern: 'web*')
    #[arg(value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Go on showing what is written
    #[arg(short = 'f', long, conflicts_with = "until")]
    pub(crate) follow: bool,
    /// So many lines of each service, or all [default: 10]
    #[arg(short = 'n', long = "lines", value_name = "N", value_parser = line_count, alias = "tail")]
    pub(crate) lines: Option<u64>,
    /// What was written at this time or later: 10m (ago), 14:30, 2026-11-21, 'yesterday', RFC 3339
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub(crate) since: Option<i64>,
    /// What was written before this time
    #[arg(long, value_name = "TIME", value_parser = time, allow_hyphen_values = true)]
    pub(crate) until: Option<i64>,
    /// Lines in which this regular expression matches
    #[arg(short = 'g', long, value_name = "REGEX", value_parser = regex)]
    grep: Option<Regex>,
    /// --grep takes upper and lower case for the same
    #[arg(short = 'i', long, requires = "grep")]
    ignore_case: bool,
    /// Lines of several services without the names in front
    #[arg(long, alias = "no-log-prefix")]
    pub(crate) no_prefix: bool,
    /// What this run has written; -1: the run before the last one
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub(crate) run: Option<i64>,
    /// Show when each line was written
    #[arg(short = 't', long)]
    pub(crate) timestamps: bool,
    /// relume's own log
    #[arg(long = "self", conflicts_with = "names")]
    pub(crate) own: bool,
    /// Show escape sequences to the terminal as they are
    #[arg(long)]
    pub(crate) raw: bool,
    /// Say when services started and ended, also where the output is no terminal
    #[arg(long, overrides_with = "no_markers")]
    pub(crate) markers: bool,
    /// Do not say when services started and ended
    #[arg(long)]
    pub(crate) no_markers: bool,
}

/// Lines of each service when nothing else says how much is wanted.
const SOME: u64 = 10;

impl LogsArgs {
    /// The lines that are wanted.
    pub(crate) fn grep(&self) -> Option<Regex> {
        let grep = self.grep.as_ref()?;
        let folded = || RegexBuilder::new(grep.as_str()).case_insensitive(true).build().ok();
        // It was understood with the case, so it is understood without.
        Some(self.ignore_case.then(folded).flatten().unwrap_or_else(|| grep.clone()))
    }

    /// Not every line is wanted, whatever their number.
    pub(crate) fn is_filtered(&self) -> bool {
        self.since.is_some() || self.until.is_some() || self.grep.is_some() || self.run.is_some()
    }

    /// How many lines of each service.
    pub(crate) fn most(&self) -> u64 {
        self.lines.unwrap_or(if self.is_filtered() { u64::MAX } else { SOME })
    }
}

pub(super) fn line_count(text: &str) -> Result<u64, String> {
    if text == "all" { Ok(u64::MAX) } else { text.parse().map_err(|_| "a number, or all".to_owned()) }
}

fn time(text: &str) -> Result<i64, String> {
    logs_time(text, &Zoned::now())
}

fn regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}
