//! Items of logs on their way to the reader: prefixed when they are of several services, harmless on a terminal,
//! or one JSON object a line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use regex::bytes::Regex;
use relume_os::epoll::EventFd;
use rustix::event::{PollFd, PollFlags};
use serde_json::{Value, json};

use crate::cli::Screen;
use crate::cli::args::LogsArgs;
use crate::cli::render::text::{columns, harmless, padded, push_harmless};
use crate::cli::render::{BAD, DIM, Look};
use crate::log_files::{Item, Line, Mark};
use crate::output_index::{Channel, Kind};

/// Output is collected up to so many bytes before it is written.
const COLLECTED: usize = 64 << 10;

/// So many bytes are written at once where somebody looks whether it goes on: what a reader that takes little at a time frees
/// in a pipe.
const PIECE: usize = 4 << 10;

/// Looks whether writing goes on.
pub(super) struct Witness {
    /// Counts pieces.
    pub(super) written: Arc<AtomicU64>,
    /// What is not written by now is to be left to somebody else.
    pub(super) hands_on: Arc<AtomicBool>,
    /// Can be read when that is so.
    pub(super) halt: Arc<EventFd>,
}

impl Witness {
    /// Waits until a piece can be written without waiting. False: what is left is to be left. Of a write that was ended while it
    /// waited nobody knows how much was done.
    fn waits_for_room(&self) -> bool {
        let out = std::io::stdout();
        let mut fds = [PollFd::new(&out, PollFlags::OUT), PollFd::new(&*self.halt, PollFlags::IN)];
        loop {
            match rustix::event::poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                // The write will say what is wrong.
                Err(_) => return true,
                Ok(_) => return fds[1].revents().is_empty(),
            }
        }
    }
}

/// Colours of names, in turn; red is left to errors.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Green,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
];

/// How items are shown.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    look: Look,
    json: bool,
    /// With the time in front.
    stamps: bool,
    /// With what happened to runs.
    marks: bool,
    /// What could command a terminal is made harmless.
    clean: bool,
    /// With the names of services, where there are several.
    prefixes: bool,
    /// What is looked for: made visible.
    grep: Option<Regex>,
    zone: TimeZone,
}

impl Shape {
    /// As the command line says. Marks are for people: whoever reads through a pipe gets what services wrote, unless
    /// marks are asked for.
    pub(super) fn of(args: &LogsArgs, screen: &Screen) -> Self {
        let terminal = screen.out.width.is_some();
        Self {
            look: screen.out,
            json: screen.json,
            stamps: args.timestamps,
            marks: !args.no_markers && (args.markers || terminal && !screen.json),
            clean: terminal && !args.raw,
            prefixes: !args.no_prefix,
            grep: args.grep().filter(|_| screen.out.colour),
            zone: TimeZone::system(),
        }
    }

    /// Beside the manager's own words, which say what happens to runs.
    pub(super) fn beside_the_manager(screen: &Screen) -> Self {
        let clean = screen.out.width.is_some();
        let (look, zone) = (screen.out, TimeZone::system());
        Self { look, json: false, stamps: false, marks: false, clean, prefixes: true, grep: None, zone }
    }

