"""A program of a user, which `mypy --strict` checks in test_types; it is never run."""

from typing import Any, assert_type

import numpy as np
import torch
from numpy.typing import NDArray

from sklcae import (
    ConditionalAutoencoderRegressor,
    ProfileFitRegressor,
    load_pretrained,
    stack_planes,
)
from sklcae.baselines import make_pca_baseline
from sklcae.datasets import make_galaxies, signal_to_noise
from sklcae.exceptions import ModelFileError
from sklcae.inspection import ParameterRecoveryDisplay
from sklcae.metrics import dispersion
from sklcae.networks import (
    Architecture,
    Batch,
    Encoder,
    PaperDecoder,
    combine,
    register_network,
)
from sklcae.survey import CatalogRun, Stamps, open_stamps, predict_catalog

Floats = NDArray[np.floating[Any]]


class MeanEncoder(Encoder):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.add_heads(architecture, n_features=1)

    def features(self, batch: Batch) -> torch.Tensor:
        mean = batch.images.mean(dim=(1, 2, 3))
        assert isinstance(mean, torch.Tensor)
        return mean[:, None]


def fit_and_predict(images: Floats, psf: Floats, wanted: bool) -> None:
    X, y = make_galaxies(20, flux=(500, 5000), image_shape=(16, 16), random_state=0)
    assert_type(signal_to_noise(X, gain=None), Floats)
    planes = stack_planes(images, variance=4.0, psf=psf)
    assert_type(planes, Floats)

    model = ConditionalAutoencoderRegressor(stretch="asinh", network="strided")
    assert_type(model.fit(X, y), ConditionalAutoencoderRegressor)
    assert_type(model.predict(X), Floats)
    assert_type(model.predict(X, return_std=True), tuple[Floats, Floats])
    assert_type(model.predict(X, wanted), Floats | tuple[Floats, Floats])
    assert_type(model.score(X, y), float)
    loaded = ConditionalAutoencoderRegressor.load("a.sklcae")
    assert_type(loaded, ConditionalAutoencoderRegressor)
    assert_type(load_pretrained(), ConditionalAutoencoderRegressor)

    polished = ProfileFitRegressor(model, prefit=True).fit(X)
    assert_type(polished, ProfileFitRegressor)
    assert_type(polished.predict(X), Floats)
    y_pred, _ = polished.predict(X, return_cov=True)
    assert_type(y_pred, Floats)

    dispersion(y, y_pred, errors="relative")
    ParameterRecoveryDisplay.from_predictions(y, y_pred, scale="log")
    make_pca_baseline(n_components=8).fit(X, y)
    register_network("mean", combine(MeanEncoder, PaperDecoder))

    # An ignored error that is none is an error of --strict.
    ConditionalAutoencoderRegressor(stretch="log")  # type: ignore[arg-type]
    ConditionalAutoencoderRegressor(latent_dims=3)  # type: ignore[call-arg]
    stack_planes(images, noise=4.0)  # type: ignore[call-arg]


def measure(path: str) -> CatalogRun | None:
    stamps = open_stamps(path, psf="psf_image")
    assert_type(stamps, Stamps)
    try:
        return predict_catalog("model.sklcae", stamps, "out", on_bad_stamp="raise")
    except ModelFileError:
        return None
