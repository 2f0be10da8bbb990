//! The engine's side: found, asked for an image, a network and a container.

use std::collections::HashMap;
use std::path::PathBuf;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigLogConfig, NetworkCreateRequest,
    PortBinding, RestartPolicy, RestartPolicyNameEnum,
};
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, InspectContainerOptions, RemoveContainerOptions,
};
use futures_util::StreamExt;
use relume_config::{Container, Engine};

use super::super::{Order, say};

/// Labels by which a shim knows its container again.
const OWNER: &str = "relume.owner";
const SERVICE: &str = "relume.service";
const CONFIG: &str = "relume.config";

/// Seconds that the engine may take for one answer; pulls and waits are streams and not bound by it.
const ANSWER_LIMIT: u64 = 120;

/// What the engine keeps of the output itself, in the manner of its `local` driver: only what a shim that was killed
/// still has to fetch.
const ENGINE_LOG: [(&str, &str); 2] = [("max-size", "10m"), ("max-file", "2")];

/// An engine that answers.
pub(super) struct Client {
    pub(super) api: Docker,
    is_podman: bool,
}

/// The container of this service, as it was found or made.
pub(super) struct Found {
    pub(super) id: String,
    /// It ran already: its shim was killed.
    pub(super) adopted: bool,
    /// The engine looks after its health, so it is ready when that is good.
    pub(super) has_health: bool,
}

/// Where engines listen: `DOCKER_HOST` and `CONTAINER_HOST` first, as their own clients do.
fn sockets(engine: Engine) -> Vec<(&'static str, PathBuf)> {
    let from = |variable: &str| {
        let value = std::env::var(variable).ok()?;
        value.strip_prefix("unix://").map(PathBuf::from)
    };
    let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let in_user = |name: &str| user.as_ref().map(|dir| dir.join(name));
    let docker = [from("DOCKER_HOST"), in_user("docker.sock"), Some("/var/run/docker.sock".into())];
    let podman =
        [from("CONTAINER_HOST"), in_user("podman/podman.sock"), Some("/run/podman/podman.sock".into())];
    let docker = docker.into_iter().flatten().map(|path| ("docker", path));
    let podman = podman.into_iter().flatten().map(|path| ("podman", path));
    match engine {
        Engine::Docker => docker.collect(),
        Engine::Podman => podman.collect(),
        Engine::Auto => docker.chain(podman).collect(),
    }
}

/// Whether somebody listens where an engine should; else where was looked.
pub(in crate::shim) fn listens(engine: Engine) -> Result<String, String> {
    let mut problems = Vec::new();
    for (name, path) in sockets(engine) {
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => return Ok(format!("{name} listens at {}", path.display())),
            Err(error) => problems.push(format!("{name} at {}: {error}", path.display())),
        }
    }
    Err(problems.join("; "))
}

/// The first engine that answers, or why none does, in one line.
pub(super) async fn connect(engine: Engine) -> Result<Client, String> {
    let mut problems = Vec::new();
    for (name, path) in sockets(engine) {
        match try_connect(&path).await {
            Ok(client) => return Ok(client),
            Err(why) => problems.push(format!("{name} at {}: {why}", path.display())),
        }
    }
    Err(format!("no container engine answers: {}", problems.join("; ")))
}

async fn try_connect(path: &std::path::Path) -> Result<Client, String> {
    // The library's own errors do not tell a missing daemon from a missing permission.
    if let Err(error) = tokio::net::UnixStream::connect(path).await {
        return Err(error.to_string());
    }
    let text = path.to_string_lossy();
    let api = Docker::connect_with_unix(&text, ANSWER_LIMIT, bollard::API_DEFAULT_VERSION).map_err(plain)?;
    let api = api.negotiate_version().await.map_err(plain)?;
    let version = api.version().await.map_err(plain)?;
    let parts = version.components.unwrap_or_default();
    Ok(Client { api, is_podman: parts.iter().any(|part| part.name.contains("Podman")) })
}

/// The engine's message alone, without the library's words around it.
pub(super) fn plain(error: Error) -> String {
    if let Error::DockerResponseServerError { message, .. } = &error {
        return message.trim().to_owned();
    }
    if let Error::DockerStreamError { error } = error {
        return error;
    }
    if matches!(error, Error::RequestTimeoutError) {
        return format!("the engine has not answered within {ANSWER_LIMIT} s");
    }
    error.to_string()
}

fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

