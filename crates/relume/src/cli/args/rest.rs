//! The words of the verbs that judge a config, put it in force, and say why things are as they are.

use clap::Args;

/// Options of `check`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  relume check                    every error and warning of the config
  relume check --deep             and whether it can work here: programs, users, folders, ports, disk
  relume check --json             for editors and scripts

Values of variables and passwords are not shown in the lines it quotes, unless --show-secrets asks for them.

Exit codes: 0 it can be used, 1 it can be read and will not work here (--deep), 2 it cannot be used")]
pub(crate) struct CheckArgs {
    /// Look whether it can work on this machine, too
    #[arg(long)]
    pub(crate) deep: bool,
    /// Quote lines as they are, with passwords
    #[arg(long)]
    pub(crate) show_secrets: bool,
}

/// Options of `apply`.
#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:
  relume apply                    returns when what it started or restarted is up
  relume apply --no-wait          returns as soon as the config holds

Exit codes: 0 it holds (and what it started is up), 1 something that it started is not well, 2 it cannot be used")]
pub(crate) struct ApplyArgs {
    /// Do not wait for what it starts
    #[arg(long)]
    pub(crate) no_wait: bool,
}

/// Options of `explain`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  relume explain web              why it is as it is: what led to it, its last lines, what comes next
  relume explain web --json       all of it, for scripts

While no manager runs it tells what is kept in the state file.")]
pub(crate) struct ExplainArgs {
    /// The service
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// So many of the last lines of its log
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 20)]
    pub(crate) lines: u32,
}
