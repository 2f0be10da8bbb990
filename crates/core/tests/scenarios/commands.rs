//! What people ask for, and the answers they get: one for each service named, when it is so or cannot be.

use crate::support::*;

scenarios! {
    fn a_start_is_answered_when_the_service_is_ready(w) {
        w.config([svc("web").notify().asleep()]);
        let ticket = w.start("web");
        w.expect_actions(["spawn web"]);
        w.spawned("web");
        w.expect_no_answer(ticket, "web");
        w.ready("web");
        w.expect_done(ticket, "web");
    }

    fn a_start_of_a_oneshot_is_answered_when_it_has_completed(w) {
        w.config([svc("job").oneshot().asleep()]);
        let ticket = w.start("job");
        w.spawned("job");
        w.expect_no_answer(ticket, "job");
        w.exited("job", 0);
        w.expect_done(ticket, "job");
    }

    fn a_start_of_what_runs_changes_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let ticket = w.start("web");
        w.expect_answer(ticket, "web", &Outcome::Already);
        w.expect_nothing();
    }

    fn a_start_of_what_is_starting_waits_with_it(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        let ticket = w.start("web");
        w.expect_no_answer(ticket, "web");
        w.ready("web");
        w.expect_done(ticket, "web");
    }

    fn a_start_that_fails_is_answered_with_the_cause_though_it_is_tried_again(w) {
        w.config([svc("web").asleep()]);
        let ticket = w.start("web");
        w.spawn_failed("web");
        assert!(matches!(
            w.answer(ticket, "web"),
            Some(Outcome::Failed(Cause::SpawnFailed(error))) if error.text.contains("ENOENT")
        ));
        w.expect_word("web", Word::Crashed);
    }

    fn a_start_that_fails_for_good_is_answered_with_the_cause(w) {
        w.config([svc("web").asleep().mode(RestartMode::Never)]);
        let ticket = w.start("web");
        w.exited("web", 3);
        w.expect_answer(ticket, "web", &Outcome::Failed(Cause::Exited(Exit::Code(3))));
    }

    fn a_start_waits_through_a_shortage(w) {
        w.config([svc("web").asleep()]);
        let ticket = w.start("web");
        w.spawn_starved("web");
        w.expect_no_answer(ticket, "web");
        w.wait(0.5);
        w.up("web");
        w.expect_done(ticket, "web");
    }

    fn a_start_does_not_wait_for_the_backoff(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        w.skip();
        let ticket = w.start("web");
        w.expect_actions(["spawn web"]);
        w.expect_no_answer(ticket, "web");
        w.spawned("web");
        w.expect_done(ticket, "web");
        assert_eq!(w.record("web").restarts, 0);
    }

    fn a_start_during_a_stop_is_followed_by_a_new_life(w) {
        w.config([svc("web")]);
        w.up("web");
        let stop = w.stop("web");
        w.skip();
        let start = w.start("web");
        w.expect_answer(stop, "web", &Outcome::Superseded);
        w.expect_nothing();
        w.exited("web", 0);
        w.expect_actions(["spawn web"]);
        w.expect_no_answer(start, "web");
        w.up("web");
        w.expect_done(start, "web");
    }

    fn a_start_while_what_a_crash_left_behind_is_being_stopped_is_followed_by_a_new_life(w) {
        w.config([svc("web").mode(RestartMode::Never)]);
        w.up("web");
        w.exited_leaving("web", 1);
        let ticket = w.start("web");
        w.skip();
        w.emptied("web");
        w.expect_actions(["spawn web"]);
        w.up("web");
        w.expect_done(ticket, "web");
    }

    fn a_start_before_the_stop_signal_was_sent_lets_the_life_go_on(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.stop_with_dependents("db");
        w.skip();
        let ticket = w.start("db");
        w.expect_answer(ticket, "db", &Outcome::Already);
        w.exited("web", 0);
        w.expect_nothing();
        w.expect_word("db", Word::Running);
    }

    fn a_stop_while_a_start_waits_supersedes_it(w) {
        w.config([svc("web").notify().asleep()]);
        let start = w.start("web");
        w.spawned("web");
        let stop = w.stop("web");
        w.expect_answer(start, "web", &Outcome::Superseded);
        w.exited("web", 0);
        w.expect_done(stop, "web");
    }

    fn a_stop_of_what_is_stopped_changes_nothing(w) {
        w.config([svc("web").asleep()]);
        let ticket = w.stop("web");
        w.expect_answer(ticket, "web", &Outcome::Already);
        w.expect_nothing();
    }

    fn a_stop_of_a_failed_service_makes_it_stopped(w) {
        w.config([svc("web").mode(RestartMode::Never)]);
        w.spawn_failed("web");
        let ticket = w.stop("web");
        w.expect_answer(ticket, "web", &Outcome::Already);
        w.expect_word("web", Word::Stopped);
    }

    fn two_stops_are_both_answered(w) {
        w.config([svc("web")]);
        w.up("web");
        let first = w.stop("web");
        let second = w.stop("web");
        w.exited("web", 0);
        w.expect_done(first, "web");
        w.expect_done(second, "web");
    }

    fn stopped_by_request_lasts(w) {
        w.config([svc("web")]);
        w.up("web");
        w.stop("web");
        w.exited("web", 0);
        w.skip();
        w.recover(&[]);
        w.config([svc("web"), svc("other")]);
        w.expect_actions(["spawn other"]);
        w.expect_word("web", Word::Stopped);
    }

    fn a_restart_ends_one_life_and_begins_another_without_delay(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let ticket = w.restart("web");
        w.expect_actions(["stop web"]);
        w.exited("web", 1);
        w.expect_actions(["spawn web"]);
        w.expect_no_answer(ticket, "web");
        w.up("web");
        w.expect_done(ticket, "web");
    }

    fn a_restart_of_what_is_starting_begins_anew(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.skip();
        let ticket = w.restart("web");
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        w.expect_actions(["spawn web"]);
        w.up("web");
        w.expect_done(ticket, "web");
    }

    fn a_restart_of_what_rests_is_a_start(w) {
        w.config([svc("web").asleep()]);
        let ticket = w.restart("web");
        w.up("web");
        w.expect_done(ticket, "web");
    }

    fn a_restart_during_a_stop_supersedes_it(w) {
        w.config([svc("web")]);
        w.up("web");
        let stop = w.stop("web");
        let restart = w.restart("web");
        w.expect_answer(stop, "web", &Outcome::Superseded);
        w.exited("web", 0);
        w.up("web");
        w.expect_done(restart, "web");
    }

    fn a_stop_during_a_restart_supersedes_it(w) {
        w.config([svc("web")]);
        w.up("web");
        let restart = w.restart("web");
        let stop = w.stop("web");
        w.expect_answer(restart, "web", &Outcome::Superseded);
        w.skip();
        w.exited("web", 0);
        w.expect_nothing();
        w.expect_done(stop, "web");
        w.expect_word("web", Word::Stopped);
    }

    fn a_restart_that_fails_is_answered_with_the_cause(w) {
        w.config([svc("web")]);
        w.up("web");
        let ticket = w.restart("web");
        w.exited("web", 0);
        w.spawn_failed("web");
        w.expect_failed(ticket, "web");
    }

    fn a_start_that_waits_for_a_dependency_waits_while_there_is_hope(w) {
        w.config([svc("web").needs("db").asleep(), svc("db")]);
        w.up("db");
        w.exited("db", 1);
        let ticket = w.start("web");
        w.expect_no_answer(ticket, "web");
        w.wait(1.0);
        w.all_up(&["db", "web"]);
        w.expect_done(ticket, "web");
    }

    fn a_start_whose_dependency_fails_for_good_is_answered_and_still_waits(w) {
        w.config([
            svc("web").needs("app").asleep(),
            svc("app").needs("db").asleep(),
            svc("db").asleep().mode(RestartMode::Never),
        ]);
        let ticket = w.start("web");
        w.expect_no_answer(ticket, "web");
        w.spawn_failed("db");
        w.expect_answer(ticket, "web", &Outcome::Failed(Cause::Dependency(w.id("db"))));
        w.expect_word("web", Word::Pending);
        w.start("db");
        w.all_up(&["db", "app", "web"]);
        w.expect_word("web", Word::Running);
    }

    fn a_start_whose_dependency_is_stopped_meanwhile_is_answered(w) {
        w.config([svc("web").needs("db").asleep(), svc("db").notify()]);
        let ticket = w.start("web");
        w.stop("db");
        w.spawn_failed("db");
        w.expect_answer(ticket, "web", &Outcome::Failed(Cause::Dependency(w.id("db"))));
    }

    fn several_services_are_answered_one_by_one(w) {
        w.config([svc("a").asleep(), svc("b").asleep()]);
        let services = vec![w.id("a"), w.id("b"), w.id("a")];
        let ticket = w.command(Command::Start(services));
        w.up("a");
        w.expect_done(ticket, "a");
        w.expect_no_answer(ticket, "b");
        w.up("b");
        w.expect_done(ticket, "b");
    }

    fn an_unknown_service_is_answered_as_unknown(w) {
        w.config([svc("web")]);
        let nobody = ServiceId(99);
        let stop = Command::Stop { services: vec![nobody], with_dependents: true };
        for command in [Command::Start(vec![nobody]), Command::Restart(vec![nobody]), stop] {
            let ticket = w.command(command);
            assert_eq!(w.answer_about(ticket, nobody), Some(&Outcome::Unknown));
        }
    }

    fn a_retired_service_is_unknown(w) {
        w.config([svc("web")]);
        w.up("web");
        w.config([]);
        let ticket = w.start("web");
        w.expect_answer(ticket, "web", &Outcome::Unknown);
    }

    fn stop_with_dependents_does_not_speak_of_services_that_left_the_configuration(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        let web = w.id("web");
        w.config([svc("db")]);
        let ticket = w.stop_with_dependents("db");
        assert_eq!(w.answer_about(ticket, web), None);
        w.exited("web", 0);
        w.start("db");
        let ticket = w.stop_with_dependents("db");
        assert_eq!(w.answer_about(ticket, web), None);
    }

    fn who_waits_for_a_service_that_is_removed_is_told_so(w) {
        w.config([svc("web").notify().asleep()]);
        let ticket = w.start("web");
        w.spawned("web");
        w.config([]);
        w.expect_answer(ticket, "web", &Outcome::Superseded);
    }

    fn who_waits_for_a_stop_of_a_service_that_is_removed_is_told_so(w) {
        w.config([svc("web")]);
        w.up("web");
        let ticket = w.stop("web");
        let web = w.id("web");
        w.config([]);
        w.expect_no_answer(ticket, "web");
        w.exited("web", 0);
        assert_eq!(w.answer_about(ticket, web), Some(&Outcome::Done));
    }

    fn during_a_shutdown_every_command_is_superseded(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        let before = w.start("web");
        w.shutdown();
        w.expect_answer(before, "web", &Outcome::Superseded);
        for ticket in [w.start("web"), w.stop("web"), w.restart("web")] {
            w.expect_answer(ticket, "web", &Outcome::Superseded);
        }
    }

    fn a_start_that_waits_for_a_place_is_answered_in_the_end(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("a"), svc("b").asleep()]);
        let ticket = w.start("b");
        w.expect_kind("b", "pending: slot");
        w.all_up(&["a", "b"]);
        w.expect_done(ticket, "b");
    }
}