impl Client {
    /// The service's container, running: found again, or made.
    pub(super) async fn obtain(&self, order: &Order, asked: &Container) -> Result<Found, String> {
        let name = &asked.name;
        match self.api.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) => {
                if let Some(running) = self.take_up(order, asked, found).await? {
                    return Ok(running);
                }
            }
            Err(error) if is_missing(&error) => {}
            Err(error) => {
                return Err(format!("the engine cannot tell of container {name}: {}", plain(error)));
            }
        }
        self.pull(&asked.image).await?;
        if let Some(network) = &asked.network {
            self.make_network(network).await?;
        }
        self.make(order, asked).await
    }

    /// Ours and running: taken up. Ours and not running, or of an older configuration: removed. Nobody's: an error.
    async fn take_up(
        &self,
        order: &Order,
        asked: &Container,
        found: ContainerInspectResponse,
    ) -> Result<Option<Found>, String> {
        let name = &asked.name;
        let labels = found.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
        let label = |key: &str| labels.get(key).map(String::as_str);
        if label(OWNER) != Some(&order.owner) || label(SERVICE) != Some(&order.service) {
            let whose = match label(OWNER) {
                Some(_) => "belongs to another service or another relume",
                None => "was not made by relume",
            };
            return Err(format!(
                "a container named {name} is there already and {whose}: remove it, or choose another `container.name`"
            ));
        }
        let running = found.state.as_ref().and_then(|state| state.running) == Some(true);
        let id = found.id.clone().unwrap_or_else(|| name.clone());
        if running && label(CONFIG) == Some(&digest(asked)) {
            return Ok(Some(Found { id, adopted: true, has_health: has_health(&found) }));
        }
        self.remove(&id).await?;
        Ok(None)
    }

    /// Removes a container, running or not.
    pub(super) async fn remove(&self, id: &str) -> Result<(), String> {
        let options = RemoveContainerOptions { force: true, v: false, link: false };
        match self.api.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(format!("an old container cannot be removed: {}", plain(error))),
        }
    }

    async fn pull(&self, image: &str) -> Result<(), String> {
        match self.api.inspect_image(image).await {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(format!("the engine cannot tell of image {image}: {}", plain(error))),
        }
        say(&format!("pulling image {image}"));
        // Without a tag the engine would fetch all there are.
        let tagged = image.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let from = if tagged { image.to_owned() } else { format!("{image}:latest") };
        let options = CreateImageOptions { from_image: Some(from), ..CreateImageOptions::default() };
        let mut progress = std::pin::pin!(self.api.create_image(Some(options), None, None));
        while let Some(step) = progress.next().await {
            step.map_err(|error| format!("image {image} cannot be pulled: {}", plain(error)))?;
        }
        Ok(())
    }

    async fn make_network(&self, name: &str) -> Result<(), String> {
        // Modes of the engine and no networks.
        if ["host", "none", "bridge", "default"].contains(&name) || name.contains(':') {
            return Ok(());
        }
        let asked = self.api.inspect_network(name, None::<bollard::query_parameters::InspectNetworkOptions>);
        match asked.await {
            Ok(_) => return Ok(()),
            Err(error) if is_missing(&error) => {}
            Err(error) => return Err(format!("the engine cannot tell of network {name}: {}", plain(error))),
        }
        let request = NetworkCreateRequest {
            name: name.to_owned(),
            driver: Some("bridge".to_owned()),
            ..NetworkCreateRequest::default()
        };
        match self.api.create_network(request).await {
            Ok(_) => Ok(()),
            // Another shim was faster.
            Err(Error::DockerResponseServerError { status_code: 409, .. }) => Ok(()),
            Err(error) => Err(format!("network {name} cannot be made: {}", plain(error))),
        }
    }

    async fn make(&self, order: &Order, asked: &Container) -> Result<Found, String> {
        let name = &asked.name;
        let options = CreateContainerOptions { name: Some(name.clone()), platform: String::new() };
        let body = self.body(order, asked);
        let made = self.api.create_container(Some(options), body).await;
        let made = made.map_err(|error| format!("container {name} cannot be made: {}", plain(error)))?;
        for warning in &made.warnings {
            say(&format!("the engine warns: {warning}"));
        }
        let none = None::<bollard::query_parameters::StartContainerOptions>;
        if let Err(error) = self.api.start_container(&made.id, none).await {
            let text = format!("container {name} cannot be started: {}", plain(error));
            let _left = self.remove(&made.id).await;
            return Err(text);
        }
        let found = self.api.inspect_container(&made.id, None::<InspectContainerOptions>).await;
        let has_health = found.is_ok_and(|found| has_health(&found));
        Ok(Found { id: made.id, adopted: false, has_health })
    }

    fn body(&self, order: &Order, container: &Container) -> ContainerCreateBody {
        let labels =
            [(OWNER, order.owner.clone()), (SERVICE, order.service.clone()), (CONFIG, digest(container))];
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let exposed = container.ports.iter().map(|port| format!("{}/{}", port.container, port.protocol));
        ContainerCreateBody {
            image: Some(container.image.clone()),
            cmd: some(container.args.clone()),
            env: some(container.env.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            exposed_ports: some(exposed.collect()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value)).into()),
            stop_signal: container.stop_signal.map(|signal| signal.to_string()),
            host_config: Some(self.host_config(container)),
            ..ContainerCreateBody::default()
        }
    }

    fn host_config(&self, container: &Container) -> HostConfig {
        let mut ports: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
        for port in &container.ports {
            let binding = PortBinding {
                host_ip: port.address.clone(),
                host_port: Some(port.host.map(|port| port.to_string()).unwrap_or_default()),
            };
            let all = ports.entry(format!("{}/{}", port.container, port.protocol)).or_default();
            all.get_or_insert_default().push(binding);
        }
        let bind = |volume: &relume_config::Volume| match volume.options.as_str() {
            "" => format!("{}:{}", volume.from, volume.to),
            options => format!("{}:{}:{options}", volume.from, volume.to),
        };
        // Podman's own default is bounded by its configuration, and it knows no driver of this name.
        let log = (!self.is_podman).then(|| HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(ENGINE_LOG.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
        });
        HostConfig {
            binds: Some(container.volumes.iter().map(bind).collect()),
            port_bindings: (!ports.is_empty()).then_some(ports),
            network_mode: container.network.clone(),
            log_config: log,
            // It is ours to restart.
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        }
    }
}

fn has_health(found: &ContainerInspectResponse) -> bool {
    let test = found.config.as_ref().and_then(|config| config.healthcheck.as_ref()?.test.clone());
    test.is_some_and(|test| test.first().is_some_and(|word| word != "NONE" && !word.is_empty()))
}

/// Of all that a container is made from; the values of variables cannot be read out of it.
fn digest(container: &Container) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    serde_json::to_vec(container).unwrap_or_default().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}
