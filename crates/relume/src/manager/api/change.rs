//! `POST /v1/plan` and `POST /v1/apply`: what the config as it is now would change, and changing it.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use relume_config::Diagnostics;
use relume_proto::{ChangeReport, ChangeRequest, EventKind};
use tokio::sync::oneshot;

use super::{Office, Refusal};
use crate::manager::inbox::News;
use crate::manager::publish::Follower;
use crate::manager::reload::{Fresh, Unusable};
use crate::manager::weigh::{Asked, Weighed, log_folders};

/// How long the board may be behind the supervise thread. It takes milliseconds.
const SHOWN_WITHIN: Duration = Duration::from_secs(10);

/// Mode of a log folder that a new config asks for, as of those that are made at the start.
const FOLDER_MODE: u32 = 0o755;

pub(super) async fn plan(
    State(office): State<Office>,
    Json(ChangeRequest {}): Json<ChangeRequest>,
) -> Result<Json<ChangeReport>, Refusal> {
    consider(&office, false).await
}

pub(super) async fn apply(
    State(office): State<Office>,
    Json(ChangeRequest {}): Json<ChangeRequest>,
) -> Result<Json<ChangeReport>, Refusal> {
    consider(&office, true).await
}

async fn consider(office: &Office, apply: bool) -> Result<Json<ChangeReport>, Refusal> {
    let Fresh { units, warnings, .. } = match read(office, apply).await? {
        Ok(fresh) => fresh,
        Err(Unusable { text, problems }) => return Ok(Json(unusable(&text, &problems))),
    };
    let config = units.sources.iter().map(|path| path.display().to_string()).collect();
    let (_, live) = office.desk.follow(u64::MAX);
    let (answer, weighed) = oneshot::channel();
    office.inbox.send(News::Weigh(Asked { units, apply, answer }));
    let weighed: Weighed = weighed.await.map_err(|_| leaving())?;
    let (changes, settings) = match weighed {
        Ok(fine) => fine,
        Err(problem) => return Ok(Json(unusable(&problem, &warnings))),
    };
    if apply {
        shown(live).await;
    }
    Ok(Json(ChangeReport { ok: true, applied: apply, config, changes, settings, ..told(&warnings) }))
}

/// Reads it on a thread of its own; the net thread serves others meanwhile. Folders of logs are made here,
/// before anybody writes into them; one that cannot be made is told by the log file that cannot.
async fn read(office: &Office, apply: bool) -> Result<Result<Fresh, Unusable>, Refusal> {
    let source = office.source.clone();
    let (done, read) = oneshot::channel();
    let work = move || {
        let found = source.read();
        if let (Ok(fresh), true) = (&found, apply) {
            for folder in log_folders(&fresh.units) {
                let _told_later = relume_os::files::create_dir(&folder, FOLDER_MODE);
            }
        }
        // The client has gone.
        let _gone = done.send(found);
    };
    let started = std::thread::Builder::new().name("reload".into()).spawn(work);
    let busy = |why: &dyn std::fmt::Display| {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", format!("cannot read the config: {why}"))
    };
    started.map_err(|error| busy(&error))?;
    read.await.map_err(|_| busy(&"the thread that read it has ended"))
}

/// Returns when the new configuration is on the board: who asks for the status next sees it.
async fn shown(mut live: Follower) {
    let told = async {
        while let Ok(record) = live.recv().await {
            if record.event == EventKind::Config && record.service.is_none() {
                return;
            }
        }
    };
    let _late = tokio::time::timeout(SHOWN_WITHIN, told).await;
}

fn told(findings: &Diagnostics) -> ChangeReport {
    let diagnostics = findings.0.iter().filter_map(|found| serde_json::to_value(found).ok()).collect();
    ChangeReport { diagnostics, rendered: findings.render(false), ..ChangeReport::default() }
}

fn unusable(text: &str, problems: &Diagnostics) -> ChangeReport {
    let told = told(problems);
    ChangeReport { rendered: format!("{}{text}", told.rendered), ..told }
}

fn leaving() -> Refusal {
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "relume is leaving")
}
