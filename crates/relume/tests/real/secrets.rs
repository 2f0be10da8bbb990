//! A password in a variable is seen by the service it is for and by nobody else (scorecard R47).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{Builder, eventually, fixture, text};

/// What must not be found. Put together here, so that the test's own process has it nowhere as it is.
fn planted(which: &str) -> String {
    format!("{}-{}-7f3a", ["sec", "ret"].concat(), which)
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|part| part == word.as_bytes())
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Shown to fail: with the lines of findings quoted as they are, the refused config shows the password wherever it is
/// told, `check` first.
#[test]
fn a_password_is_found_nowhere_but_where_it_is_needed() {
    let [own, file, outer] = ["own", "file", "outer"].map(planted);
    let config = |extra: &str| {
        format!(
            "services:\n  web: {{command: [{}], env_file: pw.env, environment: {{PASSWORD: {own}}}{extra}}}\n",
            fixture("never-ready")
        )
    };
    let builder = Builder::new().env("OUTER_PASSWORD", outer.clone());
    fs::write(builder.home().join("pw.env"), format!("FILE_PASSWORD={file}\n")).unwrap();
    fs::write(builder.home().join("relume.yaml"), config("")).unwrap();
    let relume = builder.arg("-c").arg("relume.yaml").up();
    let status = relume.wait_state("web", "running");
    let service = fs::read(format!("/proc/{}/environ", status.pid("web"))).unwrap();
    for word in [&own, &file, &outer] {
        assert!(holds(&service, word), "the service itself has it");
    }

    // A mistake in the very line, told by every way there is.
    fs::write(relume.path("relume.yaml"), config(", prot: 1")).unwrap();
    let mut told = vec![];
    for words in [
        &["-c", "relume.yaml", "check"][..],
        &["-c", "relume.yaml", "check", "--json"],
        &["-c", "relume.yaml", "check", "--deep"],
        &["apply"],
        &["plan", "--json"],
    ] {
        let output = relume.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?} {}", text(&output));
        told.push((format!("{words:?}"), text(&output).into_bytes()));
    }
    relume.signal(rustix::process::Signal::HUP);
    eventually("the refusal is in the log", || {
        holds(&fs::read(relume.state("relume.log")).unwrap_or_default(), "unknown key `prot`").then_some(())
    });
    for words in
        [&["status", "--json"][..], &["events", "--json"], &["explain", "web", "--json"], &["doctor"]]
    {
        told.push((format!("{words:?}"), text(&relume.run(words)).into_bytes()));
    }
    let mut files = Vec::new();
    for dir in [relume.path(".relume"), relume.path("state"), relume.path("runtime"), relume.path("logs")] {
        files_below(&dir, &mut files);
    }
    assert!(files.iter().any(|path| path.ends_with("journal")), "{files:?}");
    for path in files {
        let name = path.display().to_string();
        let mode = fs::metadata(&path).map_or(0o600, |found| found.permissions().mode());
        let private = ["journal", "state.db", "state.db-wal", "lock"];
        if private.iter().any(|word| path.ends_with(word)) {
            assert_eq!(mode & 0o077, 0, "{name} is {mode:o}");
        }
        told.push((name, fs::read(&path).unwrap_or_default()));
    }
    for process in relume.processes() {
        let line = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
        told.push((format!("the command line of {}", process.pid), line));
    }
    for (place, bytes) in told {
        for word in [&own, &file, &outer] {
            assert!(!holds(&bytes, word), "{word} is in {place}: {}", String::from_utf8_lossy(&bytes));
        }
    }
    let owner = text(&relume.run(&["-c", "relume.yaml", "check", "--show-secrets"]));
    assert!(owner.contains(&own), "{owner}");
}
