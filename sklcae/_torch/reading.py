"""The order of the batches of stamps on disk, and reading them ahead of their use.

A ``reading`` has the ``blocks`` (n,) of the stamps on disk, the number ``n_at_once`` of
blocks whose stamps are shuffled together, and a function ``expect`` of the blocks to be
read next.
"""

import numpy as np
import torch

# Buffers in memory: the one in use, and the next one.
N_BUFFERS = 2


class BlockShuffle:
    """Sample all stamps in a random order that reads each block once.

    Blocks are shuffled, and then the stamps of a few successive blocks.
    """

    def __init__(self, reading, generator):
        self.reading, self.generator = reading, generator

    def __len__(self):
        return len(self.reading.blocks)

    def __iter__(self):
        blocks, numbers = np.unique(self.reading.blocks, return_inverse=True)
        place = self._permutation(len(blocks))
        buffers = place[numbers] // self.reading.n_at_once
        order = np.argsort(buffers, kind="stable")
        ends = np.cumsum(np.bincount(buffers))
        for stamps in np.split(order, ends[:-1]):
            yield from stamps[self._permutation(len(stamps))].tolist()

    def _permutation(self, n):
        return torch.randperm(n, generator=self.generator).numpy()


class FileOrder:
    """Sample all stamps in the order of their blocks."""

    def __init__(self, reading):
        self.reading = reading

    def __len__(self):
        return len(self.reading.blocks)

    def __iter__(self):
        return iter(np.argsort(self.reading.blocks, kind="stable").tolist())


class ReadAhead:
    """Batches of a sampler, whose blocks are read while earlier batches are in use."""

    def __init__(self, sampler, reading):
        self.sampler, self.reading = sampler, reading

    def __len__(self):
        return len(self.sampler)

    def __iter__(self):
        batches = list(self.sampler)
        last = {}
        for number, batch in enumerate(batches):
            blocks = np.unique(self.reading.blocks[batch])
            last |= dict.fromkeys(blocks.tolist(), number)
        # A dict keeps the order of the first use.
        to_come = list(last)
        for number, batch in enumerate(batches):
            to_come = [block for block in to_come if last[block] >= number]
            self.reading.expect(to_come[: N_BUFFERS * self.reading.n_at_once])
            yield batch
