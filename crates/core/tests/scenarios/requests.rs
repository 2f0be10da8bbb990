//! What is asked of a life that goes on: to read its configuration again, any signal, and a stop by command.

use crate::support::*;

scenarios! {
    fn a_reload_is_a_hangup_to_the_main_process_and_done_at_once(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let ticket = w.reload("web");
        w.expect_actions(["send 1 to web"]);
        w.expect_done(ticket, "web");
        w.expect_word("web", Word::Running);
    }

    fn a_reload_uses_the_signal_the_service_wants(w) {
        w.config([svc("web").with(|p| p.reload_signal = 10)]);
        w.up("web");
        w.skip();
        w.reload("web");
        w.expect_actions(["send 10 to web"]);
    }

    fn a_reload_command_runs_beside_and_its_end_is_the_answer(w) {
        w.config([svc("web").reload_command()]);
        w.up("web");
        w.skip();
        let ticket = w.reload("web");
        w.expect_actions(["spawn web reload_command"]);
        w.expect_no_answer(ticket, "web");
        w.hook_exited("web", Hook::Reload, 0);
        w.expect_done(ticket, "web");
        let again = w.reload("web");
        w.hook_exited("web", Hook::Reload, 3);
        let why = Cause::HookFailed { hook: Hook::Reload, exit: Some(Exit::Code(3)) };
        w.expect_answer(again, "web", &Outcome::Failed(why));
        w.expect_word("web", Word::Running);
    }

    fn a_reload_command_that_hangs_is_killed_and_has_failed(w) {
        w.config([svc("web").reload_command()]);
        w.up("web");
        let ticket = w.reload("web");
        w.skip();
        w.wait(HOOK.as_secs_f64());
        w.expect_actions(["kill web reload_command"]);
        w.hook_exited("web", Hook::Reload, 137);
        w.expect_failed(ticket, "web");
    }

    fn a_reload_command_ends_with_the_life_it_speaks_to(w) {
        w.config([svc("web").reload_command()]);
        w.up("web");
        let ticket = w.reload("web");
        w.skip();
        w.exited("web", 1);
        w.expect_actions(["kill web reload_command"]);
        w.hook_exited("web", Hook::Reload, 137);
        w.expect_failed(ticket, "web");
    }

    fn what_is_not_running_cannot_be_reloaded(w) {
        w.config([svc("idle").asleep(), svc("slow").notify()]);
        w.spawned("slow");
        w.skip();
        for name in ["idle", "slow"] {
            let ticket = w.reload(name);
            w.expect_answer(ticket, name, &Outcome::NotRunning);
        }
        w.expect_nothing();
    }

    fn a_signal_goes_to_the_main_process_or_to_the_tree(w) {
        w.config([svc("web")]);
        w.up("web");
        w.skip();
        let ticket = w.signal("web", 12, Reach::Main);
        w.expect_actions(["send 12 to web"]);
        w.expect_done(ticket, "web");
        w.signal("web", 9, Reach::Tree);
        w.expect_actions(["send 9 to web tree"]);
    }

    fn a_signal_is_not_sent_where_there_is_no_process(w) {
        w.config([svc("web")]);
        let early = w.signal("web", 12, Reach::Main);
        w.expect_answer(early, "web", &Outcome::NotRunning);
        w.up("web");
        w.skip();
        w.exited_leaving("web", 1);
        w.expect_actions(["stop web tree"]);
        let main = w.signal("web", 12, Reach::Main);
        w.expect_answer(main, "web", &Outcome::NotRunning);
        w.signal("web", 12, Reach::Tree);
        w.expect_actions(["send 12 to web tree"]);
    }

    fn a_stop_command_stands_in_place_of_the_signal(w) {
        w.config([svc("web").stop_command()]);
        w.up("web");
        w.skip();
        let ticket = w.stop("web");
        w.expect_actions(["spawn web stop_command"]);
        w.hook_exited("web", Hook::Stop, 0);
        w.expect_nothing();
        w.exited("web", 0);
        w.expect_done(ticket, "web");
        w.expect_word("web", Word::Stopped);
    }

    fn a_stop_command_that_fails_is_followed_by_the_signal(w) {
        w.config([svc("web").stop_command()]);
        w.up("web");
        w.stop("web");
        w.skip();
        w.hook_exited("web", Hook::Stop, 1);
        w.expect_actions(["stop web"]);
    }

    fn a_stop_command_that_changes_nothing_is_followed_by_sigkill_in_time(w) {
        w.config([svc("web").stop_command()]);
        w.up("web");
        w.stop("web");
        w.hook_exited("web", Hook::Stop, 0);
        w.skip();
        w.wait(9.9);
        w.expect_nothing();
        w.wait(0.1);
        w.expect_actions(["kill web"]);
    }

    fn a_stop_command_ends_with_the_life_it_speaks_to(w) {
        w.config([svc("web").stop_command()]);
        w.up("web");
        w.restart("web");
        w.skip();
        w.exited("web", 0);
        w.expect_actions(["kill web stop_command", "spawn web"]);
        w.spawned("web");
        w.stop("web");
        w.skip();
        // The leftover of the first stop asks nobody any more.
        w.tell(Event::Exited { run: first_hook(w), exit: Exit::Code(137), rest: Rest::Gone });
        w.expect_nothing();
    }

    fn what_the_main_process_left_behind_gets_the_signal_after_a_stop_command(w) {
        w.config([svc("web").stop_command().with(|p| p.stop_to = Reach::Tree)]);
        w.up("web");
        w.stop("web");
        w.hook_exited("web", Hook::Stop, 0);
        w.skip();
        w.exited_leaving("web", 0);
        w.expect_actions(["stop web tree"]);
    }

    fn an_ill_service_is_stopped_by_signal(w) {
        w.config([svc("web").stop_command()]);
        w.up("web");
        w.skip();
        w.silent("web");
        w.expect_actions(["stop web"]);
    }
}

fn first_hook(w: &World) -> RunId {
    w.record("web").sides.first().expect("it is under way").run
}
