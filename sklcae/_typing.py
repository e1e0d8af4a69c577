"""Types that several public signatures share."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

File: TypeAlias = str | os.PathLike[str]
Floats: TypeAlias = NDArray[np.floating[Any]]
RandomState: TypeAlias = int | np.random.RandomState | None

# The losses of the paper's Eqs. 2 and 3, and the others.
PhysicalLoss: TypeAlias = Literal["squared_error", "gaussian_likelihood"]
ReconstructionLoss: TypeAlias = Literal[
    "binary_cross_entropy", "squared_error", "chi_square"
]

# The parameters of scores of several targets.
Errors: TypeAlias = str | Sequence[str] | Mapping[str, str] | None
MultiOutput: TypeAlias = Literal["raw_values", "uniform_average"] | ArrayLike
# With multioutput="raw_values" an array.
Score: TypeAlias = float | Any


class Columns(Protocol):
    """Columns with names: a dict of arrays, a DataFrame or a table."""

    def __getitem__(self, name: str, /) -> Any:
        """Return a column."""


class Distribution(Protocol):
    """A distribution of scipy.stats."""

    def rvs(self, *args: Any, **kwargs: Any) -> Any:
        """Draw random values."""


# A parameter of simulated galaxies: a value, a range, a value of each, a distribution.
Drawn: TypeAlias = ArrayLike | Distribution
