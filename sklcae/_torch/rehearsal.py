"""Training on a second set of stamps without forgetting the first one."""

import torch

from sklcae._torch.batches import Batch
from sklcae._torch.workers import in_order


class Rehearsal:
    """Put two simulated stamps beside each stamp of a batch.

    One is a new galaxy on the planes of the stamp, the other a galaxy of the first
    training on planes of that training.

    Parameters
    ----------
    here, there : callable
        `SimulatedGalaxies` of the second and of the first set.
    planes : Batch
        PSFs and, if the stamps have any, variances like those of the first set. Its
        images have the same length.
    generator : torch.Generator
        Draws the planes, on the CPU.
    """

    def __init__(self, here, there, planes, generator):
        self.here, self.there = here, there
        self.planes, self.generator = planes, generator

    def __call__(self, batch, executor=in_order):
        """Return a batch of three times the length."""
        n = len(batch.images)
        rows = torch.randint(len(self.planes.psf), (n,), generator=self.generator)
        known = self.planes.map(lambda plane: plane[rows])
        past = batch._replace(psf=known.psf, variance=known.variance)
        return joined([batch, self.here(batch, executor), self.there(past, executor)])


def joined(batches):
    """Return the stamps of several batches in one; weights and masks of None are 1."""
    fields = {}
    for name in Batch._fields:
        values = [getattr(batch, name) for batch in batches]
        like = next((value for value in values if value is not None), None)
        if like is not None:
            filled = [
                like.new_ones((len(batch.images), *like.shape[1:]))
                if value is None
                else value
                for batch, value in zip(batches, values, strict=True)
            ]
            fields[name] = torch.cat(filled)
    return Batch(**fields)
