"""The skorch net: batches in, the loss of Eq. 2, micro-batches, padded inference."""

from contextlib import suppress
from functools import reduce

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring, PrintLog
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from sklcae._torch._augmentation import DihedralAugmentation, dihedral_transform
from sklcae._torch._callbacks import TrainingStoppedError, early_stopping, wants_to_stop
from sklcae._torch._layers import initialize_weights
from sklcae._torch._losses import LossTerms, LossWeights, exchange_loss, loss_terms
from sklcae._torch._networks import NETWORKS
from sklcae._torch._optimizers import OPTIMIZERS, fast_forward, make_schedule
from sklcae._torch._stamps import StampDataset
from sklcae._torch._workers import part_workers

__all__ = ["ConditionalAutoencoderNet", "build_net", "check_device"]

# A batch is worked off in parts that fit the processor's cache, 16 stamps of 64 x 64;
# the gradients add up to those of the whole batch.
MICRO_BATCH_PIXELS = 16 * 64 * 64
# Inference always sees the same batch size, the last one padded with zeros: the
# result for a stamp then does not depend on which others it came with.
INFERENCE_BATCH_SIZE = 32
# Batches that wait for a worker at the same time.
MANY_PARTS = 1024

LOSS_TERMS = LossTerms._fields
# Columns of the history: the user's name, and skorch's.
HISTORY = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    **{f"{name}_loss": f"{name}_loss" for name in LOSS_TERMS},
    "validation_loss": "valid_loss",
    "duration": "dur",
}


