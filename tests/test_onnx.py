"""Models as ONNX files: the runtime returns what predict does."""

import json
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import skl2onnx
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import sklcae
import sklcae.onnx
from sklcae import (
    ConditionalAutoencoderRegressor,
    ProfileFitRegressor,
    load_pretrained,
)
from sklcae.datasets import make_galaxies
from sklcae.exceptions import OutsideTrainingWarning
from sklcae.networks import Encoder, PaperDecoder, PaperEncoder, combine
from tests import bands

SIDE = 16
# In standard deviations of a target.
TOLERANCE = 1e-5
TURNING = ["flux", "e1", "e2", "x0", "y0"]


def make_stamps(n=40, **changed):
    options = {"image_shape": (SIDE, SIDE), "random_state": 0}
    return make_galaxies(n, **options | changed)


def fit(X, y, **settings):
    settings = {"max_epochs": 1, "latent_dim": 12, "random_state": 0, **settings}
    return ConditionalAutoencoderRegressor(**settings).fit(X, y)


class Exported:
    """A model, and the session of its ONNX file."""

    def __init__(self, model, path):
        self.model, self.path = model, path
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.to_onnx(path)
        self.session = onnxruntime.InferenceSession(path)

    def run(self, X):
        """Return the outputs for X, by name."""
        planes = self.model.codec_.layout.planes
        parts = [X] if len(planes) == 1 else np.split(X, len(planes), axis=1)
        inputs = dict(zip(planes, map(np.float32, parts), strict=True))
        return named_outputs(self.session, inputs)


