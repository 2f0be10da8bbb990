//! What a process is started with, and where its output goes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Globals;
use super::service::Work;
use crate::env_files::Values;
use crate::forward::{self, Forward};
use crate::model::{
    Compression, Environment, How, Launch, LineFormat, LogConfig, LogRules, Rlimit, RlimitValue, Rotate,
    Stderr, WhenFull,
};
use crate::raw::{OneOrMany, RawCompress, RawLogFormat, RawStderr, RawWhenFull, Toggle, size};
use crate::words;

/// The environment of a service before its instances differ.
pub(super) struct Layers(Values);

impl Layers {
    /// The manager's files, then the service's, then `environment`.
    pub(super) fn of(work: &mut Work<'_, '_>, globals: &Globals<'_>) -> Self {
        let mut values = globals.shared.clone();
        if let (Some(raw), Some(node)) = (work.raw.env_file.clone(), work.node.get("env_file")) {
            let key = format!("{}.env_file", work.prefix);
            values.extend(work.files.values(&raw, node, &key));
        }
        for (name, value) in work.raw.environment.clone().unwrap_or_default().0 {
            if name.starts_with("RELUME_") {
                let help = "variables that begin with `RELUME_` are relume's own";
                work.warning(&["environment", &name], format!("`{name}` may be overwritten by relume"), help);
            }
            if let Some(value) = value {
                values.insert(name, value);
            }
        }
        Self(values)
    }

    /// About as many bytes as one instance takes for it.
    pub(super) fn weight(&self) -> usize {
        /// Two strings and their share of a map.
        const ENTRY: usize = 64;
        self.0.iter().map(|(name, value)| name.len() + value.len() + ENTRY).sum()
    }

    pub(super) fn for_instance(&self, number: u32) -> Environment {
        let mut values = self.0.clone();
        values.insert("RELUME_INSTANCE".into(), number.to_string());
        Environment(values.into())
    }
}

/// `shell`: the words before `-c`; None: no shell.
pub(super) fn shell(work: &mut Work<'_, '_>) -> Option<Vec<String>> {
    match work.raw.shell.clone() {
        None => Some(vec!["/bin/sh".into()]),
        Some(text) if crate::raw::is_off(&text) => None,
        Some(text) => match words::split(&text) {
            Ok(words) if words.first().is_some_and(|program| !program.is_empty()) => Some(words),
            Ok(_) | Err(_) => {
                work.error_with(
                    &["shell"],
                    "expected a shell such as `/bin/bash`",
                    "`off` runs commands without one",
                );
                Some(vec!["/bin/sh".into()])
            }
        },
    }
}

pub(super) fn lower(
    work: &mut Work<'_, '_>,
    globals: &Globals<'_>,
    argv: Vec<String>,
    shell: bool,
    environment: Environment,
) -> Launch {
    let bounded =
        |value: Option<i32>, range: std::ops::RangeInclusive<i32>| value.is_none_or(|v| range.contains(&v));
    if !bounded(work.raw.nice, -20..=19) {
        work.error(&["nice"], "`nice` goes from -20 (first) to 19 (last)");
    }
    if !bounded(work.raw.oom_score_adj, -1000..=1000) {
        work.error(&["oom_score_adj"], "`oom_score_adj` goes from -1000 (never killed) to 1000 (first)");
    }
    let working_dir = work.raw.working_dir.as_ref().map(|path| path.0.clone());
    let working_dir = working_dir.map(|path| work.files.resolve(work.span(&["working_dir"]), &path));
    let how = How {
        shell,
        working_dir: working_dir.unwrap_or_else(|| globals.config_dir.to_path_buf()),
        user: work.raw.user.as_ref().map(|user| user.0.clone()),
        group: work.raw.group.as_ref().map(|group| group.0.clone()),
        umask: work.raw.umask.as_ref().map(|mask| mask.0),
        nice: work.raw.nice,
        oom_score_adj: work.raw.oom_score_adj,
        rlimits: rlimits(work),
    };
    let argv = argv.into_iter().map(Arc::from).collect();
    Launch { argv, environment, how: how.into() }
}

fn rlimits(work: &mut Work<'_, '_>) -> BTreeMap<Rlimit, RlimitValue> {
    let mut all = BTreeMap::new();
    for (name, text) in work.raw.rlimits.clone().unwrap_or_default() {
        let small = name.to_ascii_lowercase();
        let bare = small.strip_prefix("rlimit_").unwrap_or(&small);
        let Some(limit) = Rlimit::ALL.into_iter().find(|limit| limit.name() == bare) else {
            let known = Rlimit::ALL.map(Rlimit::name);
            let message = match crate::nearest::nearest(bare, known) {
                Some(meant) => format!("there is no limit `{name}`; did you mean `{meant}`?"),
                None => format!("there is no limit `{name}`"),
            };
            work.error_with(&["rlimits", &name], message, &format!("one of {}", known.join(", ")));
            continue;
        };
        match bounds(&text) {
            Some(value) if all.insert(limit, value).is_none() => {}
            Some(_) => work.error(&["rlimits", &name], format!("the limit `{bare}` is given twice")),
            None => {
                let message =
                    format!("expected a number, a size or `unlimited`, or `SOFT:HARD`, found `{text}`");
                work.error(&["rlimits", &name], message);
            }
        }
    }
    all
}

