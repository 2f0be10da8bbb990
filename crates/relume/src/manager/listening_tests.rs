use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

/// How long whoever must not wait is given on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

fn units(folder: &std::path::Path) -> Units {
    let path = folder.join("relume.json");
    let text = r#"{"services": {
        "slow": {"command": "true", "sockets": [{"listen": "./slow.sock", "user": "somebody"}, "@relume-test-PID"]},
        "other": {"command": "true", "sockets": ["./other.sock"]}}}"#;
    std::fs::write(&path, text.replace("PID", &std::process::id().to_string())).unwrap();
    let load = relume_config::Options {
        current_dir: folder.to_owned(),
        paths: vec![path],
        environment: Default::default(),
        overrides: Vec::new(),
        manager_only: false,
        show_secrets: false,
    };
    Units::new(relume_config::load(&crate::config_files::Disk, &load).into_result().unwrap().0)
}

/// Shown to fail: with the owner asked for while the sockets are held, the other service's are given and released only after.
#[test]
fn a_directory_server_that_does_not_answer_holds_up_nobody_elses_sockets() {
    let home = tempfile::tempdir().unwrap();
    let (units, keeper, listening) = (units(home.path()), Keeper::bereft(), Listening::default());
    let unit = |name: &str| units.get(name).unwrap();
    let ((ask, asked), (answer, answered)) = (channel(), channel());
    std::thread::scope(|scope| {
        let (listening, keeper, slow, other) = (&listening, &keeper, unit("slow"), unit("other"));
        scope.spawn(move || {
            let owner_of = |socket: &Socket| {
                if socket.user.is_some() {
                    ask.send(()).unwrap();
                    // Also when the test has failed and nobody will answer any more.
                    let _never = answered.recv_timeout(PATIENCE);
                }
                Ok(None)
            };
            let given = listening.give(keeper, slow, 1, owner_of).unwrap();
            assert_eq!(given.len(), 2);
        });
        asked.recv().unwrap();
        let (done, finished) = channel();
        scope.spawn(move || {
            assert_eq!(listening.give(keeper, other, 1, |_| Ok(None)).unwrap().len(), 1);
            listening.release(keeper, "other", 1);
            done.send(()).unwrap();
        });
        let in_time = finished.recv_timeout(PATIENCE / 2);
        answer.send(()).unwrap();
        in_time.expect("they wait for somebody else's answer");
    });
    assert!(!home.path().join("other.sock").exists() && home.path().join("slow.sock").exists());
    // What is open is not asked about again.
    let again = listening.give(&keeper, unit("slow"), 2, |_| unreachable!()).unwrap();
    assert_eq!(again.len(), 2);
}
