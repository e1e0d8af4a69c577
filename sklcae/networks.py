"""Networks of one's own: the interface, the parts to combine, and names.

The parameter `network` of :class:`~sklcae.ConditionalAutoencoderRegressor` takes a name
or a callable. The callable takes an :class:`Architecture` and returns a
``torch.nn.Module`` with two methods: ``encode(batch)`` maps a :class:`Batch` to an
:class:`Encoding`, and ``decode(latents)`` maps latents of shape (n, latent_dim) to
logits of shape (n, C, H, W). The sigmoid of the logits is the image in [0, 1].

For stamps with other `planes` than the image, ``batch.variance`` and ``batch.psf`` have
the shape of ``batch.images``; without such a plane they are None. The variance is in
the unit of the mean noise squared. ``architecture.has_variance`` and
``architecture.has_psf`` say whether the stamps have them. With PSFs
``decode(latents, psf)`` gets the PSFs of the images as well. A network
that reads no PSF should raise ValueError when it is built for one. `StridedEncoder` and
`NeuralFieldDecoder` read features of the PSF; `PaperEncoder` and `PaperDecoder` refuse
stamps with PSFs. `SersicEncoder` measures the PSF, and `SersicDecoder` convolves a
profile with it. They need targets with names and the parameter `pixel_scale`;
``architecture.light_scale`` then leads from scaled pixels back to light.
"""

from sklcae._torch import Batch
from sklcae._torch.networks.base import (
    Architecture,
    Autoencoder,
    Encoder,
    Encoding,
    combine,
)
from sklcae._torch.networks.neural_field import NeuralFieldDecoder
from sklcae._torch.networks.paper import PaperDecoder, PaperEncoder
from sklcae._torch.networks.register import register_network
from sklcae._torch.networks.sersic import SersicDecoder, SersicEncoder
from sklcae._torch.networks.strided import StridedEncoder

__all__ = [
    "Architecture",
    "Autoencoder",
    "Batch",
    "Encoder",
    "Encoding",
    "NeuralFieldDecoder",
    "PaperDecoder",
    "PaperEncoder",
    "SersicDecoder",
    "SersicEncoder",
    "StridedEncoder",
    "combine",
    "register_network",
]
