//! `container:` in place of `command`.

use std::collections::BTreeMap;

use super::service::Work;
use crate::model::Environment;
use crate::raw::{OneOrMany, RawContainer, RawEngine, RawType};
use crate::stand_in::{Container, Engine, Port, Volume};

/// What says how a process is started, and has no meaning for a container.
const NOT_BESIDE: [&str; 4] = ["command", "executable", "arguments", "pid_file"];

/// The rules between `container` and other keys; whether there is one.
pub(super) fn check(work: &mut Work<'_, '_>) -> bool {
    let Some(raw) = work.raw.container.clone() else { return false };
    for key in NOT_BESIDE {
        if work.node.get(key).is_some() {
            work.error(
                &[key],
                format!("`container` says already what is run, `{key}` has no meaning beside it"),
            );
        }
    }
    if let Some(RawType::Forking | RawType::External) = work.raw.r#type {
        work.error_with(
            &["type"],
            "a container is its engine's process",
            "leave `type` out, or write `oneshot`",
        );
    }
    match raw.image.as_deref().map(str::trim) {
        None => work.error(&["container"], "the container has no `image`"),
        Some("") => work.error(&["container", "image"], "the name of the image is empty"),
        Some(_) => {}
    }
    if let Some(name) = &raw.name
        && !is_name(name)
    {
        let help = "letters, digits, `_`, `.` and `-`, at least two, the first a letter or a digit";
        work.error_with(&["container", "name"], format!("`{name}` is no name for a container"), help);
    }
    true
}

/// What docker and podman accept.
fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    name.len() >= 2
        && name.len() <= 128
        && name.chars().all(fine)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The container of one instance of a service.
pub(super) fn lower(
    work: &mut Work<'_, '_>,
    (base_name, suffix): (&str, &str),
    environment: &Environment,
) -> Option<Container> {
    let raw: RawContainer = work.raw.container.clone()?;
    // A service's name may have `@` and `:`, a container's may not.
    let safe = |name: &str| name.replace(['@', ':'], "-");
    let name = raw.name.clone().unwrap_or_else(|| format!("relume-{}", safe(base_name)));
    let mut env = BTreeMap::clone(&environment.0);
    for (name, value) in raw.env.clone().unwrap_or_default().0 {
        env.extend(value.map(|value| (name, value)));
    }
    let ports = each(work, "ports", raw.ports.as_ref(), |text, _| Port::read(text));
    let volumes = each(work, "volumes", raw.volumes.as_ref(), |text, work| {
        let mut volume = Volume::read(text)?;
        if volume.is_path() {
            let path = work.files.resolve(work.span(&["container", "volumes"]), &volume.from);
            volume.from = path.to_string_lossy().into_owned();
        }
        Ok(volume)
    });
    Some(Container {
        image: raw.image.clone().unwrap_or_default(),
        name: format!("{name}{}", safe(suffix)),
        args: raw.args.clone().map(|args| args.0).unwrap_or_default(),
        env,
        ports,
        volumes,
        network: raw.network.clone(),
        engine: match raw.engine {
            None | Some(RawEngine::Auto) => Engine::Auto,
            Some(RawEngine::Docker) => Engine::Docker,
            Some(RawEngine::Podman) => Engine::Podman,
        },
        // relume's default is no wish of the user's: then the image knows better.
        stop_signal: work.raw.stop_signal.as_ref().map(|signal| signal.0),
    })
}

fn each<T>(
    work: &mut Work<'_, '_>,
    key: &str,
    list: Option<&OneOrMany<String>>,
    read: impl Fn(&str, &mut Work<'_, '_>) -> Result<T, String>,
) -> Vec<T> {
    let mut all = Vec::new();
    for text in list.iter().flat_map(|list| &list.0) {
        match read(text, work) {
            Ok(one) => all.push(one),
            Err(message) => match message.split_once("\nhelp: ") {
                Some((message, help)) => work.error_with(&["container", key], message, help),
                None => work.error(&["container", key], message),
            },
        }
    }
    all
}
