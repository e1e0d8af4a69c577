"""Networks from outside: any layer, trained, saved and loaded to the last bit."""

import copy
import pickle
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn import functional as F

from sklcae import ConditionalAutoencoderRegressor, stack_planes
from sklcae._torch import NETWORKS, name_of, training
from sklcae.exceptions import ModelFileError
from sklcae.networks import (
    Architecture,
    Autoencoder,
    Batch,
    Encoder,
    Encoding,
    NeuralFieldDecoder,
    PaperDecoder,
    PaperEncoder,
    combine,
    register_network,
)
from tests.blobs import SIDE, assert_same_model, make_blobs_of_light, quick


class NormedEncoder(Encoder):
    """BatchNorm, a bare parameter that is random, and a buffer."""

    def __init__(self, architecture):
        super().__init__()
        channels, height, width = architecture.image_shape
        self.conv = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.register_buffer("ramp", torch.linspace(0.5, 1.5, width))
        n_units = 8 * -(-height // 2) * -(-width // 2)
        self.norm_units = nn.BatchNorm1d(n_units)
        self.add_heads(architecture, n_units)

    def features(self, batch):
        hidden = F.relu(self.norm(self.conv(batch.images * self.ramp)) * self.scale)
        return self.norm_units(hidden.flatten(1))


class TransposedDecoder(nn.Module):
    """ConvTranspose2d, and a frozen parameter."""

    def __init__(self, architecture):
        super().__init__()
        self.image_shape = architecture.image_shape
        channels, height, width = self.image_shape
        self.small = (4, -(-height // 2), -(-width // 2))
        self.dense = nn.Linear(architecture.latent_dim, np.prod(self.small).item())
        self.norm = nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, channels, 2, stride=2)
        self.frozen = nn.Parameter(torch.ones(1), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, latents):
        hidden = self.norm(F.relu(self.dense(latents)).unflatten(1, self.small))
        height, width = self.image_shape[1:]
        return self.frozen * self.up(hidden)[:, :, :height, :width]


NORMED = combine(NormedEncoder, TransposedDecoder)


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Forget the names that a test registers."""
    known = dict(NETWORKS)
    yield
    NETWORKS.clear()
    NETWORKS.update(known)


@pytest.fixture(autouse=True)
def parts(monkeypatch):
    """Divide batches of these small images into parts, as those of large ones."""
    monkeypatch.setattr(training, "MICRO_BATCH_PIXELS", 16 * SIDE**2)


@pytest.fixture(scope="module")
def blobs():
    # Batches of 64 and 33, so that parts of 16 would leave a single stamp.
    return make_blobs_of_light(97)


def test_a_network_with_layers_of_all_kinds_learns():
    schedule = {"lr": 5e-3, "lr_schedule": "one_cycle", "batch_size": 32}
    model = quick(network=NORMED, stretch="asinh", max_epochs=20, **schedule)
    model.fit(*make_blobs_of_light(500))
    assert model.score(*make_blobs_of_light(200, random_state=1)) > 0.95
    losses = model.history_["reconstruction_loss"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("n_threads", [1, 3])
def test_it_is_bitwise_reproducible(blobs, n_threads):
    state, before = torch.get_rng_state(), torch.get_num_threads()
    model = quick(network=NORMED).fit(*blobs)
    try:
        torch.set_num_threads(n_threads)
        again = quick(network=NORMED).fit(*blobs)
    finally:
        torch.set_num_threads(before)
    assert_same_model(model, again)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(AssertionError):
        assert_same_model(model, quick(network=NORMED, random_state=1).fit(*blobs))


def test_its_first_weights_are_those_of_its_author(blobs):
    """Ones, zeros and ramps, and random numbers of the distributions that he chose."""
    X, y = blobs
    model = quick(network=NORMED, lr=1e-12, max_epochs=1).fit(X, y)
    weights = model.net_.get_weights()
    np.testing.assert_allclose(weights["encoder.norm.weight"], 1, atol=1e-6)
    np.testing.assert_allclose(weights["encoder.norm.bias"], 0, atol=1e-6)
    np.testing.assert_allclose(weights["encoder.ramp"], np.linspace(0.5, 1.5, SIDE))
    assert weights["encoder.norm.num_batches_tracked"] == 2
    assert 0 <= weights["encoder.scale"].min() < weights["encoder.scale"].max() < 1
    bound = (weights["decoder.up.weight"][0].size) ** -0.5
    assert 0.5 * bound < np.abs(weights["decoder.up.weight"]).max() <= 1.01 * bound
    assert weights["decoder.frozen"] == 1


def test_batch_norm_sees_whole_batches(blobs):
    """Its running mean is the mean of the features of the one batch."""
    X, y = blobs
    model = quick(network=NORMED, batch_size=97, max_epochs=1, lr=1e-12).fit(X, y)
    net = model.net_
    images = model.image_scaler_.transform(X.reshape(-1, 1, SIDE, SIDE))
    encoder = net.module_.encoder
    with torch.no_grad():
        seen = encoder.conv(torch.from_numpy(images) * encoder.ramp)
    expected = 0.1 * seen.mean((0, 2, 3))
    torch.testing.assert_close(
        encoder.norm.running_mean, expected, rtol=1e-4, atol=1e-6
    )


def test_a_single_image_joins_the_batch_before(blobs):
    """BatchNorm needs two images; 65 are not divided into 64 and one."""
    X, y = blobs
    model = quick(network=NORMED, max_epochs=1).fit(X[:65], y[:65])
    assert model.net_.get_weights()["encoder.norm.num_batches_tracked"] == 1


def test_predictions_do_not_depend_on_the_other_images(blobs):
    model = quick(network=NORMED).fit(*blobs)
    X = blobs[0]
    single = np.concatenate([model.predict(X[[i]]) for i in range(len(X))])
    np.testing.assert_array_equal(model.predict(X), single)


@pytest.mark.parametrize("registered_before", [True, False])
def test_it_is_saved_and_loaded(blobs, tmp_path, registered_before):
    if registered_before:
        register_network("normed", NORMED)
    model = quick(network=NORMED).fit(*blobs)
    register_network("normed", NORMED)
    model.save(tmp_path / "model")
    loaded = ConditionalAutoencoderRegressor.load(tmp_path / "model")
    assert loaded.network == "normed"
    assert_same_model(loaded, model)
    np.testing.assert_array_equal(loaded.predict(blobs[0]), model.predict(blobs[0]))
    # The name trains the same network.
    assert_same_model(loaded.fit(*blobs), model)


def test_without_a_name_it_is_not_saved(blobs, tmp_path):
    model = quick(network=NORMED, max_epochs=1).fit(*blobs)
    with pytest.raises(ValueError, match=r"'network' .*register_network"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match=r"'checkpoint' .*register_network"):
        quick(network=NORMED, checkpoint=tmp_path / "fit").fit(*blobs)


def test_a_name_that_is_not_registered_is_refused(blobs, tmp_path):
    register_network("normed", NORMED)
    model = quick(network="normed", max_epochs=1).fit(*blobs)
    model.save(tmp_path / "model")
    del NETWORKS["normed"]
    with pytest.raises(ModelFileError, match=r"'normed', which must be registered by"):
        ConditionalAutoencoderRegressor.load(tmp_path / "model")
    with pytest.raises(ValueError, match="'network' parameter"):
        clone(model).fit(*blobs)


FROM_OUTSIDE = """
    import numpy as np
    from sklcae import ConditionalAutoencoderRegressor
    from sklcae.networks import register_network
    from tests.test_own_networks import NORMED

    register_network("normed", NORMED)
    model = ConditionalAutoencoderRegressor.load({path!r})
    np.save({result!r}, model.predict(np.load({images!r})))
"""


def test_another_process_loads_it(blobs, tmp_path):
    register_network("normed", NORMED)
    model = quick(network="normed").fit(*blobs)
    model.save(tmp_path / "model")
    np.save(tmp_path / "X.npy", blobs[0])
    paths = {"path": "model", "result": "y.npy", "images": "X.npy"}
    code = FROM_OUTSIDE.format(**{k: str(tmp_path / v) for k, v in paths.items()})
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), model.predict(blobs[0]))


def test_a_killed_fit_is_resumed(blobs, tmp_path):
    register_network("normed", NORMED)
    settings = {"network": NORMED, "checkpoint": tmp_path / "fit"}
    quick(**settings, max_epochs=1).fit(*blobs)
    resumed = quick(**settings, max_epochs=3).fit(*blobs)
    assert_same_model(resumed, quick(network=NORMED, max_epochs=3).fit(*blobs))


def test_warm_start_takes_name_and_callable_for_the_same(blobs):
    register_network("normed", NORMED)
    model = quick(network=NORMED, warm_start=True, max_epochs=1).fit(*blobs)
    assert model.set_params(network="normed").fit(*blobs).n_iter_ == 2
    with pytest.raises(ValueError, match=r"'network' parameter .*'normed'.*'paper'"):
        model.set_params(network="paper").fit(*blobs)


def test_a_pickle_needs_no_name(blobs):
    """The callable goes with it; the name alone must be known where it is loaded."""
    register_network("normed", NORMED)
    named, unnamed = (
        pickle.dumps(quick(network=network, max_epochs=1).fit(*blobs))
        for network in ("normed", NORMED)
    )
    del NETWORKS["normed"]
    pickle.loads(unnamed).predict(blobs[0])
    with pytest.raises(ValueError, match="'normed' must be registered in this process"):
        pickle.loads(named)


def test_it_works_with_scikit_learn(blobs):
    search = GridSearchCV(
        quick(max_epochs=1),
        {"network": [NORMED, combine(PaperEncoder, NeuralFieldDecoder)]},
        cv=2,
    ).fit(*blobs)
    model = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(model.predict(blobs[0]), search.predict(blobs[0]))


# Dropout ------------------------------------------------------------------------


class DroppingEncoder(PaperEncoder):
    def __init__(self, architecture):
        super().__init__(architecture)
        self.dropout = nn.Dropout(0.5)

    def features(self, batch):
        return self.dropout(super().features(batch))


@pytest.mark.parametrize("n_threads", [1, 3])
def test_dropout_draws_from_the_random_state(blobs, n_threads):
    state, before = torch.get_rng_state(), torch.get_num_threads()
    network = combine(DroppingEncoder, PaperDecoder)
    model = quick(network=network).fit(*blobs)
    try:
        torch.set_num_threads(n_threads)
        assert_same_model(model, quick(network=network).fit(*blobs))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(AssertionError):
        assert_same_model(model, quick().fit(*blobs))


class HiddenDropout(PaperEncoder):
    def features(self, batch):
        return F.dropout(super().features(batch), 0.5, self.training)


def test_random_numbers_outside_of_layers_are_refused(blobs):
    """They would come from the global generator, in any order."""
    state = torch.get_rng_state()
    with pytest.raises(
        RuntimeError, match=r"layers such as torch.nn.Dropout.*bernoulli"
    ):
        quick(network=combine(HiddenDropout, PaperDecoder)).fit(*blobs)
    assert torch.equal(torch.get_rng_state(), state)


# Networks that do not keep the interface -------------------------------------------


class WrongRest(PaperEncoder):
    def _latents(self, features):
        z_phy, z_rest = super()._latents(features)
        return z_phy, z_rest[:, 1:]


class NoVariance(PaperEncoder):
    def _log_variance(self, features):
        return None


class PlainTuple(PaperEncoder):
    def forward(self, batch):
        return tuple(super().forward(batch))


class Mixing(PaperEncoder):
    """Subtracts the mean of the batch, in prediction too."""

    def features(self, batch):
        features = super().features(batch)
        return features - features.mean(0)


class Noisy(PaperEncoder):
    def features(self, batch):
        features = super().features(batch)
        return features if self.training else features + torch.rand_like(features)


class Doubled(PaperEncoder):
    def forward(self, batch):
        return Encoding(*(part.double() for part in super().forward(batch)))


class NotFinite(PaperEncoder):
    def features(self, batch):
        return super().features(batch) / 0


class Lazy(PaperEncoder):
    def __init__(self, architecture):
        super().__init__(architecture)
        self.dense_rest = nn.LazyLinear(architecture.n_rest)


def tall_decoder(architecture):
    channels, height, width = architecture.image_shape
    tall = architecture._replace(image_shape=(channels, 2 * height, width))
    return PaperDecoder(tall)


ARCHITECTURE = Architecture((1, SIDE, SIDE), 2, 8, True)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (combine(WrongRest, PaperDecoder), r"z_rest of the shape \(2, 6\)"),
        (combine(NoVariance, PaperDecoder), "log_variance .*Got None"),
        (combine(PaperEncoder, tall_decoder), r"decode.*Got \(2, 1, 24, 12\)"),
        (combine(PlainTuple, PaperDecoder), "not an Encoding"),
        (combine(Mixing, PaperDecoder), "does not depend on the other images"),
        (combine(Noisy, PaperDecoder), "must draw random numbers while it is built"),
        (combine(Doubled, PaperDecoder), "float32"),
        (combine(NotFinite, PaperDecoder), "finite float32"),
        (combine(Lazy, PaperDecoder), "without lazy layers"),
        (lambda architecture: HiddenFreeze(architecture), "with weights to train"),
        (lambda architecture: nn.Linear(2, 2), "'encode' and 'decode'"),
        (lambda: None, "a callable that takes an Architecture"),
        (NETWORKS["paper"](ARCHITECTURE), "a callable that takes an Architecture"),
        ("vgg", "'paper'.*Got 'vgg'"),
        (3, "a callable"),
    ],
)
def test_wrong_networks_are_refused_before_the_training(blobs, network, message):
    model = quick(max_epochs=1).fit(*blobs)
    before = model.predict(blobs[0])
    model.set_params(network=network, physical_loss="gaussian_likelihood")
    with pytest.raises(ValueError, match=f"The 'network' parameter .*{message}"):
        model.fit(*blobs)
    np.testing.assert_array_equal(model.predict(blobs[0]), before)


class HiddenFreeze(Autoencoder):
    def __init__(self, architecture):
        super().__init__(PaperEncoder(architecture), PaperDecoder(architecture))
        self.requires_grad_(False)


class PlainNetwork(nn.Module):
    """Written without the base classes; uses more than the images of a batch."""

    def __init__(self, architecture):
        super().__init__()
        self.architecture = architecture
        n_pixels = np.prod(architecture.image_shape).item()
        self.down = nn.Linear(n_pixels, architecture.latent_dim)
        self.up = nn.Linear(architecture.latent_dim, n_pixels)

    def encode(self, batch):
        assert isinstance(batch, Batch)
        latents = self.down(batch.images.flatten(1))
        n_targets = self.architecture.n_targets
        return Encoding(*latents.tensor_split([n_targets], dim=1))

    def decode(self, latents):
        return self.up(latents).unflatten(1, self.architecture.image_shape)


def test_a_network_needs_no_base_class(blobs):
    model = quick(network=PlainNetwork, gamma=0.5).fit(*blobs, groups=np.zeros(97))
    assert np.isfinite(model.predict(blobs[0])).all()
    assert isinstance(model.net_.module_, PlainNetwork)
    built = NETWORKS["paper"](model.codec_.architecture)
    assert isinstance(built, Autoencoder)


class InUnitsOfNoise(PaperEncoder):
    """Needs the noise maps."""

    def features(self, batch):
        if batch.variance.shape != batch.images.shape:
            raise ValueError("a variance for each pixel is needed")
        return super().features(
            batch._replace(images=batch.images / batch.variance.sqrt())
        )


def test_the_trial_has_the_planes_of_the_stamps(blobs):
    X, y = blobs
    model = quick(network=combine(InUnitsOfNoise, PaperDecoder), max_epochs=1)
    stamps = stack_planes(X.reshape(-1, SIDE, SIDE), variance=4.0)
    model.set_params(planes=("image", "variance")).fit(stamps, y)
    assert np.isfinite(model.predict(stamps)).all()
    assert model.codec_.architecture.has_variance
    with pytest.raises(ValueError, match="AttributeError from a trial with two images"):
        model.set_params(planes=("image",)).fit(X, y)


# Networks that are hard to keep -----------------------------------------------------


class RandomFeatures(PaperEncoder):
    """Random numbers in the constructor that are no weights."""

    def __init__(self, architecture):
        super().__init__(architecture)
        self.signs = torch.rand(architecture.image_shape) - 0.5
        self.register_buffer("more", torch.rand(SIDE), persistent=False)

    def features(self, batch):
        return super().features(batch._replace(images=batch.images * self.signs))


def test_random_numbers_of_the_constructor_stay(blobs, tmp_path):
    X, _ = blobs
    register_network("random", combine(RandomFeatures, PaperDecoder))
    model = quick(network="random", warm_start=True).fit(*blobs)
    signs = model.net_.module_.encoder.signs
    model.save(tmp_path / "model")
    copies = [
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        ConditionalAutoencoderRegressor.load(tmp_path / "model"),
    ]
    for copied in copies:
        np.testing.assert_array_equal(copied.predict(X), model.predict(X))
    model.set_params(random_state=5).fit(*blobs)
    assert torch.equal(model.net_.module_.encoder.signs, signs)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))


def test_a_callable_that_returns_the_same_module_shares_nothing(blobs):
    X, y = blobs
    one = PlainNetwork(Architecture((1, SIDE, SIDE), 2, 8))
    first = quick(network=lambda architecture: one).fit(X, y)
    before = first.predict(X)
    quick(network=lambda architecture: one).fit(X[::-1], y)
    np.testing.assert_array_equal(first.predict(X), before)


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: combine(n, PaperDecoder)])
def test_copies_of_a_partial_keep_its_name(wrap):
    network = wrap(partial(PaperEncoder))
    register_network("partial", network)
    register_network("partial", clone(quick(network=network)).network)
    assert name_of(clone(quick(network=network)).network) == "partial"
    assert name_of(wrap(partial(PaperEncoder, 3))) is None


def test_a_name_is_replaced_when_asked():
    register_network("mine", combine(PaperEncoder, PaperDecoder))
    with pytest.raises(ValueError, match="overwrite=True"):
        register_network("mine", NORMED)
    register_network("mine", NORMED, overwrite=True)
    assert NETWORKS["mine"] == NORMED
    with pytest.raises(ValueError, match="'paper', which belongs to"):
        register_network("paper", NORMED, overwrite=True)


class Peeking(PaperEncoder):
    seen = []  # noqa: RUF012

    def features(self, batch):
        self.seen.append({n for n, part in batch._asdict().items() if part is not None})
        return super().features(batch)


def test_an_encoder_sees_in_training_what_it_sees_in_prediction(blobs):
    X, y = blobs
    X = np.where(np.random.default_rng(0).random(X.shape) < 0.02, np.nan, X)
    settings = {"network": combine(Peeking, PaperDecoder), "allow_nan": True}
    quick(**settings, gamma=1.0).fit(X, y, groups=np.zeros(97)).predict(X)
    assert all(seen == {"images"} for seen in Peeking.seen)
