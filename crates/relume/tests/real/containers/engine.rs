//! An engine of the tests' own: the part of docker's API that a shim uses, over a unix socket. Its containers are
//! not processes: each prints `line N` for every 20 ms of its life, and ends when it is stopped or told to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as Part, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::{Value, json};

const PERIOD: Duration = Duration::from_millis(20);

/// What the engine has.
#[derive(Default)]
pub(crate) struct Held {
    pub(crate) containers: HashMap<String, Container>,
    pub(crate) networks: Vec<String>,
    pub(crate) images: Vec<String>,
    /// Names of containers, in the order of their starts.
    pub(crate) starts: Vec<String>,
    /// Signals and stops, as `NAME SIGNAL`.
    pub(crate) asked: Vec<String>,
}

pub(crate) struct Container {
    pub(crate) body: Value,
    began: Option<(Instant, SystemTime)>,
    ended: Option<Instant>,
    exit_code: i64,
}

impl Held {
    /// A container that a person has made.
    pub(crate) fn foreign(&mut self, name: &str) {
        let began = Some((Instant::now(), SystemTime::now()));
        let container = Container { body: json!({"Labels": {}}), began, ended: None, exit_code: 0 };
        self.containers.insert(name.to_owned(), container);
    }
}

impl Container {
    fn is_running(&self) -> bool {
        self.began.is_some() && self.ended.is_none()
    }

    /// How many lines it has printed.
    fn printed(&self) -> u32 {
        let Some((began, _)) = self.began else { return 0 };
        let life = self.ended.unwrap_or_else(Instant::now) - began;
        u32::try_from(life.as_millis() / PERIOD.as_millis()).unwrap()
    }

    /// One record, in the frame of a stream without a terminal.
    fn record(&self, number: u32) -> Bytes {
        let at = jiff::Timestamp::try_from(self.began.unwrap().1 + PERIOD * number).unwrap();
        let text = format!("{at} line {number}\n");
        let mut frame = vec![1, 0, 0, 0];
        frame.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text.as_bytes());
        frame.into()
    }
}

type Shared = Arc<Mutex<Held>>;

/// A running engine; it ends with the test's process.
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
    held: Shared,
}

impl Engine {
    pub(crate) fn start(dir: &Path) -> Self {
        let socket = dir.join("engine.sock");
        let held: Shared = Arc::new(Mutex::new(Held { images: vec!["here:1".into()], ..Held::default() }));
        let routes = routes(Arc::clone(&held));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                axum::serve(listener, routes).await.unwrap();
            });
        });
        Self { socket, held }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Held) -> T) -> T {
        look(&mut self.held.lock().unwrap())
    }

    /// A container ends by itself.
    pub(crate) fn end(&self, name: &str, exit_code: i64) {
        self.with(|held| {
            let container = held.containers.get_mut(name).unwrap();
            container.ended = Some(Instant::now());
            container.exit_code = exit_code;
        });
    }
}

fn routes(held: Shared) -> Router {
    let api = Router::new()
        .route("/version", get(|| async { axum::Json(json!({"ApiVersion": "1.44", "Version": "0"})) }))
        .route("/images/{name}/json", get(image))
        .route("/images/create", post(pull))
        .route("/networks/create", post(make_network))
        .route("/networks/{name}", get(network))
        .route("/containers/create", post(make))
        .route("/containers/{name}", axum::routing::delete(remove))
        .route("/containers/{name}/json", get(inspect))
        .route("/containers/{name}/logs", get(logs))
        .route("/containers/{name}/{verb}", any(act));
    Router::new().nest("/{version}", api.clone()).merge(api).with_state(held)
}

type Names = Part<HashMap<String, String>>;
type Words = Query<HashMap<String, String>>;

fn missing(what: &str) -> Response {
    (StatusCode::NOT_FOUND, axum::Json(json!({"message": format!("no such {what}")}))).into_response()
}

async fn image(State(held): State<Shared>, names: Names) -> Response {
    match held.lock().unwrap().images.contains(&names["name"]) {
        true => axum::Json(json!({"Id": "sha256:0"})).into_response(),
        false => missing("image"),
    }
}

