//! The socket, who may connect, and the routes.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{get, post};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use relume_proto::{API_VERSION, VERSION_HEADER, paths};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::{Door, Office, Refusal, change, down, events, explain, operations, signal, status, version};

/// Connections served at once; more wait in the socket's backlog. Each costs a few kilobytes.
const MOST_CONNECTIONS: usize = 256;

/// Largest body of a request: a list of every name of ten thousand services fits.
const MOST_BODY: usize = 1024 * 1024;

/// Names of probes looked up at once; the system's way to do that waits on a thread of its own.
const MOST_LOOKUPS: usize = 16;

/// A client that has not sent the head of its request by then is not going to.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// Starts the thread. Supervision goes on whatever becomes of it. Who has the handle can run tasks on it.
pub(crate) fn start(door: Door, office: Office) -> io::Result<Handle> {
    let listener = StdListener::from(door.socket);
    let owner = door.owner;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MOST_LOOKUPS)
        .build()?;
    let handle = runtime.handle().clone();
    let run = move || {
        if door.open.recv().is_err() {
            return;
        }
        runtime.block_on(async move {
            // It was bound and made non-blocking before: only a lack of memory can make this fail, and then
            // there is nobody to tell. Clients find nobody, services are supervised.
            if let Ok(listener) = UnixListener::from_std(listener) {
                serve(listener, owner, routes(office)).await;
            }
        });
    };
    std::thread::Builder::new().name("net".into()).spawn(run).map(|_| handle)
}

fn routes(office: Office) -> Router {
    let version = HeaderValue::from(API_VERSION);
    let name = HeaderName::from_static(VERSION_HEADER);
    Router::new()
        .route(paths::VERSION, get(version::get))
        .route(paths::STATUS, get(status::get))
        .route(paths::OPERATIONS, post(operations::post))
        .route(paths::SIGNAL, post(signal::post))
        .route(paths::PLAN, post(change::plan))
        .route(paths::APPLY, post(change::apply))
        .route(paths::DOWN, post(down::post))
        .route(paths::EXPLAIN, get(explain::get))
        .route(paths::EVENTS, get(events::get))
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "not_found", "the API has no such path"))
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(axum::middleware::map_response(move |mut response: axum::response::Response| {
            response.headers_mut().insert(name.clone(), version.clone());
            async move { response }
        }))
        .with_state(office)
}

async fn serve(listener: UnixListener, owner: u32, routes: Router) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((connection, _)) if is_allowed(&connection, owner) => {
                let routes = routes.clone();
                tokio::spawn(async move {
                    // What goes wrong on one connection is that client's business.
                    let _theirs = converse(connection, routes).await;
                    drop(place);
                });
            }
            Ok(_) => {}
            // Out of descriptors, for one: connections wait in the backlog meanwhile.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The socket's mode keeps others out; this holds even where its directory was opened up.
fn is_allowed(connection: &UnixStream, owner: u32) -> bool {
    connection.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

async fn converse(connection: UnixStream, routes: Router) -> hyper::Result<()> {
    hyper::server::conn::http1::Builder::new()
        // Without a timer the limit below would never take effect.
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(routes))
        .await
}
