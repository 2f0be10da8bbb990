//! Alerts: somebody outside is told of a service's change of state.
//!
//! Called on the publish thread for each change, which it does not hold up: what is posted, and the last lines of the service that
//! go with it, are the network thread's; a command is a run of the core's like any other.
//!
//! A webhook that fails is tried again after each of [`AGAIN`] and then given up, both in the log; a successor goes on with it
//! ([`super::undelivered`]). A command is not: how it ended is all that can be known of it.
//!
//! A service that goes up and down tells the same target of the same state once in [`PAUSE`]; the next alert says how many were
//! held back. So a restart loop is a message a minute, and its end in `max_restarts` still one of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use relume_config::{Alert, HttpTarget};
use relume_core::ServiceId;
use relume_proto::EventRecord;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::capture::Capture;
use super::gate::Gate;
use super::inbox::{Inbox, News};
use super::last_words;
use super::ready::http;
use super::undelivered::{Kept, Letter, Shelf};
use super::units::{Unit, Units};

/// Between two alerts of one service about one state to one target.
const PAUSE: Duration = Duration::from_secs(60);

/// How long a target may take: what hangs longer than this does not listen.
const LIMIT: Duration = Duration::from_secs(10);

/// Before a webhook is tried again: a restart of whoever listens there, and then one of the machine between us. Not longer:
/// what is to be told grows old.
const AGAIN: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(15), Duration::from_secs(60)];

/// Targets that are told at once; the others wait.
const AT_ONCE: usize = 8;

/// Alerts that wait or are on their way; beyond it they are dropped, and that is said.
const MOST: usize = 1_000;

/// How many of the last lines of a log are told, and how many bytes of them: a command has them in its environment.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 8 * 1024;

/// Who has been told what.
#[derive(Debug)]
pub(crate) struct Alerts {
    net: Handle,
    inbox: Arc<Inbox>,
    capture: Arc<Capture>,
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    shelf: Shelf,
    told: HashMap<(ServiceId, u8, String), (Instant, u32)>,
}

/// How many alerts wait or are on their way, for others to see.
#[derive(Debug, Clone)]
pub(crate) struct UnderWay(Arc<Semaphore>);

impl UnderWay {
    /// Whether there are none.
    pub(crate) fn none(&self) -> bool {
        self.0.available_permits() == MOST
    }
}

