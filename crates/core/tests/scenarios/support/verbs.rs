//! What can happen, in one line each. A name without a run means the run that the service has now.

use relume_core::{
    Check, Command, Event, Exit, Hook, ManagerPolicy, Reach, Rest, RunId, RunKind, ServiceId, SpawnError,
    State, Survivor, Ticket,
};

use super::{Svc, World};

impl World {
    #[track_caller]
    pub(crate) fn id(&self, name: &str) -> ServiceId {
        self.core.find(name).unwrap_or_else(|| panic!("{name} is not known"))
    }

    #[track_caller]
    pub(crate) fn state(&self, name: &str) -> State {
        self.core.record(self.id(name)).expect("a known service has a record").state.clone()
    }

    /// The main run that a service has now.
    #[track_caller]
    pub(crate) fn run(&self, name: &str) -> RunId {
        self.state(name).run().unwrap_or_else(|| panic!("{name} has no run: {:?}", self.state(name)))
    }

    /// The run of a hook that is under way.
    #[track_caller]
    pub(crate) fn hook(&self, name: &str, hook: Hook) -> RunId {
        let record = self.core.record(self.id(name)).expect("a known service has a record");
        let found = record.sides.iter().rev().find(|side| side.kind == RunKind::Hook(hook));
        found.unwrap_or_else(|| panic!("{name} runs no {} hook", hook.key())).run
    }

    /// The rules over all services, from the next configuration on.
    pub(crate) fn rules(&mut self, change: impl FnOnce(&mut ManagerPolicy)) {
        change(&mut self.config.manager);
    }

    #[track_caller]
    pub(crate) fn config(&mut self, services: impl IntoIterator<Item = Svc>) {
        self.configure(self.as_config(services));
    }

    /// These services under the rules as they are, not told to anybody yet.
    pub(crate) fn as_config(&self, services: impl IntoIterator<Item = Svc>) -> relume_core::Config {
        let services = services.into_iter().map(|service| service.0).collect();
        relume_core::Config { services, ..self.config.clone() }
    }

    /// A new configuration. A manager that comes up again reads the last one that was not refused.
    #[track_caller]
    pub(crate) fn configure(&mut self, config: relume_core::Config) {
        if relume_core::graph::problems(&config.services).is_empty() {
            self.config = config.clone();
        }
        self.tell(Event::Configured(config));
    }

    #[track_caller]
    pub(crate) fn spawned(&mut self, name: &str) {
        self.tell(Event::Spawned { run: self.run(name) });
    }

    /// The process exists, and says that it is ready where it has to.
    #[track_caller]
    pub(crate) fn up(&mut self, name: &str) {
        self.spawned(name);
        if matches!(self.state(name), State::Starting { .. }) {
            self.ready(name);
        }
    }

