//! Probing a run until it is ready: one task on the network thread for each run that waits for it.
//!
//! Fast at first, because most services are ready within a fraction of a second and others wait for them, then ever slower up to
//! the interval. There is one task a run, and one probe at a time in it.

use std::sync::Arc;
use std::time::Duration;

use relume_config::Probe;
use relume_core::RunId;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::probe::Question;
use crate::manager::inbox::{Inbox, News};

/// Between the first probe and the second: a delay that nobody notices, and 20 connections a second at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// Where probes run, and where their results go.
pub(crate) struct Prober {
    net: Handle,
    inbox: Arc<Inbox>,
}

/// Probes under way. Dropped, they end.
#[derive(Debug)]
pub(crate) struct Probing {
    task: AbortHandle,
    /// Tells this probing's results from those of one before it.
    pub(crate) number: u64,
}

impl Drop for Probing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What probes have to tell of a run.
#[derive(Debug)]
pub(crate) enum Probed {
    /// They succeeded: it is ready.
    Well,
    /// One failed, otherwise than the one before: why, for people.
    Badly(String),
}

impl Prober {
    pub(crate) fn new(net: Handle, inbox: Arc<Inbox>) -> Self {
        Self { net, inbox }
    }

    /// Begins to probe a run. Never waits.
    pub(crate) fn begin(&self, run: RunId, probe: Probe, number: u64) -> Probing {
        let inbox = Arc::clone(&self.inbox);
        let tell = move |what| inbox.send(News::Probed { run, number, what });
        Probing { task: self.net.spawn(until_ready(probe, tell)).abort_handle(), number }
    }
}

async fn until_ready(probe: Probe, tell: impl Fn(Probed)) {
    tokio::time::sleep(probe.start_period).await;
    let mut question = Question::new(&probe);
    let mut pause = FIRST_PAUSE.min(probe.interval);
    let (mut in_a_row, mut told) = (0, None);
    loop {
        let said = tokio::time::timeout(probe.timeout, question.ask()).await;
        match said.unwrap_or_else(|_| Err(format!("no answer within {:?}", probe.timeout))) {
            Ok(()) => in_a_row += 1,
            Err(why) => {
                in_a_row = 0;
                let why = format!("{}: {why}", question.subject());
                if told.as_ref() != Some(&why) {
                    tell(Probed::Badly(why.clone()));
                    told = Some(why);
                }
            }
        }
        if in_a_row >= probe.successes {
            return tell(Probed::Well);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(probe.interval);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use relume_config::ProbeTarget;

    use super::*;

    fn probe(port: u16) -> Probe {
        Probe {
            target: ProbeTarget::Tcp { host: "127.0.0.1".into(), port },
            interval: Duration::from_millis(80),
            timeout: Duration::from_secs(5),
            start_period: Duration::ZERO,
            successes: 1,
        }
    }

    fn run(probe: Probe, tell: impl Fn(Probed)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), until_ready(probe, tell)).await.unwrap();
        });
    }

    #[test]
    fn the_same_failure_is_told_once_and_the_first_success_ends_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let late = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(300));
            TcpListener::bind(address).unwrap()
        });
        let told = Mutex::new(Vec::new());
        run(probe(address.port()), |what| told.lock().unwrap().push(what));
        let told = told.into_inner().unwrap();
        let [Probed::Badly(why), Probed::Well] = &told[..] else { panic!("{told:?}") };
        assert!(why.contains("nobody listens"), "{why}");
        drop(late.join().unwrap());
    }

    #[test]
    fn as_many_successes_in_a_row_as_asked_for_come_before_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let began = Instant::now();
        let times = AtomicU32::new(0);
        run(Probe { successes: 3, start_period: Duration::from_millis(100), ..probe(port) }, |_| {
            times.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(times.into_inner(), 1);
        assert!(began.elapsed() >= Duration::from_millis(100 + 50 + 80), "{:?}", began.elapsed());
        let accepted = || {
            listener.set_nonblocking(true).unwrap();
            std::iter::from_fn(|| listener.accept().ok()).count()
        };
        assert_eq!(accepted(), 3);
    }

    #[test]
    fn one_that_never_answers_is_given_up_in_time_and_asked_again() {
        // The kernel takes the connections in; nobody reads from them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let headers = relume_config::Environment::default();
        let target = relume_config::HttpTarget {
            host: "127.0.0.1".into(),
            port,
            path: "/".into(),
            headers,
            status: None,
        };
        let probe =
            Probe { target: ProbeTarget::Http(target), timeout: Duration::from_millis(60), ..probe(port) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let told = Mutex::new(Vec::new());
        let ended = runtime.block_on(async {
            let probing = until_ready(probe, |what| told.lock().unwrap().push(format!("{what:?}")));
            tokio::time::timeout(Duration::from_millis(700), probing).await
        });
        assert!(ended.is_err(), "nobody said that it is ready");
        let told = told.into_inner().unwrap();
        assert!(told.len() == 1 && told[0].contains("no answer within 60ms"), "{told:?}");
        listener.set_nonblocking(true).unwrap();
        let asked = std::iter::from_fn(|| listener.accept().ok()).count();
        assert!((2..=7).contains(&asked), "one after the other: {asked}");
    }
}
