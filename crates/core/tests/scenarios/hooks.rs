//! Hooks that run beside: they hold up nothing, and end in time.

use crate::support::*;

scenarios! {
    fn on_failure_runs_after_each_failure_beside_what_follows(w) {
        w.config([svc("web").on_failure()]);
        w.up("web");
        w.skip();
        w.exited("web", 1);
        w.expect_actions(["spawn web on_failure"]);
        w.expect_word("web", Word::Crashed);
        w.wait(1.0);
        w.expect_actions(["spawn web"]);
    }

    fn an_alert_is_told_beside_what_follows_and_not_twice_at_once(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        w.skip();
        let service = w.id("web");
        w.tell(Event::AlertDue { service, which: 0 });
        w.tell(Event::AlertDue { service, which: 0 });
        w.tell(Event::AlertDue { service, which: 1 });
        w.expect_actions(["spawn web alert 0", "spawn web alert 1"]);
        w.wait(1.0);
        w.expect_actions(["spawn web"]);
        w.wait(60.0);
        w.expect_actions(["kill web alert 0", "kill web alert 1"]);
    }

    fn nobody_is_told_while_everything_is_being_stopped(w) {
        w.config([svc("web")]);
        w.up("web");
        w.shutdown();
        w.skip();
        w.tell(Event::AlertDue { service: w.id("web"), which: 0 });
        w.expect_nothing();
    }

    fn on_failure_does_not_run_after_a_clean_end(w) {
        w.config([svc("web").on_failure()]);
        w.up("web");
        w.skip();
        w.exited("web", 0);
        w.expect_nothing();
    }

    fn on_failure_does_not_run_for_a_shortage_of_the_machine(w) {
        w.config([svc("web").on_failure()]);
        w.skip();
        w.spawn_starved("web");
        w.expect_nothing();
    }

    fn on_failure_runs_before_post_stop_is_done(w) {
        w.config([svc("web").on_failure().post_stop()]);
        w.up("web");
        w.skip();
        w.exited("web", 1);
        w.expect_actions(["spawn web on_failure", "spawn web post_stop"]);
    }

    fn a_hook_beside_that_hangs_is_killed_in_time_and_again(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        w.skip();
        w.wait(HOOK.as_secs_f64());
        w.expect_actions(["kill web post_start"]);
        w.wait(KILL_AGAIN.as_secs_f64());
        w.expect_actions(["kill web post_start"]);
        assert_eq!(w.facts_that(|what| matches!(what, What::StillAlive { .. })), 1);
        w.hook_exited("web", Hook::PostStart, 137);
        w.wait(1000.0);
        w.expect_nothing();
        w.expect_word("web", Word::Running);
    }

    fn a_hook_beside_that_could_not_be_started_disturbs_nothing(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        let error = SpawnError { text: "no such file".into(), shortage: false };
        w.tell(Event::SpawnFailed { run: w.hook("web", Hook::PostStart), error: error.clone() });
        w.expect_word("web", Word::Running);
        let told = |what: &What| matches!(what, What::SideEnded { error: Some(found), .. } if *found == error);
        assert_eq!(w.facts_that(told), 1);
    }

    fn what_a_hook_leaves_behind_may_use_the_rest_of_its_time(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        w.skip();
        let hook = w.hook("web", Hook::PostStart);
        w.tell(Event::Exited { run: hook, exit: Exit::Code(0), rest: Rest::Alive });
        w.wait(HOOK.as_secs_f64() - 0.1);
        w.expect_nothing();
        w.wait(0.1);
        w.expect_actions(["kill web post_start"]);
        w.tell(Event::Emptied { run: hook });
        assert!(w.record("web").sides.is_empty());
    }

    fn a_killed_hook_whose_tree_lives_is_awaited(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        w.wait(HOOK.as_secs_f64());
        let hook = w.hook("web", Hook::PostStart);
        let exit = Exit::Signal { number: 9, core_dumped: false };
        w.tell(Event::Exited { run: hook, exit, rest: Rest::Alive });
        assert_eq!(w.record("web").sides.len(), 1);
        // Told twice, it is stale.
        w.tell(Event::Exited { run: hook, exit, rest: Rest::Alive });
        assert_eq!(w.stale(), 1);
        w.tell(Event::Emptied { run: hook });
        assert!(w.record("web").sides.is_empty());
    }

    fn a_hook_whose_end_nobody_saw_is_over(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        w.tell(Event::Emptied { run: w.hook("web", Hook::PostStart) });
        assert!(w.record("web").sides.is_empty());
    }

    fn a_hook_that_was_to_be_killed_before_it_existed_is_killed_when_it_does(w) {
        w.config([svc("web").pre_start()]);
        w.stop("web");
        w.skip();
        w.hook_spawned("web", Hook::PreStart);
        w.expect_actions(["kill web pre_start"]);
    }

    fn a_removed_service_is_forgotten_when_its_last_hook_has_ended(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        w.config([]);
        w.exited("web", 0);
        w.expect_word("web", Word::Stopped);
        w.hook_exited("web", Hook::PostStart, 0);
        assert_eq!(w.core.find("web"), None);
    }

    fn ready_and_unhealthy_mean_nothing_for_a_hook(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        let run = w.hook("web", Hook::PostStart);
        w.tell(Event::Ready { run });
        w.tell(Event::Silent { run });
        w.tell(Event::MainFound { run });
        assert_eq!(w.stale(), 3);
        w.expect_word("web", Word::Running);
    }
}
