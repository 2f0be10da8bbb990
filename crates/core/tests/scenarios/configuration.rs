//! A new configuration touches only what it changes.

use crate::support::*;

scenarios! {
    fn only_what_changed_is_restarted(w) {
        w.config([svc("a"), svc("b")]);
        w.all_up(&["a", "b"]);
        w.skip();
        w.config([svc("a"), svc("b").launch(2)]);
        w.expect_actions(["stop b"]);
        w.exited("b", 0);
        w.expect_actions(["spawn b"]);
        w.expect_word("a", Word::Running);
    }

    // Shown to fail: with the number forgotten with the service its second life is `web#1` again.
    fn a_service_that_was_removed_and_comes_back_goes_on_above_its_last_number(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.exited("web", 1);
        w.wait(1.5);
        assert_eq!(w.record("web").generation, 2);
        w.config([svc("db")]);
        w.exited("web", 0);
        w.config([svc("web"), svc("db"), svc("new")]);
        assert_eq!(w.record("web").generation, 3);
        assert_eq!(w.record("new").generation, 1);
        assert_eq!(w.record("web").restarts, 0);
    }

    fn the_same_configuration_again_changes_nothing(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        let before = w.facts.len();
        w.config([svc("web").needs("db"), svc("db")]);
        w.expect_nothing();
        let told: Vec<_> = w.facts[before..].iter().map(|fact| fact.what.clone()).collect();
        assert_eq!(told, [What::ConfigApplied { added: 0, changed: 0, removed: 0, autostart: true }]);
    }

    fn a_changed_rule_restarts_nothing_and_holds_from_now_on(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        w.config([svc("web").with(|p| p.timeout_stop = Some(secs(2.0)))]);
        w.expect_nothing();
        w.stop("web");
        w.wait(2.0);
        w.expect_actions(["stop web", "kill web"]);
    }

    fn a_restart_for_a_changed_launch_uses_up_no_retry(w) {
        w.config([svc("web")]);
        w.up("web");
        w.config([svc("web").launch(2)]);
        w.exited("web", 1);
        w.expect_word("web", Word::Starting);
        assert_eq!(w.record("web").history, History::default());
        assert_eq!(w.record("web").restarts, 0);
        assert_eq!(w.record("web").launch, 2);
    }

    fn changed_services_are_replaced_in_the_order_of_their_dependencies(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.config([svc("web").needs("db").launch(2), svc("db").launch(2)]);
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.expect_actions(["spawn web"]);
    }

    fn a_new_service_starts(w) {
        w.config([svc("a")]);
        w.up("a");
        w.skip();
        w.config([svc("a"), svc("b").needs("a")]);
        w.expect_actions(["spawn b"]);
    }

    fn a_removed_service_is_stopped_and_forgotten(w) {
        w.config([svc("a"), svc("b")]);
        w.all_up(&["a", "b"]);
        w.skip();
        w.config([svc("a")]);
        w.expect_actions(["stop b"]);
        w.exited("b", 0);
        assert_eq!(w.core.find("b"), None);
        assert_eq!(w.facts_that(|what| matches!(what, What::Removed { .. })), 1);
    }

    fn a_removed_service_that_rests_is_forgotten_at_once(w) {
        w.config([svc("a"), svc("b").asleep()]);
        w.config([svc("a")]);
        assert_eq!(w.core.find("b"), None);
    }

    fn removed_services_stop_in_the_reverse_order_of_their_dependencies(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.config([]);
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        assert_eq!(w.core.ids().count(), 0);
    }

    fn a_removed_service_that_comes_back_before_it_ended_starts_again(w) {
        w.config([svc("web")]);
        w.up("web");
        w.config([]);
        w.config([svc("web")]);
        w.skip();
        w.exited("web", 0);
        w.expect_actions(["spawn web"]);
        assert_eq!(w.record("web").generation, 2);
    }

    fn a_removed_service_that_comes_back_before_it_was_asked_to_stop_goes_on(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.config([]);
        // db waits for web to end first.
        w.expect_word("db", Word::Running);
        w.skip();
        w.config([svc("db")]);
        w.expect_nothing();
        w.exited("web", 0);
        w.expect_nothing();
        w.expect_word("db", Word::Running);
    }

    fn a_name_that_comes_back_later_is_another_service(w) {
        w.config([svc("web")]);
        let before = w.id("web");
        w.up("web");
        w.config([]);
        w.exited("web", 0);
        w.config([svc("web")]);
        assert_ne!(w.id("web"), before);
    }

    fn a_cycle_is_refused_and_changes_nothing(w) {
        w.config([svc("a"), svc("b")]);
        w.all_up(&["a", "b"]);
        w.skip();
        w.config([svc("a").needs("b").launch(9), svc("b").needs("a")]);
        w.expect_nothing();
        w.expect_all(&["a", "b"], Word::Running);
        let refused = |what: &What| matches!(what, What::ConfigRefused { problem } if problem.contains("a → b → a"));
        assert_eq!(w.facts_that(refused), 1);
        w.exited("a", 1);
        w.wait(1.0);
        w.expect_actions(["spawn a"]);
    }

    fn an_unknown_dependency_is_refused(w) {
        w.config([svc("a").needs("nobody")]);
        assert_eq!(w.core.ids().count(), 0);
        let refused = |what: &What| matches!(what, What::ConfigRefused { problem } if problem.contains("nobody"));
        assert_eq!(w.facts_that(refused), 1);
    }

    fn a_name_given_twice_is_refused(w) {
        w.config([svc("a"), svc("a")]);
        assert_eq!(w.core.ids().count(), 0);
    }

    fn a_failed_service_that_changed_is_tried_again(w) {
        w.config([svc("web").mode(RestartMode::Never)]);
        w.spawn_failed("web");
        w.skip();
        w.config([svc("web").mode(RestartMode::Never)]);
        w.expect_nothing();
        w.config([svc("web").mode(RestartMode::Never).launch(2)]);
        w.expect_actions(["spawn web"]);
    }

    fn a_service_that_waits_for_its_next_attempt_and_changed_is_tried_at_once(w) {
        w.config([svc("web").retries(Some(1))]);
        w.spawn_failed("web");
        w.wait(1.0);
        w.spawn_failed("web");
        w.expect_word("web", Word::MaxRestarts);
        w.skip();
        w.config([svc("web").retries(Some(1)).launch(2)]);
        w.expect_actions(["spawn web"]);
        assert_eq!(w.record("web").history, History::default());
    }

    fn a_oneshot_that_changed_runs_again(w) {
        w.config([svc("job").oneshot()]);
        w.spawned("job");
        w.exited("job", 0);
        w.skip();
        w.config([svc("job").oneshot().launch(2)]);
        w.expect_actions(["spawn job"]);
    }

    fn a_stopped_service_that_changed_stays_stopped(w) {
        w.config([svc("web")]);
        w.up("web");
        w.stop("web");
        w.exited("web", 0);
        w.skip();
        w.config([svc("web").launch(2)]);
        w.expect_nothing();
        w.expect_word("web", Word::Stopped);
    }

    fn a_service_that_changed_during_its_spawn_is_replaced(w) {
        w.config([svc("web")]);
        w.config([svc("web").launch(2)]);
        w.expect_actions(["spawn web"]);
        w.spawned("web");
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["spawn web"]);
    }

    fn a_dependency_that_is_no_longer_needed_is_no_longer_waited_for(w) {
        w.config([svc("web").needs("db"), svc("db").notify()]);
        w.skip();
        w.config([svc("web"), svc("db").notify()]);
        w.expect_actions(["spawn web"]);
    }

    fn a_new_dependency_does_not_disturb_a_running_service(w) {
        w.config([svc("web"), svc("db").asleep()]);
        w.up("web");
        w.skip();
        w.config([svc("web").needs("db"), svc("db").asleep()]);
        w.expect_actions(["spawn db"]);
        w.expect_word("web", Word::Running);
    }

    fn autostart_switched_off_ends_a_service_that_nobody_asked_for(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        w.config([svc("web").asleep()]);
        w.expect_actions(["stop web"]);
    }

    /// `db` was stopped on request and waits for `web` to end; then somebody needs `web`, so that it does not go for good.
    fn what_is_stopped_ends_although_its_dependent_is_wanted_again_meanwhile(w) {
        w.config([svc("db"), svc("web").needs("db")]);
        w.all_up(&["db", "web"]);
        w.config([svc("db"), svc("web").needs("db").asleep()]);
        w.skip();
        w.stop("db");
        w.expect_nothing();
        w.config([svc("db"), svc("web").needs("db").asleep(), svc("page").needs("web")]);
        w.expect_actions(["stop db"]);
        w.exited("web", 0);
        w.expect_waits_for("web", "db");
        w.exited("db", 0);
        w.expect_word("db", Word::Stopped);
    }

    fn a_service_that_was_asked_for_stays_when_autostart_is_switched_off(w) {
        w.config([svc("web")]);
        w.up("web");
        w.start("web");
        w.skip();
        w.config([svc("web").asleep()]);
        w.expect_nothing();
    }
}
