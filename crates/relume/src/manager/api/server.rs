//! The socket, who may connect, and the routes.

use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::routing::{get, post};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use relume_proto::{API_VERSION, VERSION_HEADER, paths};
use std::sync::Arc;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use super::{
    Door, Office, Refusal, change, down, events, explain, operations, respawn, signal, status, version,
};
use crate::manager::inbox::News;
use crate::manager::respawn::NET;

/// Connections served at once; more wait in the socket's backlog. Each costs a few kilobytes.
const MOST_CONNECTIONS: usize = 256;

/// Largest body of a request: a list of every name of ten thousand services fits.
const MOST_BODY: usize = 1024 * 1024;

/// Names of probes looked up at once; the system's way to do that waits on a thread of its own.
const MOST_LOOKUPS: usize = 16;

/// A client that has not sent the head of its request by then is not going to.
const HEAD_LIMIT: Duration = Duration::from_secs(10);

/// How long connections may take to end before a respawn. Streams and long waits end at once, and come again.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long a client that has connected may take to ask, before a respawn: they do both in one go.
const FIRST_WORD: Duration = Duration::from_millis(100);

/// Between two attempts at what has just failed.
const REST: Duration = Duration::from_millis(100);

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
        // Only a lack of memory can make this fail, and then there is nobody to tell. Clients find nobody, services
        // are supervised.
        while let Ok(again) = listener.try_clone() {
            // What it panics of has been said.
            let served =
                catch_unwind(AssertUnwindSafe(|| runtime.block_on(serve(again, owner, office.clone()))));
            if served.is_ok() {
                return;
            }
            // Not at full speed.
            std::thread::sleep(REST);
        }
    };
    std::thread::Builder::new().name(NET.into()).spawn(run).map(|_| handle)
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
        .route(paths::RESPAWN, post(respawn::post))
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

async fn serve(listener: StdListener, owner: u32, office: Office) -> io::Result<()> {
    // It was made non-blocking when it was bound.
    let listener = UnixListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let (mut closing, inbox) = (office.closing.clone(), Arc::clone(&office.inbox));
    let routes = routes(office);
    loop {
        if *closing.borrow_and_update() {
            // All places are free when nobody is being answered any more.
            let all = places.acquire_many(u32::try_from(MOST_CONNECTIONS).unwrap_or(u32::MAX));
            let _late = tokio::time::timeout(LAST_ANSWERS, all).await;
            inbox.send(News::DoorClosed);
            // Open again: nothing came of the respawn. Gone: neither shall we stay.
            if closing.wait_for(|closing| !closing).await.is_err() {
                return Ok(());
            }
        }
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = changed(&mut closing) => continue,
        };
        let Ok(place) = place else { return Ok(()) };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = changed(&mut closing) => continue,
        };
        match accepted {
            Ok((connection, _)) if is_allowed(&connection, owner) => {
                let (routes, closing) = (routes.clone(), closing.clone());
                tokio::spawn(async move {
                    // What goes wrong on one connection is that client's business.
                    let _theirs = converse(connection, routes, closing).await;
                    drop(place);
                });
            }
            Ok(_) => {}
            // Out of descriptors, for one: connections wait in the backlog meanwhile.
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
}

/// Ends when the door is closed or opened. Once nobody is left who could do that, relume is about to leave: never.
async fn changed(closing: &mut watch::Receiver<bool>) {
    if closing.changed().await.is_err() {
        std::future::pending().await
    }
}

/// The socket's mode keeps others out; this holds even where its directory was opened up.
fn is_allowed(connection: &UnixStream, owner: u32) -> bool {
    connection.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

/// Until the client has gone, or this manager is about to be replaced and nothing is being answered. A client that was let in and has
/// not asked yet is about to: it is answered before.
async fn converse(
    connection: UnixStream,
    routes: Router,
    mut closing: watch::Receiver<bool>,
) -> hyper::Result<()> {
    let (ask, mut asked) = watch::channel(false);
    let answers = TowerToHyperService::new(routes);
    let service = service_fn(move |request| {
        ask.send_replace(true);
        answers.call(request)
    });
    let conversation = hyper::server::conn::http1::Builder::new()
        // Without a timer the limit below would never take effect.
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(connection), service);
    let mut conversation = std::pin::pin!(conversation);
    tokio::select! {
        ended = conversation.as_mut() => return ended,
        _ = closing.wait_for(|closing| *closing) => {}
    }
    tokio::select! {
        ended = conversation.as_mut() => return ended,
        _ = tokio::time::timeout(FIRST_WORD, asked.wait_for(|asked| *asked)) => {}
    }
    conversation.as_mut().graceful_shutdown();
    conversation.await
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn a_door_that_nobody_can_close_any_more_is_no_reason_to_look_again_and_again() {
        let (close, mut closing) = watch::channel(false);
        let mut context = Context::from_waker(Waker::noop());
        close.send_replace(true);
        assert_eq!(pin!(changed(&mut closing)).poll(&mut context), Poll::Ready(()));
        drop(close);
        assert_eq!(pin!(changed(&mut closing)).poll(&mut context), Poll::Pending);
    }
}
