"""Noiseless stamps against analytic results for Sersic profiles."""

import sys

import galsim
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.special import gammainc, gammaincinv

from sklcae.datasets import _render
from sklcae.datasets._render import PSFS, render_stamp

ROW = {
    "flux": 1000.0,
    "half_light_radius": 1.0,
    "sersic_index": 1.0,
    "ellipticity": 0.0,
    "position_angle": 0.0,
    "x0": 32.0,
    "y0": 32.0,
}
OPTICS = {
    "image_shape": (64, 64),
    "pixel_scale": 0.2,
    "psf": "gaussian",
    "psf_fwhm": 0.7,
    "moffat_beta": 4.765,
}


def render(**changes):
    """Render the galaxy above, in the middle of its stamp, with some changes."""
    height, width = changes.get("image_shape", OPTICS["image_shape"])
    row = {**ROW, "x0": width / 2, "y0": height / 2}
    row.update({k: v for k, v in changes.items() if k in ROW})
    optics = {**OPTICS, **{k: v for k, v in changes.items() if k in OPTICS}}
    assert set(changes) <= set(ROW) | set(OPTICS)
    return render_stamp(row, **optics)


def pixel_centers(shape):
    rows, columns = np.indices(shape)
    return columns + 0.5, rows + 0.5


def centroid(stamp):
    x, y = pixel_centers(stamp.shape)
    return (x * stamp).sum() / stamp.sum(), (y * stamp).sum() / stamp.sum()


def enclosed_fraction(radius, sersic_index):
    """Fraction of a Sersic profile's light within radius half-light radii."""
    b = gammaincinv(2 * sersic_index, 0.5)
    return gammainc(2 * sersic_index, b * radius ** (1 / sersic_index))


def light_within(stamp, radius, q=1.0, angle=0.0):
    """Sum within an ellipse of semi-axes radius / sqrt(q) and radius sqrt(q)."""
    x, y = pixel_centers(stamp.shape)
    dx, dy = x - stamp.shape[1] / 2, y - stamp.shape[0] / 2
    major = dx * np.cos(angle) + dy * np.sin(angle)
    minor = dy * np.cos(angle) - dx * np.sin(angle)
    return stamp[major**2 * q + minor**2 / q <= radius**2].sum()


@pytest.mark.parametrize("psf", [*PSFS, None])
@pytest.mark.parametrize("flux", [1.0, 50_000.0])
def test_the_pixels_add_up_to_the_flux(psf, flux):
    stamp = render(flux=flux, psf=psf, half_light_radius=0.5, ellipticity=0.3)
    assert stamp.sum() == pytest.approx(flux, rel=2e-3)


def test_the_flux_counts_light_outside_the_stamp():
    stamp = render(sersic_index=4.0, half_light_radius=2.0, image_shape=(128, 128))
    inside = light_within(stamp, 60)
    # The PSF moves little light over a circle of 12 arcsec.
    expected = 1000 * enclosed_fraction(60 * 0.2 / 2.0, 4.0)
    assert inside == pytest.approx(expected, rel=5e-3)


@pytest.mark.parametrize("shape", [(64, 64), (48, 80), (81, 33)])
@pytest.mark.parametrize("offset", [(0.0, 0.0), (3.25, -5.5)])
def test_centroid_in_pixels_from_the_outer_corner(shape, offset):
    x0, y0 = shape[1] / 2 + offset[0], shape[0] / 2 + offset[1]
    stamp = render(image_shape=shape, x0=x0, y0=y0, half_light_radius=0.3)
    assert stamp.shape == shape
    np.testing.assert_allclose(centroid(stamp), (x0, y0), atol=0.01)


@pytest.mark.parametrize("psf", ["gaussian", None])
def test_a_pixel_center_is_half_a_pixel_from_its_corner(psf):
    stamp = render(x0=20.5, y0=40.5, psf=psf)
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (40, 20)
    np.testing.assert_allclose(stamp[40, 19], stamp[40, 21], rtol=1e-6)
    np.testing.assert_allclose(stamp[39, 20], stamp[41, 20], rtol=1e-6)


@pytest.mark.parametrize("psf", ["gaussian", None])
def test_a_corner_cuts_a_galaxy_to_a_quarter(psf):
    stamp = render(x0=0.0, y0=64.0, psf=psf, half_light_radius=0.5)
    assert stamp.sum() == pytest.approx(250, rel=5e-3)
    # No light folds back on the other side.
    assert abs(stamp[:32]).max() < 1e-5 * stamp.max()
    assert abs(stamp[:, 32:]).max() < 1e-5 * stamp.max()


