//! Commands in the place of signals: `stop_command`, `reload_command`; and `reload_signal`.

use std::time::Duration;

use crate::common::{check, good};

#[test]
fn commands_to_stop_and_reload_are_read_like_any_other() {
    let text = "services:
  a:
    command: x
    timeout_stop: 4s
    stop_command: a-ctl stop --now
    reload_command: a-ctl reload | tee log
  b: {command: y, reload_signal: USR1, timeout_stop: off, stop_command: [b, '$x']}
  c: {command: z}
";
    let services = good("c.yaml", text).services;
    let (a, b, c) = (&services[0], &services[1], &services[2]);
    let argv =
        |hook: &Option<relume_config::Hook>| hook.as_ref().map(|hook| hook.argv.clone()).unwrap_or_default();
    assert_eq!(argv(&a.hooks.stop), ["a-ctl", "stop", "--now"]);
    assert_eq!(argv(&a.hooks.reload), ["/bin/sh", "-c", "a-ctl reload | tee log"]);
    assert_eq!(argv(&b.hooks.stop), ["b", "$x"]);
    // The command has as long as the whole stop; where that may take for ever, as long as any hook.
    assert_eq!(a.spec.policy.hooks.stop, Some(Duration::from_secs(4)));
    assert_eq!(b.spec.policy.hooks.stop, Some(relume_core::HOOK_TIMEOUT));
    assert_eq!((a.spec.policy.reload_signal, b.spec.policy.reload_signal), (1, 10));
    assert_eq!((&c.hooks.stop, c.spec.policy.hooks.stop, c.spec.policy.hooks.reload), (&None, None, None));
}

#[test]
fn a_command_to_reload_makes_the_signal_pointless() {
    check(
        "yaml",
        "services:\n  a: {command: x, reload_command: y, reload_signal: HUP}\n  b: {command: x, stop_command: '', stop_signal: INT}\n",
        &["2:53 W `reload_command` is used in the place of `reload_signal`", "3:33 E the command is empty"],
    );
}

#[test]
fn none_of_it_restarts_a_running_service() {
    let launch = |more: &str| {
        good("c.yaml", &format!("services: {{a: {{command: x{more}}}}}")).services[0].spec.launch
    };
    assert_eq!(launch(""), launch(", stop_command: y, reload_command: z"));
    assert_eq!(launch(""), launch(", reload_signal: USR2"));
}
