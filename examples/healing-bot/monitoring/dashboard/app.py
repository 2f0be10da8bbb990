"""Stands for the ML dashboard: a page with what model and analyzer say."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
from small_service import ask, serve, table  # noqa: E402

SOURCES = {"model": os.environ["MODEL_URL"], "network-analyzer": os.environ["ANALYZER_URL"]}


def page(_):
    return table("ML Dashboard", {name: ask(url + "/") for name, url in SOURCES.items()})


serve("dashboard", int(os.environ["DASHBOARD_PORT"]), {"/": page})
