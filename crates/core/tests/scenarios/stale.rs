//! News of lives that are over, of services that nobody knows, and of things that cannot be: told as stale, and
//! nothing else happens.

use crate::support::*;
use crate::walk::{RUN_EVENTS, run_event};

scenarios! {
    fn a_late_exit_of_an_earlier_life_does_not_end_the_present_one(w) {
        w.config([svc("web")]);
        w.up("web");
        let earlier = w.run("web");
        w.exited("web", 1);
        w.wait(1.0);
        w.up("web");
        w.skip();
        w.tell(Event::Exited { run: earlier, exit: Exit::Code(1), rest: Rest::Gone });
        w.expect_word("web", Word::Running);
        w.expect_nothing();
        assert_eq!(w.stale(), 1);
    }

    fn an_exit_told_twice_counts_once(w) {
        w.config([svc("web")]);
        w.up("web");
        let run = w.run("web");
        let exit = Event::Exited { run, exit: Exit::Code(1), rest: Rest::Gone };
        w.tell(exit.clone());
        w.tell(exit);
        assert_eq!(w.stale(), 1);
        assert_eq!(w.record("web").history.failures_in_row, 1);
    }

    fn an_exit_told_again_while_the_rest_is_being_stopped_changes_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 1);
        w.skip();
        w.exited_leaving("web", 2);
        w.expect_nothing();
        w.emptied("web");
        let exit = w.record("web").last_end.as_ref().and_then(|end| end.exit);
        assert_eq!(exit, Some(Exit::Code(1)));
    }

    fn an_exit_told_again_with_nothing_left_ends_the_wait_for_the_rest(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited_leaving("web", 1);
        w.exited("web", 1);
        w.expect_word("web", Word::Crashed);
    }

    fn a_late_ready_of_an_earlier_life_does_not_make_the_present_one_ready(w) {
        w.config([svc("web").notify()]);
        w.up("web");
        let earlier = w.run("web");
        w.exited("web", 1);
        w.wait(1.0);
        w.spawned("web");
        w.tell(Event::Ready { run: earlier });
        w.expect_word("web", Word::Starting);
    }

    fn a_spawn_told_twice_changes_nothing(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.spawned("web");
        w.expect_word("web", Word::Starting);
        assert_eq!(w.stale(), 1);
    }

    fn a_spawn_that_failed_after_it_succeeded_changes_nothing(w) {
        w.config([svc("web")]);
        w.up("web");
        w.spawn_failed("web");
        w.expect_word("web", Word::Running);
    }

    fn unhealthy_is_heard_only_of_a_running_service(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.skip();
        w.silent("web");
        w.expect_word("web", Word::Starting);
        w.expect_nothing();
    }

    fn news_of_a_service_that_nobody_knows_is_stale(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        for (told, name) in RUN_EVENTS.into_iter().enumerate() {
            w.tell(run_event(name, RunId { service: ServiceId(77), generation: 1 }));
            assert_eq!(w.stale(), told + 1);
        }
        w.expect_nothing();
    }

    fn time_that_goes_back_counts_as_the_latest_seen(w) {
        w.config([svc("web")]);
        w.up("web");
        w.exited("web", 1);
        w.skip();
        let now = w.now;
        w.now = Moment(5);
        w.tell(Event::Tick);
        w.now = now;
        w.expect_next_start_in("web", 1.0);
        w.wait(1.0);
        w.expect_actions(["spawn web"]);
    }
}
