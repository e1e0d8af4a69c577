"""The networks that `network` may name, one a file.

A network is a `torch.nn.Module` that is built from the shape of an image, the sizes of
the two parts of the latent space, and whether it predicts variances. It offers

- ``encode(images) -> (z_phy, z_rest)``, shapes (n, n_targets) and
  (n, latent_dim - n_targets);
- ``encode_with_variance(images) -> (z_phy, log_variance)``, (n, n_targets) each, where
  it predicts variances;
- ``decode(latents) -> logits``, from (n, latent_dim) to (n, C, H, W); the sigmoid of
  the logits is the image in [0, 1];
- ``forward(images) -> (z_phy, z_rest, logits, log_variance)``, what the loss needs;
  the last is None where it predicts no variances.

The logits rather than the image leave the network, since the binary cross-entropy of
Eq. 3 is only safe against overflow when it is computed from them.
"""

from sklcae._torch._networks._neural_field import NeuralFieldNetwork
from sklcae._torch._networks._paper import PaperNetwork
from sklcae._torch._networks._strided import StridedNetwork

__all__ = ["NETWORKS"]

NETWORKS = {
    "paper": PaperNetwork,
    "strided": StridedNetwork,
    "neural_field": NeuralFieldNetwork,
}
