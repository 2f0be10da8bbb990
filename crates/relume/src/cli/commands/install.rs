//! `relume install`: a systemd unit that runs `relume up`.
//!
//! Only a unit of its own making is ever replaced or removed; it is known by its first line. systemd is asked where it
//! runs; elsewhere (in an image that is being built) the file is written and the rest is said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{configs, no_config};
use crate::cli::args::{Global, InstallArgs, UnitArgs};
use crate::cli::{Exit, Failure, Screen};
use crate::places;

/// The first line of every unit that is ours.
const MARK: &str =
    "# Made by `relume install`; `relume uninstall` removes it. Changes belong into a drop-in:";

/// Writes the unit, or prints it.
pub(crate) fn run(args: &InstallArgs, global: &Global, screen: &Screen) -> Result<Exit, Failure> {
    let unit = Unit::of(args, global)?;
    let text = unit.text();
    if args.print {
        screen.result(&text);
        return Ok(Exit::Done);
    }
    let place = place(&args.unit)?;
    let path = place.join(file_name(&args.unit));
    refuse_strangers(&path)?;
    fs::create_dir_all(&place).map_err(|error| failed("make", &place, &error))?;
    let written =
        relume_os::files::write_atomic(&path, text.as_bytes(), 0o644, relume_os::files::Durability::Disk);
    written.map_err(|error| Failure::new(Exit::NotWell, error.to_string()))?;
    screen.result(&format!("Wrote {}\n", path.display()));
    let mut steps = vec![vec!["daemon-reload".to_owned()]];
    if !args.no_enable {
        let now = args.now.then(|| "--now".to_owned());
        steps.push(["enable".to_owned()].into_iter().chain(now).chain([file_name(&args.unit)]).collect());
    }
    systemctl(&steps, args.unit.user, screen)?;
    if !args.now {
        let start = command(&["start".to_owned(), file_name(&args.unit)], args.unit.user).join(" ");
        screen.result(&format!("Start it with: {start}\n"));
    }
    Ok(Exit::Done)
}

/// What the unit says.
struct Unit {
    program: PathBuf,
    /// Of the command line, in front of the verb.
    options: Vec<String>,
    about: String,
    folder: Option<PathBuf>,
    user: bool,
    account: Option<String>,
}

impl Unit {
    fn of(args: &InstallArgs, global: &Global) -> Result<Self, Failure> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::new(Exit::NotWell, format!("cannot find relume's program: {error}")))?;
        let paths = configs(global);
        if paths.is_empty() {
            return Err(no_config());
        }
        let absolute =
            |path: &PathBuf| std::path::absolute(path).map_err(|error| failed("find", path, &error));
        let paths = paths.iter().map(absolute).collect::<Result<Vec<PathBuf>, Failure>>()?;
        let mut options = Vec::new();
        let whole_machine = global.system && global.configs.is_empty();
        if global.system {
            options.push("--system".to_owned());
        }
        if !whole_machine {
            options.extend(paths.iter().flat_map(|path| ["-c".to_owned(), path.display().to_string()]));
        }
        if let Some(dir) = &global.state_dir {
            options.extend(["--state-dir".to_owned(), absolute(dir)?.display().to_string()]);
        }
        let about = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        let base = places::base_of(&paths, Path::new("/"));
        Ok(Self {
            program,
            options,
            about,
            folder: (!whole_machine).then_some(base),
            user: args.unit.user,
            account: args.run_as.clone(),
        })
    }

    fn line(&self, verb: &str) -> String {
        let program = self.program.display().to_string();
        let words = [program].into_iter().chain(self.options.iter().cloned()).chain([verb.to_owned()]);
        words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
    }

    fn text(&self) -> String {
        let mut out = format!("{MARK}\n# systemctl {}edit NAME\n", if self.user { "--user " } else { "" });
        out.push_str("[Unit]\n");
        out.push_str(&format!("Description=relume: the services of {}\n", self.about.replace('%', "%%")));
        if !self.user {
            out.push_str("After=network.target\n");
        }
        out.push_str("# relume counts its own failures; a start that systemd refuses would help nobody.\n");
        out.push_str("StartLimitIntervalSec=0\n\n[Service]\nType=notify\n");
        out.push_str("# The manager tells how things are, and after the main process's death another takes its place.\n");
        out.push_str("NotifyAccess=all\n");
        out.push_str(&format!("ExecStart={}\n", self.line("up")));
        out.push_str("# A fresh manager, and a changed config; the services are not touched.\n");
        out.push_str(&format!("ExecReload={}\n", self.line("respawn")));
        if let Some(folder) = &self.folder {
            out.push_str(&format!("WorkingDirectory={}\n", folder.display().to_string().replace('%', "%%")));
        }
        if let Some(account) = &self.account {
            out.push_str(&format!("User={account}\n"));
        }
        out.push_str(SERVICE);
        if systemd_version().is_some_and(|version| version >= WITH_SUBGROUPS) {
            out.push_str(
                "# relume's own processes lie beside those of the services, which `limits` needs.\n",
            );
            out.push_str(&format!("DelegateSubgroup={}\n", relume_os::cgroup::SUBGROUP));
        }
        if !self.user {
            out.push_str(HARDENING);
        }
        let target = if self.user { "default.target" } else { "multi-user.target" };
        out.push_str(&format!("\n[Install]\nWantedBy={target}\n"));
        out
    }
}

