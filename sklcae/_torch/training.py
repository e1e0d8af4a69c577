"""The skorch net: batches in, the loss of Eq. 2, micro-batches."""

import copy
from contextlib import nullcontext, suppress
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EpochTimer, PassthroughScoring
from skorch.helper import predefined_split
from skorch.utils import TeeGenerator
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler

from sklcae._torch import inference
from sklcae._torch.augmentation import DihedralAugmentation
from sklcae._torch.batches import BatchDataset
from sklcae._torch.callbacks import (
    EpochLog,
    TrainingStoppedError,
    early_stopping,
    wants_to_stop,
)
from sklcae._torch.generators import DrawFrom, seeded_global_draws
from sklcae._torch.losses import (
    Light,
    Logits,
    LossTerms,
    LossWeights,
    drawn_by,
    loss_terms,
    pixel_loss,
)
from sklcae._torch.networks.base import Encoding
from sklcae._torch.networks.checking import (
    check_network,
    has_dropout,
    is_known,
    needs_whole_batches,
)
from sklcae._torch.networks.register import BUILT_IN, build_network
from sklcae._torch.optimizers import OPTIMIZERS, fast_forward, make_schedule
from sklcae._torch.reading import BlockShuffle, FileOrder, ReadAhead
from sklcae._torch.simulation import SimulatedGalaxies
from sklcae._torch.workers import (
    in_order,
    on_one_thread,
    one_thread_if_forked,
    single_threads,
    usual_modes,
)

# A batch is divided into parts that fit the processor's cache, 16 stamps of 64 x 64.
# Their gradients add up to the gradient of the whole batch.
MICRO_BATCH_PIXELS = 16 * 64 * 64

LOSS_TERMS = LossTerms._fields
# Columns of the history: the user's name, and skorch's.
HISTORY = {
    "epoch": "epoch",
    "train_loss": "train_loss",
    **{f"{name}_loss": f"{name}_loss" for name in LOSS_TERMS},
    "validation_loss": "valid_loss",
    "duration": "dur",
}


class Output(NamedTuple):
    """The output of a network in training; ``drawn`` is None if no loss needs it."""

    encoding: Encoding
    drawn: Logits | Light | None


