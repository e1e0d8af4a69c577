"""The content of a checkpoint, and the rules that it must keep."""

import numpy as np

from sklcae._fitting import psf_of_settings
from sklcae._gain import as_gain
from sklcae._inputs import Layout
from sklcae._profile_training import parameters_of_layout
from sklcae._profiles import uses_profiles
from sklcae._storage.model import FITTED, architecture_of, wrong_codec
from sklcae._storage.rules import (
    ARRAYS,
    COUNT,
    SEED,
    Rule,
    check_table,
    is_integer,
    specs_of,
    wrong_arrays,
)
from sklcae._torch import build_net
from sklcae._torch.checking_state import is_generator_state, optimizer_specs
from sklcae._torch.training import HISTORY
from sklcae.exceptions import ModelFileError

# Parts of a codec's state that are not in the file: data and parameters decide them,
# and a training has no reference.
KNOWN = (
    "layout",
    "gain",
    "pixel_scale",
    "psf",
    "network",
    "latent_dim",
    "predicts_variance",
    "reference",
)
# Arrays of the scaler that an architecture is made of.
ARRAYS_OF_SCALER = (
    "minimum_",
    "range_",
    "softening_",
    "background_",
    "sky_",
    "noise_",
)
LEARNED = {n: rule for n, rule in FITTED["codec_"].items() if n not in KNOWN}
EARLY_STOPPING = {
    "misses_": Rule("an integer from 0", lambda v: is_integer(v) and v >= 0),
    "dynamic_threshold_": Rule(
        "a float that is not NaN",
        lambda value: isinstance(value, float) and value == value,
    ),
    "best_epoch_": COUNT,
}
# The smallest numbers in the state of an optimizer.
LEAST = {"step": 1, "exp_avg_sq": 0}


def content_of(seeds, codec, net):
    """Return the content of a checkpoint."""
    state = codec.to_state()
    return {
        "seeds": seeds,
        "codec": {name: state[name] for name in LEARNED},
        "training": net.get_training_state(),
    }


class TrainingRules:
    """The rules for the content of a checkpoint of one fit.

    ``known`` is the part of the codec's state that is not in the file. All sizes come
    from it and from a new network of the fit, and none from the file.
    """

    def __init__(self, settings, data, previous):
        self.settings = settings
        self.logarithmic = data.logarithmic
        self.n_before = 0 if previous is None else previous.n_epochs
        self.columns = _columns(settings, previous)
        self.known = {
            "layout": data.layout._asdict(),
            "gain": as_gain(settings.gain),
            "pixel_scale": settings.pixel_scale and float(settings.pixel_scale),
            "psf": psf_of_settings(settings, data.layout),
            "network": settings.network,
            "latent_dim": int(settings.latent_dim),
            "predicts_variance": settings.physical_loss == "gaussian_likelihood",
            "reference": None,
        }
        net = build_net(settings.network, self._architecture(), seed=0)
        self.weights = specs_of(net.get_weights())
        self.optimizer = optimizer_specs(net)

    def check_shapes(self, content):
        """Raise ModelFileError unless types and shapes are right.

        Arrays of ones may be in the place of arrays that are not read yet.
        """
        check_table(content, self._table(), "its content")
        for problem in self._contradictions(**content):
            raise ModelFileError(problem)

    def check_values(self, content):
        """Raise ModelFileError if a value is wrong, after `check_shapes`."""
        for problem in self._wrong_values(content["codec"], content["training"]):
            raise ModelFileError(problem)

    def _architecture(self):
        """Return the architecture, with ones for all that the training learns."""
        learned = {"guess": None}
        if uses_profiles(self.settings):
            layout = Layout(**self.known["layout"])
            parameters = parameters_of_layout(layout)
            ones = np.ones(layout.n_targets)
            scaler = {"mean_": ones, "scale_": ones, "logarithmic": self.logarithmic}
            learned = {
                "guess": np.ones((2, len(parameters.names))),
                "target_scaler": scaler,
                "image_scaler": {
                    "stretch": self.settings.stretch,
                    **dict.fromkeys(ARRAYS_OF_SCALER, np.ones((1, 1, 1))),
                },
            }
        return architecture_of(self.known | learned)

    def _table(self):
        seeds = {"net": SEED}
        training = {"history": FITTED["history_"], "optimizer": ARRAYS}
        if self.settings.early_stopping:
            seeds["split"] = SEED
            training |= {"best_weights": ARRAYS, "early_stopping": EARLY_STOPPING}
        return {"seeds": seeds, "codec": LEARNED, "training": training}

    def _contradictions(self, seeds, codec, training):
        """Yield the errors in a content whose parts are each of the right type."""
        yield from self._wrong_history(training["history"])
        yield from wrong_codec(self.known | codec)
        yield from wrong_arrays("weights", codec["weights"], self.weights)
        optimizer = training["optimizer"]
        yield from wrong_arrays("optimizer arrays", optimizer, self.optimizer)
        if self.settings.early_stopping:
            n_epochs = len(training["history"]["epoch"])
            yield from self._wrong_best_epoch(n_epochs, **training["early_stopping"])
            yield from wrong_arrays(
                "best weights", training["best_weights"], self.weights
            )

    def _wrong_history(self, history):
        n_epochs, last = len(history["epoch"]), self.n_before + self.settings.max_epochs
        if n_epochs > last:
            yield f"it has {n_epochs} epochs, and max_epochs ends at {last}"
        if n_epochs <= self.n_before:
            yield f"it has {n_epochs} epochs, and the fit begins after {self.n_before}"
        if history.keys() != self.columns:
            yield f"its history must have {sorted(self.columns)}, not {list(history)}"

    def _wrong_best_epoch(self, n_epochs, best_epoch_, misses_, dynamic_threshold_):
        if not self.n_before < best_epoch_ <= n_epochs:
            yield f"best_epoch_ is {best_epoch_} of {n_epochs} epochs"
        if misses_ != n_epochs - best_epoch_:
            yield f"misses_ is {misses_} in epoch {n_epochs}, after {best_epoch_}"

    def _wrong_values(self, codec, training):
        wanted = vars(self.settings) | {"logarithmic": self.logarithmic}
        for scaler in (codec["image_scaler"], codec["target_scaler"]):
            for name in scaler.keys() & wanted.keys():
                if scaler[name] != wanted[name]:
                    yield f"{name!r} of its scaler must be {wanted[name]!r}"
        optimizer = training["optimizer"]
        for name, array in optimizer.items():
            least = LEAST.get(name.rpartition(".")[2])
            if least is not None and not (array >= least).all():
                yield f"{name!r} of its optimizer is too small"
        if not is_generator_state(optimizer["generator"]):
            yield "its generator has no valid state"


def _columns(settings, previous):
    """Return the names of the columns of the history."""
    columns = set(HISTORY)
    if not settings.gamma:
        columns.remove("exchange_loss")
    if settings.reconstruction_loss is None:
        columns.remove("reconstruction_loss")
    if not settings.early_stopping:
        columns.remove("validation_loss")
    return columns if previous is None else columns | set(previous.training["history"])
