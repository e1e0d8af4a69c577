"""Print each row of the benchmarks with its reference, and write JSON.

python tests/benchmarks/run.py [--only ROW ...] [--quick] [--output FOLDER]
    [--model FILE] [--json FILE]
"""

import argparse
import json
import os
import platform
import tempfile
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import pandas as pd
from lab import HERE, Lab
from records import Record, add_option, processor
from rows import ROWS

FULL = {
    "stamps": 512,
    "epochs": 3,
    "repeats": 3,
    "pairs": 11,
    "model_epochs": 10,
    "encode": 4096,
    "mapped": 100_000,
    "plain_mapped": 20_000,
    "profiles": 20,
    "galaxies": 1000,
    "plain_galaxies": 200,
    "compared": 200,
    "compared_optics": 100,
    "latents": 2000,
    "grid_stamps": 1000,
    "grid_epochs": 8,
    "grid_repeats": 1,
    "galaxy_repeats": 2,
    "growth": [1000, 3000, 10_000],
    "gpu_stamps": 20_000,
}
QUICK = {
    "stamps": 128,
    "epochs": 2,
    "repeats": 1,
    "pairs": 3,
    "model_epochs": 1,
    "encode": 256,
    "mapped": 1000,
    "plain_mapped": 500,
    "profiles": 2,
    "galaxies": 20,
    "plain_galaxies": 10,
    "compared": 10,
    "compared_optics": 5,
    "latents": 128,
    "grid_stamps": 40,
    "grid_epochs": 1,
    "grid_repeats": 1,
    "galaxy_repeats": 1,
    "growth": [100, 300],
    "gpu_stamps": 1000,
}
PACKAGES = ("sklcae", "torch", "skorch", "scikit-learn", "numpy", "scipy", "galsim")


def main():
    """Run the rows that the command line selects."""
    arguments, record = parse_arguments(), Record()
    sizes = QUICK if arguments.quick else FULL
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, sizes, arguments.model)
        about = describe_machine(lab)
        lab.run("prepare", stamps=sizes["stamps"], epochs=sizes["model_epochs"])
        results = measure(lab, arguments.only)
    about["seconds"] = round(time.perf_counter() - start)
    table = make_table(results)
    left_out = list_unmeasured(arguments, about)
    print(table, *left_out, sep="\n")
    rows = rows_of(results)
    write(arguments.output, rows, about, left_out, lab.log, sizes)
    record.add("rows", pd.DataFrame(rows))
    record.write(arguments.json)


def parse_arguments():
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument(
        "--quick", action="store_true", help="a tiny run, to check that it works"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results")
    parser.add_argument("--model", type=Path, help="saved model for the row profiles")
    add_option(parser)
    return parser.parse_args()


def describe_machine(lab):
    """Return processor, cores and versions."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
        **lab.run("machine"),
    }


def measure(lab, rows):
    """Return the results of rows, a list for each."""
    return {row: ROWS[row](lab) for row in rows}


def list_unmeasured(arguments, about):
    """Return a line for each measurement that is not in the table."""
    lines = [
        f"Not measured: {row} (--only)."
        for row in ROWS
        if row not in (*arguments.only, "gpu")
    ]
    if about["gpu"] is None:
        lines.append("Not measured: training and predict on a GPU (there is none).")
    if arguments.quick:
        lines.append("With --quick the jobs are too small for meaningful numbers.")
    if about["cores"] < 2:
        lines.append("One core only: rows with n_jobs=2 are meaningless.")
    return lines


HEADER = (
    "work",
    "ours",
    "reference",
    "unit",
    "ratio",
    "to reach",
    "",
    "MiB",
    "MiB reference",
    "note",
)


def make_table(results):
    """Return a Markdown table of all results."""
    lines = [HEADER, *(cells(one) for row in results.values() for one in row)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines
    )


def cells(result):
    """Return one line of the table as text."""
    numbers = (result.ours, result.reference, result.value)
    ours, reference, value = ("" if n is None else f"{n:.4g}" for n in numbers)
    memories = (result.memory, result.reference_memory)
    verdict = {None: "", True: "reached", False: "missed"}[result.reached]
    return (
        result.work,
        ours,
        reference,
        result.unit,
        value,
        result.to_reach or "",
        verdict,
        *("" if n is None else f"{n:.0f}" for n in memories),
        result.note,
    )


def rows_of(results):
    """Return a dict for each line of the table."""
    return [
        {"row": row, **asdict(one), "reached": one.reached}
        for row, many in results.items()
        for one in many
    ]


def write(folder, rows, about, left_out, log, sizes):
    """Write results, machine and settings to benchmarks.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": about,
        "sizes": sizes,
        "results": rows,
        "not_measured": left_out,
        "runs": log,
    }
    path = folder / "benchmarks.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"Written to {path}.")


if __name__ == "__main__":
    main()
