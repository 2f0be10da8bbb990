//! The manager dies and comes up again: nothing starts twice, nothing is lost, no deadline moves.

use crate::support::*;

/// The present main run of a service, alive, though no memory tells of it.
fn stray(name: &str, generation: u64) -> Survivor {
    Survivor { name: name.into(), generation, kind: RunKind::Service, exit: None, rest: Rest::Gone }
}

scenarios! {
    fn a_service_that_lives_is_left_alone(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        let survivors = [w.alive("db"), w.alive("web")];
        w.recover(&survivors);
        w.expect_nothing();
        w.expect_all(&["db", "web"], Word::Running);
        w.exited("web", 1);
        w.expect_word("web", Word::Crashed);
    }

    fn a_service_that_ended_meanwhile_with_a_known_exit_is_judged_by_it(w) {
        w.config([svc("a").mode(RestartMode::OnFailure), svc("b")]);
        w.all_up(&["a", "b"]);
        let survivors = [w.dead("a", 0, Rest::Gone), w.dead("b", 3, Rest::Gone)];
        w.recover(&survivors);
        w.expect_word("a", Word::Completed);
        w.expect_word("b", Word::Crashed);
        w.expect_next_start_in("b", 1.0);
    }

    fn a_service_that_ended_unseen_has_failed_for_reasons_unknown(w) {
        w.config([svc("web")]);
        w.up("web");
        w.recover(&[]);
        w.expect_word("web", Word::Crashed);
        let exit = w.record("web").last_end.as_ref().and_then(|end| end.exit);
        assert_eq!(exit, Some(Exit::Unknown));
    }

    fn what_a_service_that_ended_meanwhile_left_behind_is_stopped_first(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let survivors = [w.dead("web", 1, Rest::Alive)];
        w.recover(&survivors);
        w.expect_actions(["stop web tree"]);
        w.emptied("web");
        w.expect_word("web", Word::Crashed);
    }

    fn the_next_start_comes_when_it_would_have_come(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        w.wait(0.4);
        w.skip();
        w.recover(&[]);
        w.expect_next_start_in("web", 0.6);
        w.wait(0.59);
        w.expect_nothing();
        w.wait(0.01);
        w.expect_actions(["spawn web"]);
    }

    fn a_start_that_fell_due_while_nobody_was_there_comes_at_once(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        w.skip();
        w.now = w.now.after(secs(30.0));
        w.recover(&[]);
        w.expect_actions(["spawn web"]);
    }

    fn retries_and_backoff_are_remembered(w) {
        w.config([svc("web").retries(Some(2))]);
        for delay in [1.0, 2.0] {
            w.up("web");
            w.exited("web", 1);
            w.recover(&[]);
            w.expect_next_start_in("web", delay);
            w.wait(delay);
        }
        w.up("web");
        let survivors = [w.alive("web")];
        w.recover(&survivors);
        w.exited("web", 1);
        w.expect_word("web", Word::MaxRestarts);
    }

    fn sigkill_comes_when_it_would_have_come(w) {
        w.config([svc("web")]);
        w.up("web");
        w.stop("web");
        w.wait(6.0);
        w.skip();
        let survivors = [w.alive("web")];
        w.recover(&survivors);
        w.wait(3.9);
        w.expect_nothing();
        w.wait(0.1);
        w.expect_actions(["kill web"]);
    }

    fn a_stop_without_a_time_limit_is_asked_for_again(w) {
        // The signal may have been lost with the manager, and nothing else would ever end the wait.
        w.config([svc("a").with(|p| p.timeout_stop = None), svc("b").with(|p| p.timeout_stop = None)]);
        w.all_up(&["a", "b"]);
        w.exited_leaving("b", 1);
        w.stop("a");
        w.skip();
        let survivors = [w.alive("a"), w.dead("b", 1, Rest::Alive)];
        w.recover(&survivors);
        w.expect_actions(["stop a", "stop b tree"]);
    }

    fn a_spawn_in_flight_that_never_happened_is_issued_again_under_its_name(w) {
        w.config([svc("web")]);
        let run = w.run("web");
        w.skip();
        w.recover(&[]);
        w.expect_actions(["spawn web"]);
        assert_eq!(w.run("web"), run);
        w.up("web");
    }

    fn a_spawn_in_flight_that_never_happened_and_is_no_longer_configured_is_dropped(w) {
        w.config([svc("web"), svc("db")]);
        w.skip();
        w.config.services.truncate(1);
        w.recover(&[]);
        w.expect_actions(["spawn web"]);
        assert_eq!(w.core.find("db"), None);
    }

    fn a_spawn_in_flight_that_never_happened_and_was_changed_begins_anew(w) {
        w.config([svc("web")]);
        w.skip();
        w.config.services[0].launch = 2;
        w.recover(&[]);
        w.expect_actions(["spawn web"]);
        assert_eq!((w.run("web").generation, w.record("web").launch), (2, 2));
    }

    fn a_spawn_in_flight_that_never_happened_and_is_not_wanted_is_dropped(w) {
        // db still waits for cache to end first, and has crashed and begun again meanwhile.
        w.config([svc("cache").needs("db"), svc("db")]);
        w.all_up(&["db", "cache"]);
        w.exited("db", 1);
        w.wait(1.0);
        w.stop_with_dependents("db");
        w.expect_kind("db", "starting: spawning");
        w.skip();
        let survivors = [w.alive("cache")];
        w.recover(&survivors);
        w.expect_nothing();
        w.expect_word("db", Word::Stopped);
    }

    fn a_spawn_in_flight_that_happened_counts_as_done(w) {
        w.config([svc("web")]);
        w.skip();
        let survivors = [w.alive("web")];
        w.recover(&survivors);
        w.expect_nothing();
        w.expect_word("web", Word::Running);
    }

    fn a_spawn_in_flight_that_is_to_be_stopped_is_stopped(w) {
        w.config([svc("web")]);
        w.stop("web");
        w.skip();
        let survivors = [w.alive("web")];
        w.recover(&survivors);
        w.expect_actions(["stop web"]);
    }

    fn a_spawn_in_flight_that_is_to_be_stopped_and_never_happened_is_over(w) {
        w.config([svc("web")]);
        w.stop("web");
        w.skip();
        w.recover(&[]);
        w.expect_nothing();
        w.expect_word("web", Word::Stopped);
    }

    fn a_service_whose_memory_was_lost_is_adopted_and_left_alone(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.skip();
        w.recover_without_memory(&[stray("web", 4)]);
        w.expect_actions(["spawn db"]);
        w.expect_word("web", Word::Running);
        assert_eq!(w.run("web").generation, 4);
        w.exited("web", 1);
        w.wait(1.0);
        assert_eq!(w.run("web").generation, 5);
    }

    fn an_adopted_service_is_replaced_when_the_configuration_changes_later(w) {
        w.config([svc("web")]);
        w.up("web");
        w.recover_without_memory(&[stray("web", 4)]);
        w.skip();
        w.config([svc("web").launch(2)]);
        w.expect_actions(["stop web"]);
    }

    fn a_dependent_adopted_with_its_dependency_is_left_alone(w) {
        w.config([svc("web").follows("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.skip();
        w.recover_without_memory(&[stray("web", 2), stray("db", 3)]);
        w.expect_nothing();
    }

    fn what_lives_and_is_not_configured_is_stopped_and_forgotten(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let survivors = [w.alive("web"), stray("old", 3)];
        w.recover(&survivors);
        w.expect_actions(["stop old"]);
        w.exited("old", 0);
        assert_eq!(w.core.find("old"), None);
    }

    fn a_second_life_of_a_service_is_killed(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let survivors = [w.alive("web"), stray("web", 9)];
        w.recover(&survivors);
        assert_eq!(w.acted_on(9), ["SIGKILL"]);
        w.expect_word("web", Word::Running);
        assert_eq!(w.run("web").generation, 1);
        let run = RunId { service: w.id("web"), generation: 9 };
        w.tell(Event::Exited { run, exit: Exit::Signal { number: 9, core_dumped: false }, rest: Rest::Gone });
        w.expect_word("web", Word::Running);
        assert!(w.record("web").sides.is_empty());
        w.exited("web", 1);
        w.wait(1.0);
        assert_eq!(w.run("web").generation, 10);
    }

    fn an_unrecorded_run_that_has_ended_already_leaves_no_trace_but_its_generation(w) {
        w.config([svc("web")]);
        w.up("web");
        let dead = Survivor { exit: Some(Exit::Code(0)), ..stray("web", 6) };
        let survivors = [w.alive("web"), dead];
        w.recover(&survivors);
        assert!(w.record("web").sides.is_empty());
        assert_eq!(w.record("web").generation, 6);
    }

    fn a_tree_that_ended_while_nobody_was_there_is_not_waited_for(w) {
        w.config([svc("web").post_start()]);
        w.up("web");
        let hook = w.hook("web", Hook::PostStart);
        w.tell(Event::Exited { run: hook, exit: Exit::Code(0), rest: Rest::Alive });
        w.exited_leaving("web", 1);
        let ended = Survivor { exit: Some(Exit::Code(0)), ..w.living_hook("web", Hook::PostStart) };
        let survivors = [w.dead("web", 1, Rest::Gone), ended];
        w.recover(&survivors);
        w.expect_word("web", Word::Crashed);
        assert!(w.record("web").sides.is_empty());
    }

    fn a_hook_that_lives_goes_on(w) {
        w.config([svc("web").pre_start()]);
        w.hook_spawned("web", Hook::PreStart);
        w.skip();
        let survivors = [w.living_hook("web", Hook::PreStart)];
        w.recover(&survivors);
        w.expect_nothing();
        w.hook_exited("web", Hook::PreStart, 0);
        w.expect_actions(["spawn web"]);
    }

    fn a_hook_that_ended_well_meanwhile_is_followed_by_the_process_once(w) {
        w.config([svc("web").pre_start()]);
        w.hook_spawned("web", Hook::PreStart);
        w.skip();
        let survivors = [Survivor { exit: Some(Exit::Code(0)), ..w.living_hook("web", Hook::PreStart) }];
        w.recover(&survivors);
        w.expect_actions(["spawn web"]);
    }

    fn a_hook_that_ended_unseen_has_failed(w) {
        w.config([svc("web").pre_start()]);
        w.hook_spawned("web", Hook::PreStart);
        w.recover(&[]);
        w.expect_word("web", Word::Crashed);
    }

    fn a_pre_stop_hook_that_ended_unseen_is_followed_by_the_signal(w) {
        w.config([svc("web").pre_stop()]);
        w.up("web");
        w.stop("web");
        w.skip();
        let survivors = [w.alive("web")];
        w.recover(&survivors);
        w.expect_actions(["stop web"]);
    }

    fn a_post_stop_hook_that_ended_unseen_is_followed_by_the_next_life(w) {
        w.config([svc("web").post_stop()]);
        w.up("web");
        w.exited("web", 1);
        w.recover(&[]);
        w.expect_word("web", Word::Crashed);
    }

    fn a_hook_of_nobodys_is_killed(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let hook = Survivor { kind: RunKind::Hook(Hook::PostStart), ..stray("web", 5) };
        let survivors = [w.alive("web"), hook];
        w.recover(&survivors);
        assert_eq!(w.acted_on(5), ["SIGKILL"]);
    }

    fn a_forking_service_is_looked_for_again(w) {
        w.config([svc("daemon").forking()]);
        w.spawned("daemon");
        w.exited_leaving("daemon", 0);
        w.skip();
        let survivors = [w.dead("daemon", 0, Rest::Alive)];
        w.recover(&survivors);
        w.expect_actions(["find main of daemon"]);
        w.main_found("daemon");
        w.expect_word("daemon", Word::Running);
    }

    fn a_forking_service_whose_first_process_left_meanwhile_is_looked_for(w) {
        w.config([svc("daemon").forking()]);
        w.spawned("daemon");
        w.skip();
        let survivors = [w.dead("daemon", 0, Rest::Alive)];
        w.recover(&survivors);
        w.expect_actions(["find main of daemon"]);
    }

    fn a_shutdown_goes_on(w) {
        w.config([svc("web").needs("db"), svc("db")]);
        w.all_up(&["db", "web"]);
        w.shutdown();
        w.skip();
        let survivors = [w.dead("web", 0, Rest::Gone), w.alive("db")];
        w.recover(&survivors);
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        w.expect_actions(["leave 0"]);
    }

    fn a_shutdown_with_nothing_left_leaves_at_once_with_its_code(w) {
        w.rules(|rules| rules.exit_when = ExitWhen::AnyFailed);
        w.config([svc("web"), svc("job").oneshot().mode(RestartMode::Never)]);
        w.up("web");
        w.exited("job", 4);
        w.skip();
        w.recover(&[]);
        w.expect_actions(["leave 4"]);
    }

    fn a_service_removed_while_nobody_was_there_is_stopped(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.skip();
        w.config.services.retain(|spec| spec.name == "db");
        let survivors = [w.alive("web"), w.alive("db")];
        w.recover(&survivors);
        w.expect_actions(["stop web"]);
        w.exited("web", 0);
        assert_eq!(w.core.find("web"), None);
    }

    fn a_service_changed_while_nobody_was_there_is_restarted(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.skip();
        w.config.services[0].launch = 2;
        let survivors = [w.alive("web"), w.alive("db")];
        w.recover(&survivors);
        w.expect_actions(["stop web"]);
    }

    fn a_service_added_while_nobody_was_there_starts(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        w.config.services.push(svc("new").needs("web").0);
        let survivors = [w.alive("web")];
        w.recover(&survivors);
        w.expect_actions(["spawn new"]);
    }

    fn intents_last(w) {
        w.config([svc("a"), svc("b").asleep()]);
        w.up("a");
        w.stop("a");
        w.exited("a", 0);
        w.start("b");
        w.up("b");
        w.skip();
        let survivors = [w.alive("b")];
        w.recover(&survivors);
        w.expect_nothing();
        w.expect_word("a", Word::Stopped);
        w.expect_word("b", Word::Running);
    }

    fn a_replacement_that_was_under_way_goes_on(w) {
        w.config([svc("web")]);
        w.up("web");
        w.restart("web");
        w.skip();
        let survivors = [w.dead("web", 1, Rest::Gone)];
        w.recover(&survivors);
        w.expect_actions(["spawn web"]);
    }

    fn the_turns_already_taken_count_against_the_rate(w) {
        w.rules(|rules| rules.respawn_rate = Some(RespawnRate { count: 1, window: secs(10.0) }));
        w.config([svc("a"), svc("b")]);
        w.all_up(&["a", "b"]);
        w.exited("a", 1);
        w.exited("b", 1);
        w.wait(1.0);
        w.skip();
        w.recover(&[]);
        w.skip();
        w.wait(9.9);
        w.expect_nothing();
        w.wait(0.1);
        w.expect_actions(["spawn b"]);
    }

    fn services_in_line_keep_waiting(w) {
        w.rules(|rules| rules.start_parallelism = 1);
        w.config([svc("a").notify(), svc("b"), svc("c")]);
        w.skip();
        let survivors = [w.alive("a")];
        w.recover(&survivors);
        w.expect_nothing();
        w.expect_kind("b", "pending: slot");
        w.ready("a");
        w.expect_actions(["spawn b"]);
    }

    fn a_memory_survives_being_written_and_read(w) {
        w.config([svc("web").needs("db").post_start(), svc("db").retries(Some(1))]);
        w.all_up(&["db", "web"]);
        w.exited("db", 1);
        let written = serde_json::to_string(w.core.snapshot()).unwrap();
        let read: Snapshot = serde_json::from_str(&written).unwrap();
        assert_eq!(&read, w.core.snapshot());
    }
}
