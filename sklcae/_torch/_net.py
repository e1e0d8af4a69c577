"""The skorch net: batches in, the loss of Eq. 2, micro-batches, padded inference."""

from functools import reduce

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.dataset import unpack_data
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from sklcae._torch._augmentation import DihedralAugmentation
from sklcae._torch._layers import initialize_weights
from sklcae._torch._losses import LossTerms, loss_terms
from sklcae._torch._networks import NETWORKS
from sklcae._torch._workers import part_workers

__all__ = ["ConditionalAutoencoderNet", "build_net", "check_device"]

# A batch is worked off in parts that fit the processor's cache, 16 stamps of 64 x 64;
# the gradients add up to those of the whole batch.
MICRO_BATCH_PIXELS = 16 * 64 * 64
# Inference always sees the same batch size, the last one padded with zeros: the
# result for a stamp then does not depend on which others it came with.
INFERENCE_BATCH_SIZE = 32

LOSS_TERMS = LossTerms._fields


class ConditionalAutoencoderNet(NeuralNet):
    """Train a network on Eq. 2 and apply its two halves.

    Parameters
    ----------
    module : torch.nn.Module
        An initialised network with the interface of ``NETWORKS``.
    generator : torch.Generator
        Source of the order of the stamps and of their augmentation, on the CPU.
    alpha, beta : float
        Weights of the physical and of the regularization term.
    reconstruction_loss : str
        A key of ``RECONSTRUCTION_LOSSES``.
    target_maps : tuple of ndarray or None
        Matrices and offsets of `DihedralAugmentation`; None leaves the stamps as
        they are.
    **kwargs
        Passed to skorch.NeuralNet.
    """

    def __init__(
        self,
        module,
        *,
        generator,
        alpha=1.0,
        beta=1e-4,
        reconstruction_loss="binary_cross_entropy",
        target_maps=None,
        **kwargs,
    ):
        super().__init__(
            module,
            criterion=nn.Identity,
            optimizer=torch.optim.Adam,
            train_split=None,
            **kwargs,
        )
        self.alpha = alpha
        self.beta = beta
        self.reconstruction_loss = reconstruction_loss
        self.generator = generator
        self.augmentation = None
        if target_maps is not None:
            self.augmentation = DihedralAugmentation(*target_maps, generator)

    @property
    def _default_callbacks(self):
        scores = [
            (f"{name}_loss", PassthroughScoring(f"{name}_loss", on_train=True))
            for name in ("train", *LOSS_TERMS)
        ]
        return [("epoch_timer", EpochTimer()), *scores, ("print_log", PrintLog())]

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return Eq. 2 of one micro-batch."""
        return self._loss_terms(y_pred, y_true, X).total(self.alpha, self.beta)

    def _loss_terms(self, y_pred, y_true, images):
        return loss_terms(y_pred, images, y_true, self.reconstruction_loss)

    def get_iterator(self, dataset, training=False):
        """Return a loader that takes whole batches out of the tensors at once."""
        sampler = BatchSampler(
            RandomSampler(dataset, generator=self.generator),
            batch_size=self.batch_size,
            drop_last=False,
        )
        return DataLoader(
            dataset, sampler=sampler, batch_size=None, generator=self.generator
        )

    def train_step_single(self, batch, **fit_params):
        """Add up the gradients of a batch, a micro-batch at a time."""
        self._set_training(True)
        images, targets = unpack_data(batch)
        if self.augmentation is not None:
            images, targets = self.augmentation(images, targets)
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        targets = targets.to(self.device)

        size = max(1, MICRO_BATCH_PIXELS // images[0].numel())
        results = self._map_parts(
            lambda part: self._part_gradients(images[part], targets[part], len(images)),
            _parts(len(images), size),
        )
        terms, gradients = zip(*results, strict=True)
        for parameter, parts in zip(
            self.module_.parameters(), zip(*gradients, strict=True), strict=True
        ):
            parameter.grad = reduce(torch.Tensor.add_, parts)
        return self._record_step(LossTerms(*sum(terms)))

    def _part_gradients(self, images, targets, batch_size):
        """Return the share of a micro-batch in the terms, and in the gradients."""
        share = len(images) / batch_size
        with torch.inference_mode(False), torch.enable_grad():
            terms = self._loss_terms(self.infer(images), targets, images)
            loss = share * terms.total(self.alpha, self.beta)
            gradients = torch.autograd.grad(loss, [*self.module_.parameters()])
        return share * torch.stack(terms).detach(), gradients

    def _record_step(self, terms):
        if not torch.isfinite(torch.stack(terms)).all():
            raise ValueError(
                f"The training diverged in epoch {len(self.history)}: its loss is no "
                f"longer finite. Got {self._describe(terms)} with lr={self.lr} and "
                f"alpha={self.alpha}. Try a smaller lr."
            )
        for name, value in zip(LOSS_TERMS, terms, strict=True):
            self.history.record_batch(f"{name}_loss", value.item())
        return {"loss": terms.total(self.alpha, self.beta), "y_pred": None}

    @staticmethod
    def _describe(terms):
        return ", ".join(f"{n}_loss={t:.3g}" for n, t in terms._asdict().items())

    def fit_arrays(self, images, targets):
        """Train on float32 arrays of shape (n, C, H, W) and (n, n_targets)."""
        dataset = TensorDataset(torch.from_numpy(images), torch.from_numpy(targets))
        # skorch's fit would swallow a KeyboardInterrupt and initialise once more.
        self.notify("on_train_begin", X=dataset, y=None)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            part_workers(self.device) as self._map_parts,
        ):
            self.fit_loop(dataset)
        self.notify("on_train_end", X=dataset, y=None)
        return self

    def encode(self, images):
        """Return the latents, (n, latent_dim) float32, of images (n, C, H, W)."""
        return self._apply_padded(self._encode_batch, images)

    def decode(self, latents):
        """Return the images in [0, 1], (n, C, H, W) float32, of latents."""
        return self._apply_padded(self._decode_batch, latents)

    def _encode_batch(self, images):
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.cat(self.module_.encode(images), dim=1)

    def _decode_batch(self, latents):
        return torch.sigmoid(self.module_.decode(latents))

    def _apply_padded(self, function, array):
        self.module_.eval()

        @torch.inference_mode()
        def apply(part):
            rows = array[part]
            batch = np.zeros((INFERENCE_BATCH_SIZE, *array.shape[1:]), np.float32)
            batch[: len(rows)] = rows
            output = function(torch.from_numpy(batch).to(self.device))
            return output[: len(rows)].cpu().numpy()

        with part_workers(self.device) as map_parts:
            return np.concatenate(
                map_parts(apply, _parts(len(array), INFERENCE_BATCH_SIZE))
            )

    def get_weights(self):
        """Return the weights as a dict of arrays."""
        state = self.module_.state_dict()
        return {name: tensor.cpu().numpy() for name, tensor in state.items()}

    def set_weights(self, weights):
        """Copy the weights out of a dict of arrays."""
        state = {name: torch.tensor(array) for name, array in weights.items()}
        self.module_.load_state_dict(state)
        return self

    def history_table(self):
        """Return the record of the training as a dict of lists, one entry an epoch."""
        names = ["epoch", "train_loss", *(f"{name}_loss" for name in LOSS_TERMS), "dur"]
        columns = {name: self.history[:, name] for name in names}
        columns["duration"] = columns.pop("dur")
        return {
            name: column if name == "epoch" else [float(value) for value in column]
            for name, column in columns.items()
        }


def _parts(length, size):
    return [slice(start, start + size) for start in range(0, length, size)]


@torch.inference_mode(False)
def build_net(network, image_shape, n_targets, latent_dim, *, seed, **kwargs):
    """Build a network with random weights and the net that trains it.

    The network is made without memory and filled from a generator of its own, so
    that neither the global random state nor another thread has a part in it.

    Parameters
    ----------
    network : str
        A key of ``NETWORKS``.
    image_shape : tuple of int
        Channels, height and width of an image.
    n_targets, latent_dim : int
        Sizes of z_phy and of the whole latent space.
    seed : int
        Seed of the weights, of the order of the stamps and of the augmentation.
    **kwargs
        Passed to `ConditionalAutoencoderNet`.

    Returns
    -------
    ConditionalAutoencoderNet
        The initialised net.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        module = NETWORKS[network](image_shape, n_targets, latent_dim)
    # Whatever PyTorch's default type is now: images and weights are float32.
    module = module.to_empty(device="cpu").float()
    initialize_weights(module, generator)
    module = module.to(memory_format=torch.channels_last)
    return ConditionalAutoencoderNet(module, generator=generator, **kwargs).initialize()


def check_device(device):
    """Raise ValueError, naming the parameter, unless torch can use the device."""
    try:
        # Reading a value back is more than the "meta" device can do.
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            "The 'device' parameter of ConditionalAutoencoderRegressor must name a "
            f"device that PyTorch can use here, such as 'cpu'. Got {device!r} instead: "
            f"{error}"
        ) from error