async fn pull(State(held): State<Shared>, words: Words) -> Response {
    let name = words["fromImage"].clone();
    if name.starts_with("nowhere") {
        return axum::Json(json!({"errorDetail": {"message": "nobody has it"}, "error": "nobody has it"}))
            .into_response();
    }
    held.lock().unwrap().images.push(name);
    axum::Json(json!({"status": "done"})).into_response()
}

async fn network(State(held): State<Shared>, names: Names) -> Response {
    match held.lock().unwrap().networks.contains(&names["name"]) {
        true => axum::Json(json!({"Name": names["name"]})).into_response(),
        false => missing("network"),
    }
}

async fn make_network(State(held): State<Shared>, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    held.lock().unwrap().networks.push(body["Name"].as_str().unwrap().to_owned());
    (StatusCode::CREATED, axum::Json(json!({"Id": "n", "Warning": ""}))).into_response()
}

async fn make(State(held): State<Shared>, words: Words, body: Bytes) -> Response {
    let name = words["name"].clone();
    let body = serde_json::from_slice(&body).unwrap();
    let mut held = held.lock().unwrap();
    if held.containers.contains_key(&name) {
        return (StatusCode::CONFLICT, axum::Json(json!({"message": "name in use"}))).into_response();
    }
    held.containers.insert(name.clone(), Container { body, began: None, ended: None, exit_code: 0 });
    (StatusCode::CREATED, axum::Json(json!({"Id": name, "Warnings": []}))).into_response()
}

async fn remove(State(held): State<Shared>, names: Names) -> Response {
    match held.lock().unwrap().containers.remove(&names["name"]) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => missing("container"),
    }
}

async fn inspect(State(held): State<Shared>, names: Names) -> Response {
    let held = held.lock().unwrap();
    let Some(container) = held.containers.get(&names["name"]) else { return missing("container") };
    axum::Json(json!({
        "Id": names["name"],
        "State": {"Running": container.is_running(), "ExitCode": container.exit_code, "OOMKilled": false, "Error": ""},
        "Config": {"Labels": container.body["Labels"]},
    }))
    .into_response()
}

async fn act(State(held): State<Shared>, names: Names, words: Words) -> Response {
    let (name, verb) = (names["name"].clone(), names["verb"].as_str());
    if verb == "wait" {
        while held.lock().unwrap().containers.get(&name).is_some_and(Container::is_running) {
            tokio::time::sleep(PERIOD).await;
        }
        return axum::Json(json!({"StatusCode": 0})).into_response();
    }
    let mut held = held.lock().unwrap();
    let Some(container) = held.containers.get_mut(&name) else { return missing("container") };
    match verb {
        "start" => {
            container.began = Some((Instant::now(), SystemTime::now()));
            held.starts.push(name);
        }
        "stop" => {
            container.ended = Some(Instant::now());
            container.exit_code = 143;
            held.asked.push(format!("{name} stop"));
        }
        "kill" => held.asked.push(format!("{name} {}", words["signal"])),
        _ => return missing("page"),
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn logs(State(held): State<Shared>, names: Names, words: Words) -> Response {
    let name = names["name"].clone();
    let follow = words.get("follow").is_some_and(|word| word == "true" || word == "1");
    let since: i64 = words.get("since").and_then(|text| text.parse().ok()).unwrap_or(0);
    let first = {
        let held = held.lock().unwrap();
        let Some(container) = held.containers.get(&name) else { return missing("container") };
        let began = container.began.map_or(0, |(_, at)| {
            i64::try_from(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()).unwrap()
        });
        u32::try_from((since - began - 1).max(0)).unwrap() * 50
    };
    let records = futures_util::stream::unfold(first, move |next| {
        let (held, name) = (Arc::clone(&held), name.clone());
        async move {
            loop {
                {
                    let held = held.lock().unwrap();
                    let container = held.containers.get(&name)?;
                    if next < container.printed() {
                        return Some((Ok::<_, std::io::Error>(container.record(next)), next + 1));
                    }
                    if !follow || !container.is_running() {
                        return None;
                    }
                }
                tokio::time::sleep(PERIOD).await;
            }
        }
    });
    Body::from_stream(records).into_response()
}
