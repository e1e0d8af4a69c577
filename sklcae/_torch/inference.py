"""Apply a network to many rows, in batches of one fixed, zero-padded size."""

import numpy as np
import torch

from sklcae._torch.augmentation import turn_batch
from sklcae._torch.batches import Batch
from sklcae._torch.losses import Light, drawn_by
from sklcae._torch.networks.checking import is_known

# Every batch has this size, the last one padded, so that the result for a stamp does
# not depend on the other stamps.
BATCH_SIZE = 32
# Zeros are padded, or these: a network may divide by a variance or by the sum of a PSF.
PADDING = {"variance": 1.0, "psf": 1.0}
# Batches that wait for a worker at the same time.
MANY_PARTS = 1024


def encode(module, stamps, executor):
    """Return the latents of stamps, (n, latent_dim), float32.

    The stamps are images in [0, 1], (n, C, H, W), or a `Batch` of images and, if there
    are such planes, variances and PSFs. Each of them is an array, or an object that
    returns an array for a slice of the rows. The executor, such as `in_order`, maps a
    function over a list of parts.
    """

    def encode_batch(**planes):
        return (module.encode(_batch(planes)).latents,)

    (latents,) = map_padded(encode_batch, module, _planes_of(stamps), executor)
    return latents


def read_targets(module, stamps, executor, elements=(0,)):
    """Return z_phy of turned stamps, and its variance.

    Each stamp is turned by each of the elements, see `turn_batch`. Both arrays are
    (n, n_elements, n_targets), float32. The variance is None unless the network
    predicts it. The other arguments are as for `encode`.
    """
    read_one = _reader_of(module)

    def read(**planes):
        turned = [turn_batch(Batch(**planes), element) for element in elements]
        z_phy, logs = zip(*(read_one(_batch(b._asdict())) for b in turned), strict=True)
        z_phy = torch.stack(z_phy, dim=1)
        if logs[0] is None:
            return (z_phy,)
        return z_phy, torch.stack([log.exp() for log in logs], dim=1)

    z_phy, *variance = map_padded(read, module, _planes_of(stamps), executor)
    return z_phy, (variance[0] if variance else None)


def _reader_of(module):
    """Return a function from a `Batch` to z_phy and the logarithm of its variance."""
    # A class from outside, derived from sklcae's, may encode in another way.
    encoder = getattr(module, "encoder", None)
    if is_known(module) and hasattr(encoder, "read_targets"):
        return encoder.read_targets

    def read(batch):
        encoding = module.encode(batch)
        return encoding.z_phy, encoding.log_variance

    return read


def decode(module, latents, executor, psf=None, finish=None):
    """Return the images of latents, (n, C, H, W).

    Latents are (n, latent_dim), float32. PSFs are (n, C, H, W), an array or an object
    as for `encode`, or None if the network reads none. Images are in [0, 1], or light
    if the network draws light, and float32 unless ``finish`` changes them, a few at a
    time. The executor is as for `encode`.
    """

    def decode_batch(latents, **psf):
        drawn = drawn_by(module, module.decode(latents, **psf))
        return (drawn.values if isinstance(drawn, Light) else drawn.scaled(None),)

    values = {"latents": latents} if psf is None else {"latents": latents, "psf": psf}
    (images,) = map_padded(decode_batch, module, values, executor, after=finish)
    return images


def map_padded(function, module, values, executor, after=None):
    """Apply a function to a fixed number of rows at a time; return a list of arrays.

    The values are arrays, or objects that return an array for a slice of the rows, by
    name; the first of them has a length. The function takes tensors of ``BATCH_SIZE``
    rows by these names, on the device of the module, and returns a tuple of tensors.
    ``after`` is applied to each of the results, as arrays. The memory beyond input and
    output does not depend on the number of rows.
    """
    device = next(module.parameters()).device
    module.eval()
    n_rows = len(next(iter(values.values())))

    @torch.inference_mode()
    def apply(part):
        n_in_part = len(range(n_rows)[part])
        tensors = {
            name: _padded(some[part], PADDING.get(name, 0)).to(device)
            for name, some in values.items()
        }
        results = function(**tensors)
        arrays = [result[:n_in_part].cpu().numpy() for result in results]
        return arrays if after is None else [after(array) for array in arrays]

    first, *others = _parts(n_rows, BATCH_SIZE)
    (beginning,) = executor(apply, [first])
    outputs = [np.empty((n_rows, *a.shape[1:]), a.dtype) for a in beginning]

    def fill(part, results=None):
        for output, result in zip(outputs, results or apply(part), strict=True):
            output[part] = result

    fill(first, beginning)
    for some in _parts(len(others), MANY_PARTS):
        executor(fill, others[some])
    return outputs


def _planes_of(stamps):
    """Return the planes of stamps that a network sees in prediction, by name."""
    if not isinstance(stamps, Batch):
        return {"images": stamps}
    observed = stamps.observations._asdict()
    return {name: plane for name, plane in observed.items() if plane is not None}


def _padded(chunk, filling):
    """Return a chunk of rows as a tensor of ``BATCH_SIZE`` rows."""
    batch = np.full((BATCH_SIZE, *chunk.shape[1:]), filling, np.float32)
    batch[: len(chunk)] = chunk
    return torch.from_numpy(batch)


def _batch(planes):
    return Batch(**planes).map(
        lambda plane: plane.contiguous(memory_format=torch.channels_last)
    )


def _parts(length, size):
    return [slice(start, start + size) for start in range(0, length, size)]
