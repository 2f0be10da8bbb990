//! Alerts: somebody outside is told of a change of state, once in a while and with what there is to know.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::{Value, json};

use crate::harness::halves::kill_both;
use crate::harness::{Nobody, PATIENCE, Relume, eventually, fixture};

/// Where webhooks are posted to: the head and the body of each.
fn webhooks() -> (u16, Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, posted) = channel();
    listen(listener, sender);
    (port, posted)
}

fn listen(listener: TcpListener, sender: Sender<(String, String)>) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut text = String::new();
            let whole = |text: &str| {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length =
                    head.to_lowercase().split_once("content-length: ")?.1.lines().next()?.parse().ok()?;
                (body.len() >= length).then(|| (head.to_owned(), body.to_owned()))
            };
            let post = loop {
                let mut bytes = [0; 4096];
                let got = stream.read(&mut bytes).unwrap();
                text.push_str(&String::from_utf8_lossy(&bytes[..got]));
                if let Some(post) = whole(&text) {
                    break post;
                }
            };
            write!(stream, "HTTP/1.1 204 Fine\r\n\r\n").unwrap();
            if sender.send(post).is_err() {
                return;
            }
        }
    });
}

#[test]
fn a_crash_is_posted_and_told_to_a_command_with_the_last_lines() {
    let (port, posted) = webhooks();
    let relume = Relume::with(&json!({
        "alerts": {"on": ["max_restarts"], "webhook": format!("http://127.0.0.1:{port}/all"),
            "template": "{\"text\": \"{service} is {state}: {reason}\"}"},
        "services": {"web": {
            "command": "echo last words; exit 3", "retry_delay": "50ms", "max_retries": 2, "backoff": "off",
            "alerts": [
                {"on": "crashed", "webhook": format!("http://127.0.0.1:{port}/own")},
                {"on": "crashed", "command": "env | grep ^RELUME_ALERT_ | sort > told"}]}}}));
    relume.wait_state("web", "max_restarts");
    let (mut own, mut all) = (None, None);
    while own.is_none() || all.is_none() {
        let (head, body) = posted.recv_timeout(PATIENCE).expect("both are posted");
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        let place = if head.starts_with("POST /own ") { &mut own } else { &mut all };
        assert!(place.is_none(), "of one state only once in a minute: {head} {body}");
        assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
        *place = Some(value);
    }
    let own = own.unwrap();
    assert_eq!(
        (&own["service"], &own["state"], &own["cause"]),
        (&json!("web"), &json!("crashed"), &json!("exit"))
    );
    assert!(own["log"].as_str().unwrap().contains("last words") && own["held_back"] == 0, "{own}");
    assert!(all.unwrap()["text"].as_str().unwrap().starts_with("web is max_restarts: exited 3"));
    let told = eventually("the command is told", || {
        fs::read_to_string(relume.path("told")).ok().filter(|text| text.contains("STATE="))
    });
    assert!(
        told.contains("RELUME_ALERT_SERVICE=web") && told.contains("RELUME_ALERT_STATE=crashed"),
        "{told}"
    );
}

#[test]
fn a_target_that_cannot_be_told_is_a_warning_and_holds_up_nobody() {
    let nobody = Nobody::new();
    let port = nobody.port;
    let relume = Relume::with(&json!({
        "alerts": [{"on": "failed", "webhook": format!("http://127.0.0.1:{port}/secret")}, {"on": "failed", "command": "true; exit 9"}],
        "services": {
            "web": {"command": "true; exit 3", "restart_policy": "never"},
            "other": {"command": [fixture("never-ready")]}}}));
    relume.wait_state("web", "failed");
    relume.wait_state("other", "running");
    let said = eventually("both are said", || {
        let said = relume.told();
        (said.contains("the alert to 127.0.0.1 failed and is tried again")
            && said.contains("its alert exited 9"))
        .then_some(said)
    });
    assert!(!said.contains("secret"), "{said}");
}