    fn stamp(&self, at: Option<i64>) -> String {
        // As wide as a time is.
        let unknown = || format!("{:29}", "-");
        let time = at.and_then(|at| Timestamp::from_nanosecond(i128::from(at)).ok());
        time.map_or_else(unknown, |time| {
            time.to_zoned(self.zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%.3f%:z").to_string()
        })
    }

    /// `── web: exited with code 1, run 7, 14:03:22 ──`
    fn mark(&self, name: &str, mark: &Mark) -> String {
        let time = Timestamp::from_nanosecond(i128::from(mark.at)).unwrap_or_default();
        let time = time.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string();
        let rule = self.look.sign("──", "--");
        let text = format!("{rule} {}: {}, run {}, {time} {rule}", harmless(name), said(mark.kind), mark.run);
        format!("{}\n", self.look.paint(DIM, &text))
    }
}

/// What happened to a run, in words.
fn said(kind: Kind) -> String {
    match kind {
        Kind::Output(..) => String::new(),
        Kind::Started => "started".into(),
        Kind::Exited(code) => format!("exited with code {code}"),
        Kind::Killed(signal) => match i32::try_from(signal) {
            Ok(number) => format!("ended by {}", relume_os::signals::name(number)),
            Err(_) => "ended by a signal".into(),
        },
        Kind::Ended => "ended, nobody knows how".into(),
        Kind::Dropped(lines) => format!("{lines} lines were dropped: the log could not be written"),
    }
}

/// Shows items of several logs.
pub(super) struct Printer<'a> {
    screen: &'a Screen,
    shape: Shape,
    names: Vec<String>,
    prefixes: Vec<String>,
    /// The log that is in the middle of a line.
    inside: Option<usize>,
    out: Vec<u8>,
    /// Whoever looks whether it goes on, and may not wait for it.
    witness: Option<Witness>,
    gone: bool,
    untouched: bool,
}

impl<'a> Printer<'a> {
    /// For these logs, by the names of their services.
    pub(super) fn new<'n>(screen: &'a Screen, names: impl Iterator<Item = &'n str>, shape: &Shape) -> Self {
        let mut printer = Self {
            screen,
            shape: shape.clone(),
            prefixes: Vec::new(),
            names: names.map(str::to_owned).collect(),
            inside: None,
            out: Vec::new(),
            witness: None,
            gone: false,
            untouched: true,
        };
        printer.make_prefixes();
        printer
    }

    /// Written piece by piece from now on, before the eyes of a witness.
    pub(super) fn witnessed(&mut self, witness: Witness) {
        self.witness = Some(witness);
    }

    /// One more log.
    pub(super) fn add(&mut self, name: &str) {
        self.names.push(name.to_owned());
        self.make_prefixes();
    }

    fn make_prefixes(&mut self) {
        let look = self.shape.look;
        let width = self.names.iter().map(|name| columns(&harmless(name))).max().unwrap_or(0);
        let mut colours: HashMap<&str, usize> = HashMap::new();
        let mut prefixes = Vec::new();
        for name in &self.names {
            // The log of stderr has the colour of its service.
            let next = colours.len();
            let number = *colours.entry(name).or_insert(next);
            let colour = Style::new().fg_color(Some(COLOURS[number % COLOURS.len()].into()));
            prefixes.push(look.paint(colour, &format!("{} | ", padded(&harmless(name), width))));
        }
        let several = colours.len() > 1 && self.shape.prefixes;
        self.prefixes = if several { prefixes } else { vec![String::new(); self.names.len()] };
    }

    /// Whether the beginning of a line is worth showing before its end is there: where it is the service's own
    /// bytes and nothing else.
    pub(super) fn wants_partial(&self) -> bool {
        !self.shape.json && !self.shape.stamps && self.names.len() == 1
    }

    /// Shows an item. False: nobody reads any more, or the rest is somebody else's.
    pub(super) fn print(&mut self, number: usize, item: &Item) -> bool {
        self.untouched = false;
        match item {
            Item::Line(line) if self.shape.json => self.object(line_of(&self.names[number], line)),
            Item::Line(line) => self.line(number, line),
            Item::Mark(_) if !self.shape.marks => {}
            Item::Mark(mark) if self.shape.json => self.object(event_of(&self.names[number], mark)),
            Item::Mark(mark) => {
                let text = self.shape.mark(&self.names[number], mark);
                self.own(&text);
            }
            Item::Gap(bytes) if self.shape.json => {
                self.object(json!({ "service": self.names[number], "event": "gap", "bytes": bytes }));
            }
            Item::Gap(bytes) => {
                let name = harmless(&self.names[number]);
                let note = format!("{name}: {bytes} bytes were rotated away before they could be shown\n");
                self.screen.note(&note);
            }
        }
        if self.out.len() >= COLLECTED { self.flush() } else { !self.gone }
    }

    /// Whether there was nothing to show.
    pub(super) fn is_untouched(&self) -> bool {
        self.untouched
    }

    /// Writes what was collected. False: nobody reads any more, or the rest is somebody else's.
    pub(super) fn flush(&mut self) -> bool {
        let mut out = std::mem::take(&mut self.out);
        let Some(witness) = &self.witness else {
            self.gone |= !self.screen.result_bytes(&out);
            return !self.gone;
        };
        let mut from = 0;
        while let Some(piece) = out[from..].chunks(PIECE).next() {
            if !witness.waits_for_room() {
                self.out = out.split_off(from);
                return false;
            }
            let Some(written) = self.screen.result_piece(piece) else {
                self.gone = true;
                return false;
            };
            from += written;
            witness.written.fetch_add(1, Ordering::Relaxed);
        }
        !self.gone
    }

    /// Whether what is not written is somebody else's.
    pub(super) fn hands_on(&self) -> bool {
        self.witness.as_ref().is_some_and(|witness| witness.hands_on.load(Ordering::Acquire))
    }

    /// What was collected and has not been written.
    pub(super) fn left(&self) -> &[u8] {
        &self.out
    }

    /// Collects bytes that were ready to be written.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Nothing more will come: ends the last line.
    pub(super) fn end(&mut self) {
        // The bytes of one service are shown as they are, also where they end without a line end.
        if !self.wants_partial() || self.shape.clean {
            self.end_line();
        }
        self.flush();
    }

    fn end_line(&mut self) {
        if self.inside.take().is_some() {
            self.out.push(b'\n');
        }
    }

    fn own(&mut self, text: &str) {
        self.end_line();
        self.out.extend_from_slice(text.as_bytes());
    }

    fn object(&mut self, object: Value) {
        self.own(&format!("{object}\n"));
    }

    fn line(&mut self, number: usize, line: &Line) {
        // A piece that continues what is on the screen; else it begins a line, if need be in the middle of one.
        if line.piece.first || self.inside != Some(number) {
            self.end_line();
            if self.shape.stamps {
                let stamp = self.shape.look.paint(DIM, &self.shape.stamp(line.at));
                self.out.extend_from_slice(stamp.as_bytes());
                self.out.push(b' ');
            }
            self.out.extend_from_slice(self.prefixes[number].as_bytes());
        }
        // A time is shown once, also where the file holds one.
        let text = if self.shape.stamps { line.said() } else { &line.bytes };
        if self.shape.clean {
            let text = cleaned(text);
            match &self.shape.grep {
                Some(grep) => self.out.extend_from_slice(&found(grep, &text)),
                None => self.out.extend_from_slice(text.as_bytes()),
            }
        } else {
            self.out.extend_from_slice(text);
        }
        self.inside = Some(number);
        if line.piece.last {
            self.end_line();
        }
    }
}

