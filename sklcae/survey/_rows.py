"""Stamps that are read a range of rows at a time."""

import numpy as np

from sklcae._planes import stack_planes


class LazyStamps:
    """Base class of stamps that are X for the estimators and are read when taken.

    A subclass has the attribute `shape` and the method `_planes_of`, which returns the
    arguments of `stack_planes` for a slice of rows.
    """

    dtype = np.dtype(np.float32)
    shape: tuple

    def _planes_of(self, rows):
        raise NotImplementedError

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            return self._read(range(len(self))[rows])
        rows = np.arange(len(self))[rows]
        if rows.ndim == 0:
            return self._read(range(rows, rows + 1))[0]
        parts = [self._read(range(row, row + 1)) for row in rows]
        return np.concatenate(parts) if parts else self._read(range(0))

    def _read(self, chosen):
        """Return the rows of a range with all of their planes, float32."""
        if not chosen:
            return np.zeros((0, *self.shape[1:]), self.dtype)
        first = min(chosen)
        try:
            stamps = stack_planes(**self._planes_of(slice(first, max(chosen) + 1)))
        except ValueError as error:
            error.add_note(f"Rows are counted from row {first} of {self!r}.")
            raise
        return stamps[:: chosen.step].astype(self.dtype, copy=False)
