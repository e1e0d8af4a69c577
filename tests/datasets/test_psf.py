"""PSFs against GalSim and analytic values, and galaxies seen through images of PSFs."""

import math

import galsim
import numpy as np
import pytest

from sklcae.datasets import _render
from sklcae.datasets._psf import (
    ModelPSF,
    StampPSF,
    effective_psf,
    fourier_image,
)
from sklcae.datasets._render import render_stamp

SCALE = 0.2
SHAPE = (40, 48)
ROW = {
    "flux": 50_000.0,
    "half_light_radius": 0.8,
    "sersic_index": 1.5,
    "ellipticity": 0.4,
    "position_angle": 20.0,
    "x0": 22.3,
    "y0": 18.9,
}
# The noise of an empty pixel with the detector of make_galaxies, in ADU.
NOISE = np.sqrt(14.0)
PSFS = [
    ("gaussian", 0.7, 0.0),
    ("gaussian", 1.2, 0.3),
    ("moffat", 0.5, 0.0),
    ("moffat", 0.9, 0.2),
]


def model(kind="gaussian", fwhm=0.7, ellipticity=0.0, beta=3.5, angle=35.0, **options):
    return ModelPSF(kind, fwhm, beta, ellipticity, angle, SCALE, **options)


def galsim_psf(kind, fwhm, ellipticity, beta=3.5, angle=35.0):
    accuracy = galsim.GSParams(folding_threshold=1e-4, maxk_threshold=1e-5)
    if kind == "gaussian":
        psf = galsim.Gaussian(fwhm=fwhm, gsparams=accuracy)
    else:
        psf = galsim.Moffat(beta=beta, fwhm=fwhm, gsparams=accuracy)
    return psf.shear(e=ellipticity, beta=angle * galsim.degrees)


def galsim_stamp(profile, method="auto"):
    accuracy = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4)
    galaxy = galsim.Sersic(
        n=ROW["sersic_index"],
        half_light_radius=ROW["half_light_radius"],
        flux=ROW["flux"],
        gsparams=accuracy,
    )
    angle = ROW["position_angle"] * galsim.degrees
    galaxy = galaxy.shear(e=ROW["ellipticity"], beta=angle)
    height, width = SHAPE
    return (
        galsim.Convolve(galaxy, profile, gsparams=accuracy)
        .drawImage(
            nx=width,
            ny=height,
            scale=SCALE,
            dtype=float,
            offset=(ROW["x0"] - width / 2, ROW["y0"] - height / 2),
            method=method,
        )
        .array
    )


def render(psf, **changes):
    row = {**ROW, **changes}
    return render_stamp(row, image_shape=SHAPE, pixel_scale=SCALE, psf=psf)


def worst(difference):
    return np.abs(difference).max()


def lopsided_psf(side=25):
    """Return a well-sampled PSF without any symmetry, of sum 1."""
    y, x = np.indices((side, side)) - side // 2
    image = np.exp(-((x**2 + y**2) / 8)) + 0.3 * np.exp(
        -((x - 2) ** 2 + (y - 1) ** 2) / 6
    )
    return image / image.sum()


def as_galsim(image):
    stamp = galsim.ImageD(image, scale=SCALE)
    return galsim.InterpolatedImage(
        stamp, x_interpolant=galsim.Lanczos(31), use_true_center=False, flux=1.0
    )


