"""The shapes that the weights of a network have, without making them."""

from reprlib import repr as short_repr

import torch

from sklcae._torch._networks import NETWORKS

__all__ = ["weight_shapes"]


def weight_shapes(network, image_shape, n_targets, latent_dim, predicts_variance=False):
    """Return the shapes of the weights that a network would have.

    Parameters
    ----------
    network : str
        A key of ``NETWORKS``.
    image_shape : tuple of int
        Channels, height and width of an image.
    n_targets, latent_dim : int
        Sizes of z_phy and of the whole latent space.
    predicts_variance : bool
        Whether the network predicts the variance of z_phy.

    Returns
    -------
    dict of str to tuple of int
        Shapes by the names of the weights, whose sizes take no memory.

    Raises
    ------
    ValueError
        If there is no such network, or its weights would be too large to count.
    """
    _check_sizes(network, image_shape, n_targets, latent_dim)
    try:
        with torch.device("meta"):
            module = NETWORKS[network](
                image_shape, n_targets, latent_dim, predicts_variance
            )
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"no network {network!r} can be for images of the shape {image_shape}, "
            f"{n_targets} targets and {latent_dim} latents: {error}"
        ) from error
    return {name: tuple(w.shape) for name, w in module.state_dict().items()}


def _check_sizes(network, image_shape, n_targets, latent_dim):
    if not isinstance(network, str) or network not in NETWORKS:
        raise ValueError(
            f"the network must be one of {list(NETWORKS)}, not {short_repr(network)}"
        )
    sizes = (*image_shape, n_targets, latent_dim)
    if len(image_shape) != 3 or not all(0 < size < 2**31 for size in sizes):
        raise ValueError(f"no network can be of the sizes {short_repr(sizes)}")
    if latent_dim <= n_targets:
        raise ValueError(
            f"there must be more latents than targets, not {latent_dim} latents and "
            f"{n_targets} targets"
        )