/// Shown to fail: with no further attempt nothing is ever posted.
#[test]
fn a_webhook_that_comes_back_is_told_once_and_what_a_service_says_stays_text() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = refused.local_addr().unwrap().port();
    let relume = Relume::with(&json!({"services": {"web": {
        "command": ["sh", "-c", "printf '%s\\n' \"$1\"; exit 3", "-", "a \"quoted\" \\back"],
        "restart_policy": "never",
        "alerts": {"on": "failed", "webhook": format!("http://127.0.0.1:{port}/secret"), "template": "{\"last\": \"{log}\"}"}}}}));
    // Somebody is there and closes at once, whatever is sent.
    refused.set_nonblocking(true).unwrap();
    for attempt in ["the first", "another"] {
        drop(eventually(attempt, || refused.accept().ok()));
    }
    refused.set_nonblocking(false).unwrap();
    let (sender, posted) = channel();
    listen(refused, sender);
    let (_, body) = posted.recv_timeout(PATIENCE).expect("it is tried again");
    let value: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    assert_eq!(value["last"], "a \"quoted\" \\back");
    assert!(posted.try_recv().is_err(), "what was told is not told again");
    let said = relume.told();
    assert_eq!(
        said.matches("failed and is tried again").count(),
        said.matches("the alert to").count(),
        "{said}"
    );
}

/// The letters that wait in the runtime directory of `relume`, with how many attempts of each have failed.
fn letters(relume: &Relume) -> Vec<u64> {
    let read = |entry: fs::DirEntry| -> Option<u64> {
        serde_json::from_slice::<Value>(&fs::read(entry.path()).ok()?).ok()?["failed"].as_u64()
    };
    let entries = fs::read_dir(relume.state("run/alerts")).into_iter().flatten().flatten();
    entries.filter_map(read).collect()
}

/// A relume with one service that has failed, and nobody there to be told, who was tried once.
fn untold() -> (Relume, TcpListener) {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = refused.local_addr().unwrap().port();
    let relume = Relume::with(&json!({
        "alerts": {"on": "failed", "webhook": format!("http://127.0.0.1:{port}/secret")},
        "services": {"web": {"command": "true; exit 3", "restart_policy": "never"}}}));
    drop(refused.accept().unwrap());
    eventually("it is known to have failed", || (letters(&relume) == [1]).then_some(()));
    (relume, refused)
}

/// Shown to fail: with a successor that does not look at what is written down.
#[test]
fn an_alert_that_nobody_has_heard_is_told_after_the_death_of_both_halves() {
    let (relume, refused) = untold();
    kill_both(&relume.status());
    relume.wait_for_end();
    let (sender, posted) = channel();
    listen(refused, sender);
    relume.up_again();
    let (head, body) = posted.recv_timeout(PATIENCE).expect("it is tried again");
    let value: Value = serde_json::from_str(&body).unwrap();
    assert!(head.starts_with("POST /secret ") && value["service"] == "web", "{head} {body}");
    eventually("nothing waits any more", || letters(&relume).is_empty().then_some(()));
    relume.ok(&["respawn"]);
    relume.down();
    assert!(posted.try_recv().is_err(), "what was told is not told again");
}

/// Shown to fail: without the look at what is left nothing is said, and the runtime directory stays.
#[test]
fn an_alert_that_nobody_has_heard_is_given_up_aloud_when_relume_ends() {
    let (relume, _refused) = untold();
    let runtime = fs::read_link(relume.state("run")).unwrap();
    let mode = fs::metadata(runtime.join("alerts")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "what is told may be secret");
    relume.down();
    assert!(relume.told().contains("not delivered and are given up: 1"), "{}", relume.told());
    assert!(!runtime.exists(), "the runtime directory is gone");
}

/// Able to fail: without the look at what is under way the connection was cut by the exec, before there was an answer.
#[test]
fn an_alert_on_its_way_is_not_cut_off_by_a_respawn() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ((arrived, arrival), (tell, told)) = (channel(), channel());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut bytes = [0; 4096];
        let mut got = stream.read(&mut bytes).unwrap();
        arrived.send(()).unwrap();
        // A server that takes its time. Who is cut off closes the connection.
        stream.set_read_timeout(Some(std::time::Duration::from_millis(700))).unwrap();
        let ended = loop {
            match stream.read(&mut bytes) {
                Ok(0) => break "cut off".to_owned(),
                Ok(more) => got += more,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break "whole".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        write!(stream, "HTTP/1.1 204 Fine\r\n\r\n").unwrap();
        tell.send((ended, got)).unwrap();
    });
    let relume = Relume::with(&json!({
        "alerts": {"on": ["failed"], "webhook": format!("http://127.0.0.1:{port}/")},
        "services": {"web": {"command": "true; exit 3", "restart_policy": "never"}}}));
    arrival.recv_timeout(PATIENCE).unwrap();
    relume.ok(&["respawn"]);
    assert_eq!(relume.status().manager()["respawns"], 1);
    let (ended, got) = told.recv_timeout(PATIENCE).unwrap();
    assert!(ended == "whole" && got > 0, "{ended}");
    assert!(!relume.told().contains("the alert to"), "{}", relume.told());
    relume.down();
}
