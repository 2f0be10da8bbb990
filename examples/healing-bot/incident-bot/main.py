"""Stands for the incident bot: opens an incident when the model calls the traffic an attack."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from small_service import ask, serve  # noqa: E402

MODEL_URL = os.environ["MODEL_URL"]
incidents = []


def report(query):
    verdict = ask(f"{MODEL_URL}/predict?{query}")
    if verdict.get("attack", 0) > 0.9:
        incidents.append(verdict)
    return {"open": len(incidents), "verdict": verdict}


serve("incident-bot", int(os.environ["PORT"]), {"/": lambda _: {"incidents": incidents}, "/report": report})