def named_outputs(session, inputs):
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def assert_equal_to_predict(found, model, X, tolerance=TOLERANCE):
    """Compare outputs with predict, in units of the spread of the targets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutsideTrainingWarning)
        warnings.filterwarnings("ignore", ".* have no pixel that is not NaN")
        expected = [model.predict(X)]
        if model.codec_.predicts_variance:
            expected = model.predict(X, return_std=True)
        outside = model.is_outside(X)
    names = ["parameters", "errors"][: len(expected)]
    assert list(found) == [*names, "outside"]
    np.testing.assert_array_equal(found["outside"], outside)
    for name, values in zip(names, expected, strict=True):
        values = values.reshape(len(X), -1)
        np.testing.assert_array_equal(np.isnan(found[name]), np.isnan(values))
        errors = abs(found[name] - values) / units_of(model, expected[0], outside)
        assert np.nanmax(errors, initial=0) < tolerance


def units_of(model, y, outside):
    """Return the standard deviation of each target, that of a log-normal one at y."""
    targets = model.target_scaler_
    y = np.nan_to_num(y.reshape(len(y), -1))
    units = np.tile(targets.scale_, (len(y), 1))
    columns = list(targets.logarithmic)
    units[:, columns] *= y[:, columns]
    # A prediction far from the training set is as exact as its digits.
    units[outside] = np.fmax(units, abs(y))[outside]
    return units


# A model of images, in flat rows ---------------------------------------------------


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    X, y = make_stamps()
    path = tmp_path_factory.mktemp("flat") / "model.onnx"
    return Exported(fit(X, y[:, 0]), path), X


def test_paper_network_takes_flat_rows(flat):
    exported, X = flat
    found = exported.run(X)
    assert found["parameters"].shape == (len(X), 1)
    assert found["parameters"].dtype == np.float64
    assert_equal_to_predict(found, exported.model, X)


@given(n=st.integers(0, 70), seed=st.integers(0, 9))
@settings(max_examples=25)
def test_any_number_of_stamps(flat, n, seed):
    exported, X = flat
    rows = np.random.default_rng(seed).integers(len(X), size=n)
    every = exported.run(X)["parameters"]
    some = exported.run(X[rows])["parameters"]
    np.testing.assert_allclose(some, every[rows], rtol=1e-6)


def test_stamps_outside_are_marked(flat):
    exported, X = flat
    changed = X[:4] * np.array([1, 1000, -1, 0], np.float32)[:, None]
    found = exported.run(changed)
    assert found["outside"].any()
    assert not found["outside"][0]
    assert_equal_to_predict(found, exported.model, changed)


@pytest.mark.parametrize("pixel", [np.nan, np.inf])
def test_refused_pixels_are_nan(flat, pixel):
    exported, X = flat
    X = X[:2].copy()
    X[1, 5] = pixel
    with pytest.raises(ValueError, match="X contains"):
        exported.model.predict(X)
    found = exported.run(X)
    assert np.isnan(found["parameters"]).tolist() == [[False], [True]]
    assert found["outside"].tolist() == [False, True]


def test_file_is_valid_and_standard(flat):
    exported, _ = flat
    graph = onnx.load(exported.path)
    onnx.checker.check_model(graph, full_check=True)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]
    assert {node.domain for node in graph.graph.node} == {""}
    assert not graph.functions
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    # The exporter writes the paths of source files into its notes.
    assert b".py" not in graph.SerializeToString()


def test_export_leaves_the_model_and_is_repeatable(flat, tmp_path):
    exported, X = flat
    before = exported.model.predict(X)
    exported.model.to_onnx(tmp_path / "again.onnx")
    np.testing.assert_array_equal(exported.model.predict(X), before)
    assert (tmp_path / "again.onnx").read_bytes() == exported.path.read_bytes()


def test_unfitted_model_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        ConditionalAutoencoderRegressor().to_onnx(tmp_path / "model.onnx")


# Stretches, planes, turns, masks ---------------------------------------------------


def with_masks(X, rng):
    """Return stamps with masked pixels: single ones, a gap, a plane, all of them."""
    X = X.copy()
    n_bands = X.shape[1] // 3
    images = X[:, :n_bands]
    images[rng.random(images.shape) < 0.02] = np.nan
    images[1, :, 2:12, 3:13] = np.nan
    images[2] = np.nan
    X[3, n_bands][np.isnan(X[3, 0])] = np.inf
    return X


def test_neural_field_with_all_planes_turns_and_masks(tmp_path):
    X, y = make_stamps(
        planes=("image", "variance", "psf"),
        targets=TURNING,
        psf_fwhm=(0.7, 1.2),
        sky_level=1000.0,
    )
    model = fit(
        X,
        y,
        network="neural_field",
        planes=("image", "variance", "psf"),
        stretch="asinh",
        limits="robust",
        physical_loss="gaussian_likelihood",
        reconstruction_loss="chi_square",
        target_names=TURNING,
        log_targets=["flux"],
        augmentation="dihedral",
        test_time_augmentation=True,
        allow_nan=True,
        handle_empty="nan",
    )
    exported = Exported(model, tmp_path / "model.onnx")
    assert_equal_to_predict(exported.run(X), model, X)
    masked = with_masks(X, np.random.default_rng(0))
    assert_equal_to_predict(exported.run(masked), model, masked)
    masked[:, 0] += 1e5
    assert_equal_to_predict(exported.run(masked), model, masked)


def test_strided_network_reads_images_that_are_not_square(tmp_path):
    X, y = make_stamps(image_shape=(15, 18), targets=TURNING)
    X = X.reshape(-1, 15, 18)
    model = fit(
        X,
        y,
        network="strided",
        stretch="asinh",
        target_names=TURNING,
        augmentation="dihedral",
        test_time_augmentation=True,
    )
    exported = Exported(model, tmp_path / "model.onnx")
    assert_equal_to_predict(exported.run(X), model, X)
    model.set_params(test_time_augmentation=False)
    assert abs(model.predict(X) - exported.run(X)["parameters"]).max() > 1e-4


@pytest.fixture(scope="module")
def with_planes():
    planes = ("image", "variance", "psf")
    X, y = make_stamps(planes=planes)
    return fit(X, y, network="neural_field", planes=planes), X


def test_one_refused_plane_makes_one_stamp_nan(with_planes, tmp_path):
    model, X = with_planes
    exported = Exported(model, tmp_path / "model.onnx")
    X = X[:5].copy()
    X[1, 1, 3, 3] = 0
    X[2, 2] *= -1
    X[3, 2] = np.roll(X[3, 2], 3, axis=1)
    X[4, 2, 0, 0] = np.nan
    for row in range(1, 5):
        with pytest.raises(ValueError, match="of each stamp"):
            model.predict(X[row : row + 1])
    found = exported.run(X)
    assert found["outside"].tolist() == [False, True, True, True, True]
    np.testing.assert_array_equal(
        np.isnan(found["parameters"]).all(axis=1), found["outside"]
    )


# Networks of profiles --------------------------------------------------------------


@pytest.mark.slow
def test_sersic_network_of_several_bands_with_one_psf(tmp_path):
    X, y = bands.make_stamps(40)
    model = fit(
        X[:, :6],
        y,
        network="sersic",
        planes=("image", "variance"),
        psf=bands.PSFS,
        gain=bands.GAIN,
        pixel_scale=bands.SCALE,
        physical_loss="gaussian_likelihood",
        stretch="asinh",
        log_targets=["flux", "half_light_radius"],
    )
    exported = Exported(model, tmp_path / "model.onnx")
    assert_equal_to_predict(exported.run(X[:, :6]), model, X[:, :6])
    notes = {p.key: p.value for p in onnx.load(exported.path).metadata_props}
    assert json.loads(notes["target_names"]) == bands.NAMES
    units = json.loads(notes["target_units"])
    assert units == [
        *3 * ["unit of the images"],
        "unit of pixel_scale",
        *3 * [""],
        *2 * ["pixel"],
    ]
    assert json.loads(notes["gain"]) == list(bands.GAIN)


@pytest.mark.slow
def test_pretrained_model_after_rescale(tmp_path):
    model = load_pretrained("ground").rescale(pixel_scale=0.263, gain=4.2)
    X, _ = make_galaxies(
        40,
        planes=model.planes,
        targets=model.target_names_,
        x0=(30.0, 34.0),
        y0=(30.0, 34.0),
        psf_fwhm=(0.6, 1.0),
        random_state=0,
    )
    X[:, 0] /= 4.2
    X[:, 1] /= 4.2**2
    X[3, 0] *= 1000
    X = X.astype(np.float32)
    exported = Exported(model, tmp_path / "model.onnx")
    found = exported.run(X)
    assert found["outside"].sum() == 1
    assert_equal_to_predict(found, model, X)
    for n in (1, 7):
        some = exported.run(X[:n])
        for name, values in some.items():
            np.testing.assert_allclose(values, found[name][:n], rtol=1e-4, atol=1e-5)
    notes = {p.key: p.value for p in onnx.load(exported.path).metadata_props}
    assert json.loads(notes["pixel_scale"]) == 0.263
    assert json.loads(notes["planes"]) == ["image", "variance", "psf"]
    assert notes["sklcae_version"] == sklcae.__version__
    assert notes["format_license"] == "Apache-2.0"


# Networks of one's own -------------------------------------------------------------


class Odd(PaperEncoder):
    """An encoder with an operation that ONNX lacks."""

    def features(self, batch):
        features = super().features(batch)
        return features * torch.linalg.svdvals(batch.images[:, 0]).sum(1, keepdim=True)


class OfOneBatch(PaperEncoder):
    """An encoder that depends on the number of stamps when it is traced."""

    def features(self, batch):
        return super().features(batch) / len(batch.images) * len(batch.images)


class OfLight(Encoder):
    """An encoder that ONNX has all operations for."""

    def __init__(self, architecture):
        super().__init__()
        self.add_heads(architecture, 2)

    def features(self, batch):
        flat = batch.images.flatten(1)
        return torch.stack([flat.sum(1), flat.median(1).values], 1)


@pytest.mark.parametrize(
    ("encoder", "reason"), [(Odd, "svd"), (OfOneBatch, "number of stamps")]
)
def test_networks_that_onnx_lacks_are_refused_by_name(encoder, reason, tmp_path):
    X, y = make_stamps()
    model = fit(X, y, network=combine(encoder, PaperDecoder))
    with pytest.raises(ValueError, match=f"'network'.*{encoder.__name__}.*{reason}"):
        model.to_onnx(tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_network_of_ones_own(tmp_path):
    X, y = make_stamps(image_shape=(8, 8))
    model = fit(X, y, network=combine(OfLight, PaperDecoder))
    exported = Exported(model, tmp_path / "model.onnx")
    assert_equal_to_predict(exported.run(X), model, X)


# Pipelines -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def registered():
    sklcae.onnx.register()
    sklcae.onnx.register()


def test_pipeline(registered):
    X, y = make_stamps()
    model = ConditionalAutoencoderRegressor(
        max_epochs=1, physical_loss="gaussian_likelihood", random_state=0
    )
    pipeline = make_pipeline(FunctionTransformer(), StandardScaler(), model).fit(X, y)
    graph = skl2onnx.to_onnx(pipeline, X[:1])
    onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    found = named_outputs(session, {"X": X})
    assert found["parameters"].dtype == np.float32
    assert_equal_to_predict(found, model, pipeline[:-1].transform(X))
    assert named_outputs(session, {"X": X[:1]})["errors"].shape == (1, 2)


def test_pipeline_with_planes(registered, with_planes):
    model, X = with_planes
    graph = skl2onnx.to_onnx(make_pipeline(model), X[:1], target_opset=18)
    assert {opset.domain: opset.version for opset in graph.opset_import} == {"": 18}
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    assert_equal_to_predict(named_outputs(session, {"X": X}), model, X)


def test_model_inside_of_another_estimator(registered):
    X, y = make_stamps()
    X = X.astype(np.float64)
    model = ConditionalAutoencoderRegressor(max_epochs=1, random_state=0)
    voting = VotingRegressor([("model", model)]).fit(X, y[:, 0])
    graph = skl2onnx.to_onnx(voting, X[:1])
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (found,) = session.run(None, {"X": X})
    assert found.dtype == np.float64
    unit = y[:, 0].std()
    assert abs(found[:, 0] - voting.predict(X)).max() < TOLERANCE * unit


def test_operators_that_sklearn_onnx_cannot_sort():
    upper = onnx.helper.make_node("Clip", ["x", "", "high"], ["y"])
    sklcae.onnx._name_inputs(upper)
    assert (upper.op_type, list(upper.input)) == ("Min", ["x", "high"])
    resize = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"])
    with pytest.raises(ValueError, match="without the operator 'Resize'"):
        sklcae.onnx._name_inputs(resize)


def test_conversions_that_have_no_graph_are_refused_by_name(registered):
    X, y = make_stamps()
    model = fit(X, y)
    with pytest.raises(ValueError, match=r"'target_opset'.* at least 18 .* Got 15"):
        skl2onnx.to_onnx(model, X[:1], target_opset=15)
    columns = [("a", skl2onnx.common.data_types.FloatTensorType([None, 200]))]
    columns += [("b", skl2onnx.common.data_types.FloatTensorType([None, 56]))]
    with pytest.raises(ValueError, match=r"must have one input.*Got 2"):
        skl2onnx.to_onnx(model, initial_types=columns)
    with pytest.raises(ValueError, match="ProfileFitRegressor cannot be exported"):
        skl2onnx.to_onnx(ProfileFitRegressor(), X[:1])
