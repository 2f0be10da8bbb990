//! The limit on automatic restarts over all services: everybody gets a turn, nobody more than allowed.

use crate::support::*;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Six services that crash at one moment, and a rate of two in a second.
fn six_crash(w: &mut World) {
    w.rules(|rules| rules.respawn_rate = Some(RespawnRate { count: 2, window: secs(1.0) }));
    w.config(NAMES.map(svc));
    w.expect_actions(["spawn a", "spawn b", "spawn c", "spawn d", "spawn e", "spawn f"]);
    w.all_up(&NAMES);
    NAMES.iter().for_each(|name| w.exited(name, 1));
    w.expect_nothing();
}

scenarios! {
    fn no_more_than_the_rate_restart_in_any_window_and_in_the_order_they_fell(w) {
        six_crash(w);
        w.wait(1.0);
        w.expect_actions(["spawn a", "spawn b"]);
        w.expect_kind("c", "pending: turn");
        w.expect_word("c", Word::Pending);
        w.wait(0.99);
        w.expect_nothing();
        w.wait(0.01);
        w.expect_actions(["spawn c", "spawn d"]);
    }

    fn nobody_is_dropped(w) {
        six_crash(w);
        w.wait(3.0);
        w.expect_actions(["spawn a", "spawn b", "spawn c", "spawn d", "spawn e", "spawn f"]);
    }

    fn a_service_that_crashes_again_goes_to_the_end_of_the_line(w) {
        six_crash(w);
        w.wait(1.0);
        w.up("a");
        w.exited("a", 1);
        w.skip();
        w.wait(1.0);
        w.expect_actions(["spawn c", "spawn d"]);
        w.wait(2.0);
        w.expect_actions(["spawn e", "spawn f", "spawn a"]);
    }

    fn a_start_that_was_asked_for_does_not_wait_for_the_rate(w) {
        six_crash(w);
        w.wait(1.0);
        w.skip();
        w.start("f");
        w.expect_actions(["spawn f"]);
        w.wait(1.0);
        w.expect_actions(["spawn c", "spawn d"]);
    }

    fn the_first_start_of_a_service_does_not_wait_for_the_rate(w) {
        six_crash(w);
        w.wait(1.0);
        w.skip();
        w.config(NAMES.map(svc).into_iter().chain([svc("new")]));
        w.expect_actions(["spawn new"]);
    }

    fn a_service_that_waits_for_its_turn_can_be_stopped(w) {
        six_crash(w);
        w.wait(1.0);
        let ticket = w.stop("c");
        w.expect_done(ticket, "c");
        w.expect_word("c", Word::Stopped);
        w.skip();
        w.wait(1.0);
        w.expect_actions(["spawn d", "spawn e"]);
    }

    fn without_a_rate_all_restart_at_once(w) {
        six_crash(w);
        w.rules(|rules| rules.respawn_rate = None);
        w.config(NAMES.map(svc));
        w.wait(1.0);
        w.expect_actions(["spawn a", "spawn b", "spawn c", "spawn d", "spawn e", "spawn f"]);
    }

    fn a_turn_is_not_given_while_all_places_are_taken(w) {
        six_crash(w);
        w.rules(|rules| rules.start_parallelism = 1);
        w.config(NAMES.map(svc));
        w.wait(1.0);
        w.expect_actions(["spawn a"]);
        w.up("a");
        w.expect_actions(["spawn b"]);
        w.up("b");
        w.expect_nothing();
        w.wait(1.0);
        w.expect_actions(["spawn c"]);
    }

    fn restarts_of_the_configuration_are_not_counted(w) {
        w.rules(|rules| rules.respawn_rate = Some(RespawnRate { count: 1, window: secs(1.0) }));
        w.config([svc("a"), svc("b")]);
        w.all_up(&["a", "b"]);
        w.config([svc("a").launch(2), svc("b").launch(2)]);
        w.skip();
        w.exited("a", 0);
        w.exited("b", 0);
        w.expect_actions(["spawn a", "spawn b"]);
    }
}
