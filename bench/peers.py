"""How each supervisor is told to run the same services. A service is (name, argv)."""
import json
import os
import shutil
import signal
import subprocess


def found(name):
    return os.environ.get("BENCH_" + name.upper().replace("-", "_")) or shutil.which(name)


def write(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, mode)


class Peer:
    """One supervisor in a directory of its own."""
    name, programs, about = "", (), ""
    captures = True
    per_service = 1  # processes for each service, itself counted

    def __init__(self, folder):
        self.folder, self.process = folder, None
        self.environment = dict(os.environ, HOME=folder, XDG_RUNTIME_DIR=folder)

    @classmethod
    def missing(cls):
        return [program for program in cls.programs if not found(program)]

    @classmethod
    def version(cls):
        return "?"

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def configure(self, services):
        raise NotImplementedError

    def command(self):
        raise NotImplementedError

    def start(self):
        with open(self.path("out"), "ab") as out:
            self.process = subprocess.Popen(self.command(), env=self.environment, cwd=self.folder, stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)

    def status(self):
        """The command that shows all services; None: there is none."""
        return None

    def restart(self, name):
        return None

    def said(self):
        with open(self.path("out"), errors="replace") as f:
            return f.read()[-300:].strip()


def output_of(argv):
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=20)
        return done.stdout.strip().splitlines()[0][:60]
    except (OSError, subprocess.TimeoutExpired, IndexError):
        return "?"


class Relume(Peer):
    name, programs, about = "relume", ("relume",), "output captured; restarts without delay or limit"

    @classmethod
    def version(cls):
        return output_of([found("relume"), "--version"])

    def configure(self, services):
        write(self.path("relume.json"), json.dumps({
            "manager": {"state_dir": self.path("state"), "log_dir": self.path("logs"), "respawn_rate": "off"},
            "defaults": {"max_retries": "unlimited", "retry_delay": 0, "backoff": "off"},
            "services": [{"name": name, "command": argv} for name, argv in services]}))

    def relume(self, *words):
        return [found("relume"), "-c", self.path("relume.json"), *words]

    def command(self):
        return self.relume("up")

    def status(self):
        return self.relume("status")

    def restart(self, name):
        return self.relume("restart", name)

    def manager(self):
        done = subprocess.run(self.relume("status", "--json"), env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, timeout=20)
        return json.loads(done.stdout)["manager"]["pid"]


class Supervisor(Peer):
    name, programs, about = "supervisor", ("supervisord", "supervisorctl"), "output captured; startsecs=0"

    @classmethod
    def version(cls):
        return output_of([found("supervisord"), "--version"])

    def configure(self, services):
        text = (f"[unix_http_server]\nfile={self.path('s')}\n[supervisord]\nnodaemon=true\nminfds=20000\nlogfile={self.path('log')}\n"
                f"pidfile={self.path('pid')}\nchildlogdir={self.folder}\n[supervisorctl]\nserverurl=unix://{self.path('s')}\n"
                "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n")
        for name, argv in services:
            text += (f"[program:{name}]\ncommand={' '.join(argv)}\nstartsecs=0\nautorestart=true\nredirect_stderr=true\n"
                     f"stdout_logfile={self.path(name + '.log')}\n")
        write(self.path("conf"), text)

    def command(self):
        return [found("supervisord"), "-c", self.path("conf")]

    def status(self):
        return [found("supervisorctl"), "-c", self.path("conf"), "status"]

    def restart(self, name):
        return [found("supervisorctl"), "-c", self.path("conf"), "restart", name]


class Circus(Peer):
    name, programs, about = "circus", ("circusd", "circusctl"), "output captured; looks for ended services every 5 s, its default"

    @classmethod
    def version(cls):
        return output_of([found("circusd"), "--version"])

    def configure(self, services):
        self.socket = "ipc://" + self.path("c")
        text = f"[circus]\nendpoint={self.socket}\npubsub_endpoint=ipc://{self.path('p')}\nstats_endpoint=ipc://{self.path('t')}\n"
        for name, argv in services:
            text += (f"[watcher:{name}]\ncmd={' '.join(argv)}\nmax_retry=-1\nwarmup_delay=0\n"
                     f"stdout_stream.class=FileStream\nstdout_stream.filename={self.path(name + '.log')}\n")
        write(self.path("conf"), text)

    def command(self):
        return [found("circusd"), self.path("conf")]

    def status(self):
        return [found("circusctl"), "--endpoint", self.socket, "status"]

    def restart(self, name):
        return [found("circusctl"), "--endpoint", self.socket, "restart", name]


class S6(Peer):
    name, programs, about = "s6", ("s6-svscan", "s6-svscanctl", "s6-svc", "s6-svstat"), "no logger: the output goes nowhere"
    captures, per_service = False, 2

    def configure(self, services):
        for name, argv in services:
            write(self.path("scan", name, "run"), f"#!/bin/sh\nexec {' '.join(argv)} >/dev/null 2>&1\n", 0o755)
        os.makedirs(self.path("scan"), exist_ok=True)

    def command(self):
        return [found("s6-svscan"), "-c", "20000", self.path("scan")]

    def stop(self):
        subprocess.Popen([found("s6-svscanctl"), "-t", self.path("scan")], env=self.environment)

    def status(self):
        return ["/bin/sh", "-c", f'for s in "{self.path("scan")}"/*; do {found("s6-svstat")} "$s"; done']

    def restart(self, name):
        return [found("s6-svc"), "-r", self.path("scan", name)]


class Runit(Peer):
    name, programs, about = "runit", ("runsvdir", "runsv", "sv"), "no logger: the output goes nowhere"
    captures, per_service = False, 2

    def configure(self, services):
        for name, argv in services:
            write(self.path("sv", name, "run"), f"#!/bin/sh\nexec {' '.join(argv)} >/dev/null 2>&1\n", 0o755)
        os.makedirs(self.path("sv"), exist_ok=True)
        # runsvdir looks for runsv in the path.
        self.environment["PATH"] = os.path.dirname(found("runsv")) + ":" + os.environ.get("PATH", "")

    def command(self):
        return [found("runsvdir"), self.path("sv")]

    def stop(self):
        self.process.send_signal(signal.SIGHUP)

    def status(self):
        return ["/bin/sh", "-c", f'exec {found("sv")} status "{self.path("sv")}"/*']

    def restart(self, name):
        return [found("sv"), "restart", self.path("sv", name)]


ALL = {peer.name: peer for peer in (Relume, Supervisor, Circus, S6, Runit)}
