"""Properties of a network from outside, and its trial before a training."""

import copy

import torch
from torch import nn

from sklcae._torch.batches import Batch
from sklcae._torch.generators import DrawFrom
from sklcae._torch.networks.base import Encoding

# Float32 results for an image agree to this, whichever image is beside it.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}


def is_known(module):
    """Return whether all parts of a network belong to sklcae or PyTorch."""
    packages = {type(m).__module__.partition(".")[0] for m in module.modules()}
    return packages <= {"sklcae", "torch"}


def has_dropout(module):
    """Return whether a network draws random numbers in training."""
    return any(isinstance(m, nn.modules.dropout._DropoutNd) for m in module.modules())


def needs_whole_batches(module):
    """Return whether a network must see whole batches, on one thread.

    Buffers may change in training and depend on all images of a batch, as in BatchNorm,
    and dropout draws random numbers in order.
    """
    return any(True for _ in module.buffers()) or has_dropout(module)


@torch.no_grad()
def check_network(module, architecture):
    """Raise ValueError unless a network on the CPU keeps the interface.

    A copy encodes and decodes two pairs of images, with one image in common.
    """
    if any(
        isinstance(p, nn.parameter.UninitializedParameter) for p in _weights(module)
    ):
        raise _error("without lazy layers", "one with weights of unknown shape")
    if not any(p.requires_grad for p in module.parameters()):
        raise _error("with weights to train", "one without")
    trial = copy.deepcopy(module).eval()
    try:
        with DrawFrom(None):
            first, second = (
                _outputs(trial, architecture, rows) for rows in ([0, 1], [0, 2])
            )
    except Exception as error:
        got = f"{type(error).__name__} from a trial with two images: {error}"
        raise _error(f"for {architecture}", got) from error
    for name, wanted in _shapes(architecture).items():
        _check_output(name, first[name], wanted)
        if wanted and not torch.allclose(first[name][0], second[name][0], **TOLERANCE):
            raise _error(
                f"whose {name} for an image does not depend on the other images in "
                "prediction",
                "one that does",
            )


def _weights(module):
    return [*module.parameters(), *module.buffers()]


def _error(wanted, got):
    return ValueError(
        "The 'network' parameter of ConditionalAutoencoderRegressor must make a "
        f"network {wanted}. Got {got}."
    )


def _outputs(module, architecture, rows):
    generator, dtype = torch.Generator().manual_seed(0), torch.float32
    image_shape = architecture.image_shape
    images, latents, psf, variance = (
        torch.rand(3, *size, generator=generator, dtype=dtype)[rows]
        for size in (image_shape, [architecture.latent_dim], image_shape, image_shape)
    )
    psf = psf / psf.sum((2, 3), keepdim=True) if architecture.has_psf else None
    # About the square of the mean noise, as of real stamps.
    variance = variance + 0.5 if architecture.has_variance else None
    encoding = module.encode(Batch(images, variance=variance, psf=psf))
    if not isinstance(encoding, Encoding):
        raise TypeError(f"encode(batch) returned {type(encoding)}, not an Encoding")
    outputs = {f"encode(batch).{n}": part for n, part in encoding._asdict().items()}
    given = (latents,) if psf is None else (latents, psf)
    return outputs | {_decode_call(architecture): module.decode(*given)}


def _decode_call(architecture):
    return "decode(latents, psf)" if architecture.has_psf else "decode(latents)"


def _shapes(architecture):
    variance = (2, architecture.n_targets) if architecture.predicts_variance else None
    return {
        "encode(batch).z_phy": (2, architecture.n_targets),
        "encode(batch).z_rest": (2, architecture.n_rest),
        "encode(batch).log_variance": variance,
        _decode_call(architecture): (2, *architecture.image_shape),
    }


def _check_output(name, output, wanted):
    shape = None if output is None else tuple(output.shape)
    if shape != wanted:
        raise _error(f"with {name} of the shape {wanted} for two images", shape)
    if wanted and not (output.dtype == torch.float32 and output.isfinite().all()):
        values = f"{output.dtype} from {output.min()} to {output.max()}"
        raise _error(f"with finite float32 {name}", values)
