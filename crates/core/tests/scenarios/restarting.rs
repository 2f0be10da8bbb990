//! What follows the end of a life: which ends are followed by another, when, and how often.

use crate::support::*;

/// Brings `web` up and lets it fail, as often as said; waits for each next life.
fn fail(w: &mut World, times: usize) {
    for _ in 0..times {
        w.up("web");
        w.exited("web", 1);
        let delay = w.next_start_in("web");
        w.wait(delay);
    }
}

/// The word after an end, under each mode: always, on-failure, never.
fn after(w: &mut World, end: impl Fn(&mut World, &str), words: [Word; 3]) {
    w.config([
        svc("always").mode(RestartMode::Always),
        svc("on-failure").mode(RestartMode::OnFailure),
        svc("never").mode(RestartMode::Never),
    ]);
    for (name, word) in ["always", "on-failure", "never"].into_iter().zip(words) {
        w.up(name);
        end(w, name);
        w.expect_word(name, word);
    }
}

scenarios! {
    fn a_clean_exit_is_followed_by_a_restart_under_always_only(w) {
        after(w, |w, name| w.exited(name, 0), [Word::Restarting, Word::Completed, Word::Completed]);
    }

    fn a_bad_exit_is_followed_by_a_restart_unless_the_policy_says_never(w) {
        after(w, |w, name| w.exited(name, 1), [Word::Crashed, Word::Crashed, Word::Failed]);
    }

    fn a_death_by_signal_is_a_failure(w) {
        after(w, |w, name| w.signalled(name, 9), [Word::Crashed, Word::Crashed, Word::Failed]);
    }

    fn a_death_by_sigterm_that_nobody_asked_for_is_a_failure(w) {
        after(w, |w, name| w.signalled(name, 15), [Word::Crashed, Word::Crashed, Word::Failed]);
    }

    fn an_end_that_nobody_can_explain_is_a_failure(w) {
        let unknown = |w: &mut World, name: &str| w.ended(name, Exit::Unknown, Rest::Gone);
        after(w, unknown, [Word::Crashed, Word::Crashed, Word::Failed]);
    }

    fn a_tree_that_is_gone_without_an_exit_is_a_failure(w) {
        after(w, |w, name| w.emptied(name), [Word::Crashed, Word::Crashed, Word::Failed]);
    }

    fn a_process_that_could_not_be_started_is_a_failure(w) {
        w.config([svc("a"), svc("b").mode(RestartMode::OnFailure), svc("c").mode(RestartMode::Never)]);
        ["a", "b", "c"].iter().for_each(|name| w.spawn_failed(name));
        w.expect_all(&["a", "b"], Word::Crashed);
        w.expect_word("c", Word::Failed);
    }

    fn codes_in_success_exit_codes_are_success(w) {
        let codes = |policy: &mut Policy| policy.restart.success_exit_codes = vec![0, 3];
        w.config([svc("a").mode(RestartMode::OnFailure).with(codes), svc("b").mode(RestartMode::Never).with(codes)]);
        w.all_up(&["a", "b"]);
        w.exited("a", 3);
        w.exited("b", 3);
        w.expect_all(&["a", "b"], Word::Completed);
    }

    fn zero_is_a_failure_where_success_exit_codes_leaves_it_out(w) {
        w.config([svc("web").with(|p| p.restart.success_exit_codes = vec![2])]);
        w.up("web");
        w.exited("web", 0);
        w.expect_word("web", Word::Crashed);
    }

    fn the_delay_doubles_with_each_failure_in_a_row(w) {
        w.config([svc("web").retries(None)]);
        for expected in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            w.up("web");
            w.exited("web", 1);
            w.expect_next_start_in("web", expected);
            w.wait(expected);
            w.expect_word("web", Word::Starting);
        }
    }

    fn without_backoff_each_delay_is_retry_delay(w) {
        w.config([svc("web").retries(None).with(|p| p.restart.backoff = None)]);
        for _ in 0..7 {
            w.up("web");
            w.exited("web", 1);
            w.expect_next_start_in("web", 1.0);
            w.wait(1.0);
        }
    }

    fn no_start_comes_before_its_delay_is_over(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        w.skip();
        w.wait(0.999);
        w.expect_nothing();
        w.wait(0.001);
        w.expect_actions(["spawn web"]);
    }

    fn jitter_moves_each_delay_by_no_more_than_its_share(w) {
        let jitter = |policy: &mut Policy| policy.restart.backoff = Some(Backoff::default());
        w.config([svc("web").retries(None).with(jitter)]);
        let mut seen = Vec::new();
        for step in 0..5 {
            w.up("web");
            w.exited("web", 1);
            let delay = w.next_start_in("web");
            let middle = f64::from(1 << step);
            assert!((0.9 * middle..=1.1 * middle).contains(&delay), "{delay} around {middle}");
            seen.push(delay / middle);
            w.wait(delay);
        }
        assert!(seen.iter().any(|share| (share - seen[0]).abs() > 1e-6), "no jitter at all: {seen:?}");
    }

    fn a_service_up_for_stable_after_starts_again_at_the_first_delay(w) {
        w.config([svc("web")]);
        fail(w, 3);
        w.up("web");
        w.wait(60.0);
        w.exited("web", 1);
        w.expect_next_start_in("web", 1.0);
    }

    fn a_service_up_for_less_than_stable_after_does_not(w) {
        w.config([svc("web")]);
        fail(w, 3);
        w.up("web");
        w.wait(59.0);
        w.exited("web", 1);
        w.expect_next_start_in("web", 8.0);
    }

    fn time_spent_starting_makes_no_service_stable(w) {
        w.config([svc("web").notify().with(|p| p.timeout_start = None)]);
        fail(w, 2);
        w.spawned("web");
        w.wait(1000.0);
        w.exited("web", 1);
        w.expect_next_start_in("web", 4.0);
    }

    fn after_max_retries_one_slow_attempt_is_made_each_retry_every(w) {
        w.config([svc("web")]);
        fail(w, 5);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::MaxRestarts);
        w.expect_next_start_in("web", 300.0);
        w.wait(300.0);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::MaxRestarts);
        w.expect_next_start_in("web", 300.0);
    }

    fn a_slow_attempt_that_stays_up_clears_the_row(w) {
        w.config([svc("web").retries(Some(1))]);
        fail(w, 1);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::MaxRestarts);
        w.wait(300.0);
        w.up("web");
        w.wait(60.0);
        w.exited("web", 1);
        w.expect_word("web", Word::Crashed);
        w.expect_next_start_in("web", 1.0);
    }

    fn give_up_means_no_start_until_asked(w) {
        let give_up = |p: &mut Policy| p.restart.when_exhausted = WhenExhausted::GiveUp;
        w.config([svc("web").retries(Some(1)).with(give_up)]);
        fail(w, 1);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::MaxRestarts);
        w.skip();
        w.wait(1e6);
        w.expect_nothing();
        w.start("web");
        w.expect_actions(["spawn web"]);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::Crashed);
    }

    fn no_retries_at_all_leaves_a_failure_failed(w) {
        w.config([svc("web").retries(Some(0))]);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::Failed);
    }

    fn unlimited_retries_are_never_used_up(w) {
        w.config([svc("web").retries(None)]);
        fail(w, 50);
        w.expect_word("web", Word::Starting);
    }

    fn retries_come_back_as_the_window_slides_on(w) {
        w.config([svc("web").retries(Some(2)).with(|p| p.restart.retry_window = secs(10.0))]);
        for _ in 0..6 {
            w.up("web");
            w.wait(11.0);
            w.exited("web", 1);
            w.expect_word("web", Word::Crashed);
            let delay = w.next_start_in("web");
            w.wait(delay);
        }
    }

    fn a_start_by_the_user_clears_the_window(w) {
        w.config([svc("web").retries(Some(2))]);
        fail(w, 2);
        w.up("web");
        w.exited("web", 1);
        w.expect_word("web", Word::MaxRestarts);
        w.start("web");
        fail(w, 2);
        w.expect_word("web", Word::Starting);
    }

    fn a_restart_by_the_user_clears_the_window_and_is_not_counted(w) {
        w.config([svc("web").retries(Some(2))]);
        fail(w, 2);
        w.up("web");
        w.restart("web");
        w.exited("web", 0);
        w.expect_word("web", Word::Starting);
        assert_eq!(w.record("web").restarts, 2);
        assert_eq!(w.record("web").history, History::default());
    }

    fn a_clean_exit_under_always_uses_no_retry_and_waits_only_retry_delay(w) {
        w.config([svc("web")]);
        for _ in 0..20 {
            w.up("web");
            w.exited("web", 0);
            w.expect_word("web", Word::Restarting);
            w.expect_next_start_in("web", 1.0);
            w.wait(1.0);
        }
        assert_eq!(w.record("web").restarts, 20);
        assert_eq!(w.record("web").history, History::default());
    }

    fn a_clean_exit_breaks_the_row_of_failures(w) {
        w.config([svc("web")]);
        fail(w, 3);
        w.up("web");
        w.exited("web", 0);
        w.wait(1.0);
        w.up("web");
        w.exited("web", 1);
        w.expect_next_start_in("web", 1.0);
    }

    fn a_shortage_is_tried_again_soon_and_counts_nothing(w) {
        w.config([svc("web").mode(RestartMode::Never)]);
        for _ in 0..50 {
            w.spawn_starved("web");
            w.expect_kind("web", "restarting: shortage");
            w.expect_next_start_in("web", SHORTAGE_DELAY.as_secs_f64());
            w.wait(0.5);
        }
        w.up("web");
        assert_eq!(w.record("web").restarts, 0);
        assert_eq!(w.record("web").history, History::default());
    }

    fn automatic_restarts_are_counted_and_first_starts_are_not(w) {
        w.config([svc("web")]);
        assert_eq!(w.record("web").restarts, 0);
        fail(w, 3);
        assert_eq!(w.record("web").restarts, 3);
    }

    fn an_unhealthy_service_is_stopped_and_started_again(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        w.silent("web");
        w.expect_actions(["spawn web", "stop web"]);
        w.expect_word("web", Word::Unhealthy);
        w.exited("web", 0);
        w.expect_word("web", Word::Restarting);
        w.expect_next_start_in("web", 1.0);
    }

    fn an_unhealthy_service_that_never_restarts_is_stopped_and_failed(w) {
        w.config([svc("web").mode(RestartMode::Never)]);
        w.up("web");
        w.silent("web");
        w.expect_actions(["spawn web", "stop web"]);
        w.exited("web", 0);
        w.expect_word("web", Word::Failed);
    }

    fn a_oneshot_that_succeeds_is_completed_whatever_its_policy(w) {
        w.config([svc("job").oneshot().mode(RestartMode::Always)]);
        w.spawned("job");
        w.exited("job", 0);
        w.expect_word("job", Word::Completed);
        w.skip();
        w.wait(1e5);
        w.expect_nothing();
    }

    fn a_oneshot_that_fails_is_tried_again(w) {
        w.config([svc("job").oneshot()]);
        w.spawned("job");
        w.exited("job", 1);
        w.expect_word("job", Word::Crashed);
        w.wait(1.0);
        w.spawned("job");
        w.exited("job", 0);
        w.expect_word("job", Word::Completed);
    }

    fn an_unknown_end_never_completes_a_oneshot(w) {
        w.config([svc("job").oneshot().mode(RestartMode::Never)]);
        w.spawned("job");
        w.ended("job", Exit::Unknown, Rest::Gone);
        w.expect_word("job", Word::Failed);
    }

    fn what_a_crashed_main_process_left_behind_is_stopped_before_the_next_life(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 1);
        w.expect_actions(["spawn web", "stop web tree"]);
        w.expect_kind("web", "stopping: rest");
        w.wait(10.0);
        w.expect_actions(["kill web"]);
        w.emptied("web");
        w.expect_word("web", Word::Crashed);
        w.wait(1.0);
        w.expect_actions(["spawn web"]);
    }

    fn the_end_of_each_run_is_told_once_with_its_exit_and_cause(w) {
        w.config([svc("web")]);
        w.up("web");
        let run = w.run("web");
        w.wait(3.0);
        w.exited_leaving("web", 7);
        w.emptied("web");
        let exit = Exit::Code(7);
        let told = What::RunEnded { run, exit: Some(exit), cause: Cause::Exited(exit), ready_ns: 3_000_000_000 };
        assert_eq!(w.facts_that(|what| *what == told), 1);
        assert_eq!(w.facts_that(|what| matches!(what, What::RunEnded { .. })), 1);
    }
}
