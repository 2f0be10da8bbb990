//! How relume leaves: everything down, dependents first, then out with the right code.

use crate::support::*;

scenarios! {
    fn services_stop_in_the_reverse_order_of_their_dependencies(w) {
        w.config([svc("web").needs("app"), svc("app").needs("db"), svc("db")]);
        w.all_up(&["db", "app", "web"]);
        w.skip();
        w.shutdown();
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["stop app"]);
        w.exited("app", 0);
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        w.expect_actions(["leave 0"]);
        w.expect_all(&["web", "app", "db"], Word::Stopped);
    }

    fn the_foot_of_a_diamond_waits_for_both_of_its_sides(w) {
        w.config([svc("top").needs("left").needs("right"), svc("left").needs("foot"), svc("right").needs("foot"),
            svc("foot")]);
        w.all_up(&["foot", "left", "right", "top"]);
        w.skip();
        w.shutdown();
        w.expect_actions(["stop top"]);
        w.exited("top", 0);
        w.expect_actions(["stop left", "stop right"]);
        w.exited("right", 0);
        w.expect_nothing();
        w.exited("left", 0);
        w.expect_actions(["stop foot"]);
    }

    fn independent_services_stop_side_by_side(w) {
        w.config([svc("a"), svc("b"), svc("c")]);
        w.all_up(&["a", "b", "c"]);
        w.skip();
        w.shutdown();
        w.expect_actions(["stop a", "stop b", "stop c"]);
    }

    fn a_service_that_ignores_its_signal_holds_up_its_dependencies_no_longer_than_its_time(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.shutdown();
        w.wait(10.0);
        w.expect_actions(["stop web", "kill web"]);
        w.signalled("web", 9);
        w.expect_actions(["stop db"]);
    }

    fn nothing_that_ends_during_a_shutdown_starts_again(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.shutdown();
        w.exited("db", 1);
        w.expect_word("db", Word::Stopped);
        w.skip();
        w.exited("web", 1);
        w.expect_actions(["leave 0"]);
        w.wait(1e5);
        w.expect_nothing();
    }

    fn what_waits_is_dropped_at_once(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("web").needs("db"), svc("db"), svc("a"), svc("b")]);
        w.skip();
        w.shutdown();
        w.expect_all(&["web", "a", "b"], Word::Stopped);
        w.expect_kind("db", "stopping: await spawn");
        w.spawn_failed("db");
        w.expect_actions(["leave 0"]);
    }

    fn hurry_kills_everything_at_once_and_in_no_order(w) {
        w.config([svc("web").needs("db").pre_stop().post_stop(), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.hurry();
        w.expect_actions(["kill web", "kill db"]);
        w.signalled("db", 9);
        w.signalled("web", 9);
        w.expect_actions(["leave 0"]);
    }

    fn hurry_after_a_shutdown_began_kills_what_is_left(w) {
        w.config([svc("web").needs("db").pre_stop(), svc("db")]);
        w.all_up(&["db", "web"]);
        w.shutdown();
        w.skip();
        w.hurry();
        w.expect_actions(["kill web pre_stop", "kill web", "kill db"]);
    }

    fn a_second_hurry_changes_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.hurry();
        w.skip();
        w.hurry();
        w.shutdown();
        w.expect_nothing();
        assert_eq!(w.facts_that(|what| matches!(what, What::ShutdownBegan { .. })), 1);
    }

    fn a_second_plain_request_changes_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.shutdown();
        w.skip();
        w.shutdown();
        w.expect_nothing();
    }

    fn hurry_kills_hooks_too(w) {
        w.config([svc("a").pre_start(), svc("b").post_start(), svc("c").post_stop()]);
        w.up("b");
        w.up("c");
        w.exited("c", 1);
        w.skip();
        w.hurry();
        w.expect_actions(["kill a pre_start", "kill b post_start", "kill c post_stop", "kill b"]);
        w.hook_exited("a", Hook::PreStart, 137);
        w.hook_exited("b", Hook::PostStart, 137);
        w.hook_exited("c", Hook::PostStop, 137);
        w.signalled("b", 9);
        w.expect_actions(["leave 0"]);
    }

    fn hurry_during_a_spawn_kills_the_process_as_soon_as_it_exists(w) {
        w.config([svc("web")]);
        w.skip();
        w.hurry();
        w.expect_actions(["kill web"]);
        w.spawned("web");
        w.expect_actions(["kill web"]);
        w.signalled("web", 9);
        w.expect_actions(["leave 0"]);
    }

    fn hurry_with_a_rest_alive_kills_it(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 0);
        w.skip();
        w.hurry();
        w.expect_actions(["kill web"]);
        w.emptied("web");
        w.expect_actions(["leave 0"]);
    }

    fn with_nothing_to_stop_it_leaves_at_once(w) {
        w.shutdown();
        w.expect_actions(["leave 0"]);
    }

    fn it_leaves_once(w) {
        w.config([svc("web").asleep()]);
        w.shutdown();
        w.hurry();
        w.wait(100.0);
        w.expect_actions(["leave 0"]);
    }

    fn it_does_not_leave_while_a_hook_runs(w) {
        w.config([svc("web").on_failure()]);
        w.up("web");
        w.exited("web", 1);
        w.skip();
        w.shutdown();
        w.expect_nothing();
        w.hook_exited("web", Hook::OnFailure, 0);
        w.expect_actions(["leave 0"]);
    }

    fn an_empty_configuration_stays(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AllDone);
        w.config([]);
        w.wait(1000.0);
        w.expect_nothing();
    }

    fn exit_when_all_done_leaves_when_nothing_is_left_to_run(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AllDone);
        w.config([svc("a").oneshot(), svc("b").oneshot()]);
        w.all_spawned(&["a", "b"]);
        w.skip();
        w.exited("a", 0);
        w.expect_nothing();
        w.exited("b", 0);
        w.expect_actions(["leave 0"]);
    }

    fn exit_when_all_done_leaves_with_the_code_of_the_service_that_failed(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AllDone);
        w.config([svc("a").oneshot(), svc("b").oneshot().mode(RestartMode::Never)]);
        w.all_spawned(&["a", "b"]);
        w.exited("b", 7);
        w.skip();
        w.exited("a", 0);
        w.expect_actions(["leave 7"]);
    }

    fn exit_when_all_done_waits_for_a_restart_that_is_due(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AllDone);
        w.config([svc("a").oneshot()]);
        w.spawned("a");
        w.exited("a", 1);
        w.skip();
        w.wait(1.0);
        w.expect_actions(["spawn a"]);
    }

    fn exit_when_any_failed_stops_the_others_and_leaves_with_its_code(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AnyFailed);
        w.config([svc("web"), svc("job").oneshot().mode(RestartMode::Never)]);
        w.up("web");
        w.spawned("job");
        w.skip();
        w.exited("job", 3);
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["leave 3"]);
    }

    fn exit_when_any_failed_does_not_mind_a_crash_that_is_retried(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AnyFailed);
        w.config([svc("web").retries(Some(1))]);
        w.up("web");
        w.exited("web", 1);
        w.wait(1.0);
        w.up("web");
        w.skip();
        w.signalled("web", 11);
        w.expect_actions(["leave 139"]);
    }

    fn a_service_that_cannot_be_started_gives_the_code_one(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AnyFailed);
        w.config([svc("web").mode(RestartMode::Never)]);
        w.skip();
        w.spawn_failed("web");
        w.expect_actions(["leave 1"]);
    }

    fn a_failure_during_a_shutdown_that_was_asked_for_does_not_change_the_code(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AnyFailed);
        w.config([svc("web")]);
        w.up("web");
        w.shutdown();
        w.skip();
        w.exited("web", 9);
        w.expect_actions(["leave 0"]);
    }

    fn a_configuration_that_comes_during_a_shutdown_starts_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.shutdown();
        w.skip();
        w.config([svc("web"), svc("new")]);
        w.expect_nothing();
        w.exited("web", 0);
        w.expect_actions(["leave 0"]);
    }
}