class TestEffectivePSF:
    @pytest.mark.parametrize("psf", PSFS)
    @pytest.mark.parametrize("shape", [(64, 64), (33, 40)])
    def test_equals_galsims_drawing(self, psf, shape):
        found = effective_psf(model(*psf), shape)
        height, width = shape
        drawn = galsim_psf(*psf).drawImage(nx=129, ny=129, scale=SCALE, dtype=float)
        rows, columns = (64 - side // 2 for side in shape)
        expected = drawn.array[rows : rows + height, columns : columns + width]
        expected = expected / expected.sum()
        assert worst(found - expected) < 5e-5 * expected.max()
        assert found.sum() == pytest.approx(1, rel=1e-12)
        middle = (height // 2, width // 2)
        assert np.unravel_index(found.argmax(), shape) == middle

    def test_moments_of_a_gaussian(self):
        fwhm, e, degrees = 0.9, 0.3, 35.0
        stamp = effective_psf(model("gaussian", fwhm, e, angle=degrees), (64, 64))
        y, x = np.indices(stamp.shape) - 32
        # The pixel adds 1 / 12 along x and along y.
        xx, yy = ((axis**2 * stamp).sum() - 1 / 12 for axis in (x, y))
        xy = (x * y * stamp).sum()
        twice = 2 * np.deg2rad(degrees)
        assert (xx - yy) / (xx + yy) == pytest.approx(e * np.cos(twice), abs=1e-4)
        assert 2 * xy / (xx + yy) == pytest.approx(e * np.sin(twice), abs=1e-4)
        sigma = (xx * yy - xy**2) ** 0.25
        assert sigma == pytest.approx(fwhm / SCALE / 2.354820, rel=1e-4)

    @pytest.mark.parametrize("psf", [None, model(fwhm=1e-3), model("moffat", 1e-4)])
    def test_without_width_it_is_a_point(self, psf):
        stamp = effective_psf(psf, (5, 6))
        expected = np.zeros((5, 6))
        expected[2, 3] = 1
        np.testing.assert_array_equal(stamp, expected)

    @pytest.mark.parametrize("kind", ["gaussian", "moffat"])
    @pytest.mark.parametrize("fwhm", [0.02, 0.1, 30.0])
    def test_any_width_is_finite(self, kind, fwhm):
        stamp = effective_psf(model(kind, fwhm, 0.5, beta=1.2), (20, 300))
        assert np.isfinite(stamp).all()
        assert stamp.argmax() == 10 * 300 + 150

    @pytest.mark.parametrize("beta", [1.5, 2.0, 2.7, 4.765, 10])
    @pytest.mark.parametrize("ellipticity", [0.0, 0.2])
    def test_tabulated_moffat_equals_galsims_bessel_functions(self, beta, ellipticity):
        psf = model("moffat", 0.8, ellipticity, beta, tabulated=True)
        profile = galsim_psf("moffat", 0.8, ellipticity, beta)
        pixel = galsim.Pixel(SCALE)
        for size in (64, 90):
            grid = (size, psf.oversampling, SCALE)
            exact = fourier_image(profile, *grid) * fourier_image(pixel, *grid)
            assert worst(psf.transform(size) - exact) < 1e-6

    def test_moffat_with_the_largest_exponent_is_nearly_a_gaussian(self):
        # GalSim's Bessel functions overflow for this elliptical PSF.
        moffat = effective_psf(model("moffat", 0.8, 0.2, beta=50.0), (32, 32))
        gaussian = effective_psf(model("gaussian", 0.8, 0.2), (32, 32))
        assert worst(moffat - gaussian) < 0.014 * gaussian.max()
        with pytest.raises(ValueError, match=r"moffat_beta up to 15; .* Got 50\.0"):
            model("moffat", 0.8, 0.2, beta=50.0).profile(None)


class TestModelPSF:
    def test_radius_along_the_major_axis(self):
        # The axis ratio is 1 / 2.
        psf = model("gaussian", 0.8, 0.6)
        assert psf.half_light_radius == pytest.approx(0.4 / SCALE * np.sqrt(2))

    def test_the_minor_axis_needs_more_points(self):
        # A Gaussian falls to 1e-4 at 4.29 / sigma.
        sigma = 0.3 / SCALE / 2.354820
        assert model("gaussian", 0.3).oversampling == math.ceil(4.29 / sigma / np.pi)
        expected = math.ceil(4.29 / sigma * np.sqrt(2) / np.pi)
        assert model("gaussian", 0.3, 0.6).oversampling == expected

    def test_light_is_beyond_along_the_major_axis(self):
        psf = model("moffat", 0.8, 0.6, angle=0.0)
        profile = galsim_psf("moffat", 0.8, 0.6, angle=0.0)
        near, far = (profile.xValue(d * SCALE, 0) * SCALE**2 for d in (20, 40))
        expected = near * (1 + 2 * np.pi / (np.log2(near / far) - 2))
        assert psf.light_beyond(20) == pytest.approx(expected, rel=1e-6)


class TestStampPSF:
    @pytest.mark.parametrize("size", [36, 26, 16])
    def test_transform_is_the_sum_over_the_pixels(self, size):
        image = lopsided_psf()[:, :21]
        transform = StampPSF(image, SCALE).transform(size)
        y, x = np.arange(25) - 12, np.arange(21) - 10
        for row, column in ((0, 0), (3, 2), (size - 1, size // 2), (5, 1)):
            phase = row * y[:, np.newaxis] + column * x
            expected = (image * np.exp(-2j * np.pi * phase / size)).sum()
            np.testing.assert_allclose(transform[row, column], expected, atol=1e-12)

    def test_radius_and_reach(self):
        psf = StampPSF(effective_psf(model(fwhm=2.0), (65, 65)), SCALE)
        # The half-light radius of a Gaussian is half of its FWHM.
        assert psf.half_light_radius == pytest.approx(1.0 / SCALE, abs=0.5)
        assert psf.light_beyond(33.0) == 0
        assert psf.light_beyond(31.0) == math.inf

    @pytest.mark.parametrize("psf", PSFS)
    def test_an_image_of_a_psf_is_as_good_as_its_formula(self, psf):
        image = effective_psf(model(*psf), (81, 81))
        exact, sampled = render(model(*psf)), render(StampPSF(image, SCALE))
        # 0.5 arcsec are 2.5 pixels; 0.1 % of this PSF is outside its image.
        assert worst(exact - sampled) < 1e-3 * exact.max()
        if psf[0] == "gaussian":
            assert worst(exact - sampled) < 1e-5 * exact.max()

    def test_equals_galsims_interpolated_image(self):
        image = lopsided_psf()
        expected = galsim_stamp(as_galsim(image), method="no_pixel")
        found = render(StampPSF(image, SCALE))
        assert worst(found - expected) < 0.01 * NOISE
        # The test sees the orientation.
        turned = render(StampPSF(image[::-1], SCALE))
        assert worst(turned - expected) > 10 * NOISE

    @pytest.mark.parametrize("pad", [((0, 1), (0, 1)), ((0, 1), (0, 0))])
    def test_even_images_have_their_center_behind_the_middle(self, pad):
        odd = np.pad(lopsided_psf()[:24, : 25 - pad[1][1]], pad)
        even = odd[:24, : 25 - pad[1][1]]
        expected = render(StampPSF(odd, SCALE))
        atol = 1e-9 * expected.max()
        np.testing.assert_allclose(render(StampPSF(even, SCALE)), expected, atol=atol)

    def test_a_point_one_pixel_off_moves_the_galaxy(self):
        wide = {"half_light_radius": 1.5, "sersic_index": 0.5}
        middle, moved = np.zeros((2, 9, 9))
        middle[4, 4] = moved[3, 5] = 1
        expected = render(
            StampPSF(middle, SCALE), **wide, x0=ROW["x0"] + 1, y0=ROW["y0"] - 1
        )
        np.testing.assert_allclose(
            render(StampPSF(moved, SCALE), **wide), expected, atol=1e-6 * expected.max()
        )

    @pytest.mark.parametrize("side", [25, 26])
    def test_galsim_draws_the_galaxies_that_small_ffts_cannot(self, side, monkeypatch):
        psf = StampPSF(np.pad(lopsided_psf(), (side - 25, 0)), SCALE)
        small = render(psf)
        monkeypatch.setattr(_render, "_small_fft_size", lambda *args: None)
        assert worst(render(psf) - small) < 0.01 * NOISE

    def test_an_image_larger_than_the_fft(self):
        image = np.pad(lopsided_psf(), 120)
        expected = render(StampPSF(lopsided_psf(), SCALE))
        np.testing.assert_allclose(
            render(StampPSF(image, SCALE)), expected, atol=1e-6 * expected.max()
        )

    def test_a_galaxy_beyond_memory_names_the_array(self):
        with pytest.raises(ValueError, match="seen with an array as psf at pixel"):
            render(StampPSF(lopsided_psf(), SCALE), half_light_radius=3000.0)


@pytest.mark.parametrize("psf", [*PSFS, ("moffat", 1.5, 0.6)])
@pytest.mark.parametrize("tabulated", [False, True])
def test_stamps_with_elliptical_psfs_equal_plain_galsim(psf, tabulated):
    found = render(model(*psf, tabulated=tabulated))
    assert worst(found - galsim_stamp(galsim_psf(*psf))) < 0.01 * NOISE
