//! Words that arrive over sockets, and rows of the database.

use relume_core::{Event, Moment, Outbox, Remembered, Snapshot, Supervisor};
use relume_proto as wire;

use crate::manager::ready;

/// A datagram on a notify socket: what is shown of it is fit for a terminal, and no process is claimed that
/// cannot be a service's.
pub fn notify(bytes: &[u8]) {
    for cut in [false, true] {
        let words = ready::Words::read(bytes, cut);
        if let Some(status) = &words.status {
            assert!(status.len() <= ready::STATUS_LIMIT && !status.chars().any(char::is_control), "{status:?}");
        }
        assert!(words.main_pid.is_none_or(|pid| pid > 1));
        let twice = words.clone().and(ready::Words::read(bytes, cut));
        assert_eq!(twice.main_pid, words.main_pid);
    }
}

/// The rows of `state.db`: whatever stands in them, the next supervisor comes up and goes on.
pub fn state(bytes: &[u8]) {
    let _event = serde_json::from_slice::<wire::EventRecord>(bytes);
    let services: Vec<Remembered> = match serde_json::from_slice(bytes) {
        Ok(many) => many,
        Err(_) => match serde_json::from_slice(bytes) {
            Ok(one) => vec![one],
            Err(_) => return,
        },
    };
    let specs = services.iter().map(|known| relume_core::ServiceSpec {
        name: known.name.clone(),
        policy: relume_core::Policy::default(),
        launch: 7,
    });
    let mut specs: Vec<_> = specs.collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    specs.dedup_by(|a, b| a.name == b.name);
    let manager = relume_core::ManagerPolicy::default();
    let config = relume_core::Config { manager, autostart: true, services: specs };
    let mut out = Outbox::default();
    let services = services.into_iter().map(Remembered::of_another_boot);
    let memory = Snapshot::cold(1, services);
    let mut core = Supervisor::recover(config, memory, &[], (1, Moment(1)), &mut out);
    for second in 1..100 {
        core.step(Moment(second * 1_000_000_000), Event::Tick, &mut out);
    }
}

/// Requests and answers of the control API, and the names in a query.
pub fn api(bytes: &[u8]) {
    fn read<T: serde::de::DeserializeOwned + serde::Serialize + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
        let Ok(value) = serde_json::from_slice::<T>(bytes) else { return };
        let Ok(text) = serde_json::to_string(&value) else { return };
        // What is written is read as the same.
        let again: T = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert_eq!(again, value);
    }
    read::<wire::OperationRequest>(bytes);
    read::<wire::OperationReport>(bytes);
    read::<wire::SignalRequest>(bytes);
    read::<wire::ChangeRequest>(bytes);
    read::<wire::ChangeReport>(bytes);
    read::<wire::StatusReport>(bytes);
    read::<wire::StatusFile>(bytes);
    read::<wire::EventRecord>(bytes);
    read::<wire::VersionReport>(bytes);
    read::<wire::DownRequest>(bytes);
    read::<wire::ApiError>(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Some(names) = wire::names_from_query(text) {
            let query = wire::names_to_query(&names);
            assert_eq!(wire::names_from_query(query.trim_start_matches('?')), Some(names), "{query}");
        }
    }
}
