"""Records of runs: a JSON file with the tables of a run, its command and its machine.

The pages of docs/results are made of these files, by ``docs/results/tables.py``.
"""

import json
import os
import platform
import shlex
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def add_option(parser):
    """Add the option ``--json`` of a script that keeps a Record."""
    parser.add_argument("--json", type=Path, help="write the tables to this file")


class Record:
    """The tables of a run.

    Parameters
    ----------
    command : str or None
        What was run, after "python". None is the command line of this process.
    """

    def __init__(self, command=None):
        self._command = command_line() if command is None else command
        self._start, self.tables = time.perf_counter(), {}

    def add(self, name, table):
        """Add a DataFrame below the rows of this name."""
        rows = json.loads(table.to_json(orient="records"))
        self.tables.setdefault(name, []).extend(rows)

    def write(self, path):
        """Write the record; without a path, do nothing."""
        if path is None:
            return
        content = {
            "command": self._command,
            "version": version("sklcae"),
            "date": date.today().isoformat(),
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "seconds": round(time.perf_counter() - self._start),
            "tables": self.tables,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"Wrote {path}")


def command_line():
    """Return the command of this process, without "python" and without --json."""
    script, *arguments = sys.argv
    if "--json" in arguments:
        place = arguments.index("--json")
        del arguments[place : place + 2]
    script = os.path.relpath(script, ROOT)
    return shlex.join([script, *arguments])


def processor():
    """Return the name of the processor."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return platform.processor()
