"""Apply a network to many rows, in batches of one fixed, zero-padded size."""

import numpy as np
import torch

from sklcae._torch.augmentation import dihedral_transform
from sklcae._torch.batches import Batch

# Every batch has this size, the last one padded with zeros, so that the result for a
# stamp does not depend on the other stamps.
BATCH_SIZE = 32
# Batches that wait for a worker at the same time.
MANY_PARTS = 1024


def encode(module, images, executor, prepare=None):
    """Return the latents of images, (n, latent_dim), float32.

    Images are (n, C, H, W), in [0, 1] unless ``prepare`` scales them, a few at a time.
    The executor, such as `in_order`, maps a function over a list of parts.
    """

    def encode_batch(images):
        return (module.encode(_batch(images)).latents,)

    (latents,) = map_padded(encode_batch, module, images, executor, before=prepare)
    return latents


def read_targets(module, images, executor, prepare=None, elements=(0,)):
    """Return z_phy of turned images, and its variance.

    Each image is turned by each of the elements, see `dihedral_transform`. Both arrays
    are (n, n_elements, n_targets), float32. The variance is None unless the network
    predicts it. The other arguments are as for `encode`.
    """

    def read(images):
        turned = [dihedral_transform(images, element) for element in elements]
        encodings = [module.encode(_batch(one)) for one in turned]
        z_phy = torch.stack([one.z_phy for one in encodings], dim=1)
        if encodings[0].log_variance is None:
            return (z_phy,)
        variances = [one.log_variance.exp() for one in encodings]
        return z_phy, torch.stack(variances, dim=1)

    z_phy, *variance = map_padded(read, module, images, executor, before=prepare)
    return z_phy, (variance[0] if variance else None)


def decode(module, latents, executor, finish=None):
    """Return the images of latents, (n, C, H, W).

    Latents are (n, latent_dim), float32. Images are in [0, 1] and float32 unless
    ``finish`` changes them, a few at a time. The executor is as for `encode`.
    """

    def decode_batch(latents):
        return (torch.sigmoid(module.decode(latents)),)

    (images,) = map_padded(decode_batch, module, latents, executor, after=finish)
    return images


def map_padded(function, module, rows, executor, before=None, after=None):
    """Apply a function to a fixed number of rows at a time; return a list of arrays.

    The function takes a tensor of ``BATCH_SIZE`` rows, on the device of the module, and
    returns a tuple of tensors. ``before`` is applied to a few rows before, and
    ``after`` to each of the results, as arrays. The memory beyond input and output does
    not depend on the number of rows.
    """
    device = next(module.parameters()).device
    module.eval()

    @torch.inference_mode()
    def apply(part):
        chunk = rows[part] if before is None else before(rows[part])
        batch = np.zeros((BATCH_SIZE, *chunk.shape[1:]), np.float32)
        batch[: len(chunk)] = chunk
        results = function(torch.from_numpy(batch).to(device))
        arrays = [result[: len(chunk)].cpu().numpy() for result in results]
        return arrays if after is None else [after(array) for array in arrays]

    first, *others = _parts(len(rows), BATCH_SIZE)
    (beginning,) = executor(apply, [first])
    outputs = [np.empty((len(rows), *a.shape[1:]), a.dtype) for a in beginning]

    def fill(part, results=None):
        for output, result in zip(outputs, results or apply(part), strict=True):
            output[part] = result

    fill(first, beginning)
    for some in _parts(len(others), MANY_PARTS):
        executor(fill, others[some])
    return outputs


def _batch(images):
    return Batch(images.contiguous(memory_format=torch.channels_last))


def _parts(length, size):
    return [slice(start, start + size) for start in range(0, length, size)]
