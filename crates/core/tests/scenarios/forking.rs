//! Services that put themselves in the background: the first process leaves, the main one is found.

use crate::support::*;

/// Up to the point where the first process has left and the main one is looked for.
fn forked(w: &mut World) {
    w.config([svc("daemon").forking()]);
    w.spawned("daemon");
    w.exited_leaving("daemon", 0);
    w.expect_actions(["spawn daemon", "find main of daemon"]);
}

scenarios! {
    fn it_runs_when_its_main_process_was_found(w) {
        forked(w);
        w.expect_word("daemon", Word::Starting);
        w.main_found("daemon");
        w.expect_word("daemon", Word::Running);
    }

    fn what_counts_is_the_end_of_the_main_process(w) {
        forked(w);
        w.main_found("daemon");
        w.exited("daemon", 1);
        w.expect_word("daemon", Word::Crashed);
    }

    fn a_first_process_that_leaves_nothing_behind_has_failed(w) {
        w.config([svc("daemon").forking()]);
        w.spawned("daemon");
        w.exited("daemon", 0);
        w.expect_word("daemon", Word::Crashed);
        let cause = w.record("daemon").last_end.as_ref().map(|end| end.cause.clone());
        assert_eq!(cause, Some(Cause::LeftNothing));
    }

    fn a_tree_that_ends_before_the_main_process_was_found_has_failed(w) {
        forked(w);
        w.emptied("daemon");
        w.expect_word("daemon", Word::Crashed);
        w.expect_nothing();
    }

    fn a_first_process_that_fails_has_failed(w) {
        w.config([svc("daemon").forking()]);
        w.spawned("daemon");
        w.exited_leaving("daemon", 2);
        w.expect_actions(["spawn daemon", "stop daemon tree"]);
        w.emptied("daemon");
        w.expect_word("daemon", Word::Crashed);
    }

    fn a_first_process_that_never_leaves_runs_into_timeout_start(w) {
        w.config([svc("daemon").forking()]);
        w.spawned("daemon");
        w.skip();
        w.wait(60.0);
        w.expect_actions(["stop daemon"]);
        w.exited("daemon", 0);
        w.expect_word("daemon", Word::Crashed);
    }

    fn a_main_process_that_is_never_found_runs_into_timeout_start_and_the_tree_is_told(w) {
        forked(w);
        w.wait(60.0);
        w.expect_actions(["stop daemon tree"]);
        w.emptied("daemon");
        w.expect_word("daemon", Word::Crashed);
    }

    fn a_stop_before_the_main_process_was_found_reaches_the_tree(w) {
        forked(w);
        let ticket = w.stop("daemon");
        w.expect_actions(["stop daemon tree"]);
        w.emptied("daemon");
        w.expect_done(ticket, "daemon");
    }

    fn the_end_of_the_first_process_told_twice_is_not_the_end_of_the_main_one(w) {
        forked(w);
        w.exited_leaving("daemon", 0);
        w.expect_nothing();
        w.expect_kind("daemon", "starting: forked");
        w.main_found("daemon");
        w.expect_word("daemon", Word::Running);
    }

    fn an_end_told_while_the_main_process_is_looked_for_with_nothing_left_is_a_failure(w) {
        forked(w);
        w.exited("daemon", 0);
        w.expect_word("daemon", Word::Crashed);
    }

    fn the_main_process_is_found_only_for_who_looks_for_it(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.main_found("web");
        w.expect_word("web", Word::Starting);
        assert_eq!(w.stale(), 1);
    }

    fn a_simple_service_that_goes_into_the_background_gets_a_hint(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 0);
        assert_eq!(w.facts_that(|what| matches!(what, What::LooksForking { .. })), 1);
        w.expect_kind("web", "stopping: rest");
    }

    fn a_simple_service_that_crashes_leaving_others_gets_no_hint(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 1);
        assert_eq!(w.facts_that(|what| matches!(what, What::LooksForking { .. })), 0);
    }

    fn a_dependent_that_needs_it_started_may_start_while_the_main_process_is_looked_for(w) {
        w.config([svc("web").needs_started("daemon"), svc("daemon").forking()]);
        w.spawned("daemon");
        w.expect_actions(["spawn daemon", "spawn web"]);
    }
}
