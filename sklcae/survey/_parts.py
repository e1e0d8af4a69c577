"""A part of a catalogue, measured where it is asked for: here or in a worker."""

import hashlib
import json
from functools import lru_cache, partial
from itertools import pairwise
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from sklcae._blocks import read_ahead, rows_of_block
from sklcae._storage.model import load_model
from sklcae.exceptions import CatalogError
from sklcae.survey._catalog_file import part_metadata, write_part
from sklcae.survey._columns import PLACES
from sklcae.survey._measurement import bad_rows, join_results, measure_rows
from sklcae.survey._stamps import open_stamps
from sklcae.survey._worker import settle_worker

# Where a process died, so many smaller steps are made in the next attempt. A stamp is
# left out when so many attempts died at it alone.
FINER_STEPS = 16
MOST_DEATHS = 3
DIED = "The process died while it measured this stamp."


class Task(NamedTuple):
    """All that a worker needs to measure a part.

    Parameters
    ----------
    folder : str
        The folder of the catalogue.
    number : int
        The number of the part.
    rows : range
        Its rows.
    plan : str
        Identity of the plan.
    model : tuple of str
        Path and SHA-256 of the model.
    source : tuple of str and dict
        The path of the stamps and the options of `open_stamps`.
    identity : dict
        The identity of the stamps.
    columns : list of Column
        The columns of the catalogue.
    options : MeasurementOptions
        What is measured.
    """

    folder: str
    number: int
    rows: range
    plan: str
    model: tuple
    source: tuple
    identity: dict
    columns: list
    options: Any

    @property
    def name(self):
        """A name of the part."""
        return f"{self.plan[:12]}-{self.number}"

    @property
    def path(self):
        """The file of the part."""
        return Path(self.folder) / f"part-{self.number:06d}.parquet"

    @property
    def metadata(self):
        """The entries of the metadata that name the part."""
        rows = f"{self.rows.start}:{self.rows.stop}"
        return {"sklcae.plan": self.plan, "sklcae.rows": rows}


def is_done(task):
    """Return whether the file of a part is whole and belongs to the plan."""
    if not task.path.exists():
        return False
    try:
        n_rows, metadata = part_metadata(task.path)
    except ValueError:
        return False
    same = all(metadata.get(key) == value for key, value in task.metadata.items())
    return same and n_rows == len(task.rows)


def measure_part(task):
    """Measure a part and write its file. Returns the number of bad stamps."""
    if is_done(task):
        return len(bad_stamps_of(task))
    model = load_by_hash(*task.model)
    path, options = task.source
    with open_stamps(path, **options) as stamps:
        if stamps.identity != task.identity:
            raise CatalogError(
                f"stamps must not change while they are measured. {path!r} is another "
                "source than at the start."
            )
        results, bad = _measure(model, stamps, task)
        rows = slice(task.rows.start, task.rows.stop)
        results["object_id"] = stamps._ids_of(rows)
        for name in PLACES:
            results[name] = stamps._degrees_of(name, rows)
    metadata = {**task.metadata, "sklcae.bad_stamps": json.dumps(bad)}
    write_part(task.path, task.columns, results, metadata)
    Journal(task).remove()
    return len(bad)


def bad_stamps_of(task):
    """Return the errors of the bad stamps of a part that is done, by row."""
    _, metadata = part_metadata(task.path)
    bad = json.loads(metadata.get("sklcae.bad_stamps", "{}"))
    return {int(row): message for row, message in bad.items()}


def hash_of(path):
    """Return SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=2)
def load_by_hash(path, sha256):
    """Return the model of a file, once for each process.

    All pixels of a stamp may be masked, and its results are then NaN. Raises
    CatalogError if the file is not the one with this hash.
    """
    settle_worker()
    model = load_model(path)
    if hash_of(path) != sha256:
        raise CatalogError(
            f"model_path must not change while a catalogue is made. {path!r} is "
            "another file than at the start."
        )
    return model.set_params(allow_nan=True, handle_empty="nan")


def _measure(model, stamps, task):
    """Return the results of a part, and the errors of its bad stamps."""
    journal = Journal(task)
    results, bad = [], {}
    try:
        for rows, read in _reading(stamps, journal):
            if rows.start in journal.killers and task.options.raises:
                raise RuntimeError(f"{DIED} Its row is {rows.start}.")
            if rows.start in journal.killers:
                found = bad_rows(model, 1, task.options), {rows.start: DIED}
            else:
                journal.begin(rows)
                found = measure_rows(model, read, rows, task.options)
            results.append(found[0])
            bad |= found[1]
    except BaseException:
        journal.remove()
        raise
    return join_results(results), bad


def _reading(stamps, journal):
    """Yield the ranges of rows of a journal, each with a function that reads rows."""
    lock = Lock()

    def read(rows):
        # The files of some formats have one place at which they are read.
        with lock:
            return stamps[rows.start : rows.stop]

    steps = journal.steps(rows_of_block(stamps))
    if journal.is_clean:
        for rows, reading in read_ahead(read, steps):
            yield rows, partial(_read_once, read, rows, reading)
    else:
        # After a death nothing is read ahead: the journal names what is read.
        for rows in steps:
            yield rows, read


def _read_once(read, step, reading, rows):
    """Return rows. Those of the whole step have been read ahead."""
    return reading.result() if rows == step else read(rows)


class Journal:
    """The rows that are being measured, in a file that outlives the process.

    If the process dies, the next attempt makes smaller steps in the rows at which it
    died, until a single stamp is left. A stamp at which two attempts died is left out.

    Parameters
    ----------
    task : Task
        The part.
    """

    def __init__(self, task):
        self.rows = task.rows
        self.path = task.path.with_name(f".{task.path.stem}.journal")
        self.killers, self.suspect, self.deaths = [], None, 0
        try:
            content = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return
        self.killers = content["killers"]
        suspect = range(content["start"], content["stop"])
        self.deaths = content["deaths"] + 1
        if len(suspect) == 1 and self.deaths >= MOST_DEATHS:
            self.killers.append(suspect.start)
        else:
            self.suspect = suspect

    @property
    def is_clean(self):
        """Whether no attempt has died."""
        return self.suspect is None and not self.killers

    def steps(self, n_block):
        """Return the ranges of rows that are measured one after another."""
        cuts = {self.rows.start, self.rows.stop}
        for row in self.killers:
            cuts |= {row, row + 1}
        if self.suspect is not None:
            size = max(1, ceil(len(self.suspect) / FINER_STEPS))
            cuts |= {*self.suspect[::size], self.suspect.stop}
        cuts = sorted(cuts)
        steps = []
        for start, stop in pairwise(cuts):
            firsts = range(start, stop, n_block)
            steps += [range(first, min(first + n_block, stop)) for first in firsts]
        return steps or [self.rows]

    def begin(self, rows):
        """Note that some rows are going to be measured."""
        content = {
            "killers": self.killers,
            "start": rows.start,
            "stop": rows.stop,
            "deaths": self.deaths if rows == self.suspect else 0,
        }
        self.path.write_text(json.dumps(content))

    def remove(self):
        """Remove the file."""
        self.path.unlink(missing_ok=True)
