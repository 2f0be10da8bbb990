"""Prints a line each so often, as its config file says."""

import argparse
import configparser
import itertools
import signal
import sys
import time

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--config", required=True)
path = parser.parse_args().config

config = configparser.ConfigParser()
with open(path, encoding="utf-8") as file:
    config.read_file(file)
settings = config["my_service_1"]

signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for number in itertools.count(1):
    print(settings["message"], number, flush=True)
    time.sleep(settings.getfloat("interval"))
