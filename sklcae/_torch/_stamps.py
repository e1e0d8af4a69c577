"""What training knows of each stamp, whole batches of it taken at once."""

from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

__all__ = ["Partners", "StampDataset", "Stamps"]


class Stamps(NamedTuple):
    """Stamps with what they weigh; None where all weigh the same.

    Attributes
    ----------
    images : array of shape (n, C, H, W)
        The scaled images, float32.
    targets : array of shape (n, n_targets)
        The scaled targets, float32, any number where one is missing.
    image_weights : array of shape (n,), optional
        Weights of the images, of mean 1.
    target_weights : array of shape (n, n_targets), optional
        Weights of the single targets, of mean 1 for each; 0 where one is missing.
    pixel_mask : bool array of shape (n, C, H, W), optional
        True where a pixel counts.
    partners : Stamps or `Partners`, optional
        For each stamp another one of the same group: of a batch the stamps, of a
        dataset what draws them.
    """

    images: torch.Tensor
    targets: torch.Tensor
    image_weights: torch.Tensor | None = None
    target_weights: torch.Tensor | None = None
    pixel_mask: torch.Tensor | None = None
    partners: "Stamps | Partners | None" = None

    def map(self, function):
        """Apply a function to all that is there."""
        return Stamps(*(_map(function, part) for part in self))


def _map(function, part):
    if part is None:
        return None
    return part.map(function) if isinstance(part, Stamps) else function(part)


class Partners:
    """For each stamp, another one of the same group.

    Parameters
    ----------
    groups : int array of shape (n,)
        The groups of the stamps.
    usable : bool array of shape (n,)
        Which stamps may be somebody's partner.
    weights : array of shape (n,) or None
        Weights of the stamps; None where all weigh the same.
    """

    def __init__(self, groups, usable, weights=None):
        order = np.argsort(groups, kind="stable")
        self.order = order[usable[order]]
        members = groups[self.order]
        self.start = np.searchsorted(members, groups)
        self.place = np.full(len(groups), -1)
        self.place[self.order] = np.arange(len(self.order)) - self.start[self.order]
        size = np.searchsorted(members, groups, side="right") - self.start
        self.n_others = size - usable
        self.weights = np.ones(len(groups)) if weights is None else weights
        counted = usable * self.weights
        others = np.bincount(groups, counted)[groups] - counted
        self.mean_of_others = others / np.maximum(self.n_others, 1)

    def draw(self, rows, generator=None):
        """Return the partners of some rows.

        Parameters
        ----------
        rows : int array of shape (m,)
            The stamps.
        generator : torch.Generator or None
            Source of the choice; None takes the next one of the group, always the same.

        Returns
        -------
        partners : int array of shape (m,)
            Their partners; a stamp that has none is its own.
        has_partner : bool array of shape (m,)
            Whether there is one.
        """
        rows = np.asarray(rows)
        n_others, place = self.n_others[rows], self.place[rows]
        has_partner = n_others > 0
        if generator is None:
            step = np.zeros(len(rows), dtype=int)
        else:
            uniform = torch.rand(len(rows), generator=generator, dtype=torch.float64)
            step = (uniform.numpy() * n_others).astype(int)
        # Counted on from the stamp itself, where it is among those that are usable.
        size = np.maximum(n_others + (place >= 0), 1)
        partner = self.start[rows] + (place + 1 + step) % size
        partner = (
            self.order[np.where(has_partner, partner, 0)] if len(self.order) else rows
        )
        return np.where(has_partner, partner, rows), has_partner

    def shares(self, rows, partner_rows):
        """Return what partners weigh, as a share in the mean of all others.

        Parameters
        ----------
        rows, partner_rows : int array of shape (m,)
            The stamps and their partners, as `draw` returns them.

        Returns
        -------
        float32 array of shape (m,)
            A mean of 1 over those that may be a stamp's partner, so that a weight
            decides which of them count, and not how much all of them do.
        """
        mean = self.mean_of_others[np.asarray(rows)]
        shares = self.weights[partner_rows] / np.where(mean > 0, mean, 1)
        return shares.astype(np.float32)


class StampDataset(Dataset):
    """Dataset of stamps that is indexed by whole batches.

    Parameters
    ----------
    stamps : Stamps
        Of arrays, or of what a list of rows makes an array.
    generator : torch.Generator or None
        Source of the choice of partners, see `Partners.draw`.
    """

    def __init__(self, stamps, generator=None):
        self.stamps = stamps._replace(partners=None)
        self.partners = stamps.partners
        self.generator = generator

    def __len__(self):
        return len(self.stamps.images)

    def __getitem__(self, rows):
        stamps = self._take(rows)
        if self.partners is None:
            return stamps
        partner_rows, has_partner = self.partners.draw(rows, self.generator)
        partners = self._take(partner_rows)
        weights = torch.from_numpy(has_partner.astype(np.float32))
        if stamps.image_weights is not None:
            shares = self.partners.shares(rows, partner_rows)
            weights = weights * stamps.image_weights * torch.from_numpy(shares)
        return stamps._replace(partners=partners._replace(image_weights=weights))

    def _take(self, rows):
        return self.stamps.map(lambda part: torch.from_numpy(part[rows]))
