"""The module that is exported, without an export: it does what the estimator does."""

import numpy as np
import pytest
import torch

from sklcae import ConditionalAutoencoderRegressor
from sklcae._images import Images, statistics_of
from sklcae._masking import fill_masked
from sklcae._onnx import bounds_of, filling_of, parts_of_reader
from sklcae._planes import Planes, filled_variance
from sklcae._torch import export
from tests import bands


def make_masked_stamps(n):
    X, y = bands.make_stamps(n)
    X = X.astype(np.float32)
    images = X[:, :3]
    images[np.random.default_rng(0).random(images.shape) < 0.03] = np.nan
    return X, y


@pytest.fixture
def masked():
    """Stamps of three bands with masked pixels; one has a gap, one has none left."""
    X, _ = make_masked_stamps(8)
    images = X[:, :3]
    images[1, :, 2:22, 3:20] = np.nan
    images[2, 1] = np.nan
    images[3] = np.nan
    return Planes(images, X[:, 3:6], X[:, 6:])


def as_tensors(masked):
    image, variance, psf = (torch.tensor(plane).double() for plane in masked)
    return image, ~image.isnan(), variance, psf


def test_masked_pixels_are_filled(masked):
    image, seen, _, _ = as_tensors(masked)
    filling = export._as_tensors(filling_of((3, *bands.SHAPE)))
    expected, _ = fill_masked(masked.image)
    found = export._filled(image, seen, filling)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_variance_of_masked_pixels(masked):
    image, seen, variance, _ = as_tensors(masked)
    # All differ, so that the median is that of the pixels that count.
    variance *= torch.rand(variance.shape, generator=torch.manual_seed(0)) + 1
    variance[~seen] = torch.inf
    expected = filled_variance(Planes(image.numpy(), variance.numpy()))
    filling = object()
    found = export._filled_variance(variance, seen, filling)
    np.testing.assert_allclose(found, expected)
    assert export._filled_variance(variance, seen, None) is variance


@pytest.mark.parametrize("shape", [bands.SHAPE, (5, 7), (1, 9), (9, 1), (2, 1)])
def test_statistics(shape, masked):
    rows = [plane[[0, 4, 5], :, : shape[0], : shape[1]] for plane in masked]
    images = Images(np.concatenate(rows, axis=1), kinds=("image", "variance", "psf"))
    everything = slice(None)
    filled, mask = fill_masked(images[everything])
    expected = statistics_of(images, everything, filled, mask)
    seen = ~torch.tensor(rows[0]).isnan()
    planes = [filled, images.variance[everything], images.psf[everything]]
    image, variance, psf = (torch.tensor(plane).double() for plane in planes)
    found = export._statistics(image, seen, variance, psf, bounds_of(None, None))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.* outside the range", "ignore:.* no pixel that")
def test_sersic_network_of_masked_stamps(masked):
    X, y = make_masked_stamps(40)
    planes = ("image", "variance", "psf")
    model = ConditionalAutoencoderRegressor(
        network="sersic",
        planes=planes,
        pixel_scale=bands.SCALE,
        gain=bands.GAIN,
        stretch="asinh",
        physical_loss="gaussian_likelihood",
        allow_nan=True,
        handle_empty="nan",
        max_epochs=1,
        latent_dim=12,
        random_state=0,
    ).fit(X, y)
    parts = parts_of_reader(model.codec_, allow_nan=True, symmetry=None)
    reader = export.Reader(model.net_.module_, parts)
    with torch.inference_mode():
        found = [part.numpy() for part in reader(*map(torch.tensor, masked))]
    stamps = np.concatenate(masked, axis=1)
    expected = model.predict(stamps, return_std=True)
    for values, wanted in zip(found, expected, strict=False):
        errors = abs(values - wanted) / model.target_scaler_.scale_
        assert np.nanmax(errors) < 1e-4
        np.testing.assert_array_equal(np.isnan(values), np.isnan(wanted))
    assert found[2].tolist() == model.is_outside(stamps).tolist()
    assert 0 < found[2].sum() < len(stamps)


def test_lognormal_errors_of_any_size():
    variance = np.array([[1e-12, 1e-6, 1e-3, 1.0, 30.0]])
    units = dict.fromkeys(export.TargetUnits._fields)
    units = export.TargetUnits(**units | {"is_logarithm": torch.ones(5, dtype=bool)})
    found = export._std(torch.ones(1, 5), torch.tensor(variance), units)
    expected = np.exp(variance / 2) * np.sqrt(np.expm1(variance))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
