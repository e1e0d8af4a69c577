"""The plan of a catalogue: its model, its source, its options and the rows of parts."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from math import ceil
from pathlib import Path

import numpy as np

from sklcae._version import __version__
from sklcae.exceptions import CatalogError
from sklcae.survey._atomic import write_json
from sklcae.survey._columns import Column

PLAN_FILE = "_plan.json"
FORMAT_VERSION = 1
# A part has about so many bytes of stamps, and a source at least so many parts, unless
# these would have fewer than so many rows.
PART_SIZE = 2**30
FEWEST_PARTS, FEWEST_ROWS = 48, 2048


@dataclass(frozen=True)
class Plan:
    """The plan of a catalogue.

    Parameters
    ----------
    model : str
        SHA-256 of the file of the model.
    source : dict
        Identity of the stamps.
    options : dict
        Options of `predict_catalog`, as plain values.
    columns : list of Column
        The columns of the catalogue.
    n_rows : int
        Number of stamps.
    rows_per_part : int
        Rows of each part but the last.
    version : str
        The version of sklcae.
    format_version : int
        The version of this format.
    """

    model: str
    source: dict
    options: dict
    columns: list
    n_rows: int
    rows_per_part: int
    version: str = __version__
    format_version: int = FORMAT_VERSION

    @property
    def n_parts(self):
        """Number of parts. A source without stamps has one, without rows."""
        return max(1, ceil(self.n_rows / self.rows_per_part))

    @property
    def identity(self):
        """SHA-256 of the plan."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()

    def rows_of(self, number):
        """Return the rows of a part."""
        start = number * self.rows_per_part
        return range(start, min(start + self.rows_per_part, self.n_rows))

    def write(self, folder):
        """Write the plan into a folder, whole or not at all."""
        write_json(Path(folder) / PLAN_FILE, asdict(self))


def read_plan(folder):
    """Return the plan of a folder, or None if it has none.

    Raises CatalogError if the file is no plan.
    """
    path = Path(folder) / PLAN_FILE
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise CatalogError(
            f"{str(path)!r} is no plan of a catalogue: {error}"
        ) from error
    names = {field.name for field in fields(Plan)}
    if not isinstance(content, dict) or set(content) != names:
        raise CatalogError(f"{str(path)!r} is no plan of a catalogue.")
    content["columns"] = [Column(*column) for column in content["columns"]]
    return Plan(**content)


def plain_values(options):
    """Return options as JSON has them: lists, and numbers of Python.

    Raises TypeError if a value has no such form.
    """
    try:
        return json.loads(json.dumps(options, default=_as_python))
    except (TypeError, ValueError) as error:
        raise TypeError(
            "The options of predict_catalog must be plain values, to be written into "
            f"its plan: {error}"
        ) from error


def _as_python(value):
    """Return a number or an array of NumPy as JSON has it."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{value!r} is a {type(value).__name__}")


def check_same(old, new, folder):
    """Raise CatalogError that names the differences of two plans."""
    old, new = asdict(old), asdict(new)
    differences = list(_differences(old, new))
    if differences:
        raise CatalogError(
            f"out must be a new folder, or one with the same plan. {str(folder)!r} was "
            f"begun with {'; '.join(differences)}."
        )


def _differences(old, new, prefix=""):
    for name in {**old, **new}:
        before, now = old.get(name), new.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, f"{prefix}{name} ")
        elif before != now:
            yield f"another {prefix}{name}: {_short(before)}, now {_short(now)}"


def _short(value):
    text = repr(value)
    return text if len(text) < 100 else f"{text[:97]}..."


def rows_of_parts(n_rows, bytes_of_row, rows_of_chunk, rows_per_part="auto"):
    """Return the rows of each part, whole chunks of the source."""
    if rows_per_part != "auto":
        return int(rows_per_part)
    rows = min(PART_SIZE // max(1, bytes_of_row), ceil(n_rows / FEWEST_PARTS))
    rows = max(rows, min(FEWEST_ROWS, PART_SIZE // max(1, bytes_of_row)), 1)
    return max(1, rows // rows_of_chunk) * rows_of_chunk
