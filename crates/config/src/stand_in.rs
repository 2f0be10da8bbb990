//! What a service may be in place of a child of ours: a container, or something that others run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What a service's process stands in for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StandIn {
    /// `container`.
    Container(Container),
    /// `type: external`.
    External(External),
}

/// A service that others run, known by commands alone. Each is a program with its arguments, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Starts it; `None`: it is only asked after.
    pub start: Option<Vec<String>>,
    /// Stops it; `None`: it is left alone.
    pub stop: Option<Vec<String>>,
    /// Exits with 0 while it is up; `None`: it is up once it was started.
    pub status: Option<Vec<String>>,
}

impl External {
    /// Its commands with their keys.
    #[must_use]
    pub fn commands(&self) -> Vec<(&'static str, &Vec<String>)> {
        let all =
            [("start_command", &self.start), ("stop_command", &self.stop), ("status_command", &self.status)];
        all.into_iter().filter_map(|(key, argv)| Some((key, argv.as_ref()?))).collect()
    }
}

/// A container, as the engine is asked for it. It travels to the process that looks after it as JSON.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The image, pulled if the engine does not have it.
    pub image: String,
    /// The container's name; unique on the engine.
    pub name: String,
    /// Arguments of the image's program; empty: the image's own.
    pub args: Vec<String>,
    /// Its variables: the service's, and on top of them `container.env`.
    pub env: BTreeMap<String, String>,
    /// Ports of it that the host listens on.
    pub ports: Vec<Port>,
    /// Paths of the host, or named volumes, that it sees.
    pub volumes: Vec<Volume>,
    /// The network it joins, made if there is none of this name; `None`: the engine's default.
    pub network: Option<String>,
    /// Whose engine.
    pub engine: Engine,
    /// The number of the signal that asks it to end; `None`: the image's own.
    pub stop_signal: Option<i32>,
}

/// Values of variables may be passwords: only their names are shown.
impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("image", &self.image)
            .field("name", &self.name)
            .field("args", &self.args)
            .field("env", &self.env.keys().collect::<Vec<_>>())
            .field("ports", &self.ports)
            .field("volumes", &self.volumes)
            .field("network", &self.network)
            .field("engine", &self.engine)
            .field("stop_signal", &self.stop_signal)
            .finish()
    }
}

/// What runs containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Engine {
    /// Docker's daemon.
    Docker,
    /// Podman's service.
    Podman,
    /// Whichever answers first.
    Auto,
}

/// A port of a container on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; `None`: all.
    pub address: Option<String>,
    /// The host's port; `None`: one that is free.
    pub host: Option<u16>,
    /// The container's port, 1 to 65535.
    pub container: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// A path of the host, or a named volume, in a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// An absolute path, or the name of a volume.
    pub from: String,
    /// An absolute path in the container.
    pub to: String,
    /// `ro`, `z` and the like, as the engine knows them; empty: none.
    pub options: String,
}

impl Port {
    /// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, IPv6 addresses in brackets.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no port: expected `8080:80`, `127.0.0.1:8080:80` or `53:53/udp`");
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if !["tcp", "udp", "sctp"].contains(&protocol) {
            return Err(format!("`{protocol}` is no protocol\nhelp: `tcp`, `udp` or `sctp`"));
        }
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(wrong);
        let (rest, container) = match rest.rsplit_once(':') {
            Some((rest, container)) => (Some(rest), number(container)?),
            None => (None, number(rest)?),
        };
        let (address, host) = match rest {
            None => (None, None),
            Some(rest) => match rest.rsplit_once(':') {
                Some((address, host)) => {
                    let address =
                        address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
                    address.parse::<std::net::IpAddr>().map_err(|_| wrong())?;
                    let host = if host.is_empty() { None } else { Some(number(host)?) };
                    (Some(address.to_owned()), host)
                }
                None => (None, Some(number(rest)?)),
            },
        };
        Ok(Self { address, host, container, protocol: protocol.to_owned() })
    }
}

impl Volume {
    /// `FROM:TO[:OPTIONS]`. What begins with `/`, `.` or `~` is a path, anything else the name of a volume.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (from, to, options) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let Some(to) = to.filter(|to| to.starts_with('/') && !from.is_empty()) else {
            return Err(format!(
                "`{text}` is no volume: expected `HOST:/IN/CONTAINER` or `HOST:/IN/CONTAINER:ro`"
            ));
        };
        Ok(Self { from: from.to_owned(), to: to.to_owned(), options: options.unwrap_or_default().to_owned() })
    }

    /// Whether it is a path of the host.
    pub(crate) fn is_path(&self) -> bool {
        self.from.starts_with(['/', '.'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_in_each_form() {
        let port = |address: Option<&str>, host, container, protocol: &str| Port {
            address: address.map(Into::into),
            host,
            container,
            protocol: protocol.into(),
        };
        assert_eq!(Port::read("80"), Ok(port(None, None, 80, "tcp")));
        assert_eq!(Port::read("8080:80"), Ok(port(None, Some(8080), 80, "tcp")));
        assert_eq!(Port::read("127.0.0.1:8080:80/udp"), Ok(port(Some("127.0.0.1"), Some(8080), 80, "udp")));
        assert_eq!(Port::read("[::1]:8080:80"), Ok(port(Some("::1"), Some(8080), 80, "tcp")));
        for wrong in ["", "0", "80:", ":80", "x:80", "70000", "80/icmp", "host:80:80"] {
            assert!(Port::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_volume_is_a_path_or_a_name() {
        let read = |text| Volume::read(text).map(|volume| (volume.is_path(), volume.options));
        assert_eq!(read("./conf:/etc/app:ro"), Ok((true, "ro".into())));
        assert_eq!(read("data:/var/lib"), Ok((false, String::new())));
        for wrong in ["", "data", "data:var", ":/var"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_of_variables_are_not_shown() {
        let env = BTreeMap::from([("TOKEN".to_owned(), "hunter2".to_owned())]);
        let container = Container {
            image: "i".into(),
            name: "n".into(),
            args: Vec::new(),
            env,
            ports: Vec::new(),
            volumes: Vec::new(),
            network: None,
            engine: Engine::Auto,
            stop_signal: None,
        };
        let shown = format!("{container:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    }
}
