"""Networks by name, and how a network is built."""

import copy
from functools import partial

import torch

from sklcae._torch.generators import DrawFrom
from sklcae._torch.networks.base import Architecture, Combination, Network, combine
from sklcae._torch.networks.neural_field import NeuralFieldDecoder
from sklcae._torch.networks.paper import PaperDecoder, PaperEncoder
from sklcae._torch.networks.psf import NoPSFError
from sklcae._torch.networks.sersic import SersicDecoder, SersicEncoder
from sklcae._torch.networks.strided import StridedEncoder

NETWORKS: dict[str, Network] = {
    "paper": combine(PaperEncoder, PaperDecoder),
    "strided": combine(StridedEncoder, PaperDecoder),
    "neural_field": combine(StridedEncoder, NeuralFieldDecoder),
    "sersic": combine(SersicEncoder, SersicDecoder),
}
# The names that sklcae gives; others come by `register_network`.
BUILT_IN = frozenset(NETWORKS)


def register_network(name: str, network: Network, *, overwrite: bool = False) -> None:
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
    overwrite : bool, default=False
        Whether to replace another network of your own with that name.

    Raises
    ------
    TypeError
        If `name` is not a str or `network` is not callable.
    ValueError
        If the name belongs to another network.

    Examples
    --------
    >>> from sklcae import ConditionalAutoencoderRegressor
    >>> from sklcae.networks import NeuralFieldDecoder, PaperEncoder
    >>> from sklcae.networks import combine, register_network
    >>> register_network("paper_field", combine(PaperEncoder, NeuralFieldDecoder))
    >>> model = ConditionalAutoencoderRegressor(network="paper_field")
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"The 'name' of a network must be a str. Got {name!r}.")
    if not callable(network):
        raise TypeError(
            f"The 'network' {name!r} must be a callable that takes an Architecture. "
            f"Got {network!r}."
        )
    same = _identity(NETWORKS.get(name, network)) == _identity(network)
    if not same and (name in BUILT_IN or not overwrite):
        raise ValueError(
            f"The 'name' of a network must not be taken. Got {name!r}, which belongs "
            f"to {NETWORKS[name]!r}; overwrite=True replaces networks of your own."
        )
    NETWORKS[name] = network


def name_of(network):
    """Return the name of a network, or None for a callable without one."""
    if isinstance(network, str):
        return network
    wanted = _identity(network)
    names = (n for n, known in NETWORKS.items() if _identity(known) == wanted)
    return next(names, None)


def _identity(network):
    """Return a value that copies of a network share: copies of partials are unequal."""
    if isinstance(network, Combination):
        return _identity(network.encoder), _identity(network.decoder)
    if isinstance(network, partial):
        return _identity(network.func), network.args, network.keywords
    return network


def build_network(network, architecture, generator, device="cpu"):
    """Build a network with float32 weights, from an owned generator.

    The network is a key of ``NETWORKS``, or a callable that takes an architecture. The
    first weights come from the generator, on the CPU; PyTorch's global generator is
    neither read nor changed.
    """
    if isinstance(network, str) and network not in NETWORKS:
        raise ValueError(
            f"The network {network!r:.50} must be registered in this process, by "
            f"sklcae.networks.register_network. Got the names {list(NETWORKS)} only."
        )
    build = NETWORKS[network] if isinstance(network, str) else network
    try:
        with DrawFrom(generator), torch.device(device):
            # A copy: a callable may return the same module again.
            module = copy.deepcopy(build(architecture))
        missing = [m for m in ("encode", "decode") if not hasattr(module, m)]
        if not isinstance(module, torch.nn.Module) or missing:
            raise TypeError(
                f"it made {module!r:.200}, which is not a torch.nn.Module with the "
                "methods 'encode' and 'decode'"
            )
    except NoPSFError as error:
        raise ValueError(
            "The 'network' parameter of ConditionalAutoencoderRegressor must read the "
            f"PSFs that are among the 'planes', such as {_readers_of_psf()}. Got "
            f"{network!r:.100}, whose {error}."
        ) from None
    except Exception as error:
        raise ValueError(
            "The 'network' parameter of ConditionalAutoencoderRegressor must be a "
            f"callable that takes an Architecture and returns a network. Got "
            f"{network!r:.100} with {architecture}: {error}"
        ) from error
    # Independent of PyTorch's default type: images and weights are float32.
    return module.float()


def _readers_of_psf():
    """Return the names of sklcae's networks that read PSFs."""
    return [name for name in NETWORKS if name in BUILT_IN and _reads_psf(name)]


def _reads_psf(name):
    try:
        with DrawFrom(torch.Generator()), torch.device("meta"):
            NETWORKS[name](Architecture((1, 16, 16), 2, 8, has_psf=True))
    except NoPSFError:
        return False
    except ValueError:
        # It needs more than these sizes, but does not refuse the PSF.
        return True
    return True


def weight_specs(network, architecture):
    """Return shape and type of each weight and buffer of a network, by name.

    A type is a NumPy name. No memory is taken for the weights. ValueError is raised if
    there is no such network, or its weights would be too large to count.
    """
    _check_architecture(network, architecture)
    try:
        module = build_network(network, architecture, torch.Generator(), device="meta")
    except (ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(
            f"no network {network!r:.50} can be built for {architecture}: {error}"
        ) from error
    return {
        name: (tuple(weight.shape), str(weight.dtype).removeprefix("torch."))
        for name, weight in module.state_dict().items()
    }


def _check_architecture(network, architecture):
    image_shape, n_targets, latent_dim = architecture[:3]
    sizes = (*image_shape, n_targets, latent_dim)
    if len(image_shape) != 3 or not all(0 < size < 2**31 for size in sizes):
        raise ValueError(f"no network can be of the sizes {sizes!s:.100}")
    if latent_dim <= n_targets:
        raise ValueError(
            f"there must be more latents than targets, not {latent_dim} latents and "
            f"{n_targets} targets"
        )
