"""The same on a GPU, where there is one."""

import pickle

import numpy as np
import pytest
import torch

from sklcae import ConditionalAutoencoderRegressor, ProfileFitRegressor
from sklcae.datasets import make_galaxies
from sklcae.networks import PaperDecoder, PaperEncoder, combine

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


EXCHANGE = {
    "network": "neural_field",
    "reconstruction_loss": "chi_square",
    "physical_loss": "gaussian_likelihood",
    "gamma": 1.0,
}


@pytest.fixture(scope="module", params=[{}, EXCHANGE], ids=["paper", "exchange"])
def models(request):
    X, y = make_galaxies(100, image_shape=(16, 16), random_state=0)
    settings = {
        "max_epochs": 3,
        "stretch": "asinh",
        "augmentation": "dihedral",
        "invariant_targets": "all",
        "random_state": 0,
        **request.param,
    }
    groups = np.zeros(len(y)) if "gamma" in settings else None
    fitted = [
        ConditionalAutoencoderRegressor(device=device, **settings).fit(
            X, y, groups=groups
        )
        for device in ("cpu", "cuda")
    ]
    return X, *fitted


def test_training_on_a_gpu_follows_that_on_the_cpu(models):
    _, cpu, gpu = models
    assert next(gpu.net_.module_.parameters()).is_cuda
    np.testing.assert_allclose(
        gpu.history_["train_loss"], cpu.history_["train_loss"], rtol=1e-2
    )


def test_same_weights_predict_the_same(models):
    X, cpu, gpu = models
    gpu = pickle.loads(pickle.dumps(gpu))
    gpu.net_.set_weights(cpu.net_.get_weights())
    np.testing.assert_allclose(gpu.predict(X), cpu.predict(X), rtol=1e-2)
    np.testing.assert_allclose(gpu.transform(X), cpu.transform(X), rtol=1e-2, atol=1e-2)


class DroppingEncoder(PaperEncoder):
    """Dropout on a GPU draws from global generators, which are restored."""

    def __init__(self, architecture):
        super().__init__(architecture)
        self.dropout = torch.nn.Dropout(0.2)

    def features(self, batch):
        return self.dropout(super().features(batch))


def test_dropout_leaves_the_global_generators_alone():
    X, y = make_galaxies(100, image_shape=(16, 16), random_state=0)
    states = torch.get_rng_state(), torch.cuda.get_rng_state()
    model = ConditionalAutoencoderRegressor(
        network=combine(DroppingEncoder, PaperDecoder), max_epochs=2, device="cuda"
    ).fit(X, y)
    assert np.isfinite(model.predict(X)).all()
    assert torch.equal(torch.get_rng_state(), states[0])
    assert torch.equal(torch.cuda.get_rng_state(), states[1])


NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
PLANES = ("image", "variance", "psf")


@pytest.fixture(scope="module")
def stamps():
    settings = {"image_shape": (32, 32), "x0": 16.0, "y0": 16.0, "targets": NAMES}
    return make_galaxies(80, planes=PLANES, random_state=0, **settings)


def test_profile_fits_agree(stamps):
    X, y = stamps
    settings = {"planes": PLANES, "pixel_scale": 0.2, "target_names": NAMES}
    (cpu, std), (gpu, _) = (
        ProfileFitRegressor(device=device, **settings)
        .fit(X, y)
        .predict(X, return_std=True)
        for device in ("cpu", "cuda")
    )
    good = np.isfinite(std).all(axis=1)
    assert good.mean() > 0.9
    assert np.median(np.abs(gpu - cpu)[good] / std[good]) < 0.01


def test_network_with_optics_trains_on_simulations(stamps):
    X, y = stamps
    settings = {"planes": PLANES, "pixel_scale": 0.2, "target_names": NAMES}
    cpu, gpu = (
        ConditionalAutoencoderRegressor.recommended(
            device=device, max_epochs=2, random_state=0, **settings
        ).fit(X, y)
        for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(
        gpu.history_["train_loss"], cpu.history_["train_loss"], rtol=1e-2
    )
    psf = X[:5, 2]
    np.testing.assert_allclose(
        gpu.generate(y[:5], psf=psf), cpu.generate(y[:5], psf=psf), atol=1e-2
    )
