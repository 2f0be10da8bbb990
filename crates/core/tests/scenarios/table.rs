//! The table of every state and every event, made from what the scenarios and the walk reach, and kept in
//! `docs/internals/supervision.md`. `RELUME_BLESS=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::support::{Reached, STATES, Scenario};
use crate::walk::{self, RUN_EVENTS};

/// The scenarios by subject, in the order of a life.
const SUBJECTS: [(&str, &[Scenario]); 16] = [
    ("starting", crate::starting::ALL),
    ("restarting", crate::restarting::ALL),
    ("respawn_rate", crate::respawn_rate::ALL),
    ("stopping", crate::stopping::ALL),
    ("dependencies", crate::dependencies::ALL),
    ("shutdown", crate::shutdown::ALL),
    ("configuration", crate::configuration::ALL),
    ("planning", crate::planning::ALL),
    ("commands", crate::commands::ALL),
    ("requests", crate::requests::ALL),
    ("crossing", crate::crossing::ALL),
    ("forking", crate::forking::ALL),
    ("hooks", crate::hooks::ALL),
    ("health", crate::health::ALL),
    ("recovering", crate::recovering::ALL),
    ("stale", crate::stale::ALL),
];

/// What came of one event in one state, and who shows it.
type Rows = BTreeMap<(usize, usize, Reached), BTreeSet<String>>;

#[test]
fn the_table_holds_every_pair_and_is_up_to_date() {
    let rows = collect();
    for (state, _) in STATES {
        for event in walk::events_for(state) {
            let reached = rows.keys().any(|(_, _, row)| row.state == state && row.event == event);
            assert!(reached, "nothing feeds {event:?} to a service that is {state}");
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/internals/supervision.md");
    let made = format!("{}{}", include_str!("introduction.md"), table(&rows));
    if std::env::var_os("RELUME_BLESS").is_some() {
        std::fs::write(&path, &made).expect("the document can be written");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == made,
        "{} is out of date; RELUME_BLESS=1 cargo test -p relume-core writes it anew",
        path.display()
    );
}

#[test]
fn no_two_scenarios_of_a_subject_have_one_name() {
    for (subject, scenarios) in SUBJECTS {
        let names: BTreeSet<_> = scenarios.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), scenarios.len(), "in {subject}");
    }
}

fn collect() -> Rows {
    let order = event_order();
    let mut rows = Rows::new();
    let mut add = |row: Reached, by: Option<String>| {
        let state = STATES.iter().position(|(state, _)| *state == row.state);
        let state = state.unwrap_or_else(|| panic!("{} is no state a step may end in", row.state));
        let event = order.iter().position(|event| *event == row.event);
        let event = event.unwrap_or_else(|| panic!("{:?} stands in no row", row.event));
        rows.entry((state, event, row)).or_default().extend(by);
    };
    for (subject, scenarios) in SUBJECTS {
        for scenario in scenarios {
            let told = format!("{subject}: {}", scenario.name.replace('_', " "));
            scenario.play().into_iter().for_each(|row| add(row, Some(told.clone())));
        }
    }
    for (state, _) in STATES {
        for event in walk::events_for(state) {
            let fed = walk::feed(state, &event);
            fed.into_iter()
                .filter(|row| row.state == state && row.event == event)
                .for_each(|row| add(row, None));
        }
    }
    rows
}

/// All kinds of events, in the order of the rows.
fn event_order() -> Vec<String> {
    let with = |prefix: &str| RUN_EVENTS.map(|event| format!("{prefix}{event}")).to_vec();
    let mut all = with("");
    all.push("its deadline".into());
    for prefix in ["its hook: ", "a run beside: "] {
        all.extend(with(prefix));
        all.push(format!("{prefix}time limit"));
    }
    let rest = [
        "start asked",
        "stop asked",
        "restart asked",
        "reload asked",
        "signal asked",
        "alert due",
        "something noticed",
        "configured, its launch the same",
        "configured with another launch",
        "left out of the configuration",
        "back in the configuration",
        "shutdown asked",
        "hurry asked",
        "a step of another service",
        "news of an earlier run",
    ];
    all.extend(rest.map(String::from));
    all
}

fn table(rows: &Rows) -> String {
    let pairs: BTreeSet<_> = rows.keys().map(|(state, event, _)| (state, event)).collect();
    let told: BTreeSet<_> =
        rows.iter().filter(|(_, by)| !by.is_empty()).map(|((s, e, _), _)| (s, e)).collect();
    let mut text = format!(
        "{} pairs of state and event; {} of them are told by scenarios, the others by the walk alone.\n",
        pairs.len(),
        told.len()
    );
    for (index, (state, meaning)) in STATES.iter().enumerate() {
        write!(text, "\n### {state}\n\n{meaning}\n\n").expect("a string takes all");
        text += "| event | becomes | asks for | shown by |\n|---|---|---|---|\n";
        let (mut stale, mut quiet) = (Vec::new(), Vec::new());
        for ((_, _, row), by) in rows.iter().filter(|((state, _, _), _)| *state == index) {
            let nothing = row.becomes == Some(row.state) && row.actions.is_empty();
            match (nothing, row.stale, by.is_empty()) {
                (true, true, _) => stale.push(row.event.as_str()),
                (true, false, true) => quiet.push(row.event.as_str()),
                _ => text += &line(row, by),
            }
        }
        for (what, events) in [("Told as stale", stale), ("Nothing changes", quiet)] {
            if !events.is_empty() {
                write!(text, "\n{what}: {}.\n", events.join(" · ")).expect("a string takes all");
            }
        }
    }
    text
}

fn line(row: &Reached, by: &BTreeSet<String>) -> String {
    let becomes = match row.becomes {
        None => "forgotten",
        Some(state) if state == row.state => "(stays)",
        Some(state) => state,
    };
    let actions = if row.actions.is_empty() { "–".into() } else { row.actions.join(", ") };
    let shown = match by.len() {
        0 => "walk only".into(),
        1 | 2 => by.iter().cloned().collect::<Vec<_>>().join("; "),
        more => {
            let first = by.first().expect("there are some");
            format!("{first}; {} more", more - 1)
        }
    };
    format!("| {} | {becomes} | {actions} | {shown} |\n", row.event)
}
