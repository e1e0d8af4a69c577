"""The interface of a network, and the parts from which networks are combined.

A network is made by a callable that takes an `Architecture` and returns a
`torch.nn.Module` with two methods:

- ``encode(batch) -> Encoding`` takes a whole `Batch`;
- ``decode(latents) -> logits`` takes latents of shape (n, latent_dim) and returns
  (n, C, H, W). The sigmoid of the logits is the image in [0, 1]. If the architecture
  has PSFs, ``decode(latents, psf)`` also gets the PSFs, (n, C, H, W). A network with
  the attribute ``draws_light`` returns light in the unit of `LightScale` instead.

The network returns logits and not the image because the binary cross-entropy of Eq. 3
is only safe against overflow when it is computed from them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from sklcae._torch.batches import Batch

# Bounds of the logarithm of a variance, in units of the scaled targets. Beyond them
# the exponential overflows, or a single stamp dominates the loss.
LOG_VARIANCE_BOUNDS = (-14.0, 6.0)


class Architecture(NamedTuple):
    """The sizes from which a network is built.

    Parameters
    ----------
    image_shape : tuple of int
        Channels, height and width of an image: of a single plane of the stamps.
    n_targets : int
        Number of supervised latents, the size of z_phy.
    latent_dim : int
        Size of the latent space, z_phy and z_rest together.
    predicts_variance : bool
        Whether the encoder also predicts the variance of z_phy.
    has_psf : bool
        Whether the stamps have PSFs: `Batch.psf` is then given, and so is the second
        argument of ``decode``.
    profile : ProfileUnits or None
        How latents become the parameters of a Sersic profile, if the targets have names
        and the side of a pixel is known.
    light_scale : LightScale or None
        From scaled pixels to light; given with ``profile``.
    has_variance : bool
        Whether the stamps have noise maps: `Batch.variance` is then given.

    Examples
    --------
    >>> from sklcae.networks import Architecture
    >>> architecture = Architecture(image_shape=(1, 32, 32), n_targets=2, latent_dim=16)
    >>> architecture.n_rest
    14
    """

    image_shape: tuple[int, int, int]
    n_targets: int
    latent_dim: int
    predicts_variance: bool = False
    has_psf: bool = False
    profile: Any = None
    light_scale: Any = None
    has_variance: bool = False

    @property
    def n_rest(self) -> int:
        """Size of z_rest."""
        return self.latent_dim - self.n_targets


# Builds a network, or a part of one.
Network: TypeAlias = Callable[[Architecture], nn.Module]


class Encoding(NamedTuple):
    """The output of an encoder.

    Parameters
    ----------
    z_phy : torch.Tensor of shape (n, n_targets)
        The supervised latents, standardised targets.
    z_rest : torch.Tensor of shape (n, latent_dim - n_targets)
        The other latents.
    log_variance : torch.Tensor of shape (n, n_targets) or None
        Logarithm of the variance of z_phy; None unless the encoder predicts it.

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Encoding
    >>> encoding = Encoding(z_phy=torch.zeros(5, 2), z_rest=torch.ones(5, 14))
    >>> encoding.latents.shape
    torch.Size([5, 16])
    """

    z_phy: torch.Tensor
    z_rest: torch.Tensor
    log_variance: torch.Tensor | None = None

    @property
    def latents(self) -> torch.Tensor:
        """The latents, z_phy and z_rest side by side."""
        return torch.cat([self.z_phy, self.z_rest], dim=1)


class Encoder(nn.Module):
    """Base class of encoders: features, and dense layers that read latents off them.

    A subclass makes its own layers in ``__init__``, calls :meth:`add_heads`, and
    implements :meth:`features`.

    Examples
    --------
    An encoder that averages each channel:

    >>> import torch
    >>> from sklcae.networks import Architecture, Batch, Encoder
    >>> class MeanEncoder(Encoder):
    ...     def __init__(self, architecture):
    ...         super().__init__()
    ...         self.add_heads(architecture, n_features=architecture.image_shape[0])
    ...     def features(self, batch):
    ...         return batch.images.mean(dim=(2, 3))
    ...
    >>> encoder = MeanEncoder(Architecture((1, 32, 32), n_targets=2, latent_dim=16))
    >>> encoder(Batch(torch.zeros(5, 1, 32, 32))).z_rest.shape
    torch.Size([5, 14])
    """

    def __init__(self) -> None:
        super().__init__()

    def features(self, batch: Batch) -> torch.Tensor:
        """Compute the features of a batch, (n, n_features).

        Parameters
        ----------
        batch : Batch
            The stamps.

        Returns
        -------
        torch.Tensor of shape (n, n_features)
            The features.

        Examples
        --------
        >>> import torch
        >>> from sklcae.networks import Architecture, Batch, PaperEncoder
        >>> architecture = Architecture((1, 32, 32), n_targets=2, latent_dim=16)
        >>> encoder = PaperEncoder(architecture)
        >>> encoder.features(Batch(torch.zeros(5, 1, 32, 32))).shape
        torch.Size([5, 4096])
        """
        raise NotImplementedError

    def add_heads(
        self, architecture: Architecture, n_features: int, n_variance_units: int = 32
    ) -> None:
        """Add the dense layers for z_phy (linear), z_rest (ReLU) and the variance.

        Parameters
        ----------
        architecture : Architecture
            The sizes of the network.
        n_features : int
            Number of features of an image.
        n_variance_units : int, default=32
            Width of the two hidden layers that predict the variance.

        Examples
        --------
        >>> from sklcae.networks import Architecture, Encoder
        >>> encoder = Encoder()
        >>> encoder.add_heads(Architecture((1, 32, 32), 2, 16), n_features=10)
        >>> encoder.dense_phy
        Linear(in_features=10, out_features=2, bias=True)
        >>> encoder.dense_rest
        Linear(in_features=10, out_features=14, bias=True)
        """
        self.dense_phy = nn.Linear(n_features, architecture.n_targets)
        self.dense_rest = nn.Linear(n_features, architecture.n_rest)
        self._add_variance_head(architecture, n_features, n_variance_units)

    def _add_variance_head(self, architecture, n_features, n_units):
        """Add the layers that predict the variance, if the architecture asks for it."""
        self.dense_variance = None
        if architecture.predicts_variance:
            self.dense_variance = nn.Sequential(
                nn.Linear(n_features, n_units),
                nn.SiLU(),
                nn.Linear(n_units, n_units),
                nn.SiLU(),
                nn.Linear(n_units, architecture.n_targets),
            )

    def forward(self, batch: Batch) -> Encoding:
        """Return the `Encoding` of a batch."""
        features = self.features(batch)
        z_phy, z_rest = self._latents(features)
        return Encoding(z_phy, z_rest, self._log_variance(features))

    def _latents(self, features):
        """Return z_phy and z_rest."""
        return self.dense_phy(features), F.relu(self.dense_rest(features))

    def _log_variance(self, features):
        """Return the logarithm of the variance of z_phy, or None."""
        if self.dense_variance is None:
            return None
        # The features are trained for the targets and the image, not for the variance.
        return self.dense_variance(features.detach()).clamp(*LOG_VARIANCE_BOUNDS)


class Autoencoder(nn.Module):
    """A network of an encoder and a decoder.

    Parameters
    ----------
    encoder : torch.nn.Module
        Maps a `Batch` to an `Encoding`, such as an `Encoder`.
    decoder : torch.nn.Module
        Maps latents of shape (n, latent_dim) to logits of shape (n, C, H, W). If the
        stamps have PSFs, it gets them as its second argument.

    Examples
    --------
    >>> import torch
    >>> from sklcae.networks import Architecture, Autoencoder, Batch, PaperDecoder
    >>> from sklcae.networks import PaperEncoder
    >>> architecture = Architecture((1, 32, 32), n_targets=2, latent_dim=16)
    >>> network = Autoencoder(PaperEncoder(architecture), PaperDecoder(architecture))
    >>> encoding = network.encode(Batch(torch.zeros(5, 1, 32, 32)))
    >>> network.decode(encoding.latents).shape
    torch.Size([5, 1, 32, 32])
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.draws_light = getattr(decoder, "draws_light", False)

    def encode(self, batch: Batch) -> Encoding:
        """Encode a batch.

        Parameters
        ----------
        batch : Batch
            The stamps.

        Returns
        -------
        Encoding
            The latents.

        Examples
        --------
        >>> import torch
        >>> from sklcae.networks import Architecture, Autoencoder, Batch, PaperDecoder
        >>> from sklcae.networks import PaperEncoder
        >>> architecture = Architecture((1, 32, 32), n_targets=2, latent_dim=16)
        >>> encoder, decoder = PaperEncoder(architecture), PaperDecoder(architecture)
        >>> network = Autoencoder(encoder, decoder)
        >>> network.encode(Batch(torch.zeros(5, 1, 32, 32))).z_phy.shape
        torch.Size([5, 2])
        """
        return self.encoder(batch)

    def decode(
        self, latents: torch.Tensor, psf: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Decode latents.

        Parameters
        ----------
        latents : torch.Tensor of shape (n, latent_dim)
            The latents.
        psf : torch.Tensor of shape (n, C, H, W), default=None
            The effective PSFs, if the stamps have them.

        Returns
        -------
        torch.Tensor of shape (n, C, H, W)
            The logits of the images.

        Examples
        --------
        >>> import torch
        >>> from sklcae.networks import Architecture, Autoencoder, Batch, PaperDecoder
        >>> from sklcae.networks import PaperEncoder
        >>> architecture = Architecture((1, 32, 32), n_targets=2, latent_dim=16)
        >>> encoder, decoder = PaperEncoder(architecture), PaperDecoder(architecture)
        >>> network = Autoencoder(encoder, decoder)
        >>> logits = network.decode(torch.zeros(5, 16))
        >>> logits.sigmoid().shape
        torch.Size([5, 1, 32, 32])
        """
        return self.decoder(latents) if psf is None else self.decoder(latents, psf)


@dataclass(frozen=True)
class Combination:
    """A network from any encoder and any decoder, see `combine`."""

    encoder: Network
    decoder: Network

    def __call__(self, architecture: Architecture) -> Autoencoder:
        """Build the network."""
        return Autoencoder(self.encoder(architecture), self.decoder(architecture))


def combine(encoder: Network, decoder: Network) -> Combination:
    """Combine any encoder with any decoder to a network.

    Parameters
    ----------
    encoder : callable
        Takes an `Architecture` and returns a module that maps a `Batch` to an
        `Encoding`, such as the class `PaperEncoder`.
    decoder : callable
        Takes an `Architecture` and returns a module that maps latents of shape
        (n, latent_dim) to logits of shape (n, C, H, W), such as the class
        `PaperDecoder`. For stamps with PSFs the module gets them as second argument.

    Returns
    -------
    network : callable
        Takes an `Architecture` and returns an `Autoencoder`: a value for the parameter
        `network` of :class:`~sklcae.ConditionalAutoencoderRegressor`.

    Examples
    --------
    >>> from sklcae import ConditionalAutoencoderRegressor
    >>> from sklcae.networks import NeuralFieldDecoder, PaperEncoder, combine
    >>> network = combine(PaperEncoder, NeuralFieldDecoder)
    >>> model = ConditionalAutoencoderRegressor(network=network, stretch="asinh")
    """
    return Combination(encoder, decoder)
