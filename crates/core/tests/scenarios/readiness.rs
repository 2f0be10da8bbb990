//! What is waited for before a service counts as ready can change under it, and the process does not notice.

use crate::support::*;

scenarios! {
    fn a_service_that_is_asked_from_now_on_is_not_restarted_for_that(w) {
        w.config([svc("web"), svc("worker").needs("web")]);
        w.all_up(&["web", "worker"]);
        w.skip();
        w.config([svc("web").notify(), svc("worker").needs("web")]);
        w.expect_nothing();
        w.config([svc("web"), svc("worker").needs("web")]);
        w.expect_nothing();
        w.expect_word("web", Word::Running);
    }

    fn a_start_that_nobody_waits_for_any_more_has_succeeded(w) {
        w.config([svc("web").notify(), svc("worker").needs("web")]);
        w.spawned("web");
        w.expect_word("web", Word::Starting);
        w.skip();
        w.config([svc("web"), svc("worker").needs("web")]);
        w.expect_word("web", Word::Running);
        w.expect_actions(["spawn worker"]);
    }

    fn a_notifying_service_that_puts_itself_in_the_background_gets_the_hint_too(w) {
        w.config([svc("web").notify()]);
        w.spawned("web");
        w.ready("web");
        w.exited_leaving("web", 0);
        assert_eq!(w.facts_that(|what| matches!(what, What::LooksForking { .. })), 1);
    }
}