/// A line for programs. What is not UTF-8 in it is replaced, so that it is always valid JSON.
fn line_of(name: &str, line: &Line) -> Value {
    let mut object = json!({
        "service": name,
        "run": line.run,
        "at": line.at.and_then(time),
        "stream": match line.channel { Channel::Out => "stdout", Channel::Err => "stderr" },
        "line": String::from_utf8_lossy(line.said().strip_suffix(b"\r").unwrap_or(line.said())),
    });
    if !line.piece.last
        && let Some(object) = object.as_object_mut()
    {
        // The rest comes in the next objects of this service.
        object.insert("partial".into(), true.into());
    }
    object
}

/// What happened to a run, for programs: told from lines by `event`.
fn event_of(name: &str, mark: &Mark) -> Value {
    let (event, key, number) = match mark.kind {
        Kind::Started => ("started", "", 0),
        Kind::Exited(code) => ("exited", "code", code),
        Kind::Killed(signal) => ("killed", "signal", signal),
        Kind::Dropped(lines) => ("dropped", "lines", lines),
        Kind::Ended | Kind::Output(..) => ("ended", "", 0),
    };
    let mut object = json!({ "service": name, "run": mark.run, "at": time(mark.at), "event": event });
    if !key.is_empty()
        && let Some(object) = object.as_object_mut()
    {
        object.insert(key.into(), number.into());
    }
    object
}

