"""What /proc says of processes, and ending what a measurement has left."""
import ctypes
import os
import signal
import time

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    """What a manager abandons becomes our child, is found, and is ended by its pid."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children(pid):
    try:
        found = []
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += [int(word) for word in f.read().split()]
        return found
    except OSError:
        return []


def descendants(pid):
    found, todo = [], children(pid)
    while todo:
        one = todo.pop()
        found.append(one)
        todo += children(one)
    return found


def reap():
    """Zombies among our children that nobody waits for."""
    for pid in children(os.getpid()):
        try:
            with open(f"/proc/{pid}/stat") as f:
                zombie = f.read().rpartition(")")[2].split()[0] == "Z"
            if zombie:
                os.waitpid(pid, os.WNOHANG)
        except OSError:
            pass


def end_all():
    """Ends every process that descends from us."""
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        time.sleep(0.01)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def memory(pids):
    """Kilobytes of all of them together: private, proportional (PSS)."""
    private = pss = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for line in f:
                    word = line.split()
                    if word[0] in ("Private_Clean:", "Private_Dirty:"):
                        private += int(word[1])
                    elif word[0] == "Pss:":
                        pss += int(word[1])
        except OSError:
            pass
    return {"private_kb": private, "pss_kb": pss}


def activity(pids):
    """(CPU time in ns, voluntary context switches) of all threads of all of them."""
    cpu = switches = 0
    for pid in pids:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                    cpu += int(f.read().split()[0])
                with open(f"/proc/{pid}/task/{task}/status") as f:
                    switches += sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt"))
        except OSError:
            pass
    return cpu, switches


def state():
    with open("/proc/loadavg") as f:
        return f.read().split()[0]
