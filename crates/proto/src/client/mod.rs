//! A client of the control API.
//!
//! It is synchronous on the outside, because a command does one thing and ends; inside runs a tokio runtime
//! on the calling thread, so that a request can be waited for while events are shown. Each request has a
//! connection of its own: the manager may have been replaced between two of them.
//!
//! It never starts a manager, never retries a request that may have been carried out, and trusts a socket
//! only if whoever listens is the same user or root.

mod error;
mod wire;

use std::future::Future;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::runtime::Runtime;

pub use error::{ClientError, ErrorKind};

use crate::{
    ChangeReport, ChangeRequest, DownReport, DownRequest, ErrorCode, EventRecord, ExplainReport,
    OperationReport, OperationRequest, RespawnReport, RespawnRequest, SignalRequest, StatusReport,
    VersionReport, names_to_query, paths,
};

/// How long an answer may take to begin when the manager has nothing to wait for. Long enough for one on a
/// machine that swaps, short enough that a hung one is noticed.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// How long it may take the manager to read a config: it may lie on a slow disk, and many files take their time.
const READING_LIMIT: Duration = Duration::from_secs(60);

/// What happens within so short a time is looked at together.
const BREATH: Duration = Duration::from_millis(20);

/// How long the successor of a manager that is to leave may take to answer. It takes milliseconds.
const AGAIN_LIMIT: Duration = Duration::from_secs(2);

/// How often the stream of one that is to leave is opened again. Each time is a respawn or a death in between.
const MOST_LOST: usize = 50;

/// How long connections may go on to be lost while a manager is replaced. It takes milliseconds.
const AWAY: Duration = Duration::from_secs(10);

/// No event is longer, in bytes; a stream without line ends is no event stream.
const LINE_LIMIT: usize = 1 << 20;

/// Called for every event while a request is waited for.
pub type Watcher<'a> = &'a mut dyn FnMut(EventRecord);

/// A client for the manager behind one socket.
#[derive(Debug)]
pub struct Client {
    socket: PathBuf,
    runtime: Runtime,
}

