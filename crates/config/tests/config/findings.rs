//! Every kind of finding, with its exact place: line, column, E for error or W for warning, message.

use crate::common::check;

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    check(
        "yaml",
        "services:\n  web:\n    comand: /bin/a\n    ExecStart: x\n    frobnicate: 1\n",
        &[
            "3:5 E unknown key `comand`; did you mean `command`?",
            "4:5 E unknown key `ExecStart`; did you mean `command`?",
            "5:5 E unknown key `frobnicate`",
        ],
    );
}

#[test]
fn a_value_of_the_wrong_kind_says_what_is_expected_and_all_errors_come_at_once() {
    check(
        "json",
        "[{\"name\": \"web\",\n  \"command\": 5, \"port\": \"x\", \"nice\": 99}]",
        &[
            "2:14 E expected a command (a string, or a list of strings), found the number 5",
            "2:25 E expected a whole number from 0 to 65535, found `x`",
            "2:38 E `nice` goes from -20 (first) to 19 (last)",
        ],
    );
}

#[test]
fn toml_values_are_judged_like_all_others() {
    check(
        "toml",
        "[services.web]\ncommand = '/bin/a'\nport = 70000\ntype = 'onshot'\nrestart = 'sometimes'\n",
        &[
            "3:8 E expected a whole number from 0 to 65535, found the number 70000",
            "4:8 E unknown value `onshot`; did you mean `oneshot`?",
            "5:11 E unknown restart policy `sometimes`",
        ],
    );
}

#[test]
fn ini_values_are_judged_like_all_others() {
    check(
        "ini",
        "[relume]\nlog_level = lout\n[service web]\ncommand = /bin/a\nport = x\nlog.rotate.size = huge\nlog.foo = 1\n[program:x]\n",
        &[
            "2:13 E unknown value `lout`",
            "5:8 E expected a whole number from 0 to 65535, found `x`",
            "6:19 E expected a size such as 1048576, `10MB` or `64KiB`, found `huge`",
            "7:1 E unknown key `foo`",
            "8:1 E unknown section `program:x`",
        ],
    );
}

#[test]
fn a_program_that_is_told_to_end_with_relume_is_warned_of() {
    check(
        "yaml",
        "services:\n  web:\n    command: setpriv --pdeathsig TERM sleep 9\n    instances: 3\n  box:\n    executable: bwrap\n    \
         arguments: [--die-with-parent, sleep, '9']\n",
        &[
            "3:14 W `setpriv --pdeathsig` ends this service whenever relume replaces itself",
            "6:17 W `bwrap --die-with-parent` ends this service whenever relume replaces itself",
        ],
    );
}

#[test]
fn a_key_given_twice_is_an_error_in_yaml() {
    check(
        "yaml",
        "services:\n  web: {command: /bin/a, command: /bin/b}\n",
        &["2:26 E `command` stands twice in this map"],
    );
}

#[test]
fn a_key_given_twice_is_an_error_in_json() {
    check(
        "json",
        "{\"services\": {\"web\": {\"command\": \"/bin/a\", \"command\": \"/bin/b\"}}}",
        &["1:44 E `command` stands twice in this map"],
    );
}

#[test]
fn a_key_given_twice_is_an_error_in_toml() {
    check(
        "toml",
        "[services.web]\ncommand = '/bin/a'\ncommand = '/bin/b'\n",
        &["3:1 E `command` stands twice in this map"],
    );
}

#[test]
fn a_key_or_a_section_given_twice_is_an_error_in_ini() {
    check(
        "ini",
        "[service web]\ncommand = /bin/a\ncommand = /bin/b\n[service web]\n",
        &["3:1 E `command` stands twice in this map", "4:10 E `web` stands twice in this map"],
    );
}

#[test]
fn two_names_of_one_key_are_an_error_at_the_second() {
    check(
        "yaml",
        "services:\n  web: {command: /bin/a, restart: always, restart_policy: never}\n",
        &["2:43 E `restart_policy` means the same as `restart`, which is given already"],
    );
}

#[test]
fn a_circle_of_dependencies_is_named_whole_and_an_unknown_one_has_its_place() {
    check(
        "yaml",
        "services:\n  a: {command: /bin/a, dependencies: [b, databse]}\n  b: {command: /bin/b, depends_on: {c: {condition: ready}}}\n  c: {command: x, dependencies: a}\n  database: {command: x}\n",
        &[
            "2:39 E dependencies go in a circle: a → b → c → a",
            "2:42 E `a` depends on `databse`, which does not exist; did you mean `database`?",
        ],
    );
}

