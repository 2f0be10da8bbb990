"""Stands for the DDoS model: says how much a number of packets a second looks like an attack."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from small_service import serve  # noqa: E402

def predict(query):
    number = query.partition("=")[2]
    packets = int(number) if number.isdigit() else 0
    return {"packets": packets, "attack": round(packets / (packets + 1000), 3)}


serve("model", int(os.environ["MODEL_PORT"]), {"/": lambda _: {"model": "ready"}, "/predict": predict})
