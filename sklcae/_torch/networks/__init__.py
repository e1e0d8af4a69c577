"""Networks: the interface, the parts, and the names; one network a file."""

from sklcae._torch.networks.base import (
    Architecture,
    Autoencoder,
    Encoder,
    Encoding,
    combine,
)
from sklcae._torch.networks.neural_field import NeuralFieldDecoder
from sklcae._torch.networks.paper import PaperDecoder, PaperEncoder
from sklcae._torch.networks.register import (
    NETWORKS,
    build_network,
    check_output,
    name_of,
    register_network,
    weight_specs,
)
from sklcae._torch.networks.strided import StridedEncoder

__all__ = [
    "NETWORKS",
    "Architecture",
    "Autoencoder",
    "Encoder",
    "Encoding",
    "NeuralFieldDecoder",
    "PaperDecoder",
    "PaperEncoder",
    "StridedEncoder",
    "build_network",
    "check_output",
    "combine",
    "name_of",
    "register_network",
    "weight_specs",
]
