//! relume under a service manager that speaks sd_notify(3), which the test plays; and the unit for the real one.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Builder, PATIENCE, Relume, eventually, fixture, skip, text};

/// A relume to be, and the socket on which it will tell how it is.
fn under_systemd(config: &Value) -> (Builder, UnixDatagram) {
    let builder = Builder::new().config(config);
    let path = builder.path("systemd");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    (builder.env("NOTIFY_SOCKET", path), socket)
}

fn hears(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("relume says something");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// The messages up to the first with all of these in it.
fn hears_until(socket: &UnixDatagram, words: &[&str]) -> Vec<String> {
    let mut all = vec![];
    loop {
        all.push(hears(socket));
        if words.iter().all(|word| all.last().unwrap().contains(word)) {
            return all;
        }
    }
}

fn services() -> Value {
    json!({"services": {
        "web": {"command": [fixture("prints-numbers"), "web", "50"]},
        "env": {"command": ["/bin/sh", "-c", "env; exec sleep 1000"]},
        "spare": {"command": "sleep 1000", "autostart": false},
    }})
}

/// Able to fail: without the filter in `Inheritance`, `env` printed NOTIFY_SOCKET and WATCHDOG_USEC.
#[test]
fn relume_tells_that_it_is_ready_how_its_services_are_and_that_it_stops() {
    let (builder, socket) = under_systemd(&services());
    let relume = builder.env("WATCHDOG_USEC", "60000000").up();
    let first = hears_until(&socket, &["READY=1", "STATUS=2 of 2 services running"]);
    assert!(first.iter().all(|text| !text.contains("STOPPING")), "{first:?}");
    eventually("env has printed", || relume.lines("env").len().ge(&3).then_some(()));
    let inherited = relume.lines("env");
    let strange = ["NOTIFY_SOCKET=", "WATCHDOG_", "DRILL_OF_RELUME="];
    assert!(!inherited.iter().any(|line| strange.iter().any(|key| line.starts_with(key))), "{inherited:?}");
    relume.ok(&["stop", "web"]);
    hears_until(&socket, &["STATUS=1 of 1 services running"]);
    relume.signal(Signal::TERM);
    hears_until(&socket, &["STOPPING=1"]);
    assert_eq!(relume.wait_for_end().code(), Some(0), "{}", relume.told());
}

/// Able to fail: where the guardian lets its timer go when it first fires, only one sign of life comes.
#[test]
fn signs_of_life_come_twice_in_each_period_also_while_the_manager_is_dead() {
    let (builder, socket) = under_systemd(&services());
    let relume = builder.env("WATCHDOG_USEC", "400000").up();
    hears_until(&socket, &["STATUS=2 of 2"]);
    // What has waited in the queue says nothing about time.
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 4096]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let began = std::time::Instant::now();
    for _ in 0..6 {
        hears_until(&socket, &["WATCHDOG=1"]);
    }
    // Six of them 200 ms apart, of which a busy machine may give several late and the next in time.
    assert!(began.elapsed() > Duration::from_millis(500), "{:?}", began.elapsed());
    let guardian = relume.main_process();
    guardian.signal(Signal::STOP);
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        let said = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(began.elapsed() < PATIENCE, "a stopped guardian lives on: {said}");
    }
    guardian.signal(Signal::CONT);
    relume.down();
}

/// Shown to fail: without the look at WATCHDOG_PID.
#[test]
fn signs_of_life_that_are_expected_of_another_process_are_not_given() {
    let (builder, socket) = under_systemd(&services());
    let relume = builder.env("WATCHDOG_USEC", "100000").env("WATCHDOG_PID", "1").up();
    let heard = hears_until(&socket, &["STATUS=2 of 2"]);
    assert!(heard.iter().all(|text| !text.contains("WATCHDOG")), "{heard:?}");
    relume.down();
}