@pytest.mark.parametrize("sersic_index", [0.5, 1.0, 2.5, 4.0])
@pytest.mark.parametrize("radius", [1.0, 2.0])
def test_light_within_circles(sersic_index, radius):
    stamp = render(sersic_index=sersic_index, psf=None, pixel_scale=0.1)
    expected = 1000 * enclosed_fraction(radius, sersic_index)
    assert light_within(stamp, radius / 0.1) == pytest.approx(expected, rel=0.01)


def test_the_half_light_radius_is_circularised():
    e, degrees = 0.6, 30.0
    stamp = render(ellipticity=e, position_angle=degrees, psf=None, pixel_scale=0.1)
    q = np.sqrt((1 - e) / (1 + e))
    half = light_within(stamp, 1.0 / 0.1, q, np.deg2rad(degrees))
    assert half == pytest.approx(500, rel=0.01)


@pytest.mark.parametrize("ellipticity", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("position_angle", [0.0, 30.0, 90.0, 135.0])
def test_ellipticity_and_angle_from_second_moments(ellipticity, position_angle):
    stamp = render(
        sersic_index=0.5,
        ellipticity=ellipticity,
        position_angle=position_angle,
        psf_fwhm=0.3,
        half_light_radius=1.2,
    )
    x, y = pixel_centers(stamp.shape)
    # The moments of the PSF and the pixel add to the moments of the galaxy.
    blur = (0.3 / 0.2 / 2.35482) ** 2 + 1 / 12
    xx = ((x - 32) ** 2 * stamp).sum() / stamp.sum() - blur
    yy = ((y - 32) ** 2 * stamp).sum() / stamp.sum() - blur
    xy = ((x - 32) * (y - 32) * stamp).sum() / stamp.sum()
    twice = 2 * np.deg2rad(position_angle)
    assert (xx - yy) / (xx + yy) == pytest.approx(ellipticity * np.cos(twice), abs=2e-3)
    assert 2 * xy / (xx + yy) == pytest.approx(ellipticity * np.sin(twice), abs=2e-3)


def test_the_angle_turns_from_columns_to_rows():
    stamp = render(ellipticity=0.5, position_angle=45.0)
    assert stamp[40, 40] > 2 * stamp[40, 23]
    stamp = render(ellipticity=0.5, position_angle=90.0)
    assert stamp[42, 32] > 2 * stamp[32, 42]


@pytest.mark.parametrize("psf", list(PSFS))
@pytest.mark.parametrize("fwhm", [0.7, 1.1])
def test_psf_fwhm(psf, fwhm):
    point = {"half_light_radius": 0.01, "x0": 32.5, "y0": 32.5}
    stamp = render(psf=psf, psf_fwhm=fwhm, pixel_scale=0.05, **point)
    half = round(fwhm / 2 / 0.05)
    assert stamp[32, 32 + half] / stamp[32, 32] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("beta", [2.5, 4.765])
def test_wings_of_the_moffat_psf(beta):
    point = {"half_light_radius": 0.01, "x0": 32.5, "y0": 32.5}
    stamp = render(psf="moffat", moffat_beta=beta, pixel_scale=0.05, **point)
    r0 = 0.7 / (2 * np.sqrt(2 ** (1 / beta) - 1))
    expected = (1 + (20 * 0.05 / r0) ** 2) ** -beta
    assert stamp[52, 32] / stamp[32, 32] == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("fwhm", [0.02, 0.7, 20.0])
@pytest.mark.parametrize("shape", [(16, 16), (256, 256)])
def test_moffat_psf_with_the_largest_exponent(fwhm, shape):
    options = {"psf_fwhm": fwhm, "image_shape": shape, "moffat_beta": 50}
    moffat, gaussian = (render(psf=psf, **options) for psf in ("moffat", "gaussian"))
    assert abs(moffat - gaussian).max() < 0.014 * gaussian.max()


@pytest.mark.parametrize(
    ("sersic_index", "profile"), [(1.0, galsim.Exponential), (0.5, galsim.Gaussian)]
)
def test_special_sersic_indices(sersic_index, profile):
    stamp = render(sersic_index=sersic_index, ellipticity=0.4, position_angle=20.0)
    galaxy = profile(half_light_radius=1.0, flux=1000.0)
    galaxy = galaxy.shear(e=0.4, beta=20 * galsim.degrees)
    seen = galsim.Convolve(galaxy, galsim.Gaussian(fwhm=0.7))
    expected = seen.drawImage(nx=64, ny=64, scale=0.2, dtype=float).array
    np.testing.assert_allclose(stamp, expected, atol=1e-3 * expected.max())


@pytest.mark.parametrize("sersic_index", [0.5 - 2**-54, 0.5 + 2**-53])
@pytest.mark.parametrize("psf", ["gaussian", None])
def test_sersic_index_within_rounding_of_a_gaussian(sersic_index, psf):
    assert sersic_index != 0.5
    stamp = render(sersic_index=sersic_index, psf=psf, image_shape=(9, 9))
    gaussian = render(sersic_index=0.5, psf=psf, image_shape=(9, 9))
    np.testing.assert_array_equal(stamp, gaussian)


def test_pixel_scale_is_all_that_links_arcsec_and_pixels():
    fine = render(pixel_scale=0.1)
    same = render(pixel_scale=1.0, half_light_radius=10.0, psf_fwhm=7.0)
    np.testing.assert_allclose(fine, same, atol=1e-5 * fine.max())


@pytest.mark.parametrize("psf", [*PSFS, None])
@pytest.mark.parametrize("sersic_index", [0.3, 6.2])
@pytest.mark.parametrize("half_light_radius", [0.05, 20.0])
def test_the_whole_range_renders_without_warnings(psf, sersic_index, half_light_radius):
    stamp = render(
        psf=psf, sersic_index=sersic_index, half_light_radius=half_light_radius
    )
    assert np.isfinite(stamp).all()
    assert 0 < stamp.sum() < 1000 * (1 + 1e-6)


@pytest.mark.parametrize("side", [32, 64, 192])
def test_a_larger_folding_threshold_changes_no_pixel(side):
    large = {
        "image_shape": (side, side),
        "sersic_index": 4.0,
        "half_light_radius": 5.0,
        "ellipticity": 0.6,
    }
    stamp = render(**large)
    galaxy = galsim.Sersic(n=4.0, half_light_radius=5.0, flux=1000.0)
    galaxy = galaxy.shear(e=0.6, beta=0 * galsim.degrees)
    seen = galsim.Convolve(galaxy, galsim.Gaussian(fwhm=0.7))
    expected = seen.drawImage(nx=side, ny=side, scale=0.2, dtype=float).array
    # Allowed error of a pixel, as a fraction of the galaxy's light.
    assert abs(stamp - expected).max() < 1e-7 * 1000


@pytest.mark.parametrize(
    "change",
    [
        {"half_light_radius": 3000.0},
        {"half_light_radius": 0.05, "sersic_index": 4.0, "psf_fwhm": 1e-4},
    ],
)
def test_a_stamp_beyond_memory_is_refused(change):
    with pytest.raises(ValueError, match=r"needs an FFT of \d+ pixels a side"):
        render(**change)


# The noise of an empty pixel with the detector of make_galaxies, in ADU.
NOISE = np.sqrt(10.0 + 4.0)
BRIGHTEST = 50_000.0


def draw_plainly(row, optics, **accuracy):
    """Draw a stamp as GalSim's tutorial does, or more accurately."""
    gsparams = galsim.GSParams(**accuracy)
    galaxy = galsim.Sersic(
        n=row["sersic_index"],
        half_light_radius=row["half_light_radius"],
        flux=row["flux"],
        gsparams=gsparams,
    )
    angle = row["position_angle"] * galsim.degrees
    galaxy = galaxy.shear(e=row["ellipticity"], beta=angle)
    psf = galsim.Gaussian(fwhm=optics["psf_fwhm"], gsparams=gsparams)
    if optics["psf"] == "moffat":
        psf = galsim.Moffat(
            beta=optics["moffat_beta"], fwhm=optics["psf_fwhm"], gsparams=gsparams
        )
    height, width = optics["image_shape"]
    # GalSim's offset is relative to the middle of the stamp.
    return (
        galsim.Convolve(galaxy, psf)
        .drawImage(
            nx=width,
            ny=height,
            scale=optics["pixel_scale"],
            dtype=float,
            offset=(row["x0"] - width / 2, row["y0"] - height / 2),
        )
        .array
    )


def rms(difference):
    return np.sqrt(np.mean(difference**2))


def needed_fft(row, optics):
    """Return the side of the FFT that GalSim would take, roughly."""
    galaxy = galsim.Sersic(
        n=row["sersic_index"], half_light_radius=row["half_light_radius"]
    ).shear(e=row["ellipticity"], beta=0 * galsim.degrees)
    seen = galsim.Convolve(galaxy, galsim.Gaussian(fwhm=optics["psf_fwhm"]))
    sharpness = seen.maxk * optics["pixel_scale"] / np.pi
    return seen.getGoodImageSize(optics["pixel_scale"]) * max(1, sharpness)


def test_stamps_of_the_paper_equal_plain_galsim():
    rng = np.random.default_rng(0)
    differences = []
    for sersic_index in np.repeat([0.5, 0.7, 1.0, 2.0, 3.0, 4.0], 8):
        row = {
            "flux": BRIGHTEST,
            "half_light_radius": rng.uniform(0.3, 5.0),
            "sersic_index": sersic_index,
            "ellipticity": rng.uniform(0.0, 0.6),
            "position_angle": rng.uniform(0.0, 180.0),
            "x0": rng.uniform(0, 64),
            "y0": rng.uniform(0, 64),
        }
        stamp = render_stamp(row, **OPTICS)
        plain = draw_plainly(row, OPTICS, folding_threshold=1e-3)
        differences.append(rms(stamp - plain) / NOISE)
    assert max(differences) < 3e-3
    assert rms(np.array(differences)) < 5e-4


def spread(low, high):
    """Numbers from low to high, as many in each decade."""
    return st.floats(np.log(low), np.log(high)).map(np.exp).map(float)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_stamps_of_any_kind_equal_plain_galsim(data):
    shape = tuple(data.draw(st.integers(4, 100)) for _ in range(2))
    pixel_scale = data.draw(spread(0.05, 1.0))
    optics = {
        "image_shape": shape,
        "pixel_scale": pixel_scale,
        "psf": data.draw(st.sampled_from(sorted(PSFS))),
        "psf_fwhm": data.draw(spread(1.5, 10.0)) * pixel_scale,
        "moffat_beta": data.draw(st.floats(2.0, 5.0)),
    }
    row = {
        "flux": BRIGHTEST,
        "half_light_radius": data.draw(spread(0.3, 150.0)) * pixel_scale,
        "sersic_index": data.draw(st.sampled_from([0.3, 0.5, 0.8, 1, 2.5, 4, 6.2])),
        "ellipticity": data.draw(st.floats(0.0, 0.95)),
        "position_angle": data.draw(st.floats(0.0, 180.0)),
        "x0": data.draw(st.floats(-1.0, 2.0)) * shape[1],
        "y0": data.draw(st.floats(-1.0, 2.0)) * shape[0],
    }
    assume(needed_fft(row, optics) < 1500)
    stamp = render_stamp(row, **optics)
    plain = draw_plainly(row, optics, folding_threshold=1e-3, maxk_threshold=1e-4)
    # The noise of an empty pixel and of the galaxy's light.
    noise = np.sqrt(NOISE**2 + np.clip(plain, 0, None))
    assert rms((stamp - plain) / noise) < 0.01


@pytest.fixture
def large_ffts(monkeypatch):
    """Count the stamps that GalSim draws with its own FFT."""
    calls = []
    seen_profile = _render._seen_profile

    def count(row, optics):
        calls.append(row)
        return seen_profile(row, optics)

    monkeypatch.setattr(_render, "_seen_profile", count)
    return calls


@pytest.mark.parametrize(
    "easy",
    [
        {},
        {"psf": "moffat"},
        {"half_light_radius": 5.0, "ellipticity": 0.6, "sersic_index": 4.0},
        {"half_light_radius": 5.0, "ellipticity": 0.6, "sersic_index": 0.5},
        {"x0": -200.0},
        {"image_shape": (256, 256), "half_light_radius": 20.0},
        {"pixel_scale": 0.5},
    ],
    ids=str,
)
def test_small_ffts_draw_most_galaxies(easy, large_ffts):
    render(**easy)
    assert not large_ffts


@pytest.mark.parametrize(
    "hard",
    [
        # A needle.
        {"half_light_radius": 5.0, "sersic_index": 0.5, "ellipticity": 0.999},
        # A PSF with strong wings that would fold.
        {"psf": "moffat", "moffat_beta": 1.2},
        # A PSF so sharp that each pixel needs many points.
        {"psf_fwhm": 0.03},
    ],
    ids=str,
)
def test_galsim_draws_galaxies_that_small_ffts_cannot(hard, large_ffts):
    render(**hard)
    assert len(large_ffts) == 1


@pytest.mark.parametrize(
    "nearly_hard",
    [
        {"half_light_radius": 5.0, "sersic_index": 0.5, "ellipticity": 0.99},
        {"psf": "moffat", "moffat_beta": 1.5},
        {"half_light_radius": 60.0, "sersic_index": 0.5},
        {"half_light_radius": 20.0, "sersic_index": 4.0, "image_shape": (16, 16)},
    ],
    ids=str,
)
def test_both_ways_agree_near_the_limit(nearly_hard, large_ffts, monkeypatch):
    stamp = render(**nearly_hard, flux=BRIGHTEST)
    assert not large_ffts
    monkeypatch.setattr(_render, "_small_fft_size", lambda *args: None)
    other = render(**nearly_hard, flux=BRIGHTEST)
    assert len(large_ffts) == 1
    assert rms(stamp - other) < 0.002 * NOISE


def test_missing_galsim_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "galsim", None)
    with pytest.raises(ImportError, match=r"make_galaxies needs galsim.*\[simulate\]"):
        render()
