//! Coming up from the cold copy: after a reboot, or where the journal was lost.

use crate::support::*;

/// What the cold copy tells of each service, as it is now.
fn copy(w: &World) -> Vec<Remembered> {
    w.core.snapshot().services.values().map(Remembered::of).collect()
}

/// The same, after a reboot.
fn copy_of_another_boot(w: &World) -> Vec<Remembered> {
    copy(w).into_iter().map(Remembered::of_another_boot).collect()
}

scenarios! {
    fn what_was_stopped_on_request_stays_so_after_a_reboot(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.stop("web");
        w.exited("web", 0);
        w.skip();
        let copy = copy_of_another_boot(w);
        w.recover_cold(copy, &[]);
        w.expect_word("web", Word::Stopped);
        w.expect_actions(["spawn db"]);
        w.up("db");
        w.start("web");
        w.expect_actions(["spawn web"]);
    }

    fn what_was_started_on_request_without_autostart_does_not_outlive_a_reboot(w) {
        w.config([svc("web").asleep()]);
        w.start("web");
        w.up("web");
        w.skip();
        let copy = copy_of_another_boot(w);
        w.recover_cold(copy, &[]);
        w.expect_nothing();
        w.expect_word("web", Word::Stopped);
    }

    fn a_lost_journal_costs_no_service_its_life_even_one_that_was_started_on_request(w) {
        w.config([svc("web").asleep(), svc("db")]);
        w.start("web");
        w.all_up(&["web", "db"]);
        w.skip();
        let survivors = [w.alive("web"), w.alive("db")];
        let copy = copy(w);
        w.recover_cold(copy, &survivors);
        w.expect_nothing();
        w.expect_all(&["web", "db"], Word::Running);
    }

    fn a_new_life_has_a_generation_above_all_that_the_copy_shows(w) {
        w.config([svc("web")]);
        w.up("web");
        let before = w.run("web").generation;
        w.exited("web", 1);
        w.skip();
        let copy = copy_of_another_boot(w);
        w.recover_cold(copy, &[]);
        w.expect_actions(["spawn web"]);
        assert!(w.run("web").generation > before, "{:?} after {before}", w.run("web"));
    }

    fn facts_are_numbered_on_from_where_the_copy_ends(w) {
        w.config([svc("web")]);
        w.up("web");
        let (seq, before) = (w.core.snapshot().seq, w.facts.len());
        let copy = copy_of_another_boot(w);
        w.recover_cold(copy, &[]);
        assert_eq!(w.facts[before].seq, seq + 1);
    }

    fn a_service_that_has_left_the_configuration_is_not_started_by_the_copy(w) {
        w.config([svc("web"), svc("old")]);
        w.all_up(&["web", "old"]);
        w.skip();
        let copy = copy_of_another_boot(w);
        w.config.services.retain(|spec| spec.name == "web");
        w.recover_cold(copy, &[]);
        w.expect_actions(["spawn web"]);
        assert_eq!(w.core.find("old"), None);
    }

    fn the_command_down_takes_back_what_was_stopped_on_request(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.stop("web");
        w.exited("web", 0);
        w.skip();
        w.shutdown_forgetting();
        // Nobody starts by it now.
        w.expect_actions(["stop db"]);
        w.exited("db", 0);
        w.expect_actions(["leave 0"]);
        let copy = copy_of_another_boot(w);
        w.recover_cold(copy, &[]);
        w.expect_actions(["spawn web", "spawn db"]);
    }

    fn a_shutdown_by_signal_does_not(w) {
        w.config([svc("web"), svc("db")]);
        w.all_up(&["web", "db"]);
        w.stop("web");
        w.exited("web", 0);
        w.shutdown();
        w.exited("db", 0);
        w.skip();
        let copy = copy_of_another_boot(w);
        w.recover_cold(copy, &[]);
        w.expect_actions(["spawn db"]);
    }
}

#[test]
fn what_has_moments_in_it_does_not_outlive_its_boot() {
    let mut w = World::new();
    w.config([svc("web")]);
    w.up("web");
    w.exited("web", 1);
    let told = copy(&w).remove(0);
    assert!(told.last_end.is_some() && told.history.failures_in_row > 0, "{told:?}");
    let left = told.of_another_boot();
    assert_eq!((left.last_end, left.history.failures_in_row), (None, 0));
}

#[test]
fn of_two_services_with_one_name_the_first_counts() {
    let mut w = World::new();
    w.config([svc("web")]);
    let one = copy(&w).remove(0);
    let two = Remembered { generation: 9, ..one.clone() };
    let snapshot = Snapshot::cold(4, [one, two]);
    assert_eq!((snapshot.services.len(), snapshot.next_id, snapshot.seq), (1, 1, 4));
}