/// What is told.
struct Dossier {
    fields: Vec<(&'static str, String)>,
    held_back: u32,
}

impl Alerts {
    pub(crate) fn new(net: Handle, (inbox, capture): (Arc<Inbox>, Arc<Capture>), runtime_dir: &Path) -> Self {
        let (turns, waiting) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Semaphore::new(MOST)));
        let shelf = Shelf::at(runtime_dir);
        Self { net, inbox, capture, turns, waiting, shelf, told: HashMap::new() }
    }

    /// Goes on with what an earlier manager has not delivered, as soon as the gate is open.
    pub(crate) fn go_on(&self, units: Arc<Units>, gate: Gate) {
        let (net, shelf, inbox) = (self.net.clone(), self.shelf.clone(), Arc::clone(&self.inbox));
        let (turns, waiting) = (Arc::clone(&self.turns), Arc::clone(&self.waiting));
        self.net.spawn(async move {
            let taken = tokio::task::spawn_blocking(move || {
                gate.pass();
                shelf.take()
            });
            let Ok((letters, lost)) = taken.await else { return };
            if lost > 0 {
                let text = format!(
                    "alerts of an earlier relume that are too old, or cannot be read, and are given up: {lost}"
                );
                inbox.send(News::Warned(text));
            }
            for (kept, letter) in letters {
                let Ok(place) = Arc::clone(&waiting).try_acquire_owned() else { return };
                let Some(target) = letter.target(&units) else {
                    let text =
                        "an alert of an earlier relume is given up: its target is not in the config any more";
                    inbox.send(News::Warned(format!("{}: {text}", letter.service)));
                    put_away(Some(kept)).await;
                    continue;
                };
                let (turns, inbox) = (Arc::clone(&turns), Arc::clone(&inbox));
                net.spawn(async move {
                    let _place = place;
                    let name = letter.service.clone();
                    let say = |what| inbox.send(News::Warned(format!("{name}: {what}")));
                    post_until_told(&target, letter, Some(kept), &turns, say).await;
                });
            }
        });
    }

    /// What is on its way.
    pub(crate) fn under_way(&self) -> UnderWay {
        UnderWay(Arc::clone(&self.waiting))
    }

    /// Tells those who want to know of this change, if it is one.
    pub(crate) fn tell(&mut self, service: ServiceId, unit: &Arc<Unit>, record: &EventRecord) {
        let Some(to) = &record.to else { return };
        for (which, alert) in (0u8..).zip(&*unit.config.alerts) {
            if !alert.on.iter().any(|word| word.as_str() == to.as_str()) {
                continue;
            }
            if let Some(held_back) = self.turn((service, which, to.as_str().to_owned())) {
                self.send((service, which), alert.clone(), unit, dossier(record, held_back));
            }
        }
    }

    /// How many were held back before this one; none: it is held back itself.
    fn turn(&mut self, key: (ServiceId, u8, String)) -> Option<u32> {
        let now = Instant::now();
        match self.told.get_mut(&key) {
            Some((last, held_back)) if now.duration_since(*last) < PAUSE => {
                *held_back += 1;
                None
            }
            Some(known) => Some(std::mem::replace(known, (now, 0)).1),
            None => {
                self.told.insert(key, (now, 0));
                Some(0)
            }
        }
    }

    fn send(&self, (service, which): (ServiceId, u8), alert: Alert, unit: &Arc<Unit>, mut dossier: Dossier) {
        let Ok(place) = Arc::clone(&self.waiting).try_acquire_owned() else {
            let text = format!("{}: an alert was dropped: {MOST} others wait", unit.config.spec.name);
            return self.inbox.send(News::Warned(text));
        };
        let (turns, inbox, unit) = (Arc::clone(&self.turns), Arc::clone(&self.inbox), Arc::clone(unit));
        let (shelf, capture) = (self.shelf.clone(), Arc::clone(&self.capture));
        self.net.spawn(async move {
            let _place = place;
            let Ok(turn) = turns.acquire().await else { return };
            let lines = last_words::of(&capture, unit.out.path.to_path_buf(), TAIL_LINES).await;
            dossier.fields.push(("log", end_of(&lines.join("\n"), TAIL_BYTES).to_owned()));
            if alert.command.is_some() {
                inbox.send(News::Alert { service, which, told: dossier.variables() });
            }
            drop(turn);
            if let Some(target) = &alert.webhook {
                let name = &unit.config.spec.name;
                let letter = Letter::new(name, which, target, dossier.text(alert.template.as_deref()));
                let (copy, kept) = (letter.clone(), tokio::task::spawn_blocking(move || shelf.keep(&letter)));
                let say = |what| inbox.send(News::Warned(format!("{name}: {what}")));
                post_until_told(target, copy, kept.await.unwrap_or_default(), &turns, say).await;
            }
        });
    }
}

/// Posts until it is heard or there is no further attempt. Whoever waits for the next one keeps nobody from his turn.
async fn post_until_told(
    target: &HttpTarget,
    mut letter: Letter,
    mut kept: Option<Kept>,
    turns: &Semaphore,
    say: impl Fn(String),
) {
    // The path of a webhook is often its password.
    let host = &target.host;
    loop {
        let Ok(turn) = turns.acquire().await else { return };
        let Err(why) = post(target, letter.text.clone()).await else { break };
        drop(turn);
        letter.failed += 1;
        let Some(pause) = AGAIN.get(letter.failed - 1) else {
            say(format!("the alert to {host} was tried {} times and is given up: {why}", letter.failed));
            break;
        };
        if letter.failed == 1 {
            say(format!("the alert to {host} failed and is tried again: {why}"));
        }
        kept = note(kept, &letter).await;
        tokio::time::sleep(*pause).await;
    }
    put_away(kept).await;
}

/// Writes down how far it has come. What cannot be written is as it was.
async fn note(kept: Option<Kept>, letter: &Letter) -> Option<Kept> {
    let letter = letter.clone();
    let written = tokio::task::spawn_blocking(move || {
        let _as_before = kept.as_ref().map(|kept| kept.write(&letter));
        kept
    });
    written.await.ok()?
}

