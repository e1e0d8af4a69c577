"""Whether a catalogue is complete and undamaged."""

from pathlib import Path

from sklcae._typing import File
from sklcae.exceptions import CatalogError
from sklcae.survey._catalog_file import check_part, part_metadata
from sklcae.survey._plan import read_plan

# So many problems are named in a message.
MOST_SHOWN = 5


def verify_catalog(path: File, read: bool = True) -> int:
    """Check that a catalogue is complete and undamaged.

    Parameters
    ----------
    path : str or PathLike
        The folder that :func:`predict_catalog` wrote, or a Parquet file of a catalogue,
        whose checksums are compared.
    read : bool, default=True
        Whether all parts are read, with their checksums. Otherwise their numbers of
        rows are compared with the plan.

    Returns
    -------
    n_rows : int
        The number of its rows.

    Raises
    ------
    CatalogError
        If there is no plan, or parts are missing, damaged or of another plan; the
        message names them. If a Parquet file is damaged.

    Examples
    --------
    >>> from sklcae.survey import verify_catalog
    >>> verify_catalog("nothing")
    Traceback (most recent call last):
    ...
    sklcae.exceptions.CatalogError: path must be a folder ... Got 'nothing'.
    """
    folder = Path(path)
    if folder.suffix == ".parquet" and folder.is_file():
        return _verify_file(folder)
    plan = read_plan(folder)
    if plan is None:
        raise CatalogError(
            "path must be a folder that predict_catalog wrote, with a plan, or a "
            f"Parquet file. Got {str(path)!r}."
        )
    problems = []
    for number in range(plan.n_parts):
        problem = _problem_of_part(folder, plan, number, read)
        if problem:
            problems.append(problem)
    known = {f"part-{number:06d}.parquet" for number in range(plan.n_parts)}
    extra = sorted(p.name for p in folder.glob("part-*") if p.name not in known)
    problems += [f"{name} is not in the plan" for name in extra]
    if problems:
        shown = "; ".join(problems[:MOST_SHOWN])
        n_more = len(problems) - MOST_SHOWN
        more = f"; and {n_more} more" if n_more > 0 else ""
        raise CatalogError(f"The catalogue {str(path)!r} is wrong: {shown}{more}.")
    return plan.n_rows


def _verify_file(path):
    """Return the number of rows of a Parquet file that is not damaged."""
    try:
        check_part(path)
        return part_metadata(path)[0]
    except ValueError as error:
        raise CatalogError(str(error)) from error


def _problem_of_part(folder, plan, number, read):
    """Return the problem of a part, or None."""
    name, rows = f"part-{number:06d}.parquet", plan.rows_of(number)
    if not (folder / name).exists():
        return f"{name} is missing"
    try:
        n_rows, metadata = part_metadata(folder / name)
        if metadata.get("sklcae.plan") != plan.identity:
            return f"{name} belongs to another plan"
        if n_rows != len(rows):
            return f"{name} has {n_rows} rows in place of {len(rows)}"
        if read:
            check_part(folder / name)
    except ValueError as error:
        return str(error)
    return None
