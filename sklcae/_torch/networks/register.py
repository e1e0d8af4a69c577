"""Networks by name, and how a network is built."""

from contextlib import nullcontext

import torch

from sklcae._torch.batches import Batch
from sklcae._torch.generators import DrawFrom
from sklcae._torch.networks.base import Encoding, combine
from sklcae._torch.networks.neural_field import NeuralFieldDecoder
from sklcae._torch.networks.paper import PaperDecoder, PaperEncoder
from sklcae._torch.networks.strided import StridedEncoder

__all__ = [
    "NETWORKS",
    "build_network",
    "check_output",
    "name_of",
    "register_network",
    "weight_specs",
]

NETWORKS = {
    "paper": combine(PaperEncoder, PaperDecoder),
    "strided": combine(StridedEncoder, PaperDecoder),
    "neural_field": combine(StridedEncoder, NeuralFieldDecoder),
}


def register_network(name, network):
    """Give a network a name.

    The parameter `network` of :class:`~sklcae.ConditionalAutoencoderRegressor` then
    takes the name. A saved model holds no code but the name of its network, so that a
    network must be registered before a model with it is saved, and again, under the
    same name, in the process that loads the model.

    Parameters
    ----------
    name : str
        The name.
    network : callable
        Takes an `Architecture` and returns a torch module with ``encode`` and
        ``decode``. To load a model it is also called on PyTorch's "meta" device, where
        tensors have shapes but no values.

    Raises
    ------
    TypeError
        If `name` is not a str or `network` is not callable.
    ValueError
        If the name belongs to another network.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"The 'name' of a network must be a str. Got {name!r}.")
    if not callable(network):
        raise TypeError(
            f"The 'network' {name!r} must be a callable that takes an Architecture. "
            f"Got {network!r}."
        )
    if NETWORKS.get(name, network) != network:
        raise ValueError(
            f"The 'name' of a network must not be taken. Got {name!r}, which belongs "
            f"to {NETWORKS[name]!r}."
        )
    NETWORKS[name] = network


def name_of(network):
    """Return the name of a network, or None for a callable without one."""
    if isinstance(network, str):
        return network
    return next((n for n, known in NETWORKS.items() if known == network), None)


def build_network(network, architecture, generator, device=None):
    """Build a network with float32 weights, from an owned generator.

    The network is a key of ``NETWORKS``, or a callable that takes an architecture. The
    first weights come from the generator, on the CPU; PyTorch's global generator is
    neither read nor changed. A device of None is the CPU.
    """
    if isinstance(network, str) and network not in NETWORKS:
        raise ValueError(
            f"The network {network!r:.50} must be registered in this process, by "
            f"sklcae.networks.register_network. Got the names {list(NETWORKS)} only."
        )
    build = NETWORKS[network] if isinstance(network, str) else network
    with DrawFrom(generator), torch.device(device) if device else nullcontext():
        module = build(architecture)
    missing = [m for m in ("encode", "decode") if not hasattr(module, m)]
    if not isinstance(module, torch.nn.Module) or missing:
        raise TypeError(
            "The 'network' parameter must make a torch.nn.Module with the methods "
            f"'encode' and 'decode'. Got {module!r:.200}."
        )
    # Independent of PyTorch's default type: images and weights are float32.
    return module.float()


@torch.no_grad()
def check_output(module, architecture):
    """Raise ValueError unless the outputs of a network fit the architecture.

    Two empty images are passed through the network, which must be on the CPU.
    """
    image_shape, n_targets, latent_dim, predicts_variance = architecture
    module.eval()
    encoding = module.encode(Batch(torch.zeros(2, *image_shape, dtype=torch.float32)))
    logits = module.decode(torch.zeros(2, latent_dim, dtype=torch.float32))
    found = {"decode(latents)": logits}
    wanted = {"decode(latents)": (2, *image_shape)}
    for name in Encoding._fields:
        found[f"encode(batch).{name}"] = getattr(encoding, name, None)
    wanted["encode(batch).z_phy"] = (2, n_targets)
    wanted["encode(batch).z_rest"] = (2, architecture.n_rest)
    wanted["encode(batch).log_variance"] = (2, n_targets) if predicts_variance else None
    for name, value in found.items():
        shape = None if value is None else tuple(value.shape)
        if shape != wanted[name]:
            raise ValueError(
                f"The 'network' parameter must make a network with {name} of the shape "
                f"{wanted[name]} for two images and {architecture}. Got {shape}."
            )


def weight_specs(network, architecture):
    """Return shape and type of each weight and buffer of a network, by name.

    A type is a NumPy name. No memory is taken for the weights. ValueError is raised if
    there is no such network, or its weights would be too large to count.
    """
    _check_architecture(network, architecture)
    try:
        module = build_network(network, architecture, torch.Generator(), device="meta")
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(
            f"no network {network!r} can be built for {architecture}: {error}"
        ) from error
    return {
        name: (tuple(weight.shape), str(weight.dtype).removeprefix("torch."))
        for name, weight in module.state_dict().items()
    }


def _check_architecture(network, architecture):
    image_shape, n_targets, latent_dim, _ = architecture
    sizes = (*image_shape, n_targets, latent_dim)
    if len(image_shape) != 3 or not all(0 < size < 2**31 for size in sizes):
        raise ValueError(f"no network can be of the sizes {sizes!s:.100}")
    if latent_dim <= n_targets:
        raise ValueError(
            f"there must be more latents than targets, not {latent_dim} latents and "
            f"{n_targets} targets"
        )