async fn put_away(kept: Option<Kept>) {
    let _panicked = tokio::task::spawn_blocking(move || kept.map(Kept::done)).await;
}

async fn post(target: &HttpTarget, text: String) -> Result<(), String> {
    let posted = tokio::time::timeout(LIMIT, http::post(target, text)).await;
    posted.unwrap_or_else(|_| Err(format!("no answer within {} s", LIMIT.as_secs())))
}

fn dossier(record: &EventRecord, held_back: u32) -> Dossier {
    let word = |state: &Option<relume_proto::State>| {
        state.as_ref().map(|s| s.as_str().to_owned()).unwrap_or_default()
    };
    let fields = vec![
        ("service", record.service.clone().unwrap_or_default()),
        ("state", word(&record.to)),
        ("from", word(&record.from)),
        ("cause", record.cause.as_ref().map(|cause| cause.as_str().to_owned()).unwrap_or_default()),
        ("reason", record.detail.clone().unwrap_or_default()),
        ("at", record.at.clone()),
        ("run", record.run.map(|run| run.to_string()).unwrap_or_default()),
    ];
    Dossier { fields, held_back }
}

impl Dossier {
    fn variables(&self) -> Vec<(String, String)> {
        let own = self.fields.iter().map(|(name, value)| (*name, value.replace('\0', " ")));
        let all = own.chain([("held_back", self.held_back.to_string())]);
        all.map(|(name, value)| (format!("RELUME_ALERT_{}", name.to_ascii_uppercase()), value)).collect()
    }

    /// The template with its names filled in, in the manner of JSON where it is JSON; without one, all there is.
    fn text(&self, template: Option<&str>) -> String {
        let Some(template) = template else {
            let mut all: serde_json::Map<String, serde_json::Value> =
                self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
            all.insert("held_back".into(), self.held_back.into());
            return serde_json::Value::Object(all).to_string();
        };
        let json = is_json(template);
        let mut text = String::new();
        let mut rest = template;
        // One pass: what a value says in braces is not looked at again.
        while let Some(at) = rest.find('{') {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            let found = self
                .fields
                .iter()
                .find(|(name, _)| rest[1..].strip_prefix(name).is_some_and(|behind| behind.starts_with('}')));
            match found {
                Some((name, value)) => {
                    text.push_str(&if json { inside_string(value) } else { value.clone() });
                    rest = &rest[name.len() + 2..];
                }
                None => {
                    text.push('{');
                    rest = &rest[1..];
                }
            }
        }
        text + rest
    }
}

/// Whether a template is meant to become JSON: a list, or a map and not a name in braces.
fn is_json(template: &str) -> bool {
    let template = template.trim_start();
    let map = template.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(['"', '}']));
    map || template.starts_with('[')
}

/// A text as it stands between the quotation marks of JSON.
fn inside_string(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// The end of a text, at most so many bytes and whole characters.
fn end_of(text: &str, most: usize) -> &str {
    let begin = text.len().saturating_sub(most);
    let begin = (begin..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dossier() -> Dossier {
        let fields = vec![("service", "web".into()), ("reason", "said \"{service}\"\nand left".into())];
        Dossier { fields, held_back: 2 }
    }

    #[test]
    fn a_template_is_filled_in_once_and_stays_json_where_it_is() {
        let filled = dossier().text(Some("{service}: {reason} {unknown} {"));
        assert_eq!(filled, "web: said \"{service}\"\nand left {unknown} {");
        let filled = dossier().text(Some("{\"text\": \"{service}: {reason}\"}"));
        let value: serde_json::Value = serde_json::from_str(&filled).unwrap();
        assert_eq!(value["text"], "web: said \"{service}\"\nand left");
    }

    #[test]
    fn without_a_template_all_is_told_as_json() {
        let value: serde_json::Value = serde_json::from_str(&dossier().text(None)).unwrap();
        assert_eq!((&value["service"], &value["held_back"]), (&"web".into(), &2.into()));
    }

    #[test]
    fn the_end_of_a_text_has_no_half_characters() {
        assert_eq!((end_of("grün", 2), end_of("grün", 9), end_of("", 2)), ("n", "grün", ""));
    }
}
