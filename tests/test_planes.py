"""Planes: the noise map and the PSF of a stamp, from X to the loss and back."""

import copy
import pickle

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sklcae import ConditionalAutoencoderRegressor, stack_planes
from sklcae._images import Images, PSFs, VarianceMaps
from sklcae._planes import (
    KINDS,
    PART_SIZE,
    Planes,
    check_planes,
    is_kinds,
    split_planes,
)
from sklcae.exceptions import ImageShapeError, ModelFileError
from sklcae.inspection import LatentSweepDisplay, ReconstructionDisplay
from sklcae.networks import (
    Encoding,
    NeuralFieldDecoder,
    PaperEncoder,
    combine,
)
from tests.blobs import (
    assert_same_for_any_split,
    assert_same_model,
    make_blobs_of_light,
)

SIDE = 16
PLANES = KINDS


def gaussian(sigma, side=SIDE, e1=0.0, e2=0.0, shift=(0.0, 0.0)):
    """Gaussians of some widths about the pixel (side // 2, side // 2), of sum 1."""
    sigma = np.asarray(sigma, dtype=float)[..., None, None]
    x = np.arange(side) - side // 2 - shift[0]
    y = (np.arange(side) - side // 2 - shift[1])[:, None]
    squares = (x**2 + y**2 - e1 * (x**2 - y**2) - 2 * e2 * x * y) / (
        1 - e1**2 - e2**2
    ) ** 0.5
    light = np.exp(-squares / (2 * sigma**2))
    return light / light.sum(axis=(-2, -1), keepdims=True)


def make_stamps(n, random_state=0, dtype=np.float32, e=0.0):
    """Return galaxies seen by telescopes of their own, and their flux and radius.

    A galaxy is a Gaussian, and so is its PSF. The variance differs 25-fold.
    """
    rng = np.random.default_rng(random_state)
    y = rng.uniform([200.0, 0.8], [600.0, 2.0], size=(n, 2))
    seeing, noise = rng.uniform(0.8, 1.8, n), rng.uniform(0.5, 2.5, n)
    image = y[:, 0, None, None] * gaussian(np.hypot(y[:, 1], seeing))
    image += rng.normal(size=image.shape) * noise[:, None, None]
    variance = np.broadcast_to(noise[:, None, None] ** 2, image.shape)
    psf = gaussian(seeing, e1=e)
    X = stack_planes(image.astype(dtype), variance, psf)
    return X, y


def quick(**kwargs):
    settings = {
        "planes": PLANES,
        "latent_dim": 6,
        "network": "neural_field",
        "stretch": "asinh",
        "reconstruction_loss": "chi_square",
        "max_epochs": 2,
        "random_state": 0,
    }
    return ConditionalAutoencoderRegressor(**{**settings, **kwargs})


@pytest.fixture(scope="module")
def data():
    return make_stamps(70)


@pytest.fixture(scope="module")
def model(data):
    return quick(physical_loss="gaussian_likelihood").fit(*data)


# Short trainings learn nothing.
pytestmark = pytest.mark.filterwarnings("ignore:Targets were not learned")


# stack_planes -------------------------------------------------------------------------


@pytest.mark.parametrize("bands", [(), (2,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stamps_have_a_channel_for_each_plane_and_band(bands, dtype):
    rng = np.random.default_rng(0)
    image = rng.normal(size=(5, *bands, 8, 9)).astype(dtype)
    variance = rng.uniform(1, 2, size=image.shape)
    psf = rng.uniform(1, 2, size=(*image.shape[:-2], 3, 5))
    psf[..., 1, 2] = 100
    X = stack_planes(image, variance, psf)
    n_bands = bands[0] if bands else 1
    assert X.shape == (5, 3 * n_bands, 8, 9)
    assert X.dtype == dtype
    planes = split_planes(X, PLANES)
    np.testing.assert_array_equal(planes.image, image.reshape(5, n_bands, 8, 9))
    expected = variance.reshape(5, n_bands, 8, 9).astype(dtype)
    np.testing.assert_array_equal(planes.variance, expected)
    assert all(np.shares_memory(plane, X) for plane in planes)
    np.testing.assert_allclose(planes.psf.sum(axis=(2, 3)), 1, rtol=1e-5)
    expected = psf / psf.sum(axis=(-2, -1), keepdims=True)
    np.testing.assert_allclose(
        planes.psf[:, :, 3:6, 2:7].ravel(), expected.ravel(), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("given", "n_channels"),
    [({}, 1), ({"variance": 2.0}, 2), ({"psf": np.eye(3)[1:2]}, 2)],
)
def test_planes_are_optional(given, n_channels):
    X = stack_planes(np.ones((2, 6, 6)), **given)
    assert X.shape == (2, n_channels, 6, 6)


def test_masked_pixels_are_nan_and_have_the_median_variance():
    image = np.arange(32.0).reshape(2, 4, 4)
    variance = np.tile(np.arange(1.0, 17.0).reshape(4, 4), (2, 1, 1))
    variance[0, 0, 0], variance[1, 1, 1], variance[1, 2, 2] = np.inf, np.nan, -1
    mask = np.zeros((2, 4, 4), bool)
    mask[1, 1, 1] = True
    image[1, 2, 2] = np.nan
    before = image.copy(), variance.copy()
    X = stack_planes(image, variance, mask=mask)
    np.testing.assert_array_equal((image, variance), before)
    masked = [(0, 0, 0), (1, 1, 1), (1, 2, 2)]
    assert [tuple(i) for i in np.argwhere(np.isnan(X[:, 0]))] == masked
    assert X[0, 1, 0, 0] == np.median(np.arange(2, 17))
    assert (
        X[1, 1, 1, 1]
        == X[1, 1, 2, 2]
        == np.median(np.delete(np.arange(1, 17), [5, 10]))
    )
    assert X[1, 1, 0, 0] == 1


def test_a_stamp_without_pixels_has_some_variance():
    X = stack_planes(np.full((1, 4, 4), np.nan), np.full((1, 4, 4), np.inf))
    assert (X[:, 1] == 1).all()


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("n_rows", [1, 3, 7])
def test_the_middle_of_a_psf_is_the_pixel_of_the_centre(side, n_rows):
    psf = np.zeros((n_rows, 3))
    psf[n_rows // 2, 1] = 2.0
    X = stack_planes(np.zeros((1, side, side)), psf=psf)
    assert np.argwhere(X[0, 1]).tolist() == [[side // 2, side // 2]]
    assert X[0, 1].max() == 1


def test_a_psf_larger_than_the_stamp_is_cut_with_a_warning():
    psf = gaussian(1.0, 21)
    X = stack_planes(np.zeros((2, 12, 12)), psf=psf)
    np.testing.assert_allclose(X[1, 1], gaussian(1.0, 12), atol=1e-6)
    with pytest.warns(UserWarning, match=r"psf has .*% of its light outside .* row 0"):
        stack_planes(np.zeros((2, 12, 12)), psf=gaussian(4.0, 21))


def test_many_stamps_are_stacked_as_one_is():
    rng = np.random.default_rng(0)
    n = 2 * PART_SIZE + 7
    given = {
        "image": rng.normal(size=(n, 2, 9, 8)).astype(">f4"),
        "variance": rng.uniform(1, 2, (n, 2, 9, 8)),
        "psf": np.tile(gaussian(1.0, 7), (n, 2, 1, 1))
        * rng.uniform(1, 9, (n, 1, 1, 1)),
        "mask": rng.random((n, 2, 9, 8)) < 0.01,
    }
    given["variance"][3, 1, 2, 2] = np.inf
    X = stack_planes(**given)
    assert X.dtype == np.float32
    assert np.isnan(X[3, 1, 2, 2])
    assert X[3, 3, 2, 2] == np.median(X[3, 2:4][~np.isnan(X[3, :2])])
    for row in (3, PART_SIZE, n - 1):
        one = stack_planes(**{name: array[[row]] for name, array in given.items()})
        np.testing.assert_array_equal(X[[row]], one)


def test_rows_are_counted_over_all_stamps():
    row = PART_SIZE + 3
    n = 2 * PART_SIZE
    images = np.zeros((n, 12, 12))
    variance = np.ones(images.shape)
    variance[row, 4, 4] = -1
    with pytest.raises(ValueError, match=f"variance .* first in row {row},"):
        stack_planes(images, variance)
    psf = np.tile(gaussian(1.0, 21), (n, 1, 1))
    psf[row] = gaussian(4.0, 21)
    with pytest.warns(UserWarning, match=rf"outside the stamp in row {row},") as found:
        stack_planes(images, psf=psf)
    assert len(found) == 1


def bad(values, where, value):
    values = np.array(values, dtype=float)
    values[where] = value
    return values


IMAGE = np.random.default_rng(0).normal(size=(4, 8, 8))
VARIANCE = np.ones((4, 8, 8))
PSF = np.tile(gaussian(1.0, 7), (4, 1, 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"variance": bad(VARIANCE, (2, 0, 1), -1)}, "variance .*positive.*row 2"),
        ({"variance": bad(VARIANCE, (1, 0, 1), 0)}, "variance .*positive.*row 1"),
        ({"variance": bad(VARIANCE, (3, 0, 1), np.nan)}, "variance .*row 3"),
        ({"variance": np.ones((3, 8, 8))}, r"variance must have the shape of image"),
        ({"variance": np.ones(8)}, "variance must have a number"),
        ({"variance": "1"}, "variance"),
        ({"psf": bad(PSF, (1, 2, 2), np.nan)}, "psf .*finite.*row 1"),
        ({"psf": bad(PSF, (1, 2, 2), np.inf)}, "psf .*finite.*row 1"),
        ({"psf": bad(PSF, 2, 0)}, "psf .*positive sum.*row 2"),
        ({"psf": bad(PSF, 3, -PSF[0])}, "psf .*positive sum.*row 3"),
        ({"psf": bad(PSF, 3, PSF[0] - PSF[0].mean())}, "psf .*positive sum.*row 3"),
        (
            {"psf": bad(PSF, 2, np.roll(PSF[0], 2, 1))},
            "psf .*row 2, .* columns from",
        ),
        ({"psf": np.ones((4, 4))}, "psf must have odd sides"),
        ({"psf": np.ones((3, 3, 3))}, "psf must be one PSF"),
        ({"psf": np.ones(3)}, "psf must have the shape"),
        ({"mask": np.ones((3, 8, 8), bool)}, "mask must have the shape of image"),
    ],
)
def test_wrong_planes_are_named(given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        stack_planes(IMAGE, **given)


def test_forgotten_planes_are_noticed():
    X, y = make_blobs_of_light(40)
    X = stack_planes(X.reshape(-1, 12, 12), 1.0, PSF[0])
    with pytest.warns(UserWarning, match=r"last channel .* planes=\('image', 'var"):
        quick(planes=("image",)).fit(X, y)
    for bands in (X[:, [0]], X[:, [2, 2]], X[:, :2]):
        quick(planes=("image",)).fit(bands, y)


def test_a_psf_within_a_pixel_of_the_centre_is_allowed():
    psf = gaussian(1.2, 9, shift=(0.6, -0.5))
    X = stack_planes(np.zeros((1, 9, 9)), psf=psf)
    np.testing.assert_allclose(X[0, 1], psf)


def test_an_infinite_image_is_refused():
    with pytest.raises(ValueError, match="image must be finite"):
        stack_planes(bad(IMAGE, (0, 0, 0), np.inf))


def test_rows_are_counted_from_the_first_of_a_block():
    planes = Planes(IMAGE[:, None], psf=bad(PSF, (1, 2, 2), np.nan)[:, None])
    with pytest.raises(ValueError, match="row 65"):
        check_planes(planes, first=64)


# The estimator -----------------------------------------------------------------------


def all_results(model, X):
    y = np.array([[300.0, 1.0], [500.0, 1.5]])
    psf = gaussian(1.1) if "psf" in model.codec_.layout.planes else None
    results = {
        "predict": model.predict(X),
        "transform": model.transform(X),
        "reconstruct": model.reconstruct(X),
        "score_samples": model.score_samples(X),
        "is_outside": model.is_outside(X),
        "generate": model.generate(y, random_state=0, psf=psf),
        "inverse_transform": model.inverse_transform(model.transform(X), psf=psf),
    }
    if model.physical_loss == "gaussian_likelihood":
        results["std"] = model.predict(X, return_std=True)[1]
    return results


def assert_same_results(first, second, X):
    second = all_results(second, X)
    for name, values in all_results(first, X).items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


@pytest.mark.parametrize("planes", [PLANES[:2], PLANES[::2], PLANES])
@pytest.mark.parametrize("n_bands", [1, 2])
def test_all_methods_work_with_any_planes_and_bands(planes, n_bands):
    X, y = make_stamps(70)
    X = np.concatenate(
        [X[:, [PLANES.index(kind)] * n_bands] for kind in planes], axis=1
    )
    X[:, 1] *= 1 + 0.1 * (n_bands - 1)
    settings = {"reconstruction_loss": "chi_square", "gamma": 1.0}
    model = quick(planes=list(planes), **settings).fit(X, y)
    assert model.image_shape_ == (len(planes) * n_bands, SIDE, SIDE)
    assert model.codec_.architecture.image_shape == (n_bands, SIDE, SIDE)
    assert model.codec_.architecture.has_psf == ("psf" in planes)
    results = all_results(model, X)
    assert all(np.isfinite(values).all() for values in results.values())
    for name in ("reconstruct", "inverse_transform"):
        assert results[name].shape == (70, n_bands, SIDE, SIDE)
    assert results["generate"].shape == (2, n_bands, SIDE, SIDE)
    assert not results["is_outside"].any()
    # Flat rows are the same stamps.
    shape = None if n_bands == 1 else X.shape[1:]
    flat = quick(planes=planes, image_shape=shape, **settings).fit(X.reshape(70, -1), y)
    np.testing.assert_array_equal(flat.predict(X.reshape(70, -1)), results["predict"])
    assert flat.reconstruct(X.reshape(70, -1)).shape == (70, n_bands, SIDE, SIDE)


def test_the_image_alone_is_as_without_planes(data):
    X, y = data
    plain = ConditionalAutoencoderRegressor(
        latent_dim=6, max_epochs=1, random_state=0, gamma=1.0, stretch="asinh"
    )
    named = clone(plain).set_params(planes="image").fit(X[:, :1], y)
    plain.fit(X[:, :1], y)
    assert_same_model(plain, named)
    assert_same_results(plain, named, X[:, :1])


def test_only_the_image_is_scaled(data, model):
    X, y = data
    plain = quick(planes=("image",), max_epochs=1).fit(X[:, :1], y)
    for name, value in vars(plain.image_scaler_).items():
        np.testing.assert_array_equal(value, getattr(model.image_scaler_, name))


PLANES_UNLIKE = {
    "noisier": (1, lambda variance: 100 * variance),
    "deeper": (1, lambda variance: variance / 100),
    "wider PSF": (2, lambda psf: gaussian_filter(psf, 2.0, axes=(-2, -1))),
}


@pytest.mark.parametrize("name", PLANES_UNLIKE)
def test_planes_unlike_those_of_training_are_outside(data, model, name):
    X, _ = data
    assert not model.is_outside(X).any()
    strange, (plane, change) = X.copy(), PLANES_UNLIKE[name]
    strange[3, plane] = change(strange[3, plane])
    assert np.flatnonzero(model.is_outside(strange)).tolist() == [3]


class Recording(nn.Module):
    """A network of one's own that keeps the planes it gets."""

    seen = []  # noqa: RUF012

    def __init__(self, architecture):
        super().__init__()
        self.architecture = architecture
        n_pixels = np.prod(architecture.image_shape).item()
        self.down = nn.Linear(n_pixels, architecture.latent_dim)
        self.up = nn.Linear(architecture.latent_dim, n_pixels)

    def encode(self, batch):
        self.seen.append(("encode", batch.images, batch.variance, batch.psf))
        latents = self.down(batch.images.flatten(1))
        return Encoding(*latents.tensor_split([self.architecture.n_targets], dim=1))

    def decode(self, latents, psf):
        self.seen.append(("decode", latents, psf))
        return self.up(latents).unflatten(1, self.architecture.image_shape)


def test_a_network_gets_the_planes_in_training_and_in_prediction(data):
    X, y = data
    model = quick(network=Recording, max_epochs=1, batch_size=70)
    Recording.seen.clear()
    model.fit(X, y)
    scaled = model.image_scaler_.transform(X[:, :1])
    unit = model.image_scaler_.noise_.mean()
    for rows, where in ((slice(None), 70), (slice(0, 7), 32)):
        if where == 32:
            Recording.seen.clear()
            model.reconstruct(X[rows])
        calls = [call for call in Recording.seen if len(call[1]) == where]
        encoded = next(call for call in calls if call[0] == "encode")
        decoded = next(call for call in calls if call[0] == "decode")
        images, variance, psf = (part.numpy()[:, 0] for part in encoded[1:])
        order = np.arange(7)
        if where == 70:
            # The training shuffles.
            order = [np.abs(scaled[:, 0] - i).max((1, 2)).argmin() for i in images]
            assert sorted(order) == list(range(70))
        n = len(order)
        np.testing.assert_allclose(images[:n], scaled[order, 0], rtol=1e-6)
        np.testing.assert_allclose(variance[:n], X[order, 1] / unit**2, rtol=1e-5)
        np.testing.assert_allclose(psf[:n], X[order, 2], rtol=1e-5, atol=1e-9)
        np.testing.assert_array_equal(decoded[2].numpy()[:n, 0], psf[:n])
        # Whatever stands in for stamps that do not exist can be divided by.
        assert (variance > 0).all()
        assert (psf.sum(axis=(1, 2)) > 0).all()


def chi_square_of(model, X, gain):
    """The chi-square loss of the reconstructions, from its formula."""
    expected = model.reconstruct(X).astype(np.float64)
    image, variance, _ = split_planes(X.astype(np.float64), PLANES)
    if gain is not None:
        light = expected - model.image_scaler_.sky_
        variance = variance + light.clip(min=0) / gain
    return ((image - expected) ** 2 / (2 * variance)).mean(axis=(1, 2, 3))


@pytest.mark.parametrize("gain", [2.0, None])
def test_chi_square_counts_the_variance_of_each_pixel(data, gain):
    X, y = data
    X = X.copy()
    # A hundred times the noise in half of each stamp, and in a third of the stamps.
    X[:, 1, :, : SIDE // 2] *= 100
    X[::3, 1] *= 100
    model = quick(gain=gain, max_epochs=1, lr=1e-12).fit(X, y)
    expected = chi_square_of(model, X, gain)
    assert expected[1::3].mean() > 20 * expected[::3].mean()
    loss = model.history_["reconstruction_loss"][0]
    assert loss == pytest.approx(expected.mean(), rel=1e-3)
    # The reference of score_samples has the same residuals.
    misfits = model.codec_.reference.misfits[:, 0]
    np.testing.assert_allclose(misfits, 2 * expected, rtol=1e-3)
    X[:, 1] *= 4
    quiet = quick(gain=gain, max_epochs=1, lr=1e-12).fit(X, y)
    ratio = quiet.history_["reconstruction_loss"][0] / loss
    assert ratio == pytest.approx(0.25, abs=1e-4) if gain is None else ratio < 0.9


def test_masked_pixels_may_have_any_variance(data):
    X, y = data
    X = X.copy()
    mask = np.random.default_rng(0).random(X[:, 0].shape) < 0.05
    X[:, 0][mask] = np.nan
    models, results = [], []
    for value in (1.0, np.nan, -1.0, np.inf, 1e30):
        given = X.copy()
        given[:, 1][mask] = value
        models.append(quick(allow_nan=True, max_epochs=1).fit(given, y))
        results.append(all_results(models[-1], given))
    for other, values in zip(models[1:], results[1:], strict=True):
        assert_same_model(models[0], other)
        for name, array in values.items():
            np.testing.assert_array_equal(array, results[0][name], err_msg=name)
            assert np.isfinite(array).all()
    with pytest.raises(ValueError, match="allow_nan"):
        quick().fit(X, y)


def test_empty_images_give_nan(data):
    X, y = data
    X = X.copy()
    X[[2, 5], 0] = np.nan
    X[[2, 5], 1] = np.inf
    model = quick(allow_nan=True, handle_empty="nan", max_epochs=1)
    with pytest.warns(UserWarning, match="2 of 70 images have no pixel"):
        model.fit(X, y)
    with pytest.warns(UserWarning, match="2 of 70 images have no pixel"):
        empty = np.isnan(model.predict(X)).all(axis=1)
    assert np.flatnonzero(empty).tolist() == [2, 5]


# Bad planes --------------------------------------------------------------------------


def never(architecture):
    raise AssertionError("a network is built before the planes are checked")


def spoil(X, row, plane, value):
    X = np.array(X)
    X[row, plane, 4] = value
    return X


def shifted(X, row):
    X = np.array(X)
    X[row, 2] = np.roll(X[row, 2], 3, axis=1)
    return X


BAD_PLANES = [
    (lambda X: spoil(X, 67, 1, np.nan), "variance of each stamp .*first in row 67"),
    (lambda X: spoil(X, 67, 1, -1.0), "variance of each stamp .*first in row 67"),
    (lambda X: spoil(X, 66, 1, 0.0), "variance of each stamp .*first in row 66"),
    (lambda X: spoil(X, 65, 1, np.inf), "variance of each stamp .*first in row 65"),
    (lambda X: spoil(X, 68, 2, np.nan), "psf of each stamp .*finite.*row 68"),
    (lambda X: spoil(X, 64, 2, -9.0), "psf of each stamp .*positive sum.*row 64"),
    (lambda X: shifted(X, 69), "psf of each stamp .*centre.*row 69"),
    (lambda X: X[:, :2], "planes"),
    (lambda X: X[:, :1], "planes"),
    (lambda X: X[:, 0], "planes"),
    (lambda X: np.concatenate([X, X[:, :1]], axis=1), "planes"),
]


@pytest.mark.parametrize(("change", "message"), BAD_PLANES)
@pytest.mark.parametrize("allow_nan", [False, True])
def test_bad_planes_are_named_before_the_training(
    data, model, change, message, allow_nan
):
    X, y = data
    wrong = change(X)
    unfitted = quick(network=never, allow_nan=allow_nan)
    with pytest.raises(ValueError, match=message):
        unfitted.fit(wrong, y)
    model = copy.copy(model).set_params(allow_nan=allow_nan)
    for method in ("predict", "transform", "reconstruct", "score_samples"):
        with pytest.raises(ValueError, match=message):
            getattr(model, method)(wrong)


def test_flat_rows_need_planes_of_a_known_shape(data):
    X, y = data
    with pytest.raises(ImageShapeError, match="channels of all 3 planes"):
        quick().fit(X[:, :, :, :15].reshape(70, -1), y)
    with pytest.raises(ValueError, match="planes"):
        quick(image_shape=(SIDE, SIDE)).fit(X[:, 0].reshape(70, -1), y)


@pytest.mark.parametrize(
    "planes",
    [
        (),
        (np.ones(2),),
        "psf",
        ("psf",),
        ("psf", "image"),
        ("image", "image"),
        ("image", "mask"),
        3,
    ],
)
def test_wrong_kinds_of_planes_are_refused(data, planes):
    assert not is_kinds(planes)
    with pytest.raises(ValueError, match="'planes' parameter of Cond"):
        quick(planes=planes).fit(*data)


def test_no_gain_needs_a_variance(data):
    X, y = data
    with pytest.raises(ValueError, match=r"'gain' parameter .*'variance'"):
        quick(gain=None, planes=("image", "psf")).fit(X[:, ::2], y)


@pytest.mark.parametrize(
    ("network", "part"),
    [
        ("paper", "PaperEncoder"),
        ("strided", "PaperDecoder"),
        (combine(PaperEncoder, NeuralFieldDecoder), "PaperEncoder"),
    ],
)
def test_networks_that_read_no_psf_are_refused(data, network, part):
    X, y = data
    message = f"'network' .*such as .*'neural_field'.* {part} reads no PSF"
    with pytest.raises(ValueError, match=message):
        quick(network=network).fit(X, y)
    quick(network=network, planes=PLANES[:2], max_epochs=1).fit(X[:, :2], y)


# The PSF in the decoder ---------------------------------------------------------------


def test_images_are_made_for_any_telescope(data, model):
    X, y = data
    latents = model.transform(X[:3])
    narrow, wide = gaussian(0.8), gaussian(1.8)
    images = model.inverse_transform(latents, psf=narrow)
    assert images.shape == (3, 1, SIDE, SIDE)
    assert not np.allclose(images, model.inverse_transform(latents, psf=wide))
    # One for each row, of odd sides, of another sum, and with an axis of bands.
    for psf in (
        np.stack([narrow] * 3),
        np.stack([narrow] * 3)[:, None],
        7 * narrow,
        narrow.tolist(),
    ):
        np.testing.assert_allclose(
            model.inverse_transform(latents, psf=psf), images, rtol=1e-5
        )
    small = gaussian(0.8, 13)
    np.testing.assert_allclose(
        model.inverse_transform(latents, psf=small), images, rtol=1e-3
    )
    each = model.inverse_transform(latents, psf=np.stack([wide, narrow, narrow]))
    np.testing.assert_array_equal(each[1:], images[1:])
    assert not np.array_equal(each[0], images[0])
    # The PSF of the row, in reconstruct.
    own = model.inverse_transform(latents, psf=X[:3, 2])
    np.testing.assert_array_equal(model.reconstruct(X[:3]), own)
    first = model.generate(y[:4], random_state=0, psf=narrow)
    assert first.shape == (4, 1, SIDE, SIDE)
    assert not np.allclose(first, model.generate(y[:4], random_state=0, psf=wide))


def test_a_psf_is_needed_by_models_with_one_and_by_no_others(data, model):
    X, y = data
    plain = quick(planes=PLANES[:2], max_epochs=1).fit(X[:, :2], y)
    for call in (
        lambda model, **psf: model.generate(y[:3], **psf),
        lambda model, **psf: model.inverse_transform(np.zeros((3, 6)), **psf),
    ):
        with pytest.raises(ValueError, match="psf must be the PSF of the images"):
            call(model)
        with pytest.raises(ValueError, match="psf must be None"):
            call(plain, psf=gaussian(1.0))
        for psf, message in (
            (np.zeros((5, 5)), "positive sum"),
            (np.full((5, 5), np.nan), "finite"),
            (np.roll(gaussian(0.8), 2, 0), "centre"),
            (np.ones((4, 4)), "odd sides"),
            (np.ones((4, 3, 3)), "one for each"),
            (np.ones((3, 2, 3, 3)), "one for each"),
            (np.ones(5), "shape"),
            ("psf.fits", "read the file"),
        ):
            with pytest.raises((ValueError, TypeError), match=message):
                call(model, psf=psf)


# Everything that a model does ---------------------------------------------------------


def test_results_do_not_depend_on_batch_and_order(model):
    X, _ = make_stamps(70, random_state=1)
    X = X[:40]
    for method in (model.predict, model.transform):
        assert_same_for_any_split(method, X, [7])
    for other in (np.asfortranarray(X), X[::-1].copy()[::-1]):
        np.testing.assert_array_equal(model.predict(other), model.predict(X))
        np.testing.assert_array_equal(model.transform(other), model.transform(X))


def test_threads_change_nothing(data, model):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        again = quick(physical_loss="gaussian_likelihood").fit(*data)
        assert_same_model(model, again)
        assert_same_results(model, again, data[0])
    finally:
        torch.set_num_threads(before)


def test_turned_predictions_turn_with_the_stamp():
    X, y = make_stamps(70, e=0.2)
    settings = {"augmentation": "dihedral", "invariant_targets": "all", "lr": 1e-2}
    model = quick(**settings, test_time_augmentation=True).fit(X, y)
    turned = X[:, :, ::-1].copy()
    turned[:, 2] = np.roll(turned[:, 2], 1, axis=1)
    turned = turned.swapaxes(2, 3)
    off_by_one = turned.copy()
    off_by_one[:, 2] = np.roll(turned[:, 2], 1, axis=2)
    wanted = model.predict(X)
    right, wrong = (abs(model.predict(x) - wanted).max() for x in (turned, off_by_one))
    assert right < 0.01 * wrong


def test_memory_maps_are_read_in_parts(data, model, tmp_path, monkeypatch):
    X, y = data
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    read = []
    for reader in (Images, VarianceMaps, PSFs):
        getitem = reader.__getitem__

        def spy(self, which, getitem=getitem):
            values = getitem(self, which)
            read.append(len(values))
            return values

        monkeypatch.setattr(reader, "__getitem__", spy)
    assert_same_model(quick(physical_loss="gaussian_likelihood").fit(mapped, y), model)
    assert_same_results(model, model, mapped)
    # Only the noise is estimated from all of these few stamps at once.
    assert sum(n > 64 for n in read) == 1
    assert len(read) > 50
    swapped = X.astype(X.dtype.newbyteorder())
    np.testing.assert_array_equal(model.predict(swapped), model.predict(X))


def test_scikit_learn_cuts_planes_with_their_stamps(data, model):
    X, y = data
    pipeline = make_pipeline(FunctionTransformer(), quick(max_epochs=1)).fit(X, y)
    alone = quick(max_epochs=1).fit(X, y)
    np.testing.assert_array_equal(pipeline.predict(X), alone.predict(X))
    scores = cross_val_score(quick(max_epochs=1), X, y, cv=2)
    expected = [
        quick(max_epochs=1).fit(X[a], y[a]).score(X[b], y[b])
        for a, b in ((slice(35, None), slice(35)), (slice(35), slice(35, None)))
    ]
    np.testing.assert_array_equal(scores, expected)
    search = GridSearchCV(quick(max_epochs=1), {"alpha": [0.5, 1.0]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("gain", [1.0, None])
def test_files_and_pickles_keep_the_planes(data, tmp_path, gain):
    X, y = data
    model = quick(gain=gain, max_epochs=1).fit(X, y)
    model.save(tmp_path / "model")
    for copied in (
        ConditionalAutoencoderRegressor.load(tmp_path / "model"),
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
    ):
        assert copied.codec_.layout == model.codec_.layout
        assert copied.get_params() == model.get_params()
        assert_same_results(model, copied, X)


def test_an_interrupted_training_resumes(data, tmp_path):
    X, y = data
    settings = {"max_epochs": 3, "gamma": 1.0, "gain": None}
    whole = quick(**settings).fit(X, y)
    settings["checkpoint"] = tmp_path / "checkpoint"
    quick(**{**settings, "max_epochs": 1}).fit(X, y)
    resumed = quick(**settings).fit(X, y)
    assert_same_model(whole, resumed)
    assert_same_results(whole, resumed, X)
    other = X.copy()
    other[3, 1] *= 2
    with pytest.raises(ModelFileError, match="other data or parameters"):
        quick(**settings).fit(other, y)


def test_further_fits_continue(data):
    X, y = data
    model = quick(warm_start=True, max_epochs=1).fit(X, y).fit(X, y)
    assert model.n_iter_ == 2
    part = quick().partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    assert part.n_iter_ == 2
    assert np.isfinite(part.predict(X)).all()
    with pytest.raises(ValueError, match=r"'planes' parameter .* must stay"):
        model.set_params(planes=PLANES[:2]).fit(X[:, :2], y)


def test_early_stopping_and_groups(data):
    X, y = data
    groups = np.arange(70) // 5
    model = quick(early_stopping=True, gamma=1.0).fit(X, y, groups=groups)
    assert np.isfinite(model.history_["validation_loss"]).all()
    assert np.isfinite(model.history_["exchange_loss"]).all()
    weights = np.arange(70.0)
    weighted = quick(max_epochs=1).fit(X, y, sample_weight=weights)
    assert np.isfinite(weighted.predict(X)).all()


def test_robust_limits_leave_out_whole_stamps(data):
    """The planes of the others stay with their images."""
    X, y = data
    bright = X.copy()
    bright[10, 0, 8, 8] = 1e7
    settings = {"limits": "robust", "max_epochs": 1, "lr": 1e-12}
    with pytest.warns(UserWarning, match=r"row 10.*left out"):
        model = quick(**settings).fit(bright, y)
    usual = np.delete(np.arange(70), 10)
    loss = chi_square_of(model, bright[usual], 1.0).mean()
    assert model.history_["reconstruction_loss"][0] == pytest.approx(loss, rel=1e-3)


def test_displays_show_the_images_through_their_psf(data, model):
    X, _ = data
    pairs = ReconstructionDisplay.from_estimator(model, X, n_images=3)
    np.testing.assert_array_equal(pairs.images, X[:3, 0])
    expected = model.reconstruct(X)[:3, 0]
    np.testing.assert_allclose(pairs.reconstructions, expected, rtol=1e-3)
    settings = {"latents": [0], "values": [[0.0, 1.0]], "show_measurements": False}
    sweep = LatentSweepDisplay.from_estimator(model, X[:1], **settings)
    latents = np.repeat(model.transform(X[:1]), 2, axis=0)
    latents[:, 0] = [0, 1]
    expected = model.inverse_transform(latents, psf=X[0, 2])
    np.testing.assert_allclose(sweep.images[0], expected[:, 0], rtol=1e-3)
    plt.close("all")