#[test]
fn what_cannot_run_is_refused_where_it_stands() {
    check(
        "yaml",
        "services:\n  a: {command: /bin/a, type: oneshot, restart_policy: always}\n  b: {command: '', user: 0day}\n  c: {command: \"a 'b\"}\n  d: {arguments: [x]}\n  e: {command: a, type: external}\n  f: {container: {ports: [80/icmp]}, command: x}\n  g:\n  h: 5\n",
        &[
            "2:55 E a oneshot is done when it succeeds, it cannot be restarted always",
            "3:16 E the command is empty",
            "3:26 E `0day` is neither a name nor an id: a name begins with a letter or `_`",
            "4:16 E this quote is not closed: `'b`",
            "5:18 E `arguments` goes with `executable`",
            "6:16 E `command` has no meaning for `type: external`",
            "6:25 E an external service needs `start_command` or `status_command`",
            "7:18 E the container has no `image`",
            "7:26 E `icmp` is no protocol",
            "7:47 E `container` says already what is run, `command` has no meaning beside it",
            "8:3 E expected a map with the keys of a service, found nothing",
            "9:6 E expected a map with the keys of a service, found the number 5",
        ],
    );
}

#[test]
fn unknown_top_level_keys_are_told_from_services() {
    check(
        "yaml",
        "service:\n  a: {command: /bin/a}\nmanagr: {}\na: {command: x}\n",
        &[
            "1:1 E unknown key `service`; did you mean `services`?",
            "3:1 E unknown key `managr`; did you mean `manager`?",
            "4:1 E unknown key `a`",
        ],
    );
}

#[test]
fn names_are_judged_where_they_stand() {
    check(
        "yaml",
        "services:\n  - name: a/b\n    command: x\n  - name: web:2\n    command: x\n  - command: x\n  - name: a\n    command: x\n  - name: a\n    command: x\n",
        &[
            "2:11 E a name consists of letters, digits and `_ . - @`, not of '/'",
            "4:11 E `web:2` is how instance 2 of `web` is called",
            "6:5 E the service has no `name`",
            "9:11 E a second service is called `a`; the first is at c.yaml:7:11",
        ],
    );
}

#[test]
fn an_undefined_variable_is_an_error_but_in_a_command_it_is_the_shells() {
    check(
        "yaml",
        "services:\n  a:\n    command: x ${NOPE} ${HOME}\n    working_dir: ${NOPE}/x\n    description: ${X%y}\n",
        &[
            "3:14 W `${NOPE}` is not defined here and is left for the shell as it is",
            "4:18 E the variable `NOPE` is not defined",
            "5:18 E `${X%y}` is not a form that is known here",
        ],
    );
}

#[test]
fn probes_schedules_and_logs_are_checked() {
    check(
        "yaml",
        "services:\n  a:\n    command: x\n    health_check: http://localhost:80/\n    readiness: {tcp: 5, exec: x}\n    liveness: {httpGet: {path: /, port: 80}, periodSeconds: x}\n    schedule: every day\n    max_memory: 10MB\n    log: {format: json, rotate: {age: 1d, compress: off}}\n",
        &[
            "5:16 E a probe asks one thing, this one asks several",
            "6:61 E expected a duration such as 5, `500ms`, `1m30s` or `2h`, found `x`",
            "7:15 E expected a cron expression such as `0 3 * * *`, or `@every 5m`, found `every day`",
        ],
    );
}

#[test]
fn an_error_in_defaults_is_said_once() {
    check(
        "yaml",
        "defaults:\n  name: x\n  nice: many\n  nicer: 1\nservices:\n  a: {command: x}\n  b: {command: x}\n",
        &[
            "2:3 E `name` is unique to each service and cannot have a default",
            "3:9 E expected a whole number, found `many`",
            "4:3 E unknown key `nicer`; did you mean `nice`?",
        ],
    );
}

#[test]
fn yaml_does_not_take_tabs() {
    check(
        "yaml",
        "services:\n\ta: {}\n",
        &["2:2 E not valid YAML: tabs disallowed within this context (block indentation)"],
    );
}

#[test]
fn an_open_bracket_in_yaml_has_a_place() {
    check(
        "yaml",
        "services: [\n",
        &["2:1 E not valid YAML: while parsing a node, did not find expected node content"],
    );
}

#[test]
fn a_file_has_one_yaml_document() {
    check(
        "yaml",
        "a: 1\n---\nb: 2\n",
        &["2:1 E a second document (`---`) begins here; a config file has one"],
    );
}

#[test]
fn a_yaml_tag_means_nothing() {
    check(
        "yaml",
        "services:\n  a: !!binary x\n  b: *nope\n",
        &["2:6 E the tag `tag:yaml.org,2002:binary` means nothing here"],
    );
}

