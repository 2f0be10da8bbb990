//! Who a service runs as, asked of the system before its start is queued.
//!
//! # Theory of operation
//!
//! The system may have to ask a directory server, and one that is down answers nobody. Starts that need an answer wait here, so that
//! the spawn threads never do: a service without a user of its own does not stand behind one with. There is one question about an account
//! at a time, for all that wait for it, on a thread of its own. Nothing can cancel it, so a server that never answers costs one thread for
//! each account and not one for each attempt.
//!
//! An answer serves those who wait for it, and nobody later: what the system says may change.
//!
//! # What it must never do
//!
//! Wait for the system itself; give an account to a start that it was not asked for.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use relume_core::SpawnError;
use relume_os::users::Credentials;

/// User and group by name or number, at least one of them.
pub(super) type Account = (Option<String>, Option<String>);

/// Asks the system; may take as long as it likes.
pub(super) type Resolve = Arc<dyn Fn(&Account) -> Result<Credentials, String> + Send + Sync>;

/// What the thread is told.
enum Word<T> {
    /// Somebody waits for this account.
    Ask(Account, T),
    /// The system has answered.
    Answered(Account, Result<Credentials, String>),
}

/// The queue of the thread that keeps those who wait.
pub(super) struct Accounts<T> {
    words: Sender<Word<T>>,
}

impl<T: Send + 'static> Accounts<T> {
    /// Starts the thread. Whoever waits is given to `found` with the answer, after `limit` with an error.
    pub(super) fn start(
        resolve: Resolve,
        limit: Duration,
        found: impl Fn(T, Result<Credentials, SpawnError>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (words, told) = channel();
        let own = words.clone();
        let desk = Desk { resolve, limit, words: own, found, waiting: Vec::new(), asked: HashSet::new() };
        std::thread::Builder::new().name("accounts".into()).spawn(move || desk.run(&told))?;
        Ok(Self { words })
    }

    /// Never waits.
    pub(super) fn ask(&self, account: Account, waits: T) {
        // The thread ends only with the program.
        let _ended = self.words.send(Word::Ask(account, waits));
    }
}

struct Desk<T, F> {
    resolve: Resolve,
    limit: Duration,
    words: Sender<Word<T>>,
    found: F,
    /// Who waits, until when, and for which account; the oldest first.
    waiting: Vec<(Instant, Account, T)>,
    /// Accounts that the system is being asked about.
    asked: HashSet<Account>,
}

impl<T: Send + 'static, F: Fn(T, Result<Credentials, SpawnError>)> Desk<T, F> {
    fn run(mut self, told: &Receiver<Word<T>>) {
        loop {
            let word = match self.waiting.first() {
                Some((until, ..)) => told.recv_timeout(until.saturating_duration_since(Instant::now())),
                None => told.recv().map_err(RecvTimeoutError::from),
            };
            match word {
                Ok(Word::Ask(account, one)) => self.begin(account, one),
                Ok(Word::Answered(account, answer)) => self.answered(&account, &answer),
                Err(RecvTimeoutError::Timeout) => self.give_up(Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn begin(&mut self, account: Account, one: T) {
        if !self.asked.contains(&account) {
            let (words, resolve, own) = (self.words.clone(), Arc::clone(&self.resolve), account.clone());
            let ask = move || {
                let answer = resolve(&own);
                let _ended = words.send(Word::Answered(own, answer));
            };
            if let Err(error) = std::thread::Builder::new().name("lookup".into()).spawn(ask) {
                // The machine has no room for a thread now, which is no fault of the service's.
                let text = format!("cannot look up {}: {error}", words_for(&account));
                return (self.found)(one, Err(SpawnError { text, shortage: true }));
            }
            self.asked.insert(account.clone());
        }
        self.waiting.push((Instant::now() + self.limit, account, one));
    }

    fn answered(&mut self, account: &Account, answer: &Result<Credentials, String>) {
        self.asked.remove(account);
        let (theirs, others) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(_, of, _)| of == account);
        self.waiting = others;
        let theirs: Vec<(Instant, Account, T)> = theirs;
        for (_, _, one) in theirs {
            let answer = answer.clone().map_err(|text| SpawnError { text, shortage: false });
            (self.found)(one, answer);
        }
    }

    fn give_up(&mut self, now: Instant) {
        let late = self.waiting.iter().take_while(|(until, ..)| *until <= now).count();
        for (_, account, one) in self.waiting.drain(..late) {
            let text = format!(
                "cannot look up {}: the system has not answered within {} s",
                words_for(&account),
                self.limit.as_secs_f64()
            );
            (self.found)(one, Err(SpawnError { text, shortage: false }));
        }
    }
}

fn words_for((user, group): &Account) -> String {
    match (user, group) {
        (Some(user), _) => format!("user {user}"),
        (None, group) => format!("group {}", group.as_deref().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;

    fn account(name: &str) -> Account {
        (Some(name.to_owned()), None)
    }

    fn anybody() -> Credentials {
        Credentials { uid: 7, gid: 7, groups: vec![], user: None, home: None, shell: None }
    }

    /// A system that has no answer about one account, and counts how often it was asked.
    fn system(asked: &Arc<AtomicUsize>) -> Resolve {
        let asked = Arc::clone(asked);
        Arc::new(move |(user, _)| match user.as_deref() {
            Some("hung") => {
                asked.fetch_add(1, Ordering::Relaxed);
                loop {
                    std::thread::park();
                }
            }
            Some("unknown") => Err("there is no such user".into()),
            _ => Ok(anybody()),
        })
    }

    /// Able to fail: with a question for each that waits, ten threads hung; with the wait in the spawn thread the others stood behind them.
    #[test]
    fn who_waits_for_a_name_service_that_hangs_holds_up_nobody_and_is_asked_for_once() {
        let (tell, told) = channel();
        let (asked, limit) = (Arc::default(), Duration::from_millis(300));
        let accounts = Accounts::start(system(&asked), limit, move |one: u32, found| {
            tell.send((one, found.map_err(|error| error.text))).unwrap();
        })
        .unwrap();
        for one in 0..10 {
            accounts.ask(account("hung"), one);
        }
        accounts.ask(account("web"), 10);
        accounts.ask(account("unknown"), 11);
        let mut first: Vec<_> = (0..2).map(|_| told.recv().unwrap()).collect();
        first.sort_by_key(|(one, _)| *one);
        assert_eq!(first, [(10, Ok(anybody())), (11, Err("there is no such user".into()))]);
        for one in 0..10 {
            let (late, found) = told.recv().unwrap();
            assert!(late == one && found.unwrap_err().contains("user hung: the system has not answered"));
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        // It is not asked again either for who comes later.
        accounts.ask(account("hung"), 12);
        assert_eq!(told.recv().unwrap().0, 12);
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }
}
