//! Requests that cross what is going on: the same promise in each state that they can meet.

use crate::support::*;
use crate::walk::arrange;

/// Wanted or resting, with no life under way, and free to start.
const IDLE: [&str; 9] = [
    "stopped",
    "pending: turn",
    "restarting: prompt",
    "restarting: backoff",
    "restarting: slow",
    "restarting: shortage",
    "completed",
    "failed",
    "failed: given up",
];

/// Wanted, and waiting for the beginning of a life.
const WAITING: [&str; 7] = [
    "pending: dependency",
    "pending: slot",
    "pending: turn",
    "restarting: prompt",
    "restarting: backoff",
    "restarting: slow",
    "restarting: shortage",
];

/// A life is being ended because somebody asked, or because it had failed.
const STOPPING: [&str; 7] = [
    "stopping: cancel",
    "stopping: await spawn",
    "stopping: pre_stop",
    "stopping: asked",
    "stopping: rest",
    "stopping: killed",
    "stopping: post_stop",
];

/// On the way to ready.
const STARTING: [&str; 4] =
    ["starting: pre_start", "starting: spawning", "starting: alive", "starting: forked"];

/// Lets the present life of `s` come to its end, with the hooks that are waited for.
fn end(w: &mut World) {
    let Some(life) = w.state("s").run() else { return };
    let state = |w: &World| {
        let id = w.core.find("s")?;
        w.core.record(id).map(|record| record.state.clone()).filter(|state| state.run() == Some(life))
    };
    while let Some(now) = state(w) {
        let run = waited_hook(&now).unwrap_or(life);
        w.tell(Event::Exited { run, exit: Exit::Signal { number: 9, core_dumped: false }, rest: Rest::Gone });
    }
}

/// In each of the states: a request, and what came of it.
fn in_each(w: &mut World, states: &[&str], story: impl Fn(&mut World)) {
    for state in states {
        w.apart(|w| {
            arrange(w, state);
            w.skip();
            story(w);
        });
    }
}