/// RFC 3339, UTC.
fn time(at: i64) -> Option<String> {
    let mut text = String::new();
    write!(text, "{:.3}", Timestamp::from_nanosecond(i128::from(at)).ok()?).ok()?;
    Some(text)
}

/// A line as a terminal may see it. Colours are taken away, every other control sequence is shown as an
/// escape; tabs stay, and so does a carriage return no more than it does harm at the end of a line.
fn cleaned(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(character) = rest.chars().next() {
        if let Some(after) = after_colour(rest) {
            rest = after;
            continue;
        }
        if character == '\t' {
            out.push('\t');
        } else {
            push_harmless(&mut out, character);
        }
        rest = &rest[character.len_utf8()..];
    }
    out
}

/// A line with what was looked for made visible.
fn found(grep: &Regex, text: &str) -> Vec<u8> {
    let style = BAD.bold();
    let (mut out, mut shown) = (Vec::with_capacity(text.len() + 32), 0);
    // Nothing is there to be seen of a match of nothing.
    for found in grep.find_iter(text.as_bytes()).filter(|found| !found.is_empty()) {
        out.extend_from_slice(&text.as_bytes()[shown..found.start()]);
        out.extend_from_slice(style.render().to_string().as_bytes());
        out.extend_from_slice(found.as_bytes());
        out.extend_from_slice(style.render_reset().to_string().as_bytes());
        shown = found.end();
    }
    out.extend_from_slice(&text.as_bytes()[shown..]);
    out
}