class ConditionalAutoencoderNet(NeuralNet):
    """Train a network on Eq. 2, and apply it.

    For the methods of a network see `sklcae._torch.networks.base`. The generator, on
    the CPU, determines the order of the stamps, their partners, augmentation and
    dropout. ``alpha``, ``beta`` and ``gamma`` are the weights of the physical, the
    regularization and the exchange term; the exchange term needs stamps with partners.
    The reconstruction loss "chi_square" needs a `LightScale`; with None there is no
    such term, and the decoder is not used. ``target_maps`` are the
    matrices and offsets of `DihedralAugmentation`; None for no augmentation.
    ``simulation`` are arguments of `SimulatedGalaxies` by name, all but the scale of
    the light and the generator; None to train on the stamps as they are.
    ``n_iter_no_change`` and ``tol`` decide when to stop, given stamps to validate with.
    A net that is not ``trainable`` has no optimizer, and only predicts.
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
        light_scale=None,
        target_maps=None,
        simulation=None,
        optimizer="adam",
        weight_decay=0.0,
        lr_schedule="constant",
        n_iter_no_change=10,
        tol=1e-4,
        trainable=True,
        **kwargs,
    ):
        if trainable:
            kwargs |= {
                "optimizer": OPTIMIZERS[optimizer],
                "optimizer__weight_decay": weight_decay,
                # One pass over the weights instead of one for each operation.
                "optimizer__fused": True,
            }
        super().__init__(module, criterion=nn.Identity, train_split=None, **kwargs)
        self.loss_weights = LossWeights(alpha, beta, gamma)
        self.reconstruction_loss = reconstruction_loss
        self.physical_loss = physical_loss
        self.light_scale = None if light_scale is None else light_scale.to(self.device)
        self.lr_schedule = lr_schedule
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.trainable = trainable
        self.generator = generator
        self.executor = in_order
        self._early_stopping = None
        # The planes of a stamp turn before a galaxy is simulated through them.
        self.augmentations = []
        if target_maps is not None:
            turned = DihedralAugmentation(*target_maps, generator)
            self.augmentations.append(turned)
        if simulation is not None:
            parts = {"light_scale": light_scale.to("cpu"), "generator": generator}
            self.augmentations.append(SimulatedGalaxies(**simulation, **parts))

    def initialize_optimizer(self, *args, **kwargs):
        """Make the optimizer, for which PyTorch imports its compiler."""
        if not self.trainable:
            return self
        return super().initialize_optimizer(*args, **kwargs)

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
        ]

    @property
    def _term_names(self):
        # The column of a term that is left out would be all zeros.
        used = dict.fromkeys(LOSS_TERMS, True)
        used["reconstruction"] = self.reconstruction_loss is not None
        used["exchange"] = bool(self.loss_weights.gamma)
        return [name for name in LOSS_TERMS if used[name]]

    # The loss --------------------------------------------------------------------

    def infer(self, x, **fit_params):
        """Return the `Output` for a batch."""
        encoding = self.module_.encode(x.observations)
        if self.reconstruction_loss is None:
            return Output(encoding, None)
        return Output(encoding, self._decode(encoding.latents, x.psf))

    def _decode(self, latents, psf):
        """Return the `Logits` or the `Light` of latents."""
        # A network that reads no PSF need not have the parameter.
        given = (latents,) if psf is None else (latents, psf)
        return drawn_by(self.module_, self.module_.decode(*given))

    def get_loss(self, y_pred, y_true, X=None, training=False):
        """Return the loss for an output and its batch."""
        return self._loss_terms(y_pred, y_true).total(self.loss_weights)

    def _loss_terms(self, output, batch):
        terms = loss_terms(
            output,
            batch,
            self.reconstruction_loss,
            self.physical_loss,
            self.light_scale,
        )
        if not self.loss_weights.gamma:
            return terms
        exchange = self._exchange_loss(output.encoding.z_rest, batch.partners)
        return terms._replace(exchange=exchange)

    def _exchange_loss(self, z_rest, partners):
        """Return the loss of images with the partners' targets and the own z_rest."""
        latents = torch.cat([partners.targets, z_rest], dim=1)
        drawn = self._decode(latents, partners.psf)
        return pixel_loss(drawn, partners, self.reconstruction_loss, self.light_scale)

    # A step ----------------------------------------------------------------------

    def get_iterator(self, dataset, training=False):
        """Return a loader that takes whole batches out of the tensors at once."""
        rows = self._order(dataset, training)
        batch_size = min(self.batch_size, len(dataset))
        sampler = BatchSampler(rows, batch_size=batch_size, drop_last=False)
        if training and needs_whole_batches(self.module_):
            sampler = NoSingles(sampler)
        if dataset.reading is not None:
            sampler = ReadAhead(sampler, dataset.reading)
        return DataLoader(
            dataset, sampler=sampler, batch_size=None, generator=self.generator
        )

    def _order(self, dataset, training):
        """Return the sampler of the stamps: random in training."""
        if dataset.reading is not None:
            if training:
                return BlockShuffle(dataset.reading, self.generator)
            return FileOrder(dataset.reading)
        if training:
            return RandomSampler(dataset, generator=self.generator)
        return SequentialSampler(dataset)

    def train_step(self, batch, **fit_params):
        """Compute the gradients of a batch, and let the optimizer make a step.

        The step is made on one of the executor's threads. Threads that PyTorch itself
        started for it would keep their cores busy for some milliseconds after it, while
        the next batch is computed.
        """
        self.optimizer_.zero_grad()
        step = self.train_step_single(batch, **fit_params)
        parameters = TeeGenerator(self.get_all_learnable_params())
        found = {"named_parameters": parameters, "batch": batch, "training": True}
        self.notify("on_grad_computed", **found)
        self.executor(lambda _: self.optimizer_.step(), [None])
        return step

    def train_step_single(self, batch, **fit_params):
        """Add up the gradients of a batch, a micro-batch at a time."""
        self._set_training(True)
        for augment in self.augmentations:
            batch = augment(batch, self.executor)
        terms, gradients = zip(
            *self._map_micro_batches(self._loss_and_gradients, batch), strict=True
        )
        pairs = zip(self._trained(), zip(*gradients, strict=True), strict=True)
        self.executor(_add_up, list(pairs))
        step = self._step(terms)
        if not step["loss"].isfinite():
            values = self._values(step["terms"])
            self._raise_diverged(f"its loss is no longer finite. Got {values}")
        return step

    def validation_step(self, batch, **fit_params):
        """Return the loss of a batch, a micro-batch at a time."""
        self._set_training(False)
        step = self._step(self._map_micro_batches(self._loss_alone, batch))
        if not step["loss"].isfinite():
            self._check_weights()
            raise ValueError(
                "The loss of the held-out images must be finite, since it decides when "
                f"to stop. Got {self._values(step['terms'])} in epoch "
                f"{len(self.history)}. The cause may be a held-out image with pixels "
                "far beyond the range of the images to train on."
            )
        return step

    def _step(self, terms):
        terms = LossTerms(*sum(terms))
        loss = terms.total(self.loss_weights)
        return {"loss": loss, "y_pred": None, "terms": terms}

    def _map_micro_batches(self, function, batch):
        """Apply a function to each micro-batch and its share in the batch."""
        batch = batch.map(lambda part: _channels_last(part.to(self.device)))
        n_images = len(batch.images)
        size = max(1, MICRO_BATCH_PIXELS // batch.images[0].numel())
        if needs_whole_batches(self.module_):
            size = n_images

        def apply(rows):
            part = batch.map(lambda values: values[rows])
            return function(part, len(part.images) / n_images)

        starts = range(0, n_images, size)
        return self.executor(apply, [slice(start, start + size) for start in starts])

    def _loss_and_gradients(self, batch, share):
        with self._owned_draws():
            terms = self._loss_terms(self.infer(batch), batch)
            loss = share * terms.total(self.loss_weights)
            # A weight that the loss does not depend on gets zeros.
            gradients = torch.autograd.grad(
                loss, self._trained(), allow_unused=True, materialize_grads=True
            )
        return share * torch.stack(terms).detach(), gradients

    def _owned_draws(self):
        """Return the context in which a network draws from the net's generator."""
        if has_dropout(self.module_):
            if torch.device(self.device).type != "cpu":
                return seeded_global_draws(self.device, self.generator)
            return DrawFrom(self.generator)
        # Looking at each operation costs sklcae's own networks up to a tenth of the
        # time, and they draw nothing.
        return nullcontext() if is_known(self.module_) else DrawFrom(None)

    def _loss_alone(self, batch, share):
        with torch.no_grad():
            return share * torch.stack(self._loss_terms(self.infer(batch), batch))

    def _trained(self):
        trained = [p for p in self.module_.parameters() if p.requires_grad]
        if not trained:
            raise ValueError(
                "The 'callbacks' parameter of ConditionalAutoencoderRegressor must "
                "leave weights to train. Got callbacks that froze all of them."
            )
        return trained

    def _values(self, terms):
        return ", ".join(f"{n}_loss={getattr(terms, n):.3g}" for n in self._term_names)

    def _check_weights(self):
        """Raise ValueError if a weight is not finite."""
        if not all(p.isfinite().all() for p in self.module_.parameters()):
            self._raise_diverged(
                "its weights are no longer finite. Got NaN or infinity"
            )

    def _raise_diverged(self, reason):
        raise ValueError(
            f"The training diverged in epoch {len(self.history)}: {reason} with "
            f"lr={self.lr} and alpha={self.loss_weights.alpha}. Try a smaller lr."
        )

    def on_batch_end(self, net, batch=None, training=False, terms=None, **kwargs):
        """Record the terms of the loss."""
        super().on_batch_end(net, batch=batch, training=training, **kwargs)
        if training:
            for name in self._term_names:
                self.history.record_batch(f"{name}_loss", getattr(terms, name).item())

    # The training ----------------------------------------------------------------

    def fit_batches(
        self,
        batch,
        *,
        n_epochs,
        n_before=0,
        validation=None,
        state=None,
        epoch_hook=None,
    ):
        """Train for a number of epochs, including the epochs before an interruption.

        ``n_before`` is the number of epochs of earlier fits that this one continues.
        The loss of the batch ``validation`` decides when to stop; None for no early
        stopping. ``state`` is a state of `get_training_state` to continue from. The
        `EpochHook` is called at the start and at the end of each epoch. ValueError is
        raised if the training diverges or the loss of ``validation`` is not finite.
        """
        dataset = BatchDataset(batch, self.generator)
        n_batches = -(-len(dataset) // self.batch_size)
        schedule = make_schedule(self.lr_schedule, self.lr, n_epochs * n_batches)
        callbacks = list(self.callbacks_)
        self._early_stopping = None
        if validation is not None:
            self.train_split = predefined_split(BatchDataset(validation))
            self._early_stopping = early_stopping(self.n_iter_no_change, self.tol)
        log = EpochLog(n_before, n_epochs) if self.verbose else None
        # The hook is the last callback, so that it sees the results of all others.
        for name, callback in [
            ("early_stopping", self._early_stopping),
            ("lr_schedule", schedule),
            ("epoch_log", log),
            ("epoch_hook", epoch_hook),
        ]:
            if callback is not None:
                self.callbacks_.append((name, callback))
        with usual_modes(self.device), one_thread_if_forked():
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
    def stops_early(self):
        """Whether the training has stamps to validate with."""
        return self._early_stopping is not None

    @property
    def best_epoch(self):
        """The epoch of the weights after a training with validation."""
        return self._early_stopping.best_epoch_

    def _train(self, dataset, epochs):
        try:
            with (
                single_threads(self.device) as self.executor,
                suppress(TrainingStoppedError),
            ):
                self.fit_loop(dataset, epochs=epochs)
        finally:
            self.executor = in_order

    def notify(self, method_name, **kwargs):
        """Call the callbacks; at the end of an epoch call all before one stops."""
        if method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        self._check_weights()
        self.on_epoch_end(self, **kwargs)
        stop = False
        for _, callback in self.callbacks_:
            try:
                callback.on_epoch_end(self, **kwargs)
            except TrainingStoppedError:
                stop = True
            except KeyboardInterrupt:
                # skorch's callbacks stop so. All others come from the keyboard.
                if not wants_to_stop(callback):
                    raise
                stop = True
        if stop:
            raise TrainingStoppedError

    @property
    def draws_light(self):
        """Whether the network returns light and not logits, see `drawn_by`."""
        return isinstance(drawn_by(self.module_, None), Light)

    # Inference -------------------------------------------------------------------

    def encode(self, stamps):
        """Return the latents of stamps, see `inference.encode`."""
        return self._infer(inference.encode, stamps)

    def read_targets(self, stamps, elements=(0,)):
        """Return z_phy of turned stamps and its variance, see `inference`."""
        return self._infer(inference.read_targets, stamps, elements)

    def decode(self, latents, psf=None, finish=None):
        """Return the images of latents, see `inference.decode`."""
        return self._infer(inference.decode, latents, psf, finish)

    def _infer(self, function, rows, *options):
        with usual_modes(self.device), single_threads(self.device) as executor:
            return function(self.module_, rows, executor, *options)

    # Its state -------------------------------------------------------------------

    def get_weights(self):
        """Return the weights as a dict of arrays."""
        return _to_arrays(self.module_.state_dict())

    @on_one_thread
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
        """Continue with the state from `get_optimizer_state`."""
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

    def get_training_state(self):
        """Return all that decides how the training continues, but the weights."""
        optimizer, history = self.get_optimizer_state(), self.history_table()
        state = {"optimizer": optimizer, "history": history}
        if self._early_stopping is not None:
            stopping = self._early_stopping
            state["best_weights"] = _to_arrays(stopping.best_model_weights_ or {})
            state["early_stopping"] = {
                name: getattr(stopping, name) for name in EARLY_STOPPING_STATE
            }
        return state

    def set_training_state(self, state):
        """Continue from the state of `get_training_state`, or from a part of it.

        Without ``optimizer`` the optimizer begins anew.
        """
        self.set_history_table(state["history"])
        if "optimizer" in state:
            self.set_optimizer_state(state["optimizer"])
        if "early_stopping" in state:
            stopping = self._early_stopping
            stopping.best_model_weights_ = _to_tensors(state["best_weights"]) or None
            vars(stopping).update(state["early_stopping"])

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
        """Put the record from `history_table` before the epochs to come."""
        keys = [HISTORY[name] for name in table]
        for values in zip(*table.values(), strict=True):
            self.history.append(dict(zip(keys, values, strict=True), batches=[]))


# The attributes of skorch's EarlyStopping that a training continues with, besides its
# weights.
EARLY_STOPPING_STATE = ("misses_", "dynamic_threshold_", "best_epoch_")


class NoSingles:
    """Batches, the last one joined to the one before if it is a single stamp.

    BatchNorm needs two images at least.
    """

    def __init__(self, sampler):
        self.sampler = sampler

    def __len__(self):
        return len(self.sampler)

    def __iter__(self):
        *batches, last = self.sampler
        if batches and len(last) == 1:
            last = batches.pop() + last
        return iter([*batches, last])


def _to_arrays(tensors):
    return {name: tensor.cpu().numpy() for name, tensor in tensors.items()}


def _to_tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def _channels_last(part):
    if part.ndim != 4:
        return part
    return part.contiguous(memory_format=torch.channels_last)


def _add_up(parameter_and_parts):
    """Set the gradient of a parameter to the sum of its parts."""
    parameter, parts = parameter_and_parts
    parameter.grad = _laid_out_as(parameter, reduce(torch.Tensor.add_, parts))


def _laid_out_as(parameter, tensor):
    """Return a tensor with the strides of a parameter.

    A fused optimizer takes the numbers in the order of memory.
    """
    if tensor.stride() == parameter.stride():
        return tensor
    return torch.empty_like(parameter).copy_(tensor)


def build_net(network, architecture, *, seed, module=None, **kwargs):
    """Build a network with random weights, and the initialised net that trains it.

    The network is a key of ``NETWORKS``, or a callable that takes an architecture. The
    seed determines the weights, the order of the stamps and the augmentation. A copy of
    a module takes the place of the new network; weights that a callback froze in it are
    trained again.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    module = _build_module(network, architecture, generator, module)
    with usual_modes("cpu"):
        net = ConditionalAutoencoderNet(module, generator=generator, **kwargs)
        return net.initialize()


@on_one_thread
def _build_module(network, architecture, generator, trained):
    built = build_network(network, architecture, generator)
    if not (isinstance(network, str) and network in BUILT_IN):
        check_network(built, architecture)
    module = built if trained is None else copy.deepcopy(trained)
    for weight, new in zip(module.parameters(), built.parameters(), strict=False):
        weight.requires_grad_(new.requires_grad)
        if weight.ndim == 4:
            weight.data = weight.data.to(memory_format=torch.channels_last)
    return module


def check_device(device):
    """Raise ValueError, naming the parameter, unless torch can use the device."""
    try:
        # Reading a value back is more than the "meta" device can do.
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ValueError(
            "The 'device' parameter must name a device that PyTorch can use here, such "
            f"as 'cpu'. Got {device!r} instead: {error}"
        ) from error
