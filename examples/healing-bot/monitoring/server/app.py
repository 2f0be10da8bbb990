"""Stands for the monitoring server: the load of this machine, and whether the model is well."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
from small_service import ask, serve  # noqa: E402

MODEL_URL = os.environ["MODEL_URL"]


def metrics(_):
    return {"load": os.getloadavg(), "model": ask(f"{MODEL_URL}/health")}


# The original has no variable for this port.
serve("monitoring-server", int(os.environ.get("MONITORING_PORT", "5000")), {"/": metrics})
