#!/usr/bin/env python3
"""Measures relume, other supervisors, and the least that the same work can cost on this machine. See README.md."""
import argparse
import json
import os
import platform
import sys
import time

import measure
import peers
import proc
import table

HERE = os.path.dirname(os.path.abspath(__file__))
PARTS = ["life", "crash", "control", "memory", "kill"]


def options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--relume", help="the program (else ../target/release/relume, else $PATH)")
    parser.add_argument("--peers", default=",".join(peers.ALL), help="comma separated; default: all that are found")
    parser.add_argument("--only", default=",".join(PARTS), help="comma separated: " + ", ".join(PARTS))
    parser.add_argument("--pairs", type=int, default=10, help="how often each is measured, the limit right before it")
    parser.add_argument("--services", default="100,1000", help="comma separated numbers of services")
    parser.add_argument("--crashes", type=int, default=500)
    parser.add_argument("--idle", type=float, default=30, help="seconds")
    parser.add_argument("--slow-pairs", type=int, default=2, help="pairs of peers that need more than 3 s to start")
    parser.add_argument("--out", default=os.path.join(HERE, "RESULTS.md"))
    parser.add_argument("--json", help="keep the single numbers here")
    parser.add_argument("--quick", action="store_true", help="only whether the bench works: few services, one pair, no file")
    chosen = parser.parse_args()
    chosen.services = [int(word) for word in chosen.services.split(",")]
    chosen.only = chosen.only.split(",")
    if chosen.quick:
        chosen.services, chosen.pairs, chosen.crashes, chosen.idle, chosen.out = [5], 1, 3, 0.2, None
        chosen.slow_pairs = 1
    unknown = [part for part in chosen.only if part not in PARTS] + [p for p in chosen.peers.split(",") if p not in peers.ALL]
    if unknown:
        parser.error("unknown: " + ", ".join(unknown))
    built = os.path.join(HERE, "..", "target", "release", "relume")
    if chosen.relume or os.path.exists(built):
        os.environ["BENCH_RELUME"] = os.path.abspath(chosen.relume or built)
    return chosen


class Bench:
    def __init__(self, chosen, ground):
        self.chosen, self.ground = chosen, ground
        self.cells, self.slow = [], set()

    def note(self, part, peer, count, **numbers):
        self.cells.append({"part": part, "peer": peer, "services": count, **numbers})
        short = {k: round(v, 4) if isinstance(v, float) else v for k, v in numbers.items() if not isinstance(v, list)}
        print(f"{part:8} {peer:10} {count:6} {short}", file=sys.stderr, flush=True)

    def attempt(self, part, peer, count, what):
        try:
            self.note(part, peer.name, count, **what())
        except (measure.Failed, OSError, ValueError, KeyError) as error:
            self.note(part, peer.name, count, failed=f"{error}")
        finally:
            self.ground.end()

    def life(self, peer, count):
        limit = measure.limit_life(self.ground, count)
        life = measure.Life(self.ground, peer, count)
        start = life.start()
        if start > 3:
            self.slow.add(peer.name)
        time.sleep(0.5 if self.chosen.quick else 2)
        return {"start": start, **life.stop(), "limit_start": limit["start"], "limit_stop": limit["stop"]}

    def crash(self, peer):
        count = min(40, max(self.chosen.services))
        limit = measure.limit_crashes(self.ground, count, self.chosen.crashes)
        life = measure.Life(self.ground, peer, count)
        life.start()
        one = measure.crashes(life.records, count, min(self.chosen.crashes, 3), 0)
        # Who waits a second each time is not asked five hundred times.
        samples = self.chosen.crashes if max(one) < 100 else 10
        young = measure.crashes(life.records, count, samples, 0.05)
        old = measure.crashes(life.records, count, samples, 0)
        return {"young_ms": young, "old_ms": old, "limit_ms": limit}

    def control(self, peer):
        count = max(self.chosen.services)
        life = measure.Life(self.ground, peer, count)
        life.start()
        time.sleep(0.5 if self.chosen.quick else 2)
        turns = 2 if self.chosen.quick else 10
        return {"status_ms": [life.command_ms(life.peer.status()) for _ in range(turns)],
                "restart_ms": [life.restart_ms(number) for number in range(turns)][:count]}

    def memory(self, peer, count):
        life = measure.Life(self.ground, peer, count)
        life.start()
        time.sleep(0.5 if self.chosen.quick else 6)
        found = {**proc.memory(life.managers()), "processes": len(life.managers()), **measure.idle(life, self.chosen.idle)}
        # The first thousand restarts may fill what is filled once.
        for turn in ("restarted_kb", "restarted_again_kb") if count else ():
            measure.restarts(life, count)
            time.sleep(0.5 if self.chosen.quick else 6)
            found[turn] = proc.memory(life.managers())["private_kb"]
        return found

    def kill(self, peer):
        count = max(self.chosen.services)
        life = measure.Life(self.ground, peer, count)
        life.start()
        time.sleep(1)
        return {"kill_ms": measure.manager_kills(life, 2 if self.chosen.quick else 20)}

    def run(self, chosen_peers):
        only = self.chosen.only
        for pair in range(self.chosen.pairs):
            for count in self.chosen.services if "life" in only else []:
                for peer in rotated(chosen_peers, pair):
                    if peer.name not in self.slow or pair < self.chosen.slow_pairs:
                        self.attempt("life", peer, count, lambda p=peer, c=count: self.life(p, c))
        for peer in chosen_peers:
            if "crash" in only:
                self.attempt("crash", peer, 40, lambda p=peer: self.crash(p))
            if "control" in only:
                self.attempt("control", peer, max(self.chosen.services), lambda p=peer: self.control(p))
            for count in [0, max(self.chosen.services)] if "memory" in only else []:
                self.attempt("memory", peer, count, lambda p=peer, c=count: self.memory(p, c))
            if "kill" in only and hasattr(peer, "manager"):
                self.attempt("kill", peer, max(self.chosen.services), lambda p=peer: self.kill(p))


def rotated(items, by):
    by %= max(1, len(items))
    return items[by:] + items[:by]


def machine(chosen_peers, skipped, load):
    with open("/proc/meminfo") as f:
        memory = int(f.readline().split()[1]) // 1024
    return {"date": time.strftime("%Y-%m-%d"), "kernel": platform.release(), "processors": os.cpu_count(), "memory_mb": memory,
            "load": [load, proc.state()], "command": " ".join(["python3 bench/run.py", *sys.argv[1:]]),
            "peers": {peer.name: {"version": peer.version(), "about": peer.about} for peer in chosen_peers}, "skipped": skipped}


def main():
    chosen = options()
    proc.become_subreaper()
    skipped, chosen_peers = {}, []
    for name in chosen.peers.split(","):
        missing = peers.ALL[name].missing()
        if missing:
            skipped[name] = "not found: " + ", ".join(missing)
            print(f"skipped {name}: {skipped[name]}", file=sys.stderr)
        else:
            chosen_peers.append(peers.ALL[name])
    ground = measure.Ground(HERE)
    bench, load = Bench(chosen, ground), proc.state()
    try:
        bench.run(chosen_peers)
    finally:
        ground.close()
    text = table.render(machine(chosen_peers, skipped, load), bench.cells)
    if chosen.json:
        with open(chosen.json, "w") as f:
            json.dump(bench.cells, f, indent=1)
    if chosen.out:
        with open(chosen.out, "w") as f:
            f.write(text)
    print(text)
    return 1 if chosen.quick and (not bench.cells or any("failed" in cell for cell in bench.cells)) else 0


if __name__ == "__main__":
    sys.exit(main())