    #[track_caller]
    pub(crate) fn all_up(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.up(name));
    }

    #[track_caller]
    pub(crate) fn all_spawned(&mut self, names: &[&str]) {
        names.iter().for_each(|name| self.spawned(name));
    }

    #[track_caller]
    pub(crate) fn spawn_failed(&mut self, name: &str) {
        let error = SpawnError { text: "exec /bin/nothing: ENOENT".into(), shortage: false };
        self.tell(Event::SpawnFailed { run: self.run(name), error });
    }

    #[track_caller]
    pub(crate) fn spawn_starved(&mut self, name: &str) {
        let error = SpawnError { text: "clone3: EAGAIN".into(), shortage: true };
        self.tell(Event::SpawnFailed { run: self.run(name), error });
    }

    #[track_caller]
    pub(crate) fn ready(&mut self, name: &str) {
        self.tell(Event::Ready { run: self.run(name) });
    }

    #[track_caller]
    pub(crate) fn main_found(&mut self, name: &str) {
        self.tell(Event::MainFound { run: self.run(name) });
    }

    /// The main process ended with a code, and nothing of its tree is left.
    #[track_caller]
    pub(crate) fn exited(&mut self, name: &str, code: i32) {
        self.ended(name, Exit::Code(code), Rest::Gone);
    }

    /// The main process ended with a code, and others of its tree live on.
    #[track_caller]
    pub(crate) fn exited_leaving(&mut self, name: &str, code: i32) {
        self.ended(name, Exit::Code(code), Rest::Alive);
    }

    /// A signal ended the main process, and nothing of its tree is left.
    #[track_caller]
    pub(crate) fn signalled(&mut self, name: &str, number: i32) {
        self.ended(name, Exit::Signal { number, core_dumped: false }, Rest::Gone);
    }

    #[track_caller]
    pub(crate) fn ended(&mut self, name: &str, exit: Exit, rest: Rest) {
        self.tell(Event::Exited { run: self.run(name), exit, rest });
    }

    #[track_caller]
    pub(crate) fn emptied(&mut self, name: &str) {
        self.tell(Event::Emptied { run: self.run(name) });
    }

    #[track_caller]
    pub(crate) fn silent(&mut self, name: &str) {
        self.tell(Event::Silent { run: self.run(name) });
    }

    /// Its tree was measured, and is above its bound.
    #[track_caller]
    pub(crate) fn too_much_memory(&mut self, name: &str) {
        self.tell(Event::TooMuchMemory { run: self.run(name), used: 2_000, limit: 1_000 });
    }

    /// A regular probe of the present run was answered well.
    #[track_caller]
    pub(crate) fn probe_well(&mut self, name: &str, check: Check) {
        self.tell(Event::Probed { run: self.run(name), check, failure: None, counts: true });
    }

    /// A regular probe of the present run was answered badly.
    #[track_caller]
    pub(crate) fn probe_badly(&mut self, name: &str, check: Check) {
        let failure = Some("no answer".into());
        self.tell(Event::Probed { run: self.run(name), check, failure, counts: true });
    }

    #[track_caller]
    pub(crate) fn probe_due(&mut self, name: &str, check: Check) {
        self.tell(Event::ProbeDue { run: self.run(name), check });
    }

    /// The run of a probe's command that is under way.
    #[track_caller]
    pub(crate) fn probe_run(&self, name: &str, check: Check) -> RunId {
        let record = self.core.record(self.id(name)).expect("a known service has a record");
        let found = record.sides.iter().rev().find(|side| side.kind == RunKind::Probe(check));
        found.unwrap_or_else(|| panic!("{name} runs no {} probe", check.key())).run
    }

    #[track_caller]
    pub(crate) fn hook_spawned(&mut self, name: &str, hook: Hook) {
        self.tell(Event::Spawned { run: self.hook(name, hook) });
    }

    #[track_caller]
    pub(crate) fn hook_exited(&mut self, name: &str, hook: Hook, code: i32) {
        self.tell(Event::Exited { run: self.hook(name, hook), exit: Exit::Code(code), rest: Rest::Gone });
    }

    #[track_caller]
    pub(crate) fn start(&mut self, name: &str) -> Ticket {
        let services = vec![self.id(name)];
        self.command(Command::Start(services))
    }

    #[track_caller]
    pub(crate) fn restart(&mut self, name: &str) -> Ticket {
        let services = vec![self.id(name)];
        self.command(Command::Restart(services))
    }

    #[track_caller]
    pub(crate) fn stop(&mut self, name: &str) -> Ticket {
        let services = vec![self.id(name)];
        self.command(Command::Stop { services, with_dependents: false })
    }

    #[track_caller]
    pub(crate) fn stop_with_dependents(&mut self, name: &str) -> Ticket {
        let services = vec![self.id(name)];
        self.command(Command::Stop { services, with_dependents: true })
    }

    #[track_caller]
    pub(crate) fn reload(&mut self, name: &str) -> Ticket {
        let services = vec![self.id(name)];
        self.command(Command::Reload(services))
    }

    #[track_caller]
    pub(crate) fn signal(&mut self, name: &str, signal: i32, to: Reach) -> Ticket {
        let services = vec![self.id(name)];
        self.command(Command::Signal { services, signal, to })
    }

    #[track_caller]
    pub(crate) fn command(&mut self, command: Command) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tell(Event::Commanded { ticket, command });
        ticket
    }

    #[track_caller]
    pub(crate) fn shutdown(&mut self) {
        self.tell(Event::ShutdownAsked { hurry: false, forget: false });
    }

    /// As the command `down` asks for it.
    #[track_caller]
    pub(crate) fn shutdown_forgetting(&mut self) {
        self.tell(Event::ShutdownAsked { hurry: false, forget: true });
    }

    #[track_caller]
    pub(crate) fn hurry(&mut self) {
        self.tell(Event::ShutdownAsked { hurry: true, forget: false });
    }

    /// The present run of a service, alive, as the kernel shows it after the manager's death.
    #[track_caller]
    pub(crate) fn alive(&self, name: &str) -> Survivor {
        let generation = self.run(name).generation;
        Survivor { name: name.into(), generation, kind: RunKind::Service, exit: None, rest: Rest::Gone }
    }

    /// The present run of a service, whose main process ended while no manager was there.
    #[track_caller]
    pub(crate) fn dead(&self, name: &str, code: i32, rest: Rest) -> Survivor {
        Survivor { exit: Some(Exit::Code(code)), rest, ..self.alive(name) }
    }

    /// A hook that is under way, as the kernel shows it after the manager's death.
    #[track_caller]
    pub(crate) fn living_hook(&self, name: &str, hook: Hook) -> Survivor {
        let generation = self.hook(name, hook).generation;
        Survivor { name: name.into(), generation, kind: RunKind::Hook(hook), exit: None, rest: Rest::Gone }
    }
}
