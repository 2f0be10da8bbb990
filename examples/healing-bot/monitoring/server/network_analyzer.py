"""Stands for the network analyzer: counts what the machine's interfaces received and asks the model about it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
from small_service import ask, serve  # noqa: E402

MODEL_URL = os.environ["MODEL_URL"]


def received():
    """Packets received so far, over all interfaces (/proc/net/dev: two lines of heading)."""
    with open("/proc/net/dev", encoding="ascii") as table:
        return sum(int(line.split(":")[1].split()[1]) for line in table.readlines()[2:])


def traffic(_):
    return ask(f"{MODEL_URL}/predict?packets={received()}")


serve("network-analyzer", int(os.environ["PORT"]), {"/": traffic})