scenarios! {
    fn a_restart_of_what_has_no_life_is_a_start_without_delay(w) {
        in_each(w, &IDLE, |w| {
            let ticket = w.restart("s");
            w.expect_actions(["spawn s"]);
            w.spawned("s");
            if matches!(w.state("s"), State::Starting { .. }) {
                w.exited("s", 0);
            }
            w.expect_done(ticket, "s");
        });
    }

    fn a_start_of_what_has_no_life_begins_without_delay_and_counts_nothing(w) {
        in_each(w, &IDLE, |w| {
            let restarts = w.record("s").restarts;
            w.start("s");
            w.expect_actions(["spawn s"]);
            assert_eq!(w.record("s").restarts, restarts);
            assert_eq!(w.record("s").history, History::default());
        });
    }

    fn a_stop_of_what_waits_is_done_at_once_and_lasts(w) {
        in_each(w, &WAITING, |w| {
            let ticket = w.stop("s");
            w.expect_done(ticket, "s");
            w.expect_word("s", Word::Stopped);
            w.wait(1000.0);
            w.expect_word("s", Word::Stopped);
        });
    }

    fn a_stop_of_what_rests_leaves_nothing_to_do(w) {
        in_each(w, &["stopped", "completed", "failed", "failed: given up"], |w| {
            let ticket = w.stop("s");
            w.expect_answer(ticket, "s", &Outcome::Already);
            w.expect_nothing();
        });
    }

    fn what_waits_or_rests_is_forgotten_at_once_when_it_is_removed(w) {
        in_each(w, &[&IDLE[..], &WAITING[..]].concat(), |w| {
            let config = Config { services: Vec::new(), ..w.config.clone() };
            w.configure(config);
            assert_eq!(w.core.find("s"), None);
        });
    }

    fn what_waits_or_rests_holds_up_no_shutdown_and_never_starts(w) {
        for hurry in [false, true] {
            in_each(w, &IDLE, |w| {
                let generation = w.record("s").generation;
                w.tell(Event::ShutdownAsked { hurry, forget: false });
                w.wait(1000.0);
                assert_eq!(w.record("s").generation, generation);
                assert!(!w.record("s").is_busy());
            });
        }
    }

    fn what_waits_and_changed_is_tried_at_once(w) {
        let states = ["restarting: prompt", "restarting: backoff", "restarting: slow", "restarting: shortage",
            "completed", "failed", "failed: given up"];
        in_each(w, &states, |w| {
            w.config.services[0].launch = 2;
            let config = w.config.clone();
            w.configure(config);
            w.expect_actions(["spawn s"]);
        });
    }

    fn a_start_or_restart_of_what_is_being_stopped_is_followed_by_a_new_life_without_delay(w) {
        in_each(w, &STOPPING, |w| {
            let ticket = w.start("s");
            w.expect_nothing();
            end(w);
            assert!(matches!(w.state("s"), State::Starting { .. }), "{:?}", w.state("s"));
            w.expect_no_answer(ticket, "s");
        });
        in_each(w, &STOPPING, |w| {
            let generation = w.record("s").generation;
            w.restart("s");
            end(w);
            assert!(matches!(w.state("s"), State::Starting { .. }), "{:?}", w.state("s"));
            assert!(w.record("s").generation > generation);
        });
    }

    fn a_stop_of_what_is_being_stopped_waits_with_it(w) {
        in_each(w, &STOPPING, |w| {
            let ticket = w.stop("s");
            w.expect_no_answer(ticket, "s");
            end(w);
            w.expect_done(ticket, "s");
            w.expect_word("s", Word::Stopped);
        });
    }

    fn what_is_being_stopped_is_forgotten_when_it_has_ended_and_is_removed(w) {
        in_each(w, &STOPPING, |w| {
            let config = Config { services: Vec::new(), ..w.config.clone() };
            w.configure(config);
            assert!(w.core.find("s").is_some());
            end(w);
            // A pre_stop hook that lost its purpose is killed, and awaited too.
            while let Some(side) = w.core.find("s").and_then(|_| w.record("s").sides.first().copied()) {
                w.tell(Event::Emptied { run: side.run });
            }
            assert_eq!(w.core.find("s"), None);
        });
    }

    fn what_is_being_stopped_ends_before_a_shutdown_leaves(w) {
        in_each(w, &STOPPING, |w| {
            w.shutdown();
            w.expect_nothing();
            end(w);
            while let Some(side) = w.record("s").sides.first().copied() {
                w.tell(Event::Emptied { run: side.run });
            }
            assert_eq!(w.acted.last(), Some(&Action::Leave { code: 0 }));
        });
    }

    fn hurry_sends_sigkill_to_all_that_was_only_asked(w) {
        let states = ["stopping: await spawn", "stopping: pre_stop", "stopping: asked", "stopping: rest",
            "starting: spawning", "starting: alive", "starting: forked", "running"];
        in_each(w, &states, |w| {
            w.hurry();
            let kill = Action::Signal { run: w.run("s"), signal: Signal::Kill, to: Reach::Tree };
            assert_eq!(w.acted.last(), Some(&kill));
            w.expect_kind("s", "stopping: killed");
        });
    }

    fn hurry_kills_the_hook_that_is_waited_for(w) {
        in_each(w, &["starting: pre_start", "stopping: cancel", "stopping: post_stop"], |w| {
            let hook = waited_hook(&w.state("s")).expect("it waits for a hook");
            w.hurry();
            let kill = Action::Signal { run: hook, signal: Signal::Kill, to: Reach::Tree };
            assert_eq!(w.acted.last(), Some(&kill));
        });
    }

    fn what_is_starting_is_ended_when_it_is_not_to_be_or_to_be_another(w) {
        let requests: [fn(&mut World); 5] = [
            |w| _ = w.stop("s"),
            |w| _ = w.restart("s"),
            |w| w.shutdown(),
            |w| {
                w.config.services[0].launch = 2;
                let config = w.config.clone();
                w.configure(config);
            },
            |w| {
                let config = Config { services: Vec::new(), ..w.config.clone() };
                w.configure(config);
            },
        ];
        for request in requests {
            in_each(w, &STARTING, |w| {
                request(w);
                w.expect_word("s", Word::Stopping);
            });
        }
    }

    fn a_tree_that_ends_in_any_way_while_it_is_being_stopped_is_stopped(w) {
        let ways: [fn(&mut World); 4] = [
            |w| w.exited("s", 0),
            |w| w.exited("s", 1),
            |w| w.emptied("s"),
            |w| {
                w.exited_leaving("s", 1);
                w.emptied("s");
            },
        ];
        for way in ways {
            in_each(w, &["stopping: await spawn", "stopping: pre_stop", "stopping: asked", "stopping: killed"], |w| {
                way(w);
                w.expect_word("s", Word::Stopped);
            });
        }
    }

    fn what_main_leaves_behind_is_told_to_stop_wherever_main_ends(w) {
        let states =
            ["starting: spawning", "starting: alive", "running", "stopping: await spawn", "stopping: pre_stop", "stopping: asked"];
        for code in [0, 1] {
            in_each(w, &states, |w| {
                w.exited_leaving("s", code);
                w.expect_kind("s", "stopping: rest");
                let tell = Action::Signal { run: w.run("s"), signal: Signal::Stop(15), to: Reach::Tree };
                assert_eq!(w.acted.last(), Some(&tell));
            });
        }
    }

    fn an_end_before_it_was_ready_is_judged_like_any_other(w) {
        in_each(w, &["starting: spawning", "starting: alive", "running"], |w| {
            w.exited("s", 0);
            w.expect_kind("s", "restarting: prompt");
        });
        in_each(w, &["starting: spawning", "starting: alive", "starting: forked", "running"], |w| {
            w.exited("s", 1);
            w.expect_kind("s", "restarting: backoff");
        });
        in_each(w, &["starting: spawning", "starting: alive", "starting: forked", "running"], |w| {
            w.emptied("s");
            w.expect_kind("s", "restarting: backoff");
        });
    }

    fn what_a_crash_left_behind_may_end_in_any_way(w) {
        for code in [0, 1] {
            in_each(w, &["stopping: rest"], |w| {
                w.exited("s", code);
                w.expect_kind("s", "restarting: backoff");
            });
        }
    }

    fn a_hook_that_is_waited_for_may_end_in_any_way_when_the_service_is_stopped(w) {
        let ways: [fn(RunId) -> Event; 4] = [
            |run| Event::Exited { run, exit: Exit::Code(1), rest: Rest::Gone },
            |run| Event::Emptied { run },
            |run| Event::SpawnFailed { run, error: SpawnError { text: "no".into(), shortage: false } },
            |run| Event::SpawnFailed { run, error: SpawnError { text: "no".into(), shortage: true } },
        ];
        for way in ways {
            in_each(w, &["stopping: cancel", "stopping: pre_stop", "stopping: post_stop"], |w| {
                let ticket = w.stop("s");
                let hook = waited_hook(&w.state("s")).expect("it waits for a hook");
                w.tell(way(hook));
                end(w);
                w.expect_done(ticket, "s");
            });
        }
    }
}
