"""Where the processors' time goes while relume starts or stops many services, or comes back from SIGKILL of its manager.

    python3 bench/profile.py {start,stop,back} [--services 1000] [--relume PROGRAM]

Samples all processors with perf(1) and prints milliseconds of processor time by program or thread, and what each did: the system call it
was in, or its own code. The same for `limit`, the C program beside which relume is measured. Needs the right to profile the kernel.
"""
import argparse
import collections
import os
import re
import signal
import subprocess
import tempfile
import time

import measure
import peers

HERTZ = 5000
CALL = re.compile(r"(?:__x64_sys_|__arm64_sys_|__do_sys_|__se_sys_)(\w+)")


class Watch:
    """Samples from its beginning to its end."""

    def __enter__(self):
        self.file = tempfile.NamedTemporaryFile(prefix="relume-profile-", dir="/dev/shm")
        words = ["perf", "record", "-q", "-a", "-g", "-F", str(HERTZ), "-k", "CLOCK_MONOTONIC", "-o", self.file.name]
        self.perf = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        # perf has no word for having begun; on a busy machine it takes its time.
        time.sleep(1.5)
        self.began = time.monotonic()
        return self

    def __exit__(self, *_):
        self.ended = time.monotonic()
        time.sleep(0.05)
        self.perf.send_signal(signal.SIGINT)
        self.perf.wait()

    def samples(self):
        """(thread, what it did) for each sample taken meanwhile."""
        words = ["perf", "script", "-i", self.file.name, "-F", "comm,time,ip,sym"]
        text = subprocess.run(words, capture_output=True, text=True, errors="replace", check=True).stdout
        for block in text.split("\n\n"):
            lines = block.strip("\n").splitlines()
            head = lines and re.match(r"\s*(.*?)\s+(\d+\.\d+):", lines[0])
            if head and self.began <= float(head.group(2)) <= self.ended:
                frames = [line.split(None, 1) for line in lines[1:] if len(line.split(None, 1)) == 2]
                yield head.group(1), doing(frames)


def doing(frames):
    for _, name in frames:
        if name.startswith(("asm_exc_page_fault", "exc_page_fault")):
            return "page faults"
        if name in ("do_exit", "do_group_exit"):
            return "its end"
        if call := CALL.match(name):
            return call.group(1)
    # Addresses of the kernel are in the upper half.
    return "kernel" if frames and frames[0][0].startswith("ffff") else "own code"


def show(title, watch, skip):
    threads, calls = collections.Counter(), collections.defaultdict(collections.Counter)
    for thread, what in watch.samples():
        if thread not in skip:
            threads[thread] += 1
            calls[thread][what] += 1
    each = 1000 / HERTZ
    print(f"## {title}: {(watch.ended - watch.began) * 1000:.0f} ms, {sum(threads.values()) * each:.0f} ms of processors\n")
    print("| thread | ms | most of it in |\n|---|---|---|")
    for thread, count in threads.most_common(12):
        most = ", ".join(f"{what} {n * each:.0f}" for what, n in calls[thread].most_common(6) if n * each >= 1)
        print(f"| {thread} | {count * each:.0f} | {most} |")
    print()


def limit(ground, what, count):
    with Watch() as start:
        child, _, _ = measure.start_limit(ground, count)
    time.sleep(0.2)
    with Watch() as stop:
        measure.end_limit(child)
    return start if what == "start" else stop


def relume(ground, what, count):
    life = measure.Life(ground, peers.Relume, count)
    if what == "start":
        with Watch() as watch:
            life.start()
    else:
        life.start()
        # So that nothing of the start is left to be done.
        time.sleep(10)
        with Watch() as watch:
            if what == "stop":
                life.stop()
            else:
                back(life)
    life.end()
    return watch


def back(life):
    """Its successor supervises when it has started a service anew that was killed together with it."""
    _, pid = life.records.latest()[0]
    manager = next(one for one in life.managers() if one != life.peer.process.pid)
    for one in (manager, pid):
        os.kill(one, signal.SIGKILL)
    life.records.wait(lambda: life.records.latest()[0][1] != pid, 20, "back", 0.0005)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["start", "stop", "back"])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--relume", help="the program; else target/release/relume")
    chosen = parser.parse_args()
    if chosen.relume:
        os.environ["BENCH_RELUME"] = os.path.abspath(chosen.relume)
    measure.proc.become_subreaper()
    ground = measure.Ground(os.path.dirname(os.path.abspath(__file__)))
    skip = {"swapper", "perf"}
    try:
        if chosen.what != "back":
            show(f"limit, {chosen.what} of {chosen.services}", limit(ground, chosen.what, chosen.services), skip)
            ground.end()
        show(f"relume, {chosen.what} of {chosen.services}", relume(ground, chosen.what, chosen.services), skip)
    finally:
        ground.close()


if __name__ == "__main__":
    main()
