"""Adapt a model to another survey: accuracy in both surveys, and time.

    PYTHONPATH=. python tests/benchmarks/adapt.py model.sklcae

The model is that of ``train_for_psfs.py --sky 0.3`` (18 epochs suffice). The other
survey has pixels of 0.263 arcsec, a seeing of 1.3 to 1.7 arcsec, three times the noise
and a background of 0.3 times the noise left on average. Rows: the model as it is, with
the new units (`rescale`), adapted without labels, with 100 and with 1,000 labels. The
columns have the error of flux, radius and index (1.48 times the median absolute error,
relative), their bias in percent, the share of errors within one standard deviation,
the change of the three errors in the old survey, and seconds. "gap" is the share of
the gap that 1,000 labels close, the mean over the logarithms of the three errors.

``--alternatives`` adds rows for other ways with 100 labels: other shares of simulated
stamps, the last layers alone, low-rank changes, and a larger learning rate.
"""

import argparse
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from profile_fits import MIXED, STAMPS
from records import Record, add_option
from torch import nn
from torch.nn.utils import parametrize

from sklcae import ConditionalAutoencoderRegressor, _adaptation
from sklcae.datasets import make_galaxies

SETTINGS = {**STAMPS, "return_X_y": True}
OTHER = {
    "pixel_scale": 0.263,
    "psf_fwhm": (1.3, 1.7),
    "sky_level": 120.0,
    "sky_offset": (0.0, 6.0),
}
RANK = 4


class LowRank(nn.Module):
    """A weight plus a product of two narrow matrices, which alone are trained."""

    def __init__(self, weight):
        super().__init__()
        self.first = nn.Parameter(torch.randn(weight.shape[0], RANK) / RANK)
        self.second = nn.Parameter(torch.zeros(RANK, weight.shape[1]))

    def forward(self, weight):
        """Return the changed weight."""
        return weight + self.first @ self.second


def freeze_all_but_heads(module):
    for name, weight in module.named_parameters():
        weight.requires_grad_("dense_latents" in name or "variance" in name)


def make_low_rank(module):
    module.requires_grad_(False)
    for part in list(module.modules()):
        if isinstance(part, nn.Linear):
            parametrize.register_parametrization(part, "weight", LowRank(part.weight))


@contextmanager
def patched(**values):
    """Replace attributes of the module for a while."""
    before = {name: getattr(_adaptation, name) for name in values}
    vars(_adaptation).update(values)
    try:
        yield
    finally:
        vars(_adaptation).update(before)


def with_change(change):
    """Return a context in which a function changes the module before the training.

    The changed weights are not averaged with those before.
    """
    build = _adaptation._build_net

    def build_changed(*args):
        net = build(*args)
        change(net.module_)
        net.initialize_optimizer()
        return net

    return patched(_build_net=build_changed, _averaged=lambda new, old: new)


ALTERNATIVES = {
    "no simulated stamps": lambda: patched(N_OWN=10900, N_HERE=1, N_THERE=1),
    "none of the old survey": lambda: patched(N_HERE=9900, N_THERE=1),
    "no stamps of the survey": lambda: patched(N_OWN=1, N_HERE=2700),
    "last layers alone": lambda: with_change(freeze_all_but_heads),
    "low rank": lambda: with_change(make_low_rank),
    "weights not averaged": lambda: patched(SHARE_OF_NEW=1.0),
    "rate of 1e-3": lambda: patched(LEARNING_RATE=1e-3),
}


def merge_low_rank(model):
    """Put the changes into the weights."""
    for part in list(model.net_.module_.modules()):
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight")


def errors(model, X, y):
    """Return errors, biases and shares within one standard deviation, of three each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        targets = model.codec_.read_targets(model._check_images(X))
    wanted = model.target_scaler_.to_logarithms(np.asarray(y))[:, :3]
    off = targets.mean[:, :3] - wanted
    inside = (abs(off) < np.sqrt(targets.variance[:, :3])).mean(axis=0)
    return 1.4826 * np.median(abs(off), axis=0), np.median(off, axis=0), inside


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--n-test", type=int, default=2000)
    parser.add_argument("--alternatives", action="store_true")
    add_option(parser)
    options, record = parser.parse_args(), Record()
    train = make_galaxies(1000, random_state=11, **SETTINGS | OTHER)
    test = make_galaxies(options.n_test, random_state=12, **SETTINGS | OTHER)
    old = make_galaxies(options.n_test, random_state=13, **SETTINGS | MIXED)
    rows = {}

    def load(rescaled=True):
        model = ConditionalAutoencoderRegressor.load(options.model)
        return model.rescale(pixel_scale=OTHER["pixel_scale"]) if rescaled else model

    old_before = errors(load(rescaled=False), *old)[0]

    def add(name, model, seconds=0.0):
        error, bias, inside = errors(model, *test)
        model.rescale(pixel_scale=0.2)
        change = errors(model, *old)[0] / old_before - 1
        values = [*error, *(100 * bias), *(100 * inside), *(100 * change)]
        columns = [
            f"{kind} {name}"
            for kind in ("error", "bias", "in 68", "old")
            for name in ("flux", "radius", "index")
        ]
        rows[name] = {**dict(zip(columns, values, strict=True)), "s": seconds}
        print(name, {k: round(v, 3) for k, v in rows[name].items()}, flush=True)

    add("as it is", load(rescaled=False))
    add("new units", load())

    def adapt(name, n):
        model, start = load(), time.perf_counter()
        labels = () if n is None else (train[1][:n],)
        model.adapt(train[0][: n or 1000], *labels, random_state=0)
        merge_low_rank(model)
        add(name, model, time.perf_counter() - start)

    adapt("1000 stamps, no labels", None)
    adapt("100 labels", 100)
    adapt("1000 labels", 1000)
    if options.alternatives:
        for name, context in ALTERNATIVES.items():
            with context():
                adapt(f"100 labels, {name}", 100)
    table = pd.DataFrame(rows).T
    logs = np.log(table.iloc[:, :3]).mean(axis=1)
    before, most = logs["new units"], logs["1000 labels"]
    table["gap"] = (before - logs) / (before - most)
    with pd.option_context("display.width", 250, "display.max_columns", 20):
        print(table.round(3).to_string())
    record.add("models", table.rename_axis("model").reset_index())
    record.write(options.json)


if __name__ == "__main__":
    main()
