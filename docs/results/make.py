"""Run a command of the results pages again, and keep its record.

    python docs/results/make.py --list
    python docs/results/make.py --run best-scores crowded-colours
    python docs/results/make.py --run quick

A record is a JSON file in ``docs/results/data``. ``tables.py`` makes the tables of the
pages of these files when the site is built. Benchmarks write their record themselves,
by ``--json``. Examples write CSV tables to ``--output``, which this script reads.

The minutes are estimates for one core. Speed needs a free machine with two cores.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = HERE / "data"
sys.path.insert(0, str(ROOT / "tests" / "benchmarks"))

from records import Record  # noqa: E402

# Longer commands are not among the quick ones.
QUICK_MINUTES = 5


@dataclass(frozen=True)
class Run:
    """A command that writes a record.

    Parameters
    ----------
    command : str
        Script and options, from the root of the repository.
    minutes : float
        Expected minutes of one core.
    csv : tuple of str
        The tables that an example writes to the folder ``--output``.
    first : str
        A command to run before, which writes the models that `command` reads.
    """

    command: str
    minutes: float
    csv: tuple = ()
    first: str = ""

    @property
    def is_quick(self):
        """Whether the command takes a few minutes at most."""
        needs_data = COSMOS in self.command
        return self.minutes <= QUICK_MINUTES and not self.first and not needs_data


PROFILE_FITS = "tests/benchmarks/profile_fits.py --n 2500 --psf"
GROUND = "--one-pass --estimator sklcae/weights/ground.sklcae"
CROWDED = "tests/benchmarks/crowded.py"
COMPARE = "examples/compare_with_profile_fitting.py --only"
# A catalogue of real galaxies, which is not part of sklcae, and stamps of a benchmark.
COSMOS, STAMPS = "build/cosmos", "build/stamps"
CATALOGS = "tests/benchmarks/catalogs.py"
TRAIN = "tests/benchmarks/train_for_psfs.py --max-epochs"
MODELS = "build/networks"
NETWORKS = (
    "examples/compare_networks.py --networks neural_field --n-train 20000 "
    f"--max-epochs 12 --seeds 0 --output {MODELS}"
)
LARGE = f"{MODELS}/neural_field_20000_12_0.sklcae"
RUNS = {
    "best-scores": Run("tests/benchmarks/best_scores.py", 2),
    "profile-fits-one": Run(f"{PROFILE_FITS} one", 3),
    "profile-fits-mixed": Run(f"{PROFILE_FITS} mixed", 3),
    "profile-fits-sky": Run(f"{PROFILE_FITS} one --sky 1", 2),
    "one-pass-ground": Run(f"{PROFILE_FITS} mixed {GROUND}", 2),
    "undersampled": Run("tests/benchmarks/undersampled.py", 2),
    "crowded-neighbours": Run(f"{CROWDED} isolated one --n 400", 2),
    "crowded-four": Run(f"{CROWDED} four --n 400", 4),
    "crowded-defects": Run(f"{CROWDED} correlated cosmic bulge --n 400", 3),
    "crowded-colours": Run(f"{CROWDED} colours psf --n 400", 3),
    "crowded-ground": Run(
        f"{CROWDED} isolated one four correlated cosmic bulge --model ground "
        "--one-pass --n 800",
        2,
    ),
    "flags": Run(f"{CROWDED} flags --model ground --n 400", 5),
    "compare-fits": Run(
        f'{COMPARE} "sklcae\'s profile fit" "sklcae\'s profile fit, free sky" '
        'sep "PCA, 64" "PLS, 64"',
        2,
        csv=("profile_fitting",),
    ),
    "compare-galsim": Run(
        f'{COMPARE} "GalSim, least squares"', 4, csv=("profile_fitting",)
    ),
    "compare-tools": Run(f"{COMPARE} AstroPhot statmorph", 8, csv=("profile_fitting",)),
    "compare-networks": Run(
        f'{COMPARE} "paper\'s network" "strided network" "neural field" '
        '"sersic network"',
        40,
        csv=("profile_fitting",),
    ),
    "paper": Run(
        'examples/plot_paper_results.py --variants "asinh, dihedral"',
        26,
        csv=("r2", "sweep_slopes_cae", "sweep_slopes_shipped_weights"),
    ),
    "all-parameters": Run(
        "examples/compare_networks.py --networks neural_field",
        36,
        csv=("networks_909",),
    ),
    "all-parameters-large": Run(NETWORKS, 45, csv=("networks_20000",)),
    "closure": Run(
        f"examples/closure_study.py --extra {LARGE}",
        80,
        csv=("closure", "reconstruction"),
        first=NETWORKS,
    ),
    "error-bars": Run(
        f"examples/uncertainty_study.py --models {LARGE}",
        50,
        csv=("coverage_68", "coverage_95", "mapie_flux_68", "unlike"),
        first=NETWORKS,
    ),
    "error-bars-turned": Run(
        f"examples/uncertainty_study.py --turned --models {LARGE}",
        50,
        csv=("coverage_68_turned", "coverage_95_turned"),
        first=NETWORKS,
    ),
    "other-error-bars": Run("tests/benchmarks/uncertainties.py --rates 0.05 0.2", 14),
    "incomplete-data": Run(
        "examples/incomplete_data_study.py",
        40,
        csv=("masked_pixels", "missing_targets"),
    ),
    "one-pass": Run(
        f"{PROFILE_FITS} mixed --one-pass --estimator build/psfs.sklcae",
        65,
        first=f"{TRAIN} 200 build/psfs.sklcae",
    ),
    "unlabelled": Run("tests/benchmarks/unlabelled.py", 28),
    "adapt": Run(
        "tests/benchmarks/adapt.py build/sky.sklcae --n-test 1500 --alternatives",
        11,
        first=f"{TRAIN} 18 --sky 0.3 build/sky.sklcae",
    ),
    "real-galaxies": Run(
        f"tests/benchmarks/real_galaxies.py {COSMOS} --galsim 40 --flux-scale 1000 "
        f"--labels {COSMOS}/labels.csv --model sklcae/weights/ground.sklcae",
        1,
    ),
    "shapelets": Run(
        f"tests/benchmarks/field_in_rest.py --cosmos {COSMOS} --n 20 --max-epochs 40 "
        "--beta 1e-4",
        9,
    ),
    "speed": Run("tests/benchmarks/run.py", 36),
    "catalogs-cluster": Run(f"{CATALOGS} cluster {STAMPS}", 30),
    "catalogs-fits": Run(f"{CATALOGS} fits {STAMPS}", 12),
    "catalogs-costs": Run(f"{CATALOGS} costs {STAMPS}", 2),
}


def run(name):
    """Run a command and write its record."""
    one = RUNS[name]
    if one.first:
        start(one.first)
    path = DATA / f"{name}.json"
    if not one.csv:
        start(one.command, "--json", path)
        return
    record = Record(one.command)
    with tempfile.TemporaryDirectory() as empty:
        # Some examples keep their models, in a folder of the command.
        folder = MODELS if f"--output {MODELS}" in one.command else empty
        start(one.command, "--output", folder)
        for table in one.csv:
            record.add(table, pd.read_csv(ROOT / folder / f"{table}.csv"))
    record.write(path)


def start(command, *options):
    """Run a script of the repository."""
    print(f"... python {command}", flush=True)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    subprocess.run(
        [sys.executable, *shlex.split(command), *map(str, options)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        check=True,
    )


def show():
    """Print all commands, with their duration and the date of their record."""
    for name, one in RUNS.items():
        path = DATA / f"{name}.json"
        date = json.loads(path.read_text())["date"] if path.exists() else "no record"
        kind = "quick" if one.is_quick else "long"
        print(f"{name:20} {kind:5} {one.minutes:6g} min  {date:10}  {one.command}")
        if one.first:
            print(f"{'':47}after  {one.first}")


def main():
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="show all commands")
    parser.add_argument(
        "--run",
        nargs="+",
        default=[],
        choices=[*RUNS, "quick"],
        metavar="NAME",
        help="run these commands; quick means all quick ones",
    )
    options = parser.parse_args()
    names = dict.fromkeys(options.run)
    if "quick" in names:
        del names["quick"]
        names |= {name: None for name, one in RUNS.items() if one.is_quick}
    for name in names:
        run(name)
    if options.list or not names:
        show()


if __name__ == "__main__":
    main()
