"""Stands for the healing dashboard: one page about all the others."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
from small_service import ask, serve, table  # noqa: E402

SOURCES = {
    "monitoring-server": os.environ["MONITORING_URL"],
    "incident-bot": os.environ["INCIDENT_URL"],
    "network-analyzer": os.environ["ANALYZER_URL"],
}


def page(_):
    return table("Healing Dashboard", {name: ask(url + "/health") for name, url in SOURCES.items()})


serve("healing-dashboard", int(os.environ["HEALING_DASHBOARD_PORT"]), {"/": page})
