//! How a life is ended: asked first, then made to, with the rest of its tree and its hooks.

use crate::support::*;

scenarios! {
    fn a_stop_asks_the_main_process_and_waits(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let ticket = w.stop("web");
        w.expect_actions(["stop web"]);
        w.expect_word("web", Word::Stopping);
        w.expect_no_answer(ticket, "web");
        w.signalled("web", 15);
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
        w.wait(1e6);
        w.expect_nothing();
    }

    fn after_timeout_stop_the_whole_tree_is_killed(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        w.stop("web");
        w.wait(9.9);
        w.expect_actions(["stop web"]);
        w.wait(0.1);
        w.expect_actions(["kill web"]);
        w.signalled("web", 9);
        w.expect_word("web", Word::Stopped);
    }

    fn a_process_that_survives_sigkill_is_killed_again_and_told_of(w) {
        w.config([svc("web")]);
        w.up("web");
        let ticket = w.stop("web");
        w.wait(10.0);
        w.skip();
        w.wait(5.0);
        w.expect_actions(["kill web"]);
        w.wait(5.0);
        w.expect_actions(["kill web"]);
        assert_eq!(w.facts_that(|what| matches!(what, What::StillAlive { .. })), 2);
        w.expect_no_answer(ticket, "web");
        w.signalled("web", 9);
        w.expect_done(ticket, "web");
    }

    fn without_timeout_stop_nothing_is_killed(w) {
        w.config([svc("web").with(|p| p.timeout_stop = None)]);
        w.up("web");
        w.stop("web");
        w.skip();
        w.wait(1e6);
        w.expect_nothing();
        w.expect_kind("web", "stopping: asked");
    }

    fn the_stop_signal_is_the_services_own(w) {
        w.config([svc("web").with(|p| p.stop_signal = 2)]);
        w.up("web");
        w.skip();
        w.stop("web");
        w.expect_actions(["stop web with 2"]);
    }

    fn what_the_main_process_leaves_behind_gets_the_signal_and_the_time_that_is_left(w) {
        w.config([svc("web")]);
        w.up("web");
        w.stop("web");
        w.wait(4.0);
        w.skip();
        w.exited_leaving("web", 0);
        w.expect_actions(["stop web tree"]);
        w.wait(5.9);
        w.expect_nothing();
        w.wait(0.1);
        w.expect_actions(["kill web"]);
        w.emptied("web");
        w.expect_word("web", Word::Stopped);
    }

    fn stop_to_tree_signals_every_process_at_once_and_only_once(w) {
        w.config([svc("web").with(|p| p.stop_to = Reach::Tree)]);
        w.up("web");
        w.skip();
        w.stop("web");
        w.expect_actions(["stop web tree"]);
        w.exited_leaving("web", 0);
        w.expect_nothing();
        w.emptied("web");
        w.expect_word("web", Word::Stopped);
    }

    fn pre_stop_runs_before_the_signal(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        w.skip();
        w.stop("web");
        w.expect_actions(["spawn web pre_stop"]);
        w.expect_word("web", Word::Stopping);
        w.hook_exited("web", Hook::PreStop, 0);
        w.expect_actions(["stop web"]);
        w.wait(9.9);
        w.expect_nothing();
        w.wait(0.1);
        w.expect_actions(["kill web"]);
    }

    fn pre_stop_failing_does_not_keep_the_service_alive(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        w.stop("web");
        w.skip();
        w.hook_exited("web", Hook::PreStop, 1);
        w.expect_actions(["stop web"]);
    }

    fn pre_stop_that_hangs_is_killed_in_time(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        w.stop("web");
        w.hook_spawned("web", Hook::PreStop);
        w.skip();
        w.wait(HOOK.as_secs_f64());
        w.expect_actions(["kill web pre_stop"]);
        w.hook_exited("web", Hook::PreStop, 137);
        w.expect_actions(["stop web"]);
    }

    fn pre_stop_is_dropped_when_the_service_ends_meanwhile(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        let ticket = w.stop("web");
        w.skip();
        w.exited("web", 0);
        w.expect_actions(["kill web pre_stop"]);
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
        w.hook_exited("web", Hook::PreStop, 137);
        w.expect_nothing();
    }

    fn main_ends_during_pre_stop_and_its_rest_is_told_to_stop(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        w.stop("web");
        w.skip();
        w.exited_leaving("web", 0);
        w.expect_actions(["kill web pre_stop", "stop web tree"]);
    }

    fn post_stop_runs_when_the_whole_tree_is_gone(w) {
        w.config([svc("web").post_stop()]);
        w.up("web");
        let ticket = w.stop("web");
        w.skip();
        w.exited_leaving("web", 0);
        w.expect_actions(["stop web tree"]);
        w.emptied("web");
        w.expect_actions(["spawn web post_stop"]);
        w.expect_word("web", Word::Stopping);
        w.expect_no_answer(ticket, "web");
        w.hook_exited("web", Hook::PostStop, 1);
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
    }

    fn post_stop_runs_after_a_crash_too_before_the_next_life(w) {
        w.config([svc("web").post_stop()]);
        w.up("web");
        w.exited("web", 1);
        w.expect_actions(["spawn web", "spawn web post_stop"]);
        w.wait(5.0);
        w.expect_nothing();
        w.hook_exited("web", Hook::PostStop, 0);
        w.expect_word("web", Word::Crashed);
        w.expect_next_start_in("web", 1.0);
    }

    fn post_stop_that_hangs_is_killed_in_time(w) {
        w.config([svc("web").post_stop()]);
        w.up("web");
        w.stop("web");
        w.exited("web", 0);
        w.skip();
        w.wait(HOOK.as_secs_f64());
        w.expect_actions(["kill web post_stop"]);
        w.hook_exited("web", Hook::PostStop, 137);
        w.expect_word("web", Word::Stopped);
    }

    fn the_time_in_post_stop_does_not_make_a_service_stable(w) {
        w.config([svc("web").post_stop().with(|p| p.restart.stable_after = secs(5.0))]);
        for delay in [1.0, 2.0] {
            w.up("web");
            w.exited("web", 1);
            w.wait(6.0);
            w.hook_exited("web", Hook::PostStop, 0);
            w.expect_next_start_in("web", delay);
            w.wait(delay);
        }
    }

    fn a_stop_during_the_spawn_waits_until_the_process_exists(w) {
        w.config([svc("web")]);
        w.skip();
        let ticket = w.stop("web");
        w.expect_nothing();
        w.expect_kind("web", "stopping: await spawn");
        w.spawned("web");
        w.expect_actions(["stop web"]);
        w.signalled("web", 15);
        w.expect_done(ticket, "web");
    }

    fn a_stop_during_a_spawn_that_fails_is_done(w) {
        w.config([svc("web")]);
        let ticket = w.stop("web");
        w.spawn_failed("web");
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
    }

    fn a_spawn_that_succeeds_after_the_time_to_stop_is_killed_at_once(w) {
        w.config([svc("web")]);
        w.stop("web");
        w.wait(10.0);
        w.skip();
        w.spawned("web");
        w.expect_actions(["kill web"]);
        w.signalled("web", 9);
        w.expect_word("web", Word::Stopped);
    }

    fn a_spawn_that_fails_after_the_time_to_stop_is_the_end_of_it(w) {
        w.config([svc("web")]);
        w.stop("web");
        w.wait(10.0);
        w.spawn_failed("web");
        w.expect_word("web", Word::Stopped);
    }

    fn a_stop_while_starting_asks_at_once(w) {
        w.config([svc("web").notify().pre_stop()]);
        w.spawned("web");
        w.skip();
        w.stop("web");
        w.expect_actions(["stop web"]);
    }

    fn a_stop_during_pre_start_kills_the_hook_and_starts_nothing(w) {
        w.config([svc("web").pre_start()]);
        let ticket = w.stop("web");
        w.expect_actions(["spawn web pre_start", "kill web pre_start"]);
        w.hook_exited("web", Hook::PreStart, 0);
        w.expect_nothing();
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
    }

    fn a_stop_while_it_waits_for_a_dependency_is_done_at_once(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        let ticket = w.stop("web");
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
        w.skip();
        w.up("db");
        w.expect_nothing();
    }

    fn a_stop_between_two_lives_is_done_at_once(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        let ticket = w.stop("web");
        w.expect_done(ticket, "web");
        w.expect_word("web", Word::Stopped);
        w.skip();
        w.wait(1e6);
        w.expect_nothing();
    }

    fn a_stop_while_the_rest_of_a_crash_is_being_stopped_ends_in_stopped(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 1);
        let ticket = w.stop("web");
        w.expect_no_answer(ticket, "web");
        w.emptied("web");
        w.expect_word("web", Word::Stopped);
        w.expect_done(ticket, "web");
    }

    fn a_service_that_exits_badly_when_stopped_is_stopped_and_not_failed(w) {
        w.config([svc("web").on_failure()]);
        w.up("web");
        w.stop("web");
        w.skip();
        w.exited("web", 1);
        w.expect_word("web", Word::Stopped);
        w.expect_nothing();
        assert_eq!(w.record("web").history, History::default());
    }

    fn a_killed_main_process_whose_tree_lives_is_awaited(w) {
        w.config([svc("web")]);
        w.up("web");
        w.stop("web");
        w.wait(10.0);
        w.ended("web", Exit::Signal { number: 9, core_dumped: false }, Rest::Alive);
        w.expect_kind("web", "stopping: killed");
        w.emptied("web");
        w.expect_word("web", Word::Stopped);
        let exit = w.record("web").last_end.as_ref().and_then(|end| end.exit);
        assert_eq!(exit, Some(Exit::Signal { number: 9, core_dumped: false }));
    }

    fn a_oneshot_that_is_stopped_has_not_completed(w) {
        w.config([svc("job").oneshot()]);
        w.spawned("job");
        w.stop("job");
        w.exited("job", 0);
        w.expect_word("job", Word::Stopped);
    }
}