/// Able to fail: without the hand-over, the second `up` says nothing here and ends with 1.
#[test]
fn a_second_start_by_systemd_hands_the_unit_over_to_the_relume_that_lives() {
    let relume = Relume::with(&services());
    let first = relume.wait_state("web", "running");
    let path = relume.path("systemd");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = relume.command(&["up"]).env("NOTIFY_SOCKET", &path).spawn().unwrap();
    let said = hears(&socket);
    assert!(said.contains(&format!("MAINPID={}\n", first.manager()["guardian_pid"])), "{said}");
    assert!(said.contains("READY=1"), "{said}");
    // It waits until this has been read: its end would otherwise be seen first.
    assert_eq!(hears(&socket), "BARRIER=1");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(relume.status().pid("web"), first.pid("web"));
    relume.down();
}

fn install(relume: &Relume, words: &[&str]) -> std::process::Output {
    let mut command = relume.command(&[&["install", "--user"], words].concat());
    command.env("XDG_CONFIG_HOME", relume.path("config-home")).output().unwrap()
}

/// Shown to fail: without the look at whose the file is.
#[test]
fn a_unit_is_written_replaced_and_removed_and_one_of_somebody_else_stays() {
    let relume = Builder::new().config(&services()).prepare();
    let unit = relume.path("config-home/systemd/user/app.service");
    for _ in 0..2 {
        let output = install(&relume, &["--name", "app", "--no-enable"]);
        // Without a systemd of the user's own, telling it fails; the unit is there all the same.
        assert!(unit.is_file(), "{}", text(&output));
    }
    let made = std::fs::read_to_string(&unit).unwrap();
    for line in ["Type=notify", "KillMode=process", "Delegate=yes", "NotifyAccess=all", "Restart=always"] {
        assert!(made.lines().any(|has| has == line), "{line}: {made}");
    }
    std::fs::write(&unit, "[Service]\nExecStart=/bin/true\n").unwrap();
    let output = install(&relume, &["--name", "app"]);
    assert!(
        output.status.code() == Some(1) && text(&output).contains("not made by relume"),
        "{}",
        text(&output)
    );
    let mut uninstall = relume.command(&["uninstall", "--user", "--name", "app"]);
    let output = uninstall.env("XDG_CONFIG_HOME", relume.path("config-home")).output().unwrap();
    assert_eq!((output.status.code(), unit.is_file()), (Some(1), true), "{}", text(&output));
    std::fs::write(&unit, made).unwrap();
    let mut uninstall = relume.command(&["uninstall", "--user", "--name", "app"]);
    let output = uninstall.env("XDG_CONFIG_HOME", relume.path("config-home")).output().unwrap();
    let systemd_runs = std::path::Path::new("/run/systemd/system").is_dir();
    assert!(systemd_runs || (output.status.success() && !unit.exists()), "{}", text(&output));
}

/// Shown to fail: with a line in the unit that systemd does not know.
#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let relume = Builder::new().config(&services()).prepare();
    for words in [
        &["install", "--print"][..],
        &["install", "--print", "--as", "root"],
        &["install", "--user", "--print"],
    ] {
        let unit = relume.path("checked.service");
        std::fs::write(&unit, relume.ok(words)).unwrap();
        let user = words.contains(&"--user").then_some("--user");
        let verify = Command::new("systemd-analyze").args(user).arg("verify").arg(&unit).output();
        let Ok(output) = verify else { return skip("systemd-analyze is not installed") };
        let said = text(&output);
        if user.is_some() && said.contains("XDG_RUNTIME_DIR") {
            continue;
        }
        let about_ours = said.lines().filter(|line| line.contains("checked.service"));
        assert_eq!(about_ours.collect::<Vec<_>>(), Vec::<&str>::new(), "{said}");
    }
}

/// The checks themselves are in `tests/systemd/run`. Able to fail: without the hand-over, the guardian's death left the
/// unit without a main process.
#[test]
fn the_real_systemd_starts_reloads_restarts_and_stops_relume_and_its_death_costs_no_service() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/systemd/run");
    // Whether a systemd can be booted is up to the machine: where not, that is said and no failure.
    let output = Command::new(script).arg(env!("CARGO_BIN_EXE_relume")).env_remove("CI").output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    match said.lines().find_map(|line| line.strip_prefix("SKIPPED: ")) {
        Some(why) => eprintln!("SKIPPED: {why}"),
        None => assert!(said.contains("uninstall: the unit is gone"), "{said}"),
    }
}
