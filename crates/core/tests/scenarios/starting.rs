//! How services start: when their dependencies allow it, so many at once, and with their hooks.

use crate::support::*;

scenarios! {
    fn a_service_without_dependencies_starts_at_once(w) {
        w.config([svc("web")]);
        w.expect_actions(["spawn web"]);
        w.expect_word("web", Word::Starting);
        w.spawned("web");
        w.expect_word("web", Word::Running);
        w.expect_nothing();
    }

    fn services_that_need_nobody_start_side_by_side(w) {
        w.config([svc("a"), svc("b"), svc("c")]);
        w.expect_actions(["spawn a", "spawn b", "spawn c"]);
    }

    fn a_dependent_starts_when_its_dependency_is_ready(w) {
        w.config([svc("web").needs("db"), svc("db").notify()]);
        w.expect_actions(["spawn db"]);
        w.expect_word("web", Word::Pending);
        w.expect_waits_for("web", "db");
        w.spawned("db");
        w.expect_nothing();
        w.ready("db");
        w.expect_actions(["spawn web"]);
    }

    fn condition_started_is_met_as_soon_as_the_process_exists(w) {
        w.config([svc("web").needs_started("db"), svc("db").notify()]);
        w.expect_actions(["spawn db"]);
        w.spawned("db");
        w.expect_word("db", Word::Starting);
        w.expect_actions(["spawn web"]);
    }

    fn condition_completed_is_met_when_the_oneshot_has_succeeded(w) {
        w.config([svc("web").needs_completed("migrate"), svc("migrate").oneshot()]);
        w.spawned("migrate");
        w.expect_actions(["spawn migrate"]);
        w.expect_word("web", Word::Pending);
        w.exited("migrate", 0);
        w.expect_word("migrate", Word::Completed);
        w.expect_actions(["spawn web"]);
    }

    fn a_oneshot_that_failed_is_not_completed(w) {
        w.config([svc("web").needs_completed("migrate"), svc("migrate").oneshot()]);
        w.spawned("migrate");
        w.exited("migrate", 1);
        w.expect_word("migrate", Word::Crashed);
        w.expect_waits_for("web", "migrate");
    }

    fn a_service_waits_for_all_of_its_dependencies(w) {
        w.config([svc("web").needs("db").needs("cache"), svc("db"), svc("cache")]);
        w.up("db");
        w.expect_waits_for("web", "cache");
        w.skip();
        w.up("cache");
        w.expect_actions(["spawn web"]);
    }

    fn no_more_than_start_parallelism_services_start_at_once(w) {
        w.rules(|rules| rules.start_parallelism = 2);
        w.config([svc("a").notify(), svc("b").notify(), svc("c").notify(), svc("d").notify()]);
        w.expect_actions(["spawn a", "spawn b"]);
        w.expect_kind("c", "pending: slot");
        w.up("b");
        w.expect_actions(["spawn c"]);
        w.expect_kind("d", "pending: slot");
    }

    fn a_start_that_ends_badly_gives_its_place_to_the_next(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("a"), svc("b")]);
        w.spawn_failed("a");
        w.expect_actions(["spawn a", "spawn b"]);
    }

    fn a_slow_start_gives_its_place_away_after_two_seconds(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("slow").notify(), svc("next")]);
        w.spawned("slow");
        w.wait(1.9);
        w.expect_actions(["spawn slow"]);
        w.wait(0.1);
        w.expect_actions(["spawn next"]);
        w.expect_word("slow", Word::Starting);
    }

    fn services_that_wait_for_a_place_start_in_the_order_they_came(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("a"), svc("b"), svc("c")]);
        w.all_up(&["a", "b", "c"]);
        w.expect_actions(["spawn a", "spawn b", "spawn c"]);
    }

    fn a_service_that_waits_for_a_place_can_be_stopped(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("a"), svc("b"), svc("c")]);
        let ticket = w.stop("b");
        w.expect_done(ticket, "b");
        w.up("a");
        w.expect_actions(["spawn a", "spawn c"]);
    }

    fn pre_start_runs_before_the_process(w) {
        w.config([svc("web").pre_start()]);
        w.expect_actions(["spawn web pre_start"]);
        w.expect_word("web", Word::Starting);
        w.hook_spawned("web", Hook::PreStart);
        w.expect_nothing();
        w.hook_exited("web", Hook::PreStart, 0);
        w.expect_actions(["spawn web"]);
    }

    fn pre_start_failing_fails_the_start(w) {
        w.config([svc("web").pre_start()]);
        w.hook_exited("web", Hook::PreStart, 1);
        w.expect_actions(["spawn web pre_start"]);
        w.expect_word("web", Word::Crashed);
        let cause = Cause::HookFailed { hook: Hook::PreStart, exit: Some(Exit::Code(1)) };
        assert!(matches!(w.state("web"), State::Restarting { cause: found, .. } if found == cause));
        w.wait(1.0);
        w.expect_actions(["spawn web pre_start"]);
    }

    fn pre_start_that_cannot_be_started_fails_the_start(w) {
        w.config([svc("web").pre_start()]);
        let error = SpawnError { text: "no such file".into(), shortage: false };
        w.tell(Event::SpawnFailed { run: w.hook("web", Hook::PreStart), error });
        w.expect_word("web", Word::Crashed);
    }

    fn pre_start_that_a_shortage_kept_from_running_is_tried_again_and_nothing_is_counted(w) {
        w.config([svc("web").pre_start()]);
        let error = SpawnError { text: "out of processes".into(), shortage: true };
        w.tell(Event::SpawnFailed { run: w.hook("web", Hook::PreStart), error });
        w.expect_kind("web", "restarting: shortage");
        assert_eq!(w.record("web").history, History::default());
    }

    fn pre_start_that_takes_too_long_is_killed_and_fails_the_start(w) {
        w.config([svc("web").pre_start()]);
        w.hook_spawned("web", Hook::PreStart);
        w.wait(HOOK.as_secs_f64());
        w.expect_actions(["spawn web pre_start", "kill web pre_start"]);
        w.expect_word("web", Word::Starting);
        w.tell(Event::Exited {
            run: w.hook("web", Hook::PreStart),
            exit: Exit::Signal { number: 9, core_dumped: false },
            rest: Rest::Gone,
        });
        w.expect_word("web", Word::Crashed);
    }

    fn what_pre_start_leaves_behind_is_waited_for_and_killed_in_time(w) {
        w.config([svc("web").pre_start()]);
        let hook = w.hook("web", Hook::PreStart);
        w.tell(Event::Exited { run: hook, exit: Exit::Code(0), rest: Rest::Alive });
        w.expect_actions(["spawn web pre_start"]);
        w.wait(HOOK.as_secs_f64());
        w.expect_actions(["kill web pre_start"]);
        w.tell(Event::Emptied { run: hook });
        w.expect_nothing();
        w.expect_word("web", Word::Crashed);
    }

    fn a_long_pre_start_gives_its_place_away_too(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("a").pre_start(), svc("b")]);
        w.wait(2.0);
        w.expect_actions(["spawn a pre_start", "spawn b"]);
    }

    fn timeout_start_does_not_run_while_pre_start_does(w) {
        w.config([svc("web").notify().pre_start().with(|p| p.timeout_start = Some(secs(5.0)))]);
        w.wait(6.0);
        w.hook_exited("web", Hook::PreStart, 0);
        w.spawned("web");
        w.wait(4.9);
        w.expect_kind("web", "starting: alive");
        w.wait(0.1);
        w.expect_kind("web", "stopping: asked");
    }

    fn a_service_that_is_not_ready_in_time_is_stopped_and_has_failed(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.wait(60.0);
        w.expect_actions(["spawn web", "stop web"]);
        w.expect_word("web", Word::Stopping);
        w.signalled("web", 15);
        w.expect_word("web", Word::Crashed);
        let cause = w.record("web").last_end.as_ref().map(|end| end.cause.clone());
        assert_eq!(cause, Some(Cause::StartTimeout));
    }

    fn without_timeout_start_a_start_may_take_for_ever(w) {
        w.config([svc("web").notify().with(|p| p.timeout_start = None)]);
        w.spawned("web");
        w.wait(1e6);
        w.expect_word("web", Word::Starting);
    }

    fn a_spawn_that_is_never_answered_runs_into_timeout_start(w) {
        w.config([svc("web")]);
        w.wait(60.0);
        w.expect_kind("web", "stopping: await spawn");
        w.wait(10.0);
        w.expect_actions(["spawn web", "kill web"]);
        w.expect_kind("web", "stopping: killed");
    }

    fn a_service_without_autostart_rests(w) {
        w.config([svc("web").asleep()]);
        w.expect_nothing();
        w.expect_word("web", Word::Stopped);
    }

    fn a_service_without_autostart_starts_when_somebody_needs_it(w) {
        w.config([svc("web").needs("db"), svc("db").asleep()]);
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.expect_actions(["spawn web"]);
    }

    fn nothing_starts_by_itself_where_only_some_were_named(w) {
        w.config.autostart = false;
        w.config([svc("web").needs("db"), svc("db"), svc("other")]);
        w.expect_nothing();
        w.start("web");
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.expect_actions(["spawn web"]);
        w.expect_word("other", Word::Stopped);
    }

    fn the_word_ready_is_taken_from_notify_services_only(w) {
        w.config([svc("job").oneshot()]);
        w.spawned("job");
        w.ready("job");
        w.expect_word("job", Word::Starting);
        assert_eq!(w.stale(), 1);
    }

    fn a_notify_service_may_be_ready_before_its_spawn_is_told(w) {
        w.config([svc("web").notify()]);
        w.ready("web");
        w.expect_word("web", Word::Running);
        w.spawned("web");
        w.expect_word("web", Word::Running);
    }

    fn an_exit_may_be_told_before_the_spawn(w) {
        w.config([svc("web")]);
        w.exited("web", 1);
        w.expect_word("web", Word::Crashed);
    }

    fn post_start_runs_beside_once_the_service_is_ready(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        w.expect_actions(["spawn web", "spawn web post_start"]);
        w.expect_word("web", Word::Running);
        w.hook_exited("web", Hook::PostStart, 1);
        w.expect_word("web", Word::Running);
        w.expect_nothing();
    }
}