class ConditionalAutoencoderNet(NeuralNet):
    """Train a network on Eq. 2 and apply its two halves.

    Parameters
    ----------
    module : torch.nn.Module
        An initialised network with the interface of ``NETWORKS``.
    generator : torch.Generator
        Source of the order of the stamps and of their augmentation, on the CPU.
    alpha, beta, gamma : float
        Weights of the physical, the regularization and the exchange term. The last one
        needs stamps with partners.
    reconstruction_loss : str
        A key of ``RECONSTRUCTION_LOSSES``.
    physical_loss : str
        A key of ``PHYSICAL_LOSSES``.
    pixel_scale : PixelScale or None
        What the reconstruction loss "chi_square" needs.
    target_maps : tuple of ndarray or None
        Matrices and offsets of `DihedralAugmentation`; None leaves the stamps as
        they are.
    optimizer : str
        A key of ``OPTIMIZERS``.
    weight_decay : float
        See the optimizer.
    lr_schedule : str
        A key of ``LR_SCHEDULES``.
    n_iter_no_change, tol : int and float
        When to stop, where there are stamps to validate with.
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
        gamma=0.0,
        reconstruction_loss="binary_cross_entropy",
        physical_loss="squared_error",
        pixel_scale=None,
        target_maps=None,
        optimizer="adam",
        weight_decay=0.0,
        lr_schedule="constant",
        n_iter_no_change=10,
        tol=1e-4,
        **kwargs,
    ):
        super().__init__(
            module,
            criterion=nn.Identity,
            optimizer=OPTIMIZERS[optimizer],
            optimizer__weight_decay=weight_decay,
            # One pass over the weights instead of one for each operation.
            optimizer__fused=True,
            train_split=None,
            **kwargs,
        )
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.reconstruction_loss = reconstruction_loss
        self.physical_loss = physical_loss
        self.pixel_scale = None if pixel_scale is None else pixel_scale.to(self.device)
        self.lr_schedule = lr_schedule
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.generator = generator
        self._early_stopping = None
        self.augmentation = None
        if target_maps is not None:
            self.augmentation = DihedralAugmentation(*target_maps, generator)

    @property
    def _default_callbacks(self):
        scores = [
            (f"{name}_loss", PassthroughScoring(f"{name}_loss", on_train=True))
            for name in ("train", *self._term_names)
        ]
        return [
            ("epoch_timer", EpochTimer()),
            *scores,
            ("valid_loss", PassthroughScoring("valid_loss")),
            ("print_log", PrintLog()),
        ]

    @property
    def _term_names(self):
        # Without an exchange its column would be all zeros.
        return LOSS_TERMS if self.gamma else LOSS_TERMS[:-1]

    @property
    def _loss_weights(self):
        return LossWeights(self.alpha, self.beta, self.gamma)

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss for the output of the network and the stamps it is of."""
        return self._loss_terms(y_pred, y_true).total(self._loss_weights)

    def _loss_terms(self, output, stamps):
        terms = loss_terms(
            output,
            stamps,
            self.reconstruction_loss,
            self.physical_loss,
            self.pixel_scale,
        )
        if not self.gamma:
            return terms
        return terms._replace(exchange=self._exchange_loss(output[1], stamps.partners))

    def _exchange_loss(self, z_rest, partners):
        """Return the loss of what the partners' targets make of the stamps' z_rest."""
        logits = self.module_.decode(torch.cat([partners.targets, z_rest], dim=1))
        return exchange_loss(
            logits, partners, self.reconstruction_loss, self.pixel_scale
        )

    def get_iterator(self, dataset, training=False):
        """Return a loader that takes whole batches out of the tensors at once."""
        rows = SequentialSampler(dataset)
        if training:
            rows = RandomSampler(dataset, generator=self.generator)
        sampler = BatchSampler(rows, batch_size=self.batch_size, drop_last=False)
        return DataLoader(
            dataset, sampler=sampler, batch_size=None, generator=self.generator
        )

    def train_step_single(self, batch, **fit_params):
        """Add up the gradients of a batch, a micro-batch at a time."""
        self._set_training(True)
        stamps = batch if self.augmentation is None else self.augmentation(batch)
        terms, gradients = zip(
            *self._map_micro_batches(self._loss_and_gradients, stamps), strict=True
        )
        for parameter, parts in zip(
            self.module_.parameters(), zip(*gradients, strict=True), strict=True
        ):
            gradient = reduce(torch.Tensor.add_, parts)
            parameter.grad = _laid_out_as(parameter, gradient)
        return self._record_step(LossTerms(*sum(terms)))

    def validation_step(self, batch, **fit_params):
        """Return the loss of a batch, a micro-batch at a time."""
        self._set_training(False)
        terms = sum(self._map_micro_batches(self._loss_alone, batch))
        return {"loss": LossTerms(*terms).total(self._loss_weights), "y_pred": None}

    def _map_micro_batches(self, function, stamps):
        """Apply a function to each micro-batch and its share in the batch."""
        stamps = stamps.map(lambda part: _channels_last(part.to(self.device)))
        n_images = len(stamps.images)
        size = max(1, MICRO_BATCH_PIXELS // stamps.images[0].numel())

        def apply(rows):
            part = stamps.map(lambda values: values[rows])
            return function(part, len(part.images) / n_images)

        return self._map_parts(apply, _parts(n_images, size))

    def _loss_and_gradients(self, stamps, share):
        with torch.inference_mode(False), torch.enable_grad():
            terms = self._loss_terms(self.infer(stamps.images), stamps)
            loss = share * terms.total(self._loss_weights)
            gradients = torch.autograd.grad(loss, [*self.module_.parameters()])
        return share * torch.stack(terms).detach(), gradients

    def _loss_alone(self, stamps, share):
        with torch.no_grad():
            return share * torch.stack(
                self._loss_terms(self.infer(stamps.images), stamps)
            )

    def _record_step(self, terms):
        if not torch.isfinite(torch.stack(terms)).all():
            raise ValueError(
                f"The training diverged in epoch {len(self.history)}: its loss is no "
                f"longer finite. Got {self._describe(terms)} with lr={self.lr} and "
                f"alpha={self.alpha}. Try a smaller lr."
            )
        for name in self._term_names:
            self.history.record_batch(f"{name}_loss", getattr(terms, name).item())
        return {"loss": terms.total(self._loss_weights), "y_pred": None}

    def _describe(self, terms):
        return ", ".join(f"{n}_loss={getattr(terms, n):.3g}" for n in self._term_names)

    def fit_arrays(
        self,
        stamps,
        *,
        n_epochs,
        n_before=0,
        validation=None,
        state=None,
        epoch_hook=None,
    ):
        """Train for a number of epochs, those made before an interruption included.

        Parameters
        ----------
        stamps : Stamps
            What to train on, see `StampDataset`.
        n_epochs : int
            Number of epochs.
        n_before : int
            Number of epochs of earlier fits that this one goes on from.
        validation : Stamps or None
            What to tell from when to stop.
        state : dict or None
            What `get_training_state` returned, to go on from there.
        epoch_hook : EpochHook or None
            What to call at the begin and the end of each epoch.

        Returns
        -------
        self : ConditionalAutoencoderNet
            The trained net.
        """
        dataset = StampDataset(stamps, self.generator)
        callbacks = list(self.callbacks_)
        if validation is not None:
            self.train_split = predefined_split(StampDataset(validation))
            self._early_stopping = early_stopping(self.n_iter_no_change, self.tol)
            self.callbacks_.append(("early_stopping", self._early_stopping))
        n_batches = -(-len(dataset) // self.batch_size)
        schedule = make_schedule(self.lr_schedule, self.lr, n_epochs * n_batches)
        if schedule is not None:
            self.callbacks_.append(("lr_schedule", schedule))
        if epoch_hook is not None:
            # The last one, so that it sees what all others made of the epoch.
            self.callbacks_.append(("epoch_hook", epoch_hook))
        # skorch's fit would swallow a KeyboardInterrupt and initialise once more.
        self.notify("on_train_begin", X=dataset, y=None)
        if state is not None:
            self.set_training_state(state)
        if schedule is not None:
            fast_forward(schedule, (len(self.history) - n_before) * n_batches)
        if not (self._early_stopping and wants_to_stop(self._early_stopping)):
            self._train(dataset, n_before + n_epochs - len(self.history))
        self.notify("on_train_end", X=dataset, y=None)
        # The net outlives the data.
        self.callbacks_, self.train_split = callbacks, None
        return self

    @property
    def best_epoch(self):
        """The epoch that the weights are of, where there was a validation."""
        return self._early_stopping.best_epoch_

    def _train(self, dataset, epochs):
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            part_workers(self.device) as self._map_parts,
            suppress(TrainingStoppedError),
        ):
            self.fit_loop(dataset, epochs=epochs)

    def notify(self, method_name, **kwargs):
        """Call the callbacks; all of them have their say before one stops."""
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        self.on_epoch_end(self, **kwargs)
        stop = False
        for _, callback in self.callbacks_:
            try:
                callback.on_epoch_end(self, **kwargs)
            except TrainingStoppedError:
                stop = True
            except KeyboardInterrupt:
                # So skorch's callbacks stop; all others come from the keyboard.
                if not wants_to_stop(callback):
                    raise
                stop = True
        if stop:
            raise TrainingStoppedError

    def encode(self, images, prepare=None):
        """Return the latents of images.

        Parameters
        ----------
        images : ndarray of shape (n, C, H, W)
            The images, in [0, 1] unless `prepare` makes them so.
        prepare : callable or None
            What to apply to a few images before the network sees them.

        Returns
        -------
        ndarray of shape (n, latent_dim), float32
            The latents.
        """

        def encode(part):
            return torch.cat(self.module_.encode(_channels_last(part)), dim=1)

        return self._apply_padded(encode, images, before=prepare)

    def read_targets(self, images, prepare=None, elements=(0,), with_variance=False):
        """Return z_phy, and its variance, of turned images.

        Parameters
        ----------
        images, prepare
            As for `encode`.
        elements : sequence of int
            The symmetries of the square, of `dihedral_transform`, that turn each image
            before the network sees it.
        with_variance : bool
            Whether to return the variances too.

        Returns
        -------
        ndarray of shape (n, n_elements, 1 or 2, n_targets), float32
            z_phy and, where they are asked for, the variances.
        """
        read = self._read_both if with_variance else self._read_z_phy

        def read_turned(part):
            turned = (dihedral_transform(part, element) for element in elements)
            return torch.stack([read(_channels_last(one)) for one in turned], dim=1)

        return self._apply_padded(read_turned, images, before=prepare)

    def _read_z_phy(self, images):
        return self.module_.encode(images)[0][:, None]

    def _read_both(self, images):
        z_phy, log_variance = self.module_.encode_with_variance(images)
        return torch.stack([z_phy, log_variance.exp()], dim=1)

    def decode(self, latents, finish=None):
        """Return the images of latents.

        Parameters
        ----------
        latents : ndarray of shape (n, latent_dim), float32
            The latents.
        finish : callable or None
            What to apply to a few images in [0, 1] at a time.

        Returns
        -------
        ndarray of shape (n, C, H, W)
            The images, in [0, 1] and float32 unless `finish` makes them otherwise.
        """

        def decode(part):
            return torch.sigmoid(self.module_.decode(part))

        return self._apply_padded(decode, latents, after=finish)

    def _apply_padded(self, function, array, before=None, after=None):
        """Apply a function to a fixed number of rows at a time.

        What it needs beyond its input and output does not grow with the rows.
        """
        self.module_.eval()

        @torch.inference_mode()
        def apply(rows):
            part = array[rows] if before is None else before(array[rows])
            batch = np.zeros((INFERENCE_BATCH_SIZE, *part.shape[1:]), np.float32)
            batch[: len(part)] = part
            output = function(torch.from_numpy(batch).to(self.device))
            output = output[: len(part)].cpu().numpy()
            return output if after is None else after(output)

        first, *others = _parts(len(array), INFERENCE_BATCH_SIZE)
        with part_workers(self.device) as map_parts:
            (values,) = map_parts(apply, [first])
            output = np.empty((len(array), *values.shape[1:]), values.dtype)
            output[first] = values

            def fill(rows):
                output[rows] = apply(rows)

            for some in _parts(len(others), MANY_PARTS):
                map_parts(fill, others[some])
        return output

    def get_weights(self):
        """Return the weights as a dict of arrays."""
        return _to_arrays(self.module_.state_dict())

    def set_weights(self, weights):
        """Copy the weights out of a dict of arrays."""
        self.module_.load_state_dict(_to_tensors(weights))
        return self

    def get_optimizer_state(self):
        """Return the optimizer's and the generator's state as a dict of arrays."""
        state = {"generator": self.generator.get_state().numpy()}
        for index, values in self.optimizer_.state_dict()["state"].items():
            for name, array in _to_arrays(values).items():
                state[f"{index}.{name}"] = array
        return state

    def set_optimizer_state(self, state):
        """Go on with what `get_optimizer_state` returned."""
        tensors = _to_tensors(state)
        self.generator.set_state(tensors.pop("generator"))
        values, parameters = {}, list(self.module_.parameters())
        for key, tensor in tensors.items():
            index, name = key.split(".")
            if tensor.ndim:
                tensor = _laid_out_as(parameters[int(index)], tensor)
            values.setdefault(int(index), {})[name] = tensor
        groups = self.optimizer_.state_dict()["param_groups"]
        self.optimizer_.load_state_dict({"state": values, "param_groups": groups})
        return self

    def get_training_state(self):
        """Return all that decides how the training goes on, arrays and plain values."""
        state = {
            "weights": self.get_weights(),
            "optimizer": self.get_optimizer_state(),
            "history": self.history_table(),
        }
        if self._early_stopping is not None:
            stopping = self._early_stopping
            state["best_weights"] = _to_arrays(stopping.best_model_weights_ or {})
            state["early_stopping"] = {
                name: getattr(stopping, name) for name in EARLY_STOPPING_STATE
            }
        return state

    def set_training_state(self, state):
        """Go on from what `get_training_state` returned, or a part of it.

        Without ``optimizer`` the optimizer begins anew.
        """
        self.set_weights(state["weights"])
        self.set_history_table(state["history"])
        if "optimizer" in state:
            self.set_optimizer_state(state["optimizer"])
        if "early_stopping" in state:
            stopping = self._early_stopping
            stopping.best_model_weights_ = _to_tensors(state["best_weights"]) or None
            vars(stopping).update(state["early_stopping"])
        return self

    def history_table(self):
        """Return the record of the training as a dict of lists, one entry an epoch."""
        rows = list(self.history)
        table = {
            name: [float(row.get(key, np.nan)) for row in rows]
            for name, key in HISTORY.items()
            if any(key in row for row in rows)
        }
        return table | {"epoch": [row["epoch"] for row in rows]}

    def set_history_table(self, table):
        """Put what `history_table` returned before the epochs to come."""
        keys = [HISTORY[name] for name in table]
        for values in zip(*table.values(), strict=True):
            self.history.append(dict(zip(keys, values, strict=True), batches=[]))
        return self


# What skorch's EarlyStopping remembers, its weights apart.
EARLY_STOPPING_STATE = ("misses_", "dynamic_threshold_", "best_epoch_")


def _to_arrays(tensors):
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _to_tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def _channels_last(part):
    if part.ndim != 4:
        return part
    return part.contiguous(memory_format=torch.channels_last)


def _laid_out_as(parameter, tensor):
    """Return a tensor with the strides of a parameter.

    A fused optimizer takes the numbers as they follow one another in memory.
    """
    if tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)


def _parts(length, size):
    return [slice(start, start + size) for start in range(0, length, size)]


@torch.inference_mode(False)
def build_net(
    network,
    image_shape,
    n_targets,
    latent_dim,
    predicts_variance=False,
    *,
    seed,
    **kwargs,
):
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
    predicts_variance : bool
        Whether the network predicts the variance of z_phy.
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
        module = NETWORKS[network](
            image_shape, n_targets, latent_dim, predicts_variance
        )
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
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            "The 'device' parameter of ConditionalAutoencoderRegressor must name a "
            f"device that PyTorch can use here, such as 'cpu'. Got {device!r} instead: "
            f"{error}"
        ) from error
