//! "Did you mean": the known word nearest to an unknown one.

/// Words of other tools for things that have another name here.
const FOREIGN: &[(&str, &str)] = &[
    ("startretries", "max_retries"),
    ("max_restarts", "max_retries"),
    ("exitcodes", "success_exit_codes"),
    ("stopsignal", "stop_signal"),
    ("stopwaitsecs", "timeout_stop"),
    ("kill_timeout", "timeout_stop"),
    ("numprocs", "instances"),
    ("replicas", "instances"),
    ("scale", "instances"),
    ("script", "command"),
    ("exec", "command"),
    ("ExecStart", "command"),
    ("ExecStartPre", "pre_start"),
    ("ExecStartPost", "post_start"),
    ("ExecStopPost", "post_stop"),
    ("OnFailure", "on_failure"),
    ("Restart", "restart_policy"),
    ("RestartSec", "retry_delay"),
    ("StartLimitBurst", "max_retries"),
    ("StartLimitIntervalSec", "retry_window"),
    ("TimeoutStartSec", "timeout_start"),
    ("TimeoutStopSec", "timeout_stop"),
    ("User", "user"),
    ("Group", "group"),
    ("Environment", "environment"),
    ("EnvironmentFile", "env_file"),
    ("WorkingDirectory", "working_dir"),
    ("Type", "type"),
    ("args", "arguments"),
    ("healthcheck", "health_check"),
    ("image", "container"),
    ("stdout_logfile", "log.file"),
    ("redirect_stderr", "log.stderr"),
    ("after", "dependencies"),
    ("requires_on", "dependencies"),
    ("ulimits", "rlimits"),
];

/// What was probably meant, if anything is near enough to be worth a word.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A slip changes a letter or two, in a short word one.
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(far, _)| *far <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

/// "unknown key `comand`; did you mean `command`?"
pub(crate) fn unknown_key(word: &str, known: &[&str]) -> String {
    let foreign = FOREIGN
        .iter()
        .find(|(name, ours)| *name == word && known.contains(&ours.split('.').next().unwrap_or(ours)))
        .map(|(_, ours)| *ours);
    let shown = crate::node::shortened(word);
    match foreign.or_else(|| nearest(word, known.iter().copied())) {
        Some(meant) => format!("unknown key `{shown}`; did you mean `{meant}`?"),
        None => format!("unknown key `{shown}`"),
    }
}

/// Letters to insert, drop, replace or swap with their neighbour to get from one word to the other; case and
/// the difference of `-`, `_` and nothing count half, rounded down.
fn distance(a: &str, b: &str) -> usize {
    let fold = |text: &str| -> Vec<char> {
        let plain = text.chars().filter(|c| !matches!(c, '-' | '_' | ' '));
        plain.take(64).flat_map(char::to_lowercase).collect()
    };
    let (a, b) = (fold(a), fold(b));
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            next[j] = (row[j] + 1).min(next[j - 1] + 1).min(row[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}
