"""Random flips and quarter turns of a batch; the targets turn with the images."""

import torch

from sklcae._torch.batches import PIXELS


def dihedral_transform(images, element):
    """Apply one of the eight symmetries of the square to images, (n, C, H, W).

    The element is a number from 0 to 7. Bit 0 flips the columns, then bit 1 flips the
    rows, then bit 2 swaps rows and columns, which needs square images.
    """
    axes = [axis for bit, axis in ((1, 3), (2, 2)) if element & bit]
    images = images.flip(axes) if axes else images
    return images.transpose(2, 3) if element & 4 else images


def turn_psf(psf, element):
    """Apply one of the eight symmetries to PSFs, about the pixel (H // 2, W // 2).

    Where a side is even, a flip moves this pixel by one, and the PSF is moved back.
    """
    turned = dihedral_transform(psf, element & 3)
    axes = [
        axis
        for bit, axis in ((1, 3), (2, 2))
        if element & bit and psf.shape[axis] % 2 == 0
    ]
    turned = turned.roll([1] * len(axes), axes) if axes else turned
    return dihedral_transform(turned, element & 4)


def turn_batch(batch, element):
    """Return a batch whose pixels and PSFs are turned; its targets are not."""
    turned = batch.map(lambda pixels: dihedral_transform(pixels, element), PIXELS)
    return turned.map(lambda psf: turn_psf(psf, element), ("psf",))


class DihedralAugmentation:
    """Give every stamp of a batch a random symmetry of the square.

    Each element maps the scaled targets to ``matrix @ target + offset``. The matrices
    are (n_elements, n_targets, n_targets), the offsets (n_elements, n_targets). Four
    elements are flips, eight include the quarter turns. The generator is on the CPU.
    """

    def __init__(self, matrices, offsets, generator):
        self.matrices = torch.as_tensor(matrices, dtype=torch.float32)
        self.offsets = torch.as_tensor(offsets, dtype=torch.float32)
        self.generator = generator

    def __call__(self, batch, executor=None):
        """Return the transformed batch and leave the given one unchanged.

        Partners get the same symmetry as their stamps.
        """
        elements = torch.randint(
            len(self.matrices), (len(batch.images),), generator=self.generator
        )
        turned = batch.map(
            lambda pixels: _turn(pixels, elements, dihedral_transform), PIXELS
        )
        turned = turned.map(lambda psf: _turn(psf, elements, turn_psf), ("psf",))
        matrices, offsets = self.matrices[elements], self.offsets[elements]
        turned = turned.map(
            lambda targets: _apply(matrices, targets) + offsets, ("targets",)
        )
        # Where x0 and y0 change places, so do their weights.
        used = (matrices != 0).float()
        return turned.map(lambda weights: _apply(used, weights), ("target_weights",))


def _apply(matrices, vectors):
    return (matrices @ vectors[:, :, None])[:, :, 0]


def _turn(images, elements, transform):
    turned = torch.empty_like(images)
    for element in elements.unique().tolist():
        rows = elements == element
        turned[rows] = transform(images[rows], element)
    return turned
