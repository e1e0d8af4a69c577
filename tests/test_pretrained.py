"""The models that come with the package."""

from importlib.resources import files

import numpy as np
import pytest

from sklcae import load_pretrained
from sklcae.datasets import make_galaxies

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def model():
    return load_pretrained("ground")


def simulate(model, n=300, **changed):
    settings = {"half_light_radius": (0.4, 2.0), "flux": (5_000.0, 50_000.0)}
    settings |= {"x0": (30.0, 34.0), "y0": (30.0, 34.0), "random_state": 3}
    settings |= {"planes": model.planes, "targets": model.target_names_}
    return make_galaxies(n, **settings | changed)


def scores(model, X, y):
    """Return bias of the flux, and its dispersion, both relative, and the coverage."""
    found, std = model.predict(X, return_std=True)
    errors = found[:, 0] / y[:, 0] - 1
    middle = np.median(errors)
    inside = (abs(found - y) < std).mean()
    return middle, 1.4826 * np.median(abs(errors - middle)), inside


@pytest.mark.parametrize("fwhm", [0.5, 0.7, 1.2])
def test_seven_parameters_are_read_for_any_seeing(model, fwhm):
    X, y = simulate(model, psf_fwhm=fwhm)
    assert not model.is_outside(X).any()
    bias, width, inside = scores(model, X, y)
    assert abs(bias) < 0.03
    assert width < 0.06
    assert 0.55 < inside < 0.95


def test_it_prints_nothing():
    assert load_pretrained().verbose == 0


def test_crowded_stamps(model):
    X, y = simulate(model, neighbours=1, sky_offset=1.0)
    bias, width, _ = scores(model, X, y)
    assert abs(bias) < 0.05
    assert width < 0.12


def test_other_pixels_and_other_units():
    model = load_pretrained().rescale(pixel_scale=0.263, gain=4.0)
    options = {"pixel_scale": 0.263, "gain": 4.0, "psf_fwhm": 0.9}
    X, y = simulate(model, **options)
    bias, width, inside = scores(model, X, y)
    assert abs(bias) < 0.03
    assert width < 0.06
    assert 0.55 < inside < 0.95


def test_files_are_small():
    sizes = [len(file.read_bytes()) for file in (files("sklcae") / "weights").iterdir()]
    assert sum(sizes) < 2 * MEBIBYTE


@pytest.mark.parametrize("name", ["space", "", 3, "../weights/ground"])
def test_names(name):
    with pytest.raises(ValueError, match=r"name must be one of \['ground'\]. Got"):
        load_pretrained(name)
