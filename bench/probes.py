#!/usr/bin/env python3
"""What probes cost, and whether they are in time: so many services with an HTTP probe each 10 s. See README.md.

Four figures: CPU time of relume while all are well; how evenly the probes are spread (chi-square); how late the verdict
on a service that hangs is; and what all that adds to a restart after a crash.
"""
import argparse
import asyncio
import calendar
import json
import mmap
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time

import measure
import peers
import proc
import run

INTERVAL, TIMEOUT = 10.0, 1.0
BINS = 20
# The 0.999 quantile of chi-square with BINS - 1 = 19 degrees of freedom.
CHI_SQUARE = 43.82
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Answers:
    """One server for all services, in a process of its own: service N is asked at /N."""

    def __init__(self, folder, count):
        self.silent = mmap.mmap(-1, count)
        self.path = os.path.join(folder, "asked")
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = listener.getsockname()[1]
        self.pid = os.fork()
        if self.pid == 0:
            try:
                asyncio.run(self.serve(listener))
            finally:
                os._exit(1)
        listener.close()

    async def serve(self, listener):
        asked, silent = open(self.path, "a", buffering=1), self.silent

        class Connection(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport, self.began = transport, time.time_ns()

            def data_received(self, data):
                number = int(data.split(b" ", 2)[1][1:])
                asked.write(f"{self.began} {number} {silent[number]}\n")
                if not silent[number]:
                    self.transport.write(ANSWER)
                    self.transport.close()

        server = await asyncio.get_running_loop().create_server(Connection, sock=listener)
        await server.serve_forever()

    def asked(self):
        """[(ns since the epoch, service, whether it was left without an answer)]"""
        with open(self.path) as f:
            return [tuple(map(int, line.split())) for line in f if line.endswith("\n")]


class Probed(peers.Relume):
    """Each service has a probe at `port`, where there is one."""
    port = None

    def configure(self, services):
        super().configure(services)
        if not self.port:
            return
        with open(self.path("relume.json")) as f:
            config = json.load(f)
        for number, service in enumerate(config["services"]):
            service["health_check"] = {"http": f"http://127.0.0.1:{self.port}/{number}", "interval": INTERVAL, "timeout": TIMEOUT}
        peers.write(self.path("relume.json"), json.dumps(config))


def started(ground, count, port):
    life = measure.Life(ground, type("Probed", (Probed,), {"port": port}), count)
    life.start()
    # Eager probes end, the regular ones begin.
    time.sleep(INTERVAL if port else 2)
    return life


def crashes(lives, count, samples):
    """Milliseconds from SIGKILL to the successor's first instruction for each life, in turn: a busy machine is busy for all."""
    found, order = [[] for _ in lives], random.Random(1).sample(range(count), min(samples, count))
    for number in order:
        for life, times in zip(lives, found):
            pid = life.records.latest()[number][1]
            began = time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            life.records.wait(lambda: life.records.latest()[number][1] != pid, 15, "restart after a crash", 0.0005)
            times.append((life.records.latest()[number][0] - began) / 1e6)
            proc.reap()
            time.sleep(0.02)
    return [statistics.median(times) for times in found]


def spread(asked, count):
    """Chi-square of the moments within the interval at which services are asked."""
    first = {}
    for ns, number, _ in asked:
        first.setdefault(number, ns)
    bins = [0] * BINS
    for ns in first.values():
        bins[int(ns / 1e9 % INTERVAL / INTERVAL * BINS)] += 1
    expected = count / BINS
    return sum((found - expected) ** 2 / expected for found in bins), len(first)


def seconds_of(at):
    """Seconds since the epoch of 2026-01-02T03:04:05.678Z."""
    whole, fraction = at.rstrip("Z").split(".")
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float("0." + fraction)


def verdicts(life, answers, count):
    """Milliseconds between the end of `timeout` and the event that says so, for each service that hung once."""
    events = open(life.peer.path("events"), "w+")
    command = life.peer.relume("events", "--json", "-f")
    follower = subprocess.Popen(command, stdout=events, env=life.peer.environment, cwd=life.peer.folder)
    time.sleep(1)
    hung = range(0, count, 3)
    for number in hung:
        answers.silent[number] = 1
    time.sleep(INTERVAL)
    for number in hung:
        answers.silent[number] = 0
    time.sleep(TIMEOUT + 1)
    follower.kill()
    follower.wait()
    told = {}
    with open(life.peer.path("events")) as f:
        for line in f:
            event = json.loads(line)
            if event["event"] == "probe":
                told.setdefault(int(event["service"][1:]), []).append(seconds_of(event["at"]))
    late = []
    for ns, number, silent in answers.asked():
        if silent:
            due = ns / 1e9 + TIMEOUT
            after = [at - due for at in told.get(number, []) if at > due - 0.05]
            # Never told: as late as can be.
            late.append(min(after, default=float("inf")) * 1e3)
    return sorted(late)


def measured(chosen, ground):
    count = chosen.services
    answers = Answers(ground.folder, count)
    life = started(ground, count, answers.port)
    managers = life.managers()
    # The first look is at what has begun, the second at a whole number of intervals.
    before, asked = proc.activity(managers), len(answers.asked())
    time.sleep(chosen.seconds)
    after, window = proc.activity(managers), answers.asked()[asked:]
    cpu = (after[0] - before[0]) / 1e9 / chosen.seconds
    chi, seen = spread(window, count)
    late = verdicts(life, answers, count)
    plain = started(ground, count, None)
    with_probes, without = crashes([life, plain], count, chosen.crashes)
    ground.end()
    return [
        ("CPU of one core", cpu, 0.03, f"{len(window)} probes in {chosen.seconds:g} s"),
        ("chi-square of the starts", chi, CHI_SQUARE, f"{seen} services in {BINS} bins"),
        ("verdict, p99, ms late", late[int(len(late) * 0.99)], 100.0, f"{len(late)} hung once; p50 {statistics.median(late):.1f}"),
        ("restart, p50, times", with_probes / without, 1.2, f"{with_probes:.2f} ms with, {without:.2f} ms without probes"),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relume", help="the program (else ../target/release/relume, else $PATH)")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--crashes", type=int, default=300)
    chosen = parser.parse_args()
    built = os.path.join(run.HERE, "..", "target", "release", "relume")
    if chosen.relume or os.path.exists(built):
        os.environ["BENCH_RELUME"] = os.path.abspath(chosen.relume or built)
    proc.become_subreaper()
    ground = measure.Ground(run.HERE)
    failed = False
    try:
        for what, found, most, about in measured(chosen, ground):
            well = found <= most
            failed |= not well
            print(f"{'ok  ' if well else 'MISS'}  {what:26} {found:8.4f}  at most {most:<6}  {about}")
    finally:
        ground.close()
    sys.exit(failed)


if __name__ == "__main__":
    main()