#[test]
fn broken_json_has_a_place() {
    check("json", "{\"services\": [}", &["1:15 E not valid JSON: unexpected close brace"]);
}

#[test]
fn json_has_double_quotes() {
    check("json", "{'services': []}", &["1:2 E not valid JSON: single-quoted strings are not allowed"]);
}

#[test]
fn toml_reports_several_syntax_errors() {
    check(
        "toml",
        "services = [\nx = \n",
        &[
            "2:1 E not valid TOML: string values must be quoted, expected literal string",
            "2:3 E not valid TOML: unexpected `=` in array, expected value, `]`",
            "2:4 E not valid TOML: unclosed array, expected `]`",
        ],
    );
}

#[test]
fn ini_lines_have_a_form() {
    check(
        "ini",
        "x = 1\n[relume\nfoo\n",
        &[
            "1:1 E a key before the first section",
            "2:1 E a section name ends with `]`",
            "3:1 E expected `key = value` or `[section]`",
        ],
    );
}

#[test]
fn environments_and_limits_are_judged_entry_by_entry() {
    check(
        "yaml",
        "services:\n  a: {command: x, environment: [A=1, A=2, {b: c}, 'b c=1']}\n  b: {command: x, environment: {'': x}, rlimits: {nofiles: 1, core: x}, stop_signal: TREM, max_retries: off}\n",
        &[
            "2:38 E `A` stands twice in this list",
            "2:43 E expected `NAME=VALUE`, found a map",
            "2:51 E the name of a variable has no blanks, `=` or control characters",
            "3:33 E the name of a variable must not be empty",
            "3:60 E there is no limit `nofiles`; did you mean `nofile`?",
            "3:69 E expected a number, a size or `unlimited`, or `SOFT:HARD`, found `x`",
            "3:86 E there is no signal `TREM`; did you mean `TERM`?",
            "3:105 E `off` could mean both: write 0 for no restarts, `unlimited` for no limit",
        ],
    );
}

#[test]
fn display_names_and_log_files_are_unique() {
    check(
        "yaml",
        "services:\n  a: {command: x, display_name: b}\n  b: {command: x}\n  c: {command: x, log: {file: logs/b.log}}\n",
        &[
            "3:3 E the display name `b` is taken already, at c.yaml:2:33",
            "4:31 E another service writes to this log file, at c.yaml:2:3",
        ],
    );
}

#[test]
fn manager_settings_are_judged_and_warn() {
    check(
        "yaml",
        "manager: {start_parallelism: 0, self_respawn: 1m, watchdog: off, statedir: x, api: {listen: x}}\nalerts: [{on: [crashd]}]\n",
        &[
            "1:30 E nothing could ever start",
            "1:66 E unknown key `statedir`; did you mean `state_dir`?",
            "1:79 W `api` is not acted on by this version yet",
            "2:16 E unknown value `crashd`; did you mean `crashed`?",
        ],
    );
}

#[test]
fn numbers_out_of_range_say_what_is_possible() {
    check(
        "yaml",
        "services:\n  a: {command: x, instances: 0, port: 0, retry_window: 0, backoff: {factor: 0.5, jitter: 2}, success_exit_codes: [256]}\n",
        &[
            "2:30 E a service has 1 to 10000 instances",
            "2:39 E a port is a number from 1 to 65535",
            "2:56 E retries are counted in a window of some length",
            "2:77 E the factor goes from 1 to 1000",
            "2:90 E the jitter is a share from 0 to 1",
            "2:114 E an exit code goes from 0 to 255, 256 cannot happen",
        ],
    );
}

#[test]
fn what_is_half_supported_warns() {
    check(
        "yaml",
        "services:\n  a: {command: x, type: notify, pid_file: x}\n",
        &["2:43 W `pid_file` is read for `type: forking` only"],
    );
}

#[test]
fn a_job_says_when_it_is_done_or_due_and_nothing_else_does() {
    check(
        "yaml",
        "services:\n  a: {command: x, creates: y, schedule: '@every 5m'}\n  b: {command: x, type: oneshot, schedule: '61 * * * *'}\n  c: {command: x, type: oneshot, requires: [python3 >= 3.8, 'a b', 'x > y'], overlap: kill}\n",
        &[
            "2:28 E `creates` says when a job is done already, and this is no job",
            "2:41 E only jobs are started by the clock",
            "3:44 E `61` is no minute in a cron expression",
            "4:44 E `a b` does not name a program and its version",
            "4:44 E `x > y` does not name a program and its version",
            "4:87 W `overlap` goes with `schedule`",
        ],
    );
}