/// What follows a colour sequence (ECMA-48 SGR: `ESC [ digits ; m`) at the beginning of the text.
fn after_colour(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\u{1b}[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':'))?;
    body[end..].strip_prefix('m')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_files::Piece;

    fn shape(look: Look) -> Shape {
        let clean = look.width.is_some();
        let zone = TimeZone::UTC;
        Shape { look, json: false, stamps: false, marks: true, clean, prefixes: true, grep: None, zone }
    }

    fn terminal(colour: bool) -> Look {
        Look { colour, unicode: true, width: Some(80) }
    }

    fn line(text: &[u8], first: bool, last: bool) -> Item {
        let (at, run) = (Some(1_700_000_000_123_456_789), Some(7));
        Item::Line(Line {
            bytes: text.into(),
            inner: None,
            piece: Piece { first, last },
            at,
            run,
            channel: Channel::Out,
        })
    }

    fn whole(text: &str) -> Item {
        line(text.as_bytes(), true, true)
    }

    fn mark(kind: Kind) -> Item {
        Item::Mark(Mark { at: 1_700_000_000_000_000_000, run: 7, kind })
    }

    /// What is shown of these items of these services.
    fn shown(shape: &Shape, names: &[&str], items: &[(usize, Item)]) -> String {
        let screen = Screen { out: shape.look, err: Look::PLAIN, json: shape.json };
        let mut printer = Printer::new(&screen, names.iter().copied(), shape);
        for (number, item) in items {
            assert!(printer.print(*number, item));
        }
        String::from_utf8_lossy(&printer.out).into_owned()
    }

    #[test]
    fn in_a_pipe_the_bytes_of_one_service_are_unchanged() {
        let screen = Screen { out: Look::PLAIN, err: Look::PLAIN, json: false };
        let mut printer = Printer::new(&screen, ["web"].into_iter(), &shape(Look::PLAIN));
        printer.print(0, &line(b"\x1b[31mred\x00\xff\r", true, true));
        printer.print(0, &line(b"half", true, false));
        assert_eq!(printer.out, b"\x1b[31mred\x00\xff\r\nhalf");
    }

    #[test]
    fn lines_of_several_services_are_prefixed_and_never_mixed() {
        let items = [
            (0, whole("one")),
            (1, line(b"lo", true, false)),
            (1, line(b"ng", false, true)),
            (1, line(b"half", true, false)),
            (0, whole("two")),
            (1, line(b"rest", false, true)),
        ];
        let text = shown(&shape(Look::PLAIN), &["web", "db"], &items);
        assert_eq!(text, "web | one\ndb  | long\ndb  | half\nweb | two\ndb  | rest\n");
    }

    #[test]
    fn marks_stand_between_lines_and_can_be_left_out() {
        let items = [(0, line(b"half", true, false)), (0, mark(Kind::Exited(1))), (0, mark(Kind::Killed(9)))];
        let text = shown(&shape(Look::PLAIN), &["web"], &items);
        let marks =
            "── web: exited with code 1, run 7, 22:13:20 ──\n── web: ended by SIGKILL, run 7, 22:13:20 ──\n";
        assert_eq!(text, format!("half\n{marks}"));
        let without = Shape { marks: false, ..shape(Look::PLAIN) };
        assert_eq!(shown(&without, &["web"], &items), "half");
    }

    #[test]
    fn objects_are_valid_whatever_a_service_writes() {
        let json = Shape { json: true, ..shape(Look::PLAIN) };
        let items = [
            (0, line(b"\xff\"\n\x00\r", true, true)),
            (0, line(b"x", true, false)),
            (0, mark(Kind::Exited(3))),
        ];
        let text = shown(&json, &["web"], &items);
        let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            objects[0],
            json!({ "service": "web", "run": 7, "at": "2023-11-14T22:13:20.123Z", "stream": "stdout", "line": "\u{fffd}\"\n\u{0}" })
        );
        assert_eq!(objects[1]["partial"], json!(true));
        assert_eq!((&objects[2]["event"], &objects[2]["code"]), (&json!("exited"), &json!(3)));
    }

    #[test]
    fn stamps_stand_in_front_and_unknown_times_leave_their_place_empty() {
        let stamps = Shape { stamps: true, ..shape(Look::PLAIN) };
        let mut unknown = whole("b");
        if let Item::Line(line) = &mut unknown {
            line.at = None;
        }
        let text = shown(&stamps, &["web"], &[(0, whole("a")), (0, unknown)]);
        assert_eq!(text, "2023-11-14T22:13:20.123+00:00 a\n-                             b\n");
    }

    #[test]
    fn a_terminal_gets_no_command_of_a_service() {
        for payload in [
            "\u{1b}[2J",
            "\u{1b}]0;title\u{7}",
            "\u{9b}2J",
            "\u{1b}c",
            "\u{1b}[31",
            "\u{1b}[31;\u{1b}[2J",
            "\u{202e}",
        ] {
            let text = shown(&shape(terminal(false)), &["web"], &[(0, whole(&format!("{payload}x")))]);
            assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{7}', '\u{202e}']), "{text:?}");
        }
        assert_eq!(cleaned(b"\x1b[1;32mok\x1b[0m\tdone\r"), "ok\tdone");
        assert_eq!(cleaned(b"50%\r100%"), "50%\\r100%");
        assert_eq!(cleaned(b"a\xffb"), "a\u{fffd}b");
    }

    #[test]
    fn what_is_looked_for_is_seen_on_a_terminal() {
        let look = |grep: &str| Some(Regex::new(grep).unwrap());
        let shape = Shape { grep: look("err.r|b*"), ..shape(terminal(true)) };
        let text = shown(&shape, &["web"], &[(0, whole("\u{1b}[32man err\u{1b}[0mor, bb"))]);
        assert_eq!(text, "an \u{1b}[1m\u{1b}[31merror\u{1b}[0m, \u{1b}[1m\u{1b}[31mbb\u{1b}[0m\n");
    }

    #[test]
    fn names_are_aligned_and_coloured() {
        let screen = Screen { out: terminal(true), err: Look::PLAIN, json: false };
        let printer = Printer::new(&screen, ["a", "a", "long"].into_iter(), &shape(terminal(true)));
        assert_eq!(printer.prefixes[1], "\u{1b}[36ma    | \u{1b}[0m");
        assert_eq!(printer.prefixes[2], "\u{1b}[32mlong | \u{1b}[0m");
    }
}
