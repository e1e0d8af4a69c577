"""The batch: everything that training and inference use of some stamps."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset


class Batch(NamedTuple):
    """Stamps, with targets and weights in training.

    The fields hold tensors, or arrays in a dataset. None stands for equal weights, or
    for a plane that the stamps do not have.

    Parameters
    ----------
    images : array of shape (n, C, H, W)
        The scaled images, float32.
    targets : array of shape (n, n_targets)
        The scaled targets, float32. An entry of weight 0 may hold any number.
    mask : bool array of shape (n, C, H, W)
        True where a pixel counts.
    image_weights : array of shape (n,)
        Weights of the images, of mean 1.
    target_weights : array of shape (n, n_targets)
        Weights of single targets, of mean 1 for each target; 0 where one is missing.
    partners : Batch or Partners
        For each stamp another stamp of the same group. A dataset holds a `Partners`,
        from which the partners of a batch are drawn.
    variance : array of shape (n, C, H, W)
        Background variance of each pixel, in the unit of the light of `LightScale`
        squared. None takes the variance of the training set.
    psf : array of shape (n, C, H, W)
        Effective point spread function of each stamp, of sum 1, with its centre in
        pixel (H // 2, W // 2).

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Batch
    >>> batch = Batch(torch.zeros(5, 1, 32, 32), psf=torch.ones(5, 1, 32, 32))
    >>> batch.psf.shape, batch.variance
    (torch.Size([5, 1, 32, 32]), None)
    """

    images: Any
    targets: Any = None
    mask: Any = None
    image_weights: Any = None
    target_weights: Any = None
    partners: Any = None
    variance: Any = None
    psf: Any = None

    def map(
        self, function: Callable[[Any], Any], fields: tuple[str, ...] | None = None
    ) -> "Batch":
        """Apply a function to each field that is not None, partners included.

        Parameters
        ----------
        function : callable
            Takes and returns an array.
        fields : tuple of str or None
            The fields to change, in the partners too; None for all fields.

        Returns
        -------
        Batch
            The changed batch.

        Examples
        --------
        >>> import torch
        >>> from sklcae.networks import Batch
        >>> batch = Batch(torch.zeros(5, 1, 32, 32), psf=torch.ones(5, 1, 32, 32))
        >>> batch.map(lambda values: values[:2]).psf.shape
        torch.Size([2, 1, 32, 32])
        """
        changed = {
            name: _map(function, value, fields)
            for name, value in self._asdict().items()
            if value is not None and (fields is None or name in (*fields, "partners"))
        }
        return self._replace(**changed)

    @property
    def observations(self) -> "Batch":
        """The part of a batch that exists in prediction too."""
        return Batch(self.images, variance=self.variance, psf=self.psf)


def joined(batches):
    """Return all stamps of several batches of tensors.

    Weights and masks that only some of them have are 1 for the others.
    """
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


# Fields that have a value for each pixel, and are flipped and turned together.
PIXELS = ("images", "mask", "variance")


def _map(function, value, fields):
    return value.map(function, fields) if isinstance(value, Batch) else function(value)


class BatchDataset(Dataset):
    """Dataset that is indexed by the rows of a whole batch.

    The batch has all stamps, as arrays or as objects that a list of rows turns into an
    array. The generator draws the partners, see `Partners.draw`. ``reading`` is how
    images are read from disk, see `sklcae._torch.reading`, or None.
    """

    def __init__(self, batch, generator=None):
        self.batch = batch._replace(partners=None)
        self.partners = batch.partners
        self.generator = generator
        self.reading = getattr(batch.images, "reading", None)

    def __len__(self):
        return len(self.batch.images)

    def __getitem__(self, rows):
        batch = self._take(rows)
        if self.partners is None:
            return batch
        partner_rows, has_partner = self.partners.draw(rows, self.generator)
        partners = self._take(partner_rows)
        weights = torch.from_numpy(has_partner.astype(np.float32))
        if batch.image_weights is not None:
            shares = self.partners.shares(rows, partner_rows)
            weights = weights * batch.image_weights * torch.from_numpy(shares)
        return batch._replace(partners=partners._replace(image_weights=weights))

    def _take(self, rows):
        return self.batch.map(lambda values: torch.from_numpy(values[rows]))
