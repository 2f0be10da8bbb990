//! A manager of a few lines: it answers each path with what a test gave it.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::Home;

/// What was asked: the request line and the body.
pub(crate) type Asked = Arc<Mutex<Vec<(String, String)>>>;

/// Answers on the control socket of this home from now on: by path, HTTP status and body.
pub(crate) fn play(home: &Home, answers: &[(&'static str, u16, String)]) -> Asked {
    let run = home.path("runtime");
    std::fs::create_dir(&run).unwrap();
    std::fs::create_dir_all(home.path(".relume")).unwrap();
    std::os::unix::fs::symlink(&run, home.path(".relume/run")).unwrap();
    let listener = UnixListener::bind(run.join("control.sock")).unwrap();
    let answers: HashMap<&str, (u16, String)> =
        answers.iter().map(|(path, status, body)| (*path, (*status, body.clone()))).collect();
    let asked = Asked::default();
    let heard = Arc::clone(&asked);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some((line, body)) = read(&stream) else { continue };
            let path = line.split([' ', '?']).nth(1).unwrap_or_default().to_owned();
            heard.lock().unwrap().push((line, body));
            let (status, body) = answers.get(path.as_str()).cloned().unwrap_or((404, "{}".into()));
            let length = body.len();
            let head = format!("HTTP/1.1 {status} X\r\nrelume-api: 1\r\ncontent-length: {length}\r\n\r\n");
            // A client that has left early is part of some tests.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        }
    });
    asked
}

fn read(stream: &UnixStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line.trim().to_owned(), String::from_utf8(body).ok()?))
}
