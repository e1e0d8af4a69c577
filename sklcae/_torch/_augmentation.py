"""Random flips and quarter turns of a batch, its targets turned along."""

import torch

__all__ = ["DihedralAugmentation", "dihedral_transform"]


def dihedral_transform(images, element):
    """Apply one of the eight symmetries of the square.

    Parameters
    ----------
    images : torch.Tensor of shape (n, C, H, W)
        The images; H and W must be equal for elements of 4 and above.
    element : int
        From 0 to 7. Bit 0 flips the columns, bit 1 then flips the rows, bit 2 then
        swaps rows and columns.

    Returns
    -------
    torch.Tensor of shape (n, C, H, W)
        The transformed images.
    """
    axes = [axis for bit, axis in ((1, 3), (2, 2)) if element & bit]
    images = images.flip(axes) if axes else images
    return images.transpose(2, 3) if element & 4 else images


class DihedralAugmentation:
    """Give every stamp of a batch a random symmetry of the square.

    Parameters
    ----------
    matrices : ndarray of shape (n_elements, n_targets, n_targets)
        What each element does to the scaled targets, ``matrix @ target + offset``.
        Four elements are flips alone, eight have the quarter turns.
    offsets : ndarray of shape (n_elements, n_targets)
        See ``matrices``.
    generator : torch.Generator
        Source of the random elements, on the CPU.
    """

    def __init__(self, matrices, offsets, generator):
        self.matrices = torch.as_tensor(matrices, dtype=torch.float32)
        self.offsets = torch.as_tensor(offsets, dtype=torch.float32)
        self.generator = generator

    def __call__(self, stamps):
        """Return transformed stamps; the given ones are left alone.

        Partners are turned as the stamps that they belong to.
        """
        n_elements = len(self.matrices)
        elements = torch.randint(
            n_elements, (len(stamps.images),), generator=self.generator
        )
        turned = self._turn(stamps, elements)
        if stamps.partners is None:
            return turned
        return turned._replace(partners=self._turn(stamps.partners, elements))

    def _turn(self, stamps, elements):
        matrices, offsets = self.matrices[elements], self.offsets[elements]
        targets = (matrices @ stamps.targets[:, :, None])[:, :, 0] + offsets
        turned = stamps._replace(images=_turn(stamps.images, elements), targets=targets)
        if stamps.target_weights is not None:
            # Where x0 and y0 change places, so do their weights.
            weights = (matrices != 0).float() @ stamps.target_weights[:, :, None]
            turned = turned._replace(target_weights=weights[:, :, 0])
        if stamps.pixel_mask is not None:
            turned = turned._replace(pixel_mask=_turn(stamps.pixel_mask, elements))
        return turned


def _turn(images, elements):
    turned = torch.empty_like(images)
    for element in elements.unique().tolist():
        rows = elements == element
        turned[rows] = dihedral_transform(images[rows], element)
    return turned
