"""What the comparison with profile fitting is built on: conventions, and a fit."""

import importlib.util
from pathlib import Path

import galsim
import numpy as np
import pytest

from sklcae.datasets import make_galaxies

FILE = Path(__file__).parents[1] / "examples" / "compare_with_profile_fitting.py"
GALAXY = {
    "flux": 30_000.0,
    "half_light_radius": 1.2,
    "sersic_index": 1.5,
    "ellipticity": 0.4,
    "position_angle": 30.0,
    "x0": 30.3,
    "y0": 34.8,
}


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location(FILE.stem, FILE)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # It imports another example.
        patch.syspath_prepend(FILE.parent)
        spec.loader.exec_module(module)
    return module


def simulate(**settings):
    return make_galaxies(1, **{**GALAXY, **settings}, random_state=0, return_X_y=False)


def test_distortion_is_that_of_galsim(example):
    shear = galsim.Shear(q=0.6, beta=0.4 * galsim.radians)
    assert example.distortion(0.6, 0.4) == pytest.approx(
        {"e1": shear.e1, "e2": shear.e2}
    )


def test_half_light_radius_is_circularised_and_centre_from_the_corner(example):
    values = example.from_ellipse(10.0, 0.25, 0.0, 31.5, 0.0)
    assert values["half_light_radius"] == pytest.approx(0.2 * 5.0)
    assert (values["x0"], values["y0"]) == (32.0, 0.5)


@pytest.mark.parametrize("index", [0.5, 1.0, 4.0])
def test_sersic_flux_is_that_of_galsim(example, index):
    round_one = galsim.Sersic(index, half_light_radius=3.0, flux=500.0)
    at_half_light = round_one.xValue(3.0, 0.0)
    # A galaxy squeezed to half its width at the same intensity has half the light.
    assert example.sersic_flux(at_half_light, 3.0, 1.0, index) == pytest.approx(
        500.0, rel=1e-3
    )
    assert example.sersic_flux(at_half_light, 3.0, 0.5, index) == pytest.approx(
        250.0, rel=1e-3
    )


def test_settings_are_the_defaults_of_make_galaxies(example):
    galaxies = simulate()
    assert galaxies.sky_level == example.SKY_LEVEL
    assert galaxies.gain == example.GAIN
    assert galaxies.read_noise == example.READ_NOISE
    assert galaxies.pixel_scale == example.PIXEL_SCALE
    assert galaxies.psf_fwhm == example.PSF_FWHM
    assert galaxies.image_shape == (example.SIDE, example.SIDE)


def test_sky_noise_is_that_of_empty_pixels(example):
    assert example.noise_variance(0.0) == pytest.approx(example.SKY_NOISE**2)
    assert example.noise_variance(100.0) == pytest.approx(114.0)


@pytest.mark.parametrize("method", ["GalSim, least squares", "AstroPhot"])
def test_noiseless_galaxy_is_recovered(example, method):
    tool, packages = example.TOOLS[method]
    if missing := example.missing_packages(packages):
        pytest.skip(f"needs the extra compare: {', '.join(missing)}")
    galaxies = simulate(noise=False)
    values = example.measure_with_tool(tool, galaxies).iloc[0]
    assert values["failure"] == ""
    truth = galaxies.frame[example.TARGETS].iloc[0]
    np.testing.assert_allclose(
        values[example.TARGETS].astype(float), truth, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("sky", [0.0, 1.0])
def test_noiseless_galaxy_is_recovered_by_sklcae(example, sky):
    """Both fits without a sky, and the one with a free sky with any."""
    galaxies = simulate(noise=False)
    galaxies.data += sky
    fits = example.prepare_fits({"all": galaxies}, ())
    tables = [example.fit_with_sklcae(fit, galaxies).iloc[0] for fit in fits.values()]
    truth = galaxies.frame[example.TARGETS].iloc[0]
    for name, values in zip(fits, tables, strict=True):
        assert values["failure"] == ""
        error = (values[example.TARGETS].astype(float) - truth).abs() / truth.abs()
        assert (error.max() < 1e-3) == (sky == 0 or "free sky" in name)


def test_fit_of_sklcae_without_an_error_bar_is_a_failure(example):
    galaxies = simulate(noise=False)
    galaxies.data[:] = 0
    fits = example.make_fits()
    assert list(fits) == example.FITS
    fitter = fits["sklcae's profile fit"].fit(galaxies.data)
    assert example.fit_with_sklcae(fitter, galaxies)["failure"].item()


@pytest.mark.parametrize("method", ["statmorph", "sep"])
def test_bright_galaxy_is_measured_nearly(example, method):
    """A sign or a convention that is wrong would be farther off than these."""
    tool, packages = example.TOOLS[method]
    if missing := example.missing_packages(packages):
        pytest.skip(f"needs the extra compare: {', '.join(missing)}")
    galaxies = simulate(flux=100_000.0)
    values = example.measure_with_tool(tool, galaxies).iloc[0]
    assert values["failure"] == ""
    truth = galaxies.frame.iloc[0]
    assert values["flux"] == pytest.approx(truth["flux"], rel=0.1)
    assert values["half_light_radius"] == pytest.approx(1.2, rel=0.1)
    for name in ("e1", "e2", "x0", "y0"):
        assert values[name] == pytest.approx(truth[name], abs=0.1), name


def test_failure_of_a_tool_is_told_and_not_raised(example):
    def broken(stamp):
        raise ValueError("no")

    def bad(stamp):
        raise example.MeasurementError("flag = 2")

    def infinite(stamp):
        return {"flux": np.inf}

    galaxies = simulate()
    reasons = [
        example.measure_with_tool(tool, galaxies)["failure"].item()
        for tool in (broken, bad, infinite)
    ]
    assert reasons == ["ValueError('no')", "flag = 2", "not finite"]


def test_failures_are_left_out_of_the_scores(example):
    frame = simulate().frame
    frame = frame.loc[[0, 0]].reset_index(drop=True)
    table = frame[example.TARGETS].assign(
        failure=["", "flag = 2"], stamp=[0, 1], core_seconds=0.1
    )
    table.loc[0, "flux"] *= 1.5
    table.loc[1, "flux"] *= 9.0
    table["sersic_index"] = np.nan
    scores = example.score_table(frame, table)
    assert scores["flux"]["bias"] == pytest.approx(0.5)
    assert (scores["flux"]["n_measured"], scores["flux"]["n_failed"]) == (1, 1)
    assert "bias" not in scores["sersic_index"]


def test_what_is_missing_is_said(example, monkeypatch, capsys):
    monkeypatch.setattr(
        example, "TOOLS", {"a": (None, ["galsim"]), "b": (None, ["no_such_package"])}
    )
    assert list(example.choose_tools()) == ["a"]
    assert "Left out: b, for lack of no_such_package" in capsys.readouterr().out