/// `65536`, `64MiB`, `unlimited`, `SOFT:HARD`.
fn bounds(text: &str) -> Option<RlimitValue> {
    let one = |text: &str| match text.trim() {
        "unlimited" | "infinity" | "-1" => Some(None),
        text => size(text).ok().map(Some),
    };
    match text.split_once(':') {
        None => one(text).map(|both| RlimitValue { soft: both, hard: both }),
        Some((soft, hard)) => {
            let value = RlimitValue { soft: one(soft)?, hard: one(hard)? };
            let right = match (value.soft, value.hard) {
                (_, None) => true,
                (Some(soft), Some(hard)) => soft <= hard,
                (None, Some(_)) => false,
            };
            right.then_some(value)
        }
    }
}

/// The smallest size that a log is put aside at: less would rename files all day.
const ROTATE_FLOOR: u64 = 4096;

/// An empty path stands for the default, which depends on the name of the instance.
pub(super) fn log(work: &mut Work<'_, '_>, globals: &Globals<'_>) -> LogConfig {
    let raw = work.raw.log.clone().unwrap_or_default();
    let file = raw.file.as_ref().map(|path| work.files.resolve(work.span(&["log", "file"]), &path.0));
    if file.as_deref().is_some_and(|file| file.file_name().is_none() || file == globals.log_dir) {
        work.error(&["log", "file"], "this path does not name a file");
    }
    let rotate = match raw.rotate {
        Some(Toggle::Off) => None,
        Some(Toggle::Set(rotate)) => Some(rotate),
        None => Some(crate::raw::RawRotate::default()),
    };
    let rotate = rotate.map(|rotate| {
        let (size, keep) = (rotate.size.map_or(10_000_000, |size| size.0), rotate.keep.unwrap_or(5));
        if size < ROTATE_FLOOR {
            work.error_with(
                &["log", "rotate", "size"],
                "a log file holds at least 4096 bytes",
                "`rotate: off` never puts it aside",
            );
        }
        if keep > 1000 {
            work.error(&["log", "rotate", "keep"], "at most 1000 old files are kept");
        }
        let compress = match rotate.compress {
            None | Some(RawCompress::Gzip) => Compression::Gzip,
            Some(RawCompress::Zstd) => Compression::Zstd,
            Some(RawCompress::Off) => Compression::Off,
        };
        Rotate { size, keep, age: rotate.age.map(|age| age.0), compress }
    });
    let format = match raw.format {
        None | Some(RawLogFormat::Raw) => LineFormat::Raw,
        Some(RawLogFormat::Timestamp) => LineFormat::Timestamp,
        Some(RawLogFormat::Json) => LineFormat::Json,
    };
    let when_full = match raw.when_full {
        None | Some(RawWhenFull::Block) => WhenFull::Block,
        Some(RawWhenFull::Drop) => WhenFull::Drop,
    };
    let stderr = match raw.stderr {
        None | Some(RawStderr::Merge) => Stderr::Merge,
        Some(RawStderr::Separate) => Stderr::Separate,
        Some(RawStderr::Discard) => Stderr::Discard,
    };
    let forward = targets(raw.forward.as_ref(), |message| {
        work.error_with(&["log", "forward"], message, forward::HELP);
    });
    let survive = raw.survive.unwrap_or(false);
    let rules = LogRules { stderr, survive, format, when_full, rotate, forward };
    LogConfig { file: file.unwrap_or_default().into(), rules: rules.into() }
}

/// Targets of forwarding; those that are none are told.
pub(super) fn targets(raw: Option<&OneOrMany<String>>, mut wrong: impl FnMut(String)) -> Vec<Forward> {
    let words = raw.map(|words| words.0.as_slice()).unwrap_or_default();
    let mut all: Vec<Forward> = Vec::new();
    for word in words.iter().filter(|word| !crate::raw::is_off(word)) {
        match forward::parse(word) {
            Ok(target) if all.contains(&target) => {}
            Ok(target) => all.push(target),
            Err(message) => wrong(message),
        }
    }
    all
}

/// `web:2.log` for `web.log`.
pub(super) fn numbered(file: &Path, suffix: &str) -> PathBuf {
    let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = match name.rsplit_once('.') {
        Some((stem, ending)) if !stem.is_empty() => format!("{stem}{suffix}.{ending}"),
        Some(_) | None => format!("{name}{suffix}"),
    };
    file.with_file_name(name)
}
