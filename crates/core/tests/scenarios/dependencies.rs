//! What the state of one service means to those around it.

use crate::support::*;

scenarios! {
    fn a_dependency_that_crashes_does_not_stop_its_dependents(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.exited("db", 1);
        w.expect_nothing();
        w.expect_word("web", Word::Running);
    }

    fn a_start_is_parked_while_the_dependency_is_down_and_resumes_by_itself(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.exited("db", 1);
        w.wait(0.5);
        w.exited("web", 1);
        w.wait(0.5);
        w.skip();
        w.wait(0.5);
        w.expect_nothing();
        w.expect_word("web", Word::Pending);
        w.expect_waits_for("web", "db");
        w.up("db");
        w.expect_actions(["spawn web"]);
        assert_eq!(w.record("web").restarts, 1);
    }

    fn a_dependent_waits_while_its_dependency_has_failed_for_good(w) {
        w.config([svc("web").needs("db"), svc("db").mode(RestartMode::Never)]);
        w.up("db");
        w.exited("db", 1);
        w.up("web");
        w.exited("web", 1);
        w.wait(1.0);
        w.expect_waits_for("web", "db");
        w.skip();
        w.start("db");
        w.up("db");
        w.expect_actions(["spawn db", "spawn web"]);
    }

    fn restart_true_restarts_the_dependent_when_the_dependency_crashes(w) {
        w.config([svc("web").follows("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.exited("db", 1);
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_waits_for("web", "db");
        w.wait(1.0);
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.expect_actions(["spawn web"]);
        assert_eq!(w.record("web").history, History::default());
        assert_eq!(w.record("web").restarts, 1);
    }

    fn restart_true_reaches_along_a_chain_in_reverse_order(w) {
        w.config([svc("web").follows("app"), svc("app").follows("db"), svc("db")]);
        w.all_up(&["db", "app", "web"]);
        w.skip();
        w.restart("db");
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["stop app"]);
        w.exited("app", 0);
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.up("app");
        w.expect_actions(["spawn app", "spawn web"]);
    }

    fn restart_true_stops_dependents_of_a_crash_dependents_first(w) {
        w.config([svc("web").follows("app"), svc("app").follows("db"), svc("db")]);
        w.all_up(&["db", "app", "web"]);
        w.skip();
        w.signalled("db", 9);
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["stop app"]);
    }

    fn a_dependency_that_flaps_while_its_follower_stops_restarts_it_once(w) {
        w.config([svc("web").follows("db"), svc("db").retries(None)]);
        w.all_up(&["db", "web"]);
        w.exited("db", 1);
        w.wait(1.0);
        w.up("db");
        w.exited("db", 1);
        w.wait(2.0);
        w.up("db");
        w.skip();
        w.exited("web", 0);
        w.expect_actions(["spawn web"]);
        w.up("web");
        w.expect_nothing();
        assert_eq!(w.record("web").generation, 2);
    }

    fn a_dependency_that_flaps_for_long_uses_up_none_of_its_followers_retries(w) {
        w.config([svc("web").follows("db"), svc("db").retries(None)]);
        for _ in 0..10 {
            w.all_up(&["db", "web"]);
            w.exited("db", 1);
            w.exited("web", 0);
            w.expect_word("web", Word::Pending);
            let delay = w.next_start_in("db");
            w.wait(delay);
        }
        assert_eq!(w.record("web").history, History::default());
    }

    fn stop_of_a_dependency_stops_it_alone(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        let ticket = w.stop("db");
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        w.expect_done(ticket, "db");
        w.expect_word("web", Word::Running);
    }

    fn a_dependent_of_a_stopped_service_waits_and_does_not_start_it(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.stop("db");
        w.exited("db", 0);
        w.exited("web", 1);
        w.skip();
        w.wait(100.0);
        w.expect_nothing();
        w.expect_waits_for("web", "db");
    }

    fn stop_with_dependents_stops_them_first(w) {
        w.config([svc("web").needs("app"), svc("app").needs("db"), svc("db"), svc("other").needs("db")]);
        w.all_up(&["db", "app", "other", "web"]);
        w.skip();
        let ticket = w.stop_with_dependents("db");
        w.expect_actions(["stop web", "stop other"]);
        w.exited("web", 0);
        w.expect_actions(["stop app"]);
        w.exited("app", 0);
        w.expect_nothing();
        w.exited("other", 0);
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        ["web", "app", "other", "db"].iter().for_each(|name| w.expect_done(ticket, name));
    }

    fn start_brings_back_the_dependencies_that_were_stopped(w) {
        w.config([svc("web").needs("app"), svc("app").needs("db"), svc("db")]);
        w.all_up(&["db", "app", "web"]);
        w.stop_with_dependents("db");
        ["web", "app", "db"].iter().for_each(|name| w.exited(name, 0));
        w.skip();
        let ticket = w.start("web");
        w.expect_actions(["spawn db"]);
        w.all_up(&["db", "app", "web"]);
        w.expect_done(ticket, "web");
    }

    fn restart_brings_back_the_dependencies_that_were_stopped(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.stop("db");
        w.exited("db", 0);
        w.skip();
        let ticket = w.restart("web");
        w.expect_actions(["stop web", "spawn db"]);
        w.exited("web", 0);
        w.all_up(&["db", "web"]);
        w.expect_done(ticket, "web");
    }

    fn start_tries_again_dependencies_that_failed_or_wait_for_their_slow_attempt(w) {
        w.config([
            svc("web").needs("a").needs("b"),
            svc("a").mode(RestartMode::Never),
            svc("b").retries(Some(1)),
        ]);
        w.spawn_failed("a");
        w.spawn_failed("b");
        w.wait(1.0);
        w.spawn_failed("b");
        w.expect_word("b", Word::MaxRestarts);
        w.skip();
        w.start("web");
        w.expect_actions(["spawn a", "spawn b"]);
    }

    fn start_runs_a_dependency_that_ended_well_but_is_needed_ready(w) {
        w.config([svc("web").needs("db").asleep(), svc("db").mode(RestartMode::OnFailure)]);
        w.up("db");
        w.exited("db", 0);
        w.expect_word("db", Word::Completed);
        w.skip();
        w.start("web");
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.expect_actions(["spawn web"]);
    }

    fn start_does_not_run_a_completed_oneshot_again_for_its_dependents(w) {
        w.config([svc("web").needs_completed("job").asleep(), svc("job").oneshot()]);
        w.spawned("job");
        w.exited("job", 0);
        w.skip();
        w.start("web");
        w.expect_actions(["spawn web"]);
    }

    fn nobody_starts_on_a_dependency_that_is_about_to_go(w) {
        w.config([svc("web").needs("db"), svc("db"), svc("cache").needs("db").asleep()]);
        w.all_up(&["db", "web"]);
        w.stop_with_dependents("db");
        w.skip();
        // Still alive, as web has to end first.
        w.expect_word("db", Word::Running);
        w.config([svc("web").needs("db"), svc("db"), svc("cache").needs("db")]);
        w.expect_nothing();
        w.expect_word("cache", Word::Stopped);
        w.exited("web", 0);
        w.expect_actions(["stop db"]);
    }

    fn a_oneshot_that_is_run_again_restarts_those_that_follow_it(w) {
        w.config([svc("web").follows("job"), svc("job").oneshot()]);
        w.spawned("job");
        w.exited("job", 0);
        w.up("web");
        w.skip();
        w.start("job");
        w.expect_actions(["spawn job", "stop web"]);
        w.exited("web", 0);
        w.expect_waits_for("web", "job");
        w.spawned("job");
        w.exited("job", 0);
        w.expect_actions(["spawn web"]);
    }

    fn a_hook_before_the_start_ends_no_later_than_the_dependency_it_would_serve(w) {
        // db comes up again in its pre_start hook while web still runs on the life before.
        w.config([svc("web").needs("db"), svc("db").pre_start()]);
        w.hook_exited("db", Hook::PreStart, 0);
        w.all_up(&["db", "web"]);
        w.exited("db", 1);
        w.wait(1.0);
        w.expect_kind("db", "starting: pre_start");
        w.skip();
        w.shutdown();
        w.expect_actions(["stop web", "kill db pre_start"]);
        w.hook_exited("db", Hook::PreStart, 0);
        w.expect_nothing();
        w.expect_word("db", Word::Stopped);
    }
}