impl Client {
    /// A client for this socket. Nothing is connected yet.
    ///
    /// # Errors
    /// When the machine refuses a file descriptor.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| {
            ClientError::new(ErrorKind::Broken, &socket, format!("cannot wait for events: {error}"))
        })?;
        Ok(Self { socket, runtime })
    }

    /// The socket it speaks to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Who answers there.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn version(&self) -> Result<VersionReport, ClientError> {
        self.runtime.block_on(self.get(paths::VERSION))
    }

    /// What is so; `names` empty: for all services.
    ///
    /// # Errors
    /// See [`ErrorKind`]; a name that does not exist is refused with `unknown_service`.
    pub fn status(&self, names: &[String]) -> Result<StatusReport, ClientError> {
        let query = names_to_query(names);
        let path =
            if query.is_empty() { paths::STATUS.to_owned() } else { format!("{}?{query}", paths::STATUS) };
        self.runtime.block_on(self.get(&path))
    }

    /// Why a service is as it is, with so many of the last lines of its log.
    ///
    /// # Errors
    /// See [`ErrorKind`]; a name that does not exist is refused with `unknown_service`.
    pub fn explain(&self, name: &str, lines: u32) -> Result<ExplainReport, ClientError> {
        let query = names_to_query(&[name.to_owned()]);
        self.runtime.block_on(self.get(&format!("{}?{query}&lines={lines}", paths::EXPLAIN)))
    }

    /// Starts, stops or restarts services and waits as the request says; `watcher` sees what happens
    /// meanwhile.
    ///
    /// # Errors
    /// See [`ErrorKind`]. A service that could not be started is no error but a result.
    pub fn operate(
        &self,
        request: &OperationRequest,
        watcher: Option<Watcher<'_>>,
    ) -> Result<OperationReport, ClientError> {
        // With a key nothing is done twice, however often it has to be asked.
        let mut request =
            OperationRequest { key: Some(request.key.unwrap_or_else(new_key)), ..request.clone() };
        let until = request.wait_ms.map(|wait| Instant::now() + Duration::from_millis(wait));
        let (mut watcher, mut asked, began) = (watcher, 0u32, Instant::now());
        let mut report: OperationReport = self.runtime.block_on(self.persist(async |client: &Self| {
            asked = asked.saturating_add(1);
            // Asked again, it is only to wait for what is left.
            if let Some(until) = until.filter(|_| asked > 1) {
                let left = until.saturating_duration_since(Instant::now()).as_millis();
                request.wait_ms = Some(u64::try_from(left).unwrap_or(u64::MAX));
            }
            // The manager keeps to the wait; the client only has to outlast it.
            let limit = request.wait_ms.map(|wait| Duration::from_millis(wait).saturating_add(ANSWER_LIMIT));
            let answer = client.post(paths::OPERATIONS, &request, limit);
            match &mut watcher {
                Some(watcher) => client.watching(answer, *watcher).await,
                None => answer.await,
            }
        }))?;
        if asked > 1 {
            // Who answers has known of it only since he was asked.
            let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            report.results.iter_mut().for_each(|result| result.took_ms = Some(took));
        }
        Ok(report)
    }

    /// Sends services a signal. Asked again of the successor of a manager that has surely not delivered it, and only then: a
    /// signal twice is not a signal once.
    ///
    /// # Errors
    /// See [`ErrorKind`]; what is no signal is refused with `bad_request`. [`ErrorKind::Lost`]: it may have been delivered.
    pub fn signal(&self, request: &SignalRequest) -> Result<OperationReport, ClientError> {
        let until = Instant::now() + AWAY;
        self.runtime.block_on(async {
            loop {
                let error = match self.post(paths::SIGNAL, request, Some(ANSWER_LIMIT)).await {
                    Ok(report) => return Ok(report),
                    Err(error) => error,
                };
                let undelivered = error.refusal().is_some_and(|why| why.error == ErrorCode::Respawning);
                if matches!(error.kind, ErrorKind::Lost) {
                    return Err(error.and("whether the signal was delivered is not known"));
                }
                if !undelivered || Instant::now() >= until {
                    return Err(error);
                }
                tokio::time::sleep(BREATH).await;
            }
        })
    }

    /// What the config as it is now would change.
    ///
    /// # Errors
    /// See [`ErrorKind`]. A config with errors is no error but an answer.
    pub fn plan(&self) -> Result<ChangeReport, ClientError> {
        let plan =
            async |client: &Self| client.post(paths::PLAN, &ChangeRequest {}, Some(READING_LIMIT)).await;
        self.runtime.block_on(self.persist(plan))
    }

    /// Lets the manager read its config again and put it in force.
    ///
    /// # Errors
    /// See [`ErrorKind`]. A config with errors is no error but an answer.
    pub fn apply(&self) -> Result<ChangeReport, ClientError> {
        // Done twice it is done once.
        let apply =
            async |client: &Self| client.post(paths::APPLY, &ChangeRequest {}, Some(READING_LIMIT)).await;
        self.runtime.block_on(self.persist(apply))
    }

    /// The events after `after` that the manager has kept.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn history(&self, after: u64) -> Result<Vec<EventRecord>, ClientError> {
        self.runtime.block_on(async {
            let mut events = self.open(&format!("{}?after={after}&follow=false", paths::EVENTS)).await?;
            let mut all = Vec::new();
            while let Some(event) = events.next(&self.socket).await? {
                all.push(event);
            }
            Ok(all)
        })
    }

    /// Shows `judge` the status, again whenever something has happened, until it breaks or the time is over
    /// (`None`). It also gets what happened in between, oldest first: a state may be over before it is seen.
    ///
    /// # Errors
    /// See [`ErrorKind`]. [`ErrorKind::Lost`] when the manager goes meanwhile.
    pub fn watch<T>(
        &self,
        limit: Option<Duration>,
        mut judge: impl FnMut(StatusReport, Vec<EventRecord>) -> ControlFlow<T>,
    ) -> Result<Option<T>, ClientError> {
        self.runtime.block_on(async {
            let until = limit.map(|limit| tokio::time::Instant::now() + limit);
            // Opened before the first look, so that nothing happens unseen between the two.
            let mut events = self.open_events(None).await?;
            let mut happened = Vec::new();
            loop {
                let status = self.get(paths::STATUS).await?;
                if let ControlFlow::Break(found) = judge(status, std::mem::take(&mut happened)) {
                    return Ok(Some(found));
                }
                let mut first = true;
                // What comes at once is one look: a thousand services that start are not a thousand reports.
                loop {
                    let patience = match (first, until) {
                        (false, _) => Some(tokio::time::Instant::now() + BREATH),
                        (true, until) => until,
                    };
                    let next = events.next(&self.socket);
                    let event = match patience {
                        Some(at) => tokio::time::timeout_at(at, next).await,
                        None => Ok(next.await),
                    };
                    match event {
                        Ok(Ok(Some(event))) => happened.push(event),
                        Ok(Ok(None)) => return Err(ClientError::gone(&self.socket)),
                        Ok(Err(error)) => return Err(error),
                        Err(_) if first => return Ok(None),
                        Err(_) => break,
                    }
                    first = false;
                }
            }
        })
    }

    /// Has the manager replace itself, and returns when the successor answers.
    ///
    /// # Errors
    /// See [`ErrorKind`]. Refused with `not_respawned` and the reason: the manager goes on as it was.
    pub fn respawn(&self) -> Result<RespawnReport, ClientError> {
        self.runtime.block_on(async {
            let limit = Some(ANSWER_LIMIT);
            let report: RespawnReport = self.post(paths::RESPAWN, &RespawnRequest {}, limit).await?;
            let until = tokio::time::Instant::now() + ANSWER_LIMIT;
            loop {
                // Its last connections are closed without an answer.
                match self.get::<StatusReport>(paths::STATUS).await {
                    Ok(status) if status.manager.respawns >= report.respawns => {
                        return Ok(RespawnReport { pid: status.manager.pid, ..report });
                    }
                    Ok(status)
                        if report.recoveries.is_some_and(|known| status.manager.recoveries > known) =>
                    {
                        return Err(ClientError::died_first(&self.socket));
                    }
                    Err(error) if !matches!(error.kind, ErrorKind::Lost) => return Err(error),
                    Ok(_) | Err(_) => {}
                }
                if tokio::time::Instant::now() >= until {
                    return Err(ClientError::too_slow(&self.socket, "replace itself", ANSWER_LIMIT));
                }
                tokio::time::sleep(BREATH).await;
            }
        })
    }

    /// Asks the manager to stop everything and leave, and returns when it has closed its connections;
    /// `watcher` sees what happens meanwhile. `None`: it has left, and the connection was lost with what it said of that.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn down(&self, watcher: Watcher<'_>) -> Result<Option<DownReport>, ClientError> {
        self.runtime.block_on(async {
            // Opened first: the end of this stream is how the manager's end is seen.
            let mut events = self.persist(async |client: &Self| client.open_events(None).await).await?;
            let down =
                async |client: &Self| client.post(paths::DOWN, &DownRequest {}, Some(ANSWER_LIMIT)).await;
            let report = match self.persist(down).await {
                Ok(report) => Some(report),
                // Nobody comes back who could say it again, and one that has died leaves its socket where it is.
                Err(error) if matches!(error.kind, ErrorKind::Lost) && !self.socket.exists() => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            // A manager that dies with the connection is followed by another; a stranger's server may not be.
            for _ in 0..MOST_LOST {
                while let Ok(Some(event)) = events.next(&self.socket).await {
                    watcher(event);
                }
                // One that is replaced meanwhile goes on with it; its socket goes only with the last.
                let again = tokio::time::timeout(AGAIN_LIMIT, self.open_events(None)).await;
                // Nobody takes the connection from the backlog: it is on its way out.
                let Ok(again) = again else { return Ok(report) };
                match again {
                    Ok(again) => {
                        events = again;
                        continue;
                    }
                    Err(error) if matches!(error.kind, ErrorKind::Lost) => {}
                    Err(_) => return Ok(report),
                }
                tokio::time::sleep(BREATH).await;
            }
            Ok(report)
        })
    }

    /// Every event after `after`, or from now on, until `watcher` breaks or the manager goes.
    ///
    /// # Errors
    /// See [`ErrorKind`].
    pub fn events(
        &self,
        after: Option<u64>,
        mut watcher: impl FnMut(EventRecord) -> ControlFlow<()>,
    ) -> Result<(), ClientError> {
        self.runtime.block_on(async {
            let mut events = self.open_events(after).await?;
            while let Some(event) = events.next(&self.socket).await? {
                if watcher(event).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    /// Waits for `asked` and shows events meanwhile. The stream is a comfort: without it the request is
    /// carried out all the same.
    async fn watching<T>(
        &self,
        asked: impl Future<Output = Result<T, ClientError>>,
        watcher: Watcher<'_>,
    ) -> Result<T, ClientError> {
        let mut events = self.open_events(None).await.ok();
        let mut asked = pin!(asked);
        loop {
            let Some(stream) = &mut events else { return asked.await };
            tokio::select! {
                biased;
                event = stream.next(&self.socket) => match event {
                    Ok(Some(event)) => watcher(event),
                    Ok(None) | Err(_) => events = None,
                },
                answer = &mut asked => return answer,
            }
        }
    }

    /// Asks again for as long as the manager is being replaced: its successor takes the connection from the backlog
    /// that this one has left. Only for what may be asked twice.
    async fn persist<T>(
        &self,
        mut ask: impl AsyncFnMut(&Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let mut lost: Option<(ClientError, Instant)> = None;
        loop {
            let error = match ask(self).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let replaced = error.refusal().is_some_and(|why| why.error == ErrorCode::Respawning);
            match (&error.kind, lost.take()) {
                (ErrorKind::Lost, None) => lost = Some((error, Instant::now())),
                (ErrorKind::Lost, Some((_, since))) if since.elapsed() < AWAY => lost = Some((error, since)),
                _ if replaced => {}
                // Gone for good: what happened first says more.
                (ErrorKind::NotRunning, Some((first, _))) => return Err(first),
                _ => return Err(error),
            }
            tokio::time::sleep(BREATH).await;
        }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let get = async |client: &Self| {
            let socket = &client.socket;
            let limit = Some(ANSWER_LIMIT);
            let call = wire::Call { socket, method: Method::GET, path, body: Vec::new(), limit };
            wire::read(socket, wire::send(call).await?).await
        };
        self.persist(get).await
    }

    async fn post<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Option<Duration>,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| {
            ClientError::new(ErrorKind::Broken, &self.socket, format!("cannot write the request: {error}"))
        })?;
        let call = wire::Call { socket: &self.socket, method: Method::POST, path, body, limit };
        wire::read(&self.socket, wire::send(call).await?).await
    }

    async fn open_events(&self, after: Option<u64>) -> Result<EventLines, ClientError> {
        match after {
            Some(after) => self.open(&format!("{}?after={after}", paths::EVENTS)).await,
            None => self.open(paths::EVENTS).await,
        }
    }

    async fn open(&self, path: &str) -> Result<EventLines, ClientError> {
        let call = wire::Call {
            socket: &self.socket,
            method: Method::GET,
            path,
            body: Vec::new(),
            limit: Some(ANSWER_LIMIT),
        };
        Ok(EventLines { body: wire::send(call).await?.into_body(), pending: Vec::new() })
    }
}

/// The event stream, cut into lines.
struct EventLines {
    body: Incoming,
    pending: Vec<u8>,
}

impl EventLines {
    /// The next event; `None` when the manager closed the stream or died. Safe to drop while it waits.
    async fn next(&mut self, socket: &Path) -> Result<Option<EventRecord>, ClientError> {
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue; // a sign of life
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| ClientError::foreign(socket, &format!("not an event: {error}")));
            }
            if self.pending.len() > LINE_LIMIT {
                return Err(ClientError::foreign(socket, "an event without an end"));
            }
            // A connection that breaks off is how a manager that was killed looks: an end like any other.
            let Some(Ok(frame)) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame.into_data() {
                self.pending.extend_from_slice(&data);
            }
        }
    }
}

/// A number that no other request has, as good as certainly.
fn new_key() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Seeded by the system's source of randomness, anew for each.
    let random = std::hash::RandomState::new().build_hasher().finish();
    random >> 11
}
