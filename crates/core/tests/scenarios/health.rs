//! Health: what answers to probes make of a life.

use crate::support::*;

const RULE: Rule = Rule { failures: 3, successes: 1, command: None, grace: None };
const COMMAND: Rule = Rule { command: Some(std::time::Duration::from_secs(3)), ..RULE };

fn checked(check: Check, rule: Rule) -> Svc {
    let service = svc("web").with(|policy| match check {
        Check::Startup => policy.checks.startup = Some(rule),
        Check::Readiness => policy.checks.readiness = Some(rule),
        Check::Liveness => policy.checks.liveness = Some(rule),
        Check::Health => policy.checks.health = Some(rule),
    });
    if check == Check::Liveness { service } else { service.notify() }
}

fn badly(w: &mut World, check: Check, times: u32) {
    (0..times).for_each(|_| w.probe_badly("web", check));
}

fn probe_ends(w: &mut World, check: Check, code: i32, rest: Rest) {
    let run = w.probe_run("web", check);
    w.tell(Event::Exited { run, exit: Exit::Code(code), rest });
}

scenarios! {
    fn liveness_ends_a_life_after_failures_in_a_row_and_uses_up_a_retry(w) {
        w.config([checked(Check::Liveness, RULE).pre_stop()]);
        w.up("web");
        w.skip();
        badly(w, Check::Liveness, 2);
        w.probe_well("web", Check::Liveness);
        badly(w, Check::Liveness, 2);
        w.expect_nothing();
        badly(w, Check::Liveness, 1);
        // No pre_stop: whoever is ill may not answer it.
        w.expect_actions(["stop web"]);
        w.expect_word("web", Word::Unhealthy);
        w.exited("web", 0);
        w.expect_word("web", Word::Restarting);
        w.expect_next_start_in("web", 1.0);
        assert_eq!(w.record("web").history.retries.len(), 1);
        w.wait(1.0);
        assert_eq!(w.record("web").health, Health::default());
    }

    fn liveness_under_never_leaves_the_service_failed(w) {
        w.config([checked(Check::Liveness, RULE).mode(RestartMode::Never)]);
        w.up("web");
        badly(w, Check::Liveness, 3);
        w.exited("web", 0);
        w.expect_word("web", Word::Failed);
    }

    fn a_grace_period_takes_the_place_of_timeout_stop(w) {
        w.config([checked(Check::Liveness, Rule { grace: Some(secs(2.0)), ..RULE })]);
        w.up("web");
        badly(w, Check::Liveness, 3);
        w.skip();
        w.wait(2.0);
        w.expect_actions(["kill web"]);
    }

    fn readiness_makes_ready_and_never_ends_a_life(w) {
        w.config([checked(Check::Readiness, RULE), svc("app").needs("web")]);
        w.spawned("web");
        w.skip();
        badly(w, Check::Readiness, 20);
        w.expect_word("web", Word::Starting);
        w.probe_well("web", Check::Readiness);
        w.expect_word("web", Word::Running);
        w.expect_actions(["spawn app"]);
        w.up("app");
        badly(w, Check::Readiness, 30);
        w.expect_all(&["web", "app"], Word::Running);
        w.expect_nothing();
        let policy = checked(Check::Readiness, RULE).0.policy;
        assert!(!w.record("web").health.is_usable(&policy.checks));
    }

    fn a_start_waits_for_a_dependency_that_cannot_be_used_just_now(w) {
        w.config([checked(Check::Readiness, RULE), svc("app").needs("web")]);
        w.spawned("web");
        w.probe_well("web", Check::Readiness);
        w.up("app");
        badly(w, Check::Readiness, 3);
        w.exited("app", 1);
        w.skip();
        w.wait(5.0);
        w.expect_waits_for("app", "web");
        w.probe_well("web", Check::Readiness);
        w.expect_actions(["spawn app"]);
    }

    fn a_dependent_is_not_restarted_because_its_dependency_cannot_be_used_for_a_while(w) {
        w.config([checked(Check::Readiness, RULE), svc("app").follows("web")]);
        w.spawned("web");
        w.probe_well("web", Check::Readiness);
        w.up("app");
        w.skip();
        badly(w, Check::Readiness, 3);
        w.expect_nothing();
    }

    fn the_others_wait_for_startup(w) {
        let service = checked(Check::Readiness, RULE).liveness(1);
        w.config([service.with(|policy| policy.checks.startup = Some(RULE))]);
        w.spawned("web");
        w.probe_well("web", Check::Readiness);
        badly(w, Check::Liveness, 1);
        w.expect_word("web", Word::Starting);
        badly(w, Check::Startup, 2);
        w.probe_well("web", Check::Startup);
        w.expect_word("web", Word::Starting);
        w.probe_well("web", Check::Readiness);
        w.expect_word("web", Word::Running);
        badly(w, Check::Startup, 5);
        w.expect_word("web", Word::Running);
        badly(w, Check::Liveness, 1);
        w.expect_word("web", Word::Unhealthy);
    }

    fn startup_alone_makes_ready_and_failing_it_ends_the_start(w) {
        w.config([checked(Check::Startup, RULE)]);
        w.spawned("web");
        w.apart(|w| {
            w.config([checked(Check::Startup, RULE)]);
            w.spawned("web");
            w.probe_well("web", Check::Startup);
            w.expect_word("web", Word::Running);
        });
        for _ in 0..10 {
            let run = w.run("web");
            let failure = Some("between the regular ones".into());
            w.tell(Event::Probed { run, check: Check::Startup, failure, counts: false });
        }
        w.expect_word("web", Word::Starting);
        badly(w, Check::Startup, 3);
        w.expect_word("web", Word::Unhealthy);
    }

    fn a_health_check_is_readiness_first_and_then_both(w) {
        w.config([checked(Check::Health, RULE)]);
        w.spawned("web");
        badly(w, Check::Health, 9);
        w.expect_word("web", Word::Starting);
        w.probe_well("web", Check::Health);
        w.expect_word("web", Word::Running);
        badly(w, Check::Health, 3);
        w.expect_word("web", Word::Unhealthy);
    }

    fn failures_in_a_row_are_counted_on_after_a_recovery(w) {
        w.config([checked(Check::Liveness, RULE)]);
        w.up("web");
        badly(w, Check::Liveness, 2);
        let alive = w.alive("web");
        w.recover(&[alive]);
        badly(w, Check::Liveness, 1);
        w.expect_word("web", Word::Unhealthy);
    }

    /// Shown to fail: with a second one begun beside the first, and with any exit code taken for a good one.
    fn a_command_is_run_in_its_turn_and_never_twice_at_once(w) {
        w.config([checked(Check::Liveness, COMMAND)]);
        w.up("web");
        w.skip();
        w.probe_due("web", Check::Liveness);
        w.probe_due("web", Check::Liveness);
        w.expect_actions(["spawn web liveness probe"]);
        probe_ends(w, Check::Liveness, 0, Rest::Gone);
        assert_eq!(w.record("web").health.liveness.well, Some(true));
        w.probe_due("web", Check::Liveness);
        w.expect_actions(["spawn web liveness probe"]);
        probe_ends(w, Check::Liveness, 1, Rest::Gone);
        assert_eq!(w.record("web").health.liveness.failures, 1);
    }

    /// Shown to fail: with a limit that is no failure.
    fn a_command_that_hangs_has_failed_at_its_limit_and_is_killed_with_its_tree(w) {
        w.config([checked(Check::Liveness, COMMAND)]);
        w.up("web");
        w.probe_due("web", Check::Liveness);
        w.skip();
        w.wait(3.0);
        w.expect_actions(["kill web liveness probe"]);
        assert_eq!(w.record("web").health.liveness.failures, 1);
        // Not even SIGKILL ends it: that is a failure each time, and no second command.
        w.probe_due("web", Check::Liveness);
        w.probe_due("web", Check::Liveness);
        w.expect_actions(["stop web"]);
        let run = w.probe_run("web", Check::Liveness);
        w.tell(Event::Emptied { run });
        w.exited("web", 0);
        w.expect_word("web", Word::Restarting);
    }

    /// Shown to fail: with what it leaves behind asked to end, and not killed.
    fn what_a_command_leaves_behind_is_killed_at_once(w) {
        w.config([checked(Check::Liveness, COMMAND)]);
        w.up("web");
        w.probe_due("web", Check::Liveness);
        w.skip();
        probe_ends(w, Check::Liveness, 0, Rest::Alive);
        w.expect_actions(["kill web liveness probe"]);
        assert_eq!(w.record("web").health.liveness.well, Some(true));
        let run = w.probe_run("web", Check::Liveness);
        w.tell(Event::Emptied { run });
        w.expect_nothing();
    }

    fn a_command_ends_with_the_life_that_it_asks(w) {
        w.config([checked(Check::Liveness, COMMAND)]);
        w.up("web");
        w.probe_due("web", Check::Liveness);
        w.skip();
        w.exited("web", 1);
        w.expect_actions(["kill web liveness probe"]);
        w.wait(1.0);
        w.expect_actions(["spawn web"]);
        w.spawned("web");
        probe_ends(w, Check::Liveness, 1, Rest::Gone);
        assert_eq!(w.record("web").health, Health::default());
    }

    fn a_shortage_and_an_end_nobody_saw_say_nothing_of_the_service(w) {
        w.config([checked(Check::Liveness, COMMAND)]);
        w.up("web");
        w.probe_due("web", Check::Liveness);
        let error = SpawnError { text: "clone3: EAGAIN".into(), shortage: true };
        w.tell(Event::SpawnFailed { run: w.probe_run("web", Check::Liveness), error });
        w.probe_due("web", Check::Liveness);
        let alive = w.alive("web");
        w.recover(&[alive]);
        assert_eq!(w.record("web").health, Health::default());
    }

    fn a_command_that_cannot_be_started_is_a_failure(w) {
        w.config([checked(Check::Liveness, Rule { failures: 1, ..COMMAND })]);
        w.up("web");
        w.probe_due("web", Check::Liveness);
        let error = SpawnError { text: "exec /nothing: ENOENT".into(), shortage: false };
        w.tell(Event::SpawnFailed { run: w.probe_run("web", Check::Liveness), error });
        w.expect_word("web", Word::Unhealthy);
    }

    fn one_that_is_silent_for_too_long_is_replaced(w) {
        w.config([svc("web").notify()]);
        w.up("web");
        w.silent("web");
        w.expect_word("web", Word::Unhealthy);
        w.exited("web", 0);
        w.expect_word("web", Word::Restarting);
    }

    fn one_that_takes_too_much_memory_is_restarted_and_that_counts(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        w.too_much_memory("web");
        w.expect_actions(["stop web"]);
        w.expect_word("web", Word::Stopping);
        w.too_much_memory("web");
        w.expect_nothing();
        w.exited("web", 0);
        w.expect_word("web", Word::Restarting);
        w.expect_next_start_in("web", 1.0);
        assert_eq!(w.record("web").history.retries.len(), 1);
    }

    fn one_that_leaks_at_each_start_ends_with_its_retries(w) {
        w.config([svc("web").notify().with(|policy| {
            policy.restart.when_exhausted = WhenExhausted::GiveUp;
            policy.restart.backoff = None;
        })]);
        for _ in 0..=5 {
            w.spawned("web");
            w.too_much_memory("web");
            w.exited("web", 0);
            w.wait(1.0);
        }
        w.expect_word("web", Word::MaxRestarts);
    }

    fn a_kill_for_want_of_memory_is_a_failure_like_any_other(w) {
        w.config([svc("web"), svc("job").oneshot()]);
        w.up("web");
        w.spawned("job");
        w.ended("web", Exit::OutOfMemory { certain: true }, Rest::Gone);
        w.expect_word("web", Word::Crashed);
        w.ended("job", Exit::OutOfMemory { certain: false }, Rest::Gone);
        w.expect_word("job", Word::Crashed);
    }

    fn what_is_noticed_changes_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let service = w.run("web").service;
        w.tell(Event::Noticed { service: Some(service), text: "a full disk".into() });
        w.tell(Event::Noticed { service: None, text: "a full disk".into() });
        w.expect_nothing();
        w.expect_word("web", Word::Running);
    }

    fn a_start_and_a_stop_take_longer_where_the_service_asks_for_it(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.wait(59.0);
        w.tell(Event::Extended { run: w.run("web"), by: secs(30.0) });
        w.wait(29.0);
        w.expect_word("web", Word::Starting);
        w.ready("web");
        w.stop("web");
        w.skip();
        w.wait(9.0);
        w.tell(Event::Extended { run: w.run("web"), by: secs(5.0) });
        w.wait(4.0);
        w.expect_nothing();
        w.wait(1.0);
        w.expect_actions(["kill web"]);
    }
}
