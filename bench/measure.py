"""The measurements. Each returns plain numbers: seconds, milliseconds where the name says so."""
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import proc

RECORD = 48


class Failed(Exception):
    """A measurement that did not come to an end; the text says why."""


class Records:
    """What the services have noted: [(ns, id, pid)]."""

    def __init__(self, path):
        self.path, self.seen, self.all = path, 0, []
        open(path, "ab").close()

    def read(self):
        size = os.path.getsize(self.path) // RECORD * RECORD
        if size > self.seen:
            with open(self.path, "rb") as f:
                f.seek(self.seen)
                data = f.read(size - self.seen)
            self.seen = size
            for at in range(0, len(data), RECORD):
                ns, number, pid = data[at:at + RECORD].split()
                self.all.append((int(ns), int(number), int(pid)))
        return self.all

    def latest(self):
        return {number: (ns, pid) for ns, number, pid in self.read()}

    def wait(self, done, seconds, what, step=0.002):
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise Failed(f"{what}: not within {seconds} s")
            time.sleep(step)


class Ground:
    """A directory on a tmpfs, the programs, and a descriptor limit for all."""

    def __init__(self, source):
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = tempfile.mkdtemp(prefix="relume-bench-", dir=base)
        for name, static in (("service", ["-static"]), ("limit", [])):
            program = os.path.join(self.folder, name)
            subprocess.run(["gcc", "-O2", *static, "-o", program, os.path.join(source, name + ".c")], check=True)
        self.service, self.limit = (os.path.join(self.folder, name) for name in ("service", "limit"))
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.made, self.lives = 0, []

    def fresh(self):
        self.made += 1
        folder = os.path.join(self.folder, str(self.made))
        os.makedirs(folder)
        return folder, Records(os.path.join(folder, "records"))

    def end(self):
        """Everything that was started here."""
        while self.lives:
            self.lives.pop().end()
        proc.end_all()

    def close(self):
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)


