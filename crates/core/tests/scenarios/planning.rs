//! What a configuration would do is said before it is done, and it is what is done then.

use crate::support::*;

scenarios! {
    fn a_plan_tells_what_becomes_of_each_service(w) {
        w.config([svc("same"), svc("changed"), svc("rules"), svc("idle").asleep(), svc("gone"), svc("done").oneshot()]);
        w.all_up(&["same", "changed", "rules", "gone"]);
        w.spawned("done");
        w.exited("done", 0);
        let started_once = svc("idle").asleep().launch(2);
        let next = w.as_config([
            svc("new"),
            svc("later").asleep(),
            svc("same"),
            svc("changed").launch(2),
            svc("rules").with(|p| p.timeout_stop = None),
            started_once,
            svc("done").oneshot().launch(2),
        ]);
        let plan: Vec<_> = w.core.plan(&next).unwrap().into_iter().map(|c| (c.service, c.fate)).collect();
        let fates = [
            ("new", Fate::Added { starts: true }),
            ("later", Fate::Added { starts: false }),
            ("same", Fate::Unchanged),
            ("changed", Fate::Restarted),
            ("rules", Fate::Rules),
            // It never ran: nothing of it is old.
            ("idle", Fate::Rules),
            ("done", Fate::TriedAgain),
            ("gone", Fate::Removed),
        ];
        assert_eq!(plan, fates.map(|(name, fate)| (name.to_owned(), fate)));
    }

    fn what_is_down_takes_its_change_at_its_next_start(w) {
        w.config([svc("web")]);
        w.up("web");
        w.stop("web");
        w.exited("web", 0);
        let next = w.as_config([svc("web").launch(2)]);
        let plan = w.core.plan(&next).unwrap();
        assert_eq!(plan, [Change { service: "web".into(), fate: Fate::NextStart }]);
    }

    fn a_plan_that_cannot_be_done_says_why(w) {
        w.config([svc("web")]);
        let next = w.as_config([svc("web").needs("nobody")]);
        assert_eq!(w.core.plan(&next), Err("web depends on nobody, which does not exist".into()));
    }

    fn what_is_planned_is_what_is_done(w) {
        w.config([svc("a"), svc("b"), svc("c")]);
        w.all_up(&["a", "b", "c"]);
        let services = [svc("a"), svc("b").launch(2), svc("d")];
        let plan = w.core.plan(&w.as_config(services.clone())).unwrap();
        let fate = |fate: Fate| plan.iter().filter(|change| change.fate == fate).count();
        assert_eq!((fate(Fate::Restarted), fate(Fate::Removed), fate(Fate::Added { starts: true })), (1, 1, 1));
        w.skip();
        w.config(services);
        w.expect_actions(["stop b", "stop c", "spawn d"]);
    }
}