/// The systemd that knows `DelegateSubgroup=`; one before it would warn of the line.
const WITH_SUBGROUPS: u32 = 254;

/// The systemd of this machine, as it says itself (`systemd 252 (252.39-1)`); it need not run.
fn systemd_version() -> Option<u32> {
    let output = std::process::Command::new("systemctl").arg("--version").output().ok()?;
    String::from_utf8_lossy(&output.stdout).split_whitespace().nth(1)?.parse().ok()
}

/// What every unit of ours has in common.
const SERVICE: &str = "\
# The services are relume's to stop, in order. They outlive its death, and the next start adopts them.
KillMode=process
Delegate=yes
Restart=always
RestartSec=100ms
WatchdogSec=30s
# Longer than the longest chain of timeout_stop.
TimeoutStopSec=5min
# One service that runs out of memory is not the end of the others.
OOMPolicy=continue
LimitNOFILE=524288
TasksMax=infinity
";

/// Services inherit these, so only what no ordinary service does is forbidden. A unit of a user's cannot have them without
/// `NoNewPrivileges`, which would take sudo and the like from services.
const HARDENING: &str = "\
# Services inherit these: only what no ordinary service does is forbidden.
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
LockPersonality=yes
RestrictSUIDSGID=yes
";

/// A word of a command line, as systemd.service(5) reads it.
fn quoted(word: &str) -> String {
    let escaped = word.replace('%', "%%").replace('$', "$$");
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%$,".contains(c);
    if !escaped.is_empty() && escaped.chars().all(plain) {
        return escaped;
    }
    format!("\"{}\"", escaped.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// Where units lie.
pub(super) fn place(args: &UnitArgs) -> Result<PathBuf, Failure> {
    if !args.user {
        return match relume_os::users::is_root() {
            true => Ok(PathBuf::from("/etc/systemd/system")),
            false => Err(Failure::new(Exit::Usage, "only root can change the units of the whole system")
                .help(
                    "For your own session: relume install --user\nTo see the unit: relume install --print",
                )),
        };
    }
    let variable = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    config.map(|dir| dir.join("systemd/user")).ok_or_else(|| {
        Failure::new(Exit::NotWell, "neither XDG_CONFIG_HOME nor HOME is set, so there is no place for units")
    })
}

/// The unit's name with its ending.
pub(super) fn file_name(args: &UnitArgs) -> String {
    format!("{}.service", args.name)
}

/// What somebody else has made stays.
pub(super) fn refuse_strangers(path: &Path) -> Result<(), Failure> {
    match fs::read_to_string(path) {
        Ok(text) if text.starts_with(MARK) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Ok(_) => {
            Err(Failure::new(Exit::NotWell, format!("{} was not made by relume; it stays", path.display()))
                .help("Choose another name with --name, or remove it yourself."))
        }
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Runs these where systemd runs; elsewhere says them.
pub(super) fn systemctl(steps: &[Vec<String>], user: bool, screen: &Screen) -> Result<(), Failure> {
    // sd_booted(3) looks at the same.
    let runs = Path::new("/run/systemd/system").is_dir();
    for step in steps {
        let words = command(step, user);
        if !runs {
            screen.result(&format!("systemd does not run here; where it does: {}\n", words.join(" ")));
            continue;
        }
        let [program, rest @ ..] = words.as_slice() else { continue };
        let output = Command::new(program).args(rest).output();
        let output = output.map_err(|error| failed("run", Path::new(program), &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
            return Err(Failure::new(Exit::NotWell, format!("{}: {said}", words.join(" "))));
        }
    }
    Ok(())
}

fn command(step: &[String], user: bool) -> Vec<String> {
    let user = user.then(|| "--user".to_owned());
    ["systemctl".to_owned()].into_iter().chain(user).chain(step.iter().cloned()).collect()
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Exit::NotWell, format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_where_systemd_would_read_it_otherwise() {
        assert_eq!(quoted("/usr/bin/relume"), "/usr/bin/relume");
        assert_eq!(quoted("/a b/c"), "\"/a b/c\"");
        assert_eq!(quoted("50%$x"), "50%%$$x");
        assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
