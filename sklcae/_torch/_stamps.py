"""What training knows of each stamp, whole batches of it taken at once."""

from typing import NamedTuple

import torch
from torch.utils.data import Dataset

__all__ = ["StampDataset", "Stamps"]


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
    """

    images: torch.Tensor
    targets: torch.Tensor
    image_weights: torch.Tensor | None = None
    target_weights: torch.Tensor | None = None
    pixel_mask: torch.Tensor | None = None

    def map(self, function):
        """Apply a function to all that is there."""
        return Stamps(*(None if part is None else function(part) for part in self))


class StampDataset(Dataset):
    """Dataset of stamps that is indexed by whole batches.

    Parameters
    ----------
    stamps : Stamps
        Of arrays, or of what a list of rows makes an array.
    """

    def __init__(self, stamps):
        self.stamps = stamps

    def __len__(self):
        return len(self.stamps.images)

    def __getitem__(self, rows):
        return self.stamps.map(lambda part: torch.from_numpy(part[rows]))