def start_limit(ground, count, kind="start"):
    folder, records = ground.fresh()
    began = time.monotonic_ns()
    child = subprocess.Popen([ground.limit, kind, str(count), ground.service, records.path], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    records.wait(lambda: len(records.read()) >= count, 120, "the limit")
    return child, records, (max(ns for ns, _, _ in records.all) - began) / 1e9


def end_limit(child):
    child.stdin.close()
    took = int(child.stdout.read().split()[-1]) / 1e9
    child.wait()
    return took


def limit_life(ground, count):
    """Seconds to start so many, and to stop them."""
    child, _, start = start_limit(ground, count)
    time.sleep(0.2)
    return {"start": start, "stop": end_limit(child)}


def wait_ended(pidfd, until):
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(max(0, until - time.monotonic()) * 1000):
        raise Failed("stop: not in time")


class Life:
    """One peer with so many services, from its start to its end."""

    def __init__(self, ground, peer_class, count):
        self.ground, self.count = ground, count
        folder, self.records = ground.fresh()
        self.peer = peer_class(folder)
        ground.lives.append(self)
        services = [(f"s{n:05}", [ground.service, self.records.path, str(n)]) for n in range(count)]
        self.peer.configure(services)

    def start(self, seconds=120):
        began = time.monotonic_ns()
        self.peer.start()
        try:
            self.records.wait(lambda: len(self.records.latest()) >= self.count or self.gone(), seconds, "start", 0.01)
        except Failed as error:
            raise Failed(f"{error}; {len(self.records.latest())} run. {self.peer.said()}") from error
        if self.gone():
            raise Failed(f"it has ended: {self.peer.said()}")
        first = {}
        for ns, number, _ in self.records.all:
            first.setdefault(number, ns)
        return (max(first.values(), default=began) - began) / 1e9

    def gone(self):
        return self.peer.process.poll() is not None

    def services(self):
        return {pid for _, pid in self.records.latest().values()}

    def managers(self):
        """All its processes, the services and commands of the moment not counted."""
        own = self.services()
        return [pid for pid in [self.peer.process.pid, *proc.descendants(self.peer.process.pid)]
                if pid not in own and proc.alive(pid)]

    def command_ms(self, argv, until=None):
        began = time.monotonic_ns()
        with open(self.peer.path("command"), "wb") as out:
            child = subprocess.Popen(argv, env=self.peer.environment, cwd=self.peer.folder, stdout=out, stderr=out)
        # With a time limit Popen.wait looks only so often: at 7.5 ms, at 15.5 ms. This one wakes up at the end.
        limit = threading.Timer(60, child.kill)
        limit.start()
        code = child.wait()
        ended = time.monotonic_ns()
        limit.cancel()
        if code not in (0, 3) and until is None:
            raise Failed(f"{os.path.basename(argv[0])} failed with {code}")
        return ((until() if until else ended) - began) / 1e6

    def restart_ms(self, number):
        before = self.records.latest()[number]

        def restarted():
            self.records.wait(lambda: self.records.latest()[number] != before, 20, "restart")
            return self.records.latest()[number][0]
        return self.command_ms(self.peer.restart(f"s{number:05}"), restarted)

    def stop(self, seconds=60):
        """Seconds until all services are dead, and until the peer is gone too."""
        services, peer = [os.pidfd_open(pid) for pid in self.services()], os.pidfd_open(self.peer.process.pid)
        try:
            began = time.monotonic()
            self.peer.stop()
            # The kernel wakes us: to look again and again would keep one of two processors from what is measured. The last one first, so
            # that most are dead by the time they are asked.
            for service in reversed(services):
                wait_ended(service, began + seconds)
            dead = time.monotonic() - began
            wait_ended(peer, began + seconds)
            return {"dead": dead, "gone": time.monotonic() - began}
        finally:
            for fd in [*services, peer]:
                os.close(fd)

    def end(self, seconds=20):
        """Has it leave as a user would: what is killed with all its services leaves its cgroups behind, which slow down what follows."""
        if self.peer.process and not self.gone():
            self.peer.stop()
            end = time.monotonic() + seconds
            while not self.gone() and time.monotonic() < end:
                time.sleep(0.01)


def crashes(records, count, samples, up, seconds=15):
    """Milliseconds from SIGKILL to the first instruction of the successor, one service at a time."""
    found, chance = [], random.Random(1)
    for turn in range(samples):
        number = 0 if up else chance.randrange(count)
        ns, pid = records.latest()[number]
        wait = (ns / 1e9 + (up or 1.1)) - time.monotonic()
        if wait > 0 and (up or turn < count):
            time.sleep(min(wait, 1.1))
        began = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        records.wait(lambda: records.latest()[number][1] != pid, seconds, "restart after a crash", 0.0005)
        found.append((records.latest()[number][0] - began) / 1e6)
        proc.reap()
    return found


def restarts(life, times, wave=50):
    """Kills so many services, some at a time, and waits until each has come back."""
    for first in range(0, times, wave):
        before = life.records.latest()
        killed = [number % life.count for number in range(first, min(first + wave, times))]
        for number in killed:
            os.kill(before[number][1], signal.SIGKILL)
        life.records.wait(lambda: all(life.records.latest()[n][1] != before[n][1] for n in killed), 60, "restarts")
        proc.reap()


def limit_crashes(ground, count, samples):
    child, records, _ = start_limit(ground, count, "restart")
    found = crashes(records, count, samples, 0.002)
    end_limit(child)
    return found


def manager_kills(life, rounds):
    """Milliseconds from the death of the manager and of one service, both at once, to the service's successor."""
    found = []
    for turn in range(rounds):
        number = turn % life.count
        manager, (_, pid) = life.peer.manager(), life.records.latest()[number]
        began = time.monotonic_ns()
        os.kill(manager, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        life.records.wait(lambda: life.records.latest()[number][1] != pid, 30, "recovery")
        found.append((life.records.latest()[number][0] - began) / 1e6)
        time.sleep(0.5)
    return found


def idle(life, seconds):
    """CPU time and wake-ups while nothing happens."""
    managers = life.managers()
    before = proc.activity(managers)
    time.sleep(seconds)
    after = proc.activity(managers)
    return {"cpu_ms": (after[0] - before[0]) / 1e6, "wakes_per_s": (after[1] - before[1]) / seconds}
