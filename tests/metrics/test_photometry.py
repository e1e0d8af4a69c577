"""Photometry against analytic values."""

import galsim
import numpy as np
import pytest
from scipy.special import erf

from sklcae.metrics import half_light_radius, sweep_slopes, total_flux
from tests.quantities import Quantity

SIGMA_TO_RADIUS = np.sqrt(2 * np.log(2))


def gaussian(sigma, x0=32.0, y0=32.0, *, flux=1.0, shape=(64, 64)):
    """Integrals of a Gaussian over pixels; x0 and y0 from the outer corner."""

    def integrate(size, center):
        edges = np.arange(size + 1)
        return np.diff(erf((edges - center) / (sigma * np.sqrt(2))) / 2)

    return flux * np.outer(integrate(shape[0], y0), integrate(shape[1], x0))


def sersic(n, radius, *, size=64, shift=(0.0, 0.0)):
    profile = galsim.Sersic(n, half_light_radius=radius).shift(*shift)
    return profile.drawImage(nx=size, ny=size, scale=1, dtype=float).array


class TestTotalFlux:
    def test_sum_of_each_stamp(self):
        images = np.random.default_rng(0).normal(size=(4, 5, 6))
        flux = total_flux(images)
        assert flux.shape == (4,)
        np.testing.assert_allclose(flux, [image.sum() for image in images])

    def test_float32_is_summed_in_double_precision(self):
        images = np.full((1, 64, 64), 1e4, dtype=np.float32)
        images[0, 0, 0] += 1e-2
        assert total_flux(images)[0] == images.astype(float).sum()

    @pytest.mark.parametrize("background", [3.0, [3.0, 3.0], "border"])
    def test_background(self, background):
        images = np.stack([gaussian(2.0, flux=50.0), gaussian(3.0, flux=70.0)]) + 3.0
        flux = total_flux(images, background=background)
        np.testing.assert_allclose(flux, [50.0, 70.0])


class TestHalfLightRadius:
    @pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0, 6.0])
    def test_gaussian(self, sigma):
        centers = np.random.default_rng(0).uniform(29, 35, size=(20, 2))
        images = np.array([gaussian(sigma, *center) for center in centers])
        expected = SIGMA_TO_RADIUS * sigma
        np.testing.assert_allclose(half_light_radius(images), expected, rtol=0.005)
        given = half_light_radius(images, centers=centers)
        np.testing.assert_allclose(given, expected, rtol=0.005)

    @pytest.mark.parametrize(("n", "radius"), [(0.5, 4), (1, 4), (1, 8), (2, 4)])
    def test_sersic(self, n, radius):
        image = sersic(n, radius, size=128, shift=(0.3, -1.7))
        measured = half_light_radius(image[np.newaxis])
        np.testing.assert_allclose(measured, radius, rtol=0.005)

    @pytest.mark.parametrize("fraction", [0.2, 0.8])
    def test_other_fractions(self, fraction):
        radius = half_light_radius(gaussian(4.0)[np.newaxis], fraction=fraction)
        expected = 4.0 * np.sqrt(-2 * np.log(1 - fraction))
        np.testing.assert_allclose(radius, expected, rtol=0.005)

    def test_pixel_scale(self):
        images = gaussian(3.0)[np.newaxis]
        np.testing.assert_allclose(
            half_light_radius(images, pixel_scale=0.2), 0.2 * half_light_radius(images)
        )

    def test_stamps_need_not_be_square(self):
        images = gaussian(2.0, 30.0, 11.0, shape=(20, 50))[np.newaxis]
        expected = 2.0 * SIGMA_TO_RADIUS
        np.testing.assert_allclose(half_light_radius(images), expected, rtol=0.005)

    def test_uniform_stamp(self):
        # A circle of this radius contains half of the square.
        radius = half_light_radius(np.ones((1, 64, 64)))
        np.testing.assert_allclose(radius, 64 * np.sqrt(0.5 / np.pi), rtol=1e-3)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (1, 2, 2)])
    def test_tiny_stamps(self, shape):
        radius = half_light_radius(np.ones(shape))
        assert 0 < radius[0] < max(shape)

    def test_flux_does_not_matter(self):
        images = np.stack([gaussian(2.0), gaussian(2.0, flux=1e6)])
        first, second = half_light_radius(images)
        np.testing.assert_allclose(first, second)

    def test_faint_pedestal_does_not_move_the_centre(self):
        image = sersic(1, 4, shift=(12.0, -9.0))
        centers = (44.0, 23.0)
        # A hundredth of the peak; over the stamp twice the light of the galaxy.
        images = (image + 0.01 * image.max())[np.newaxis]
        np.testing.assert_allclose(
            half_light_radius(images), half_light_radius(images, centers=centers)
        )

    def test_pedestal_counts_unless_it_is_subtracted(self):
        level = 0.01 * sersic(1, 4).max()
        images = (sersic(1, 4) + level)[np.newaxis]
        assert half_light_radius(images)[0] > 6
        for background in (level, [level], "border"):
            radius = half_light_radius(images, background=background)
            np.testing.assert_allclose(radius, 4, rtol=0.01)

    def test_noise_does_not_bias(self):
        rng = np.random.default_rng(0)
        images = 10_000 * sersic(1, 4, shift=(5.0, 3.0)) + rng.normal(
            scale=3.5, size=(50, 64, 64)
        )
        radii = half_light_radius(images)
        np.testing.assert_allclose(radii.mean(), 4, rtol=0.02)
        assert radii.std() < 0.2

    def test_no_positive_flux(self):
        images = np.stack([np.zeros((9, 9)), -np.ones((9, 9)), np.ones((9, 9))])
        np.testing.assert_array_equal(
            np.isnan(half_light_radius(images)), [True, True, False]
        )

    def test_no_images(self):
        assert half_light_radius(np.ones((0, 8, 8))).shape == (0,)
        assert total_flux(np.ones((0, 8, 8))).shape == (0,)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"pixel_scale": 0}, "'pixel_scale' parameter"),
            ({"pixel_scale": "0.2"}, "'pixel_scale' parameter"),
            ({"fraction": 1.0}, "'fraction' parameter"),
            ({"fraction": 0}, "'fraction' parameter"),
            ({"centers": [[1, 1]] * 3}, r"centers must be .* \(2, 2\).*got .*\(3, 2\)"),
            ({"centers": (np.nan, 1)}, "centers must be an array of numbers.*NaN"),
            ({"background": [1, 2, 3]}, r"background must be .* 2,.*got shape \(3,\)"),
            ({"background": np.nan}, "background must be an array of numbers.*NaN"),
            ({"centers": "middle"}, "centers must be an array of numbers"),
            ({"centers": (1e9, 1)}, r"centers must be at most 100 sides.*\(2.5, 2.5\)"),
            ({"pixel_scale": True}, "'pixel_scale' .* Got True"),
            ({"pixel_scale": 10**400}, "'pixel_scale' .* Got 1000"),
            ({"background": [[1], [2, 3]]}, "background must be an array of numbers"),
            ({"background": "median"}, "background must be .* 'border', got 'median'"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            half_light_radius(np.ones((2, 5, 5)), **options)


@pytest.mark.parametrize("measure", [total_flux, half_light_radius])
class TestImages:
    @pytest.mark.parametrize("shape", [(8, 8), (2, 1, 8, 8), (2, 0, 8)])
    def test_wrong_shape(self, measure, shape):
        with pytest.raises(ValueError, match="images must have the shape"):
            measure(np.ones(shape))

    def test_not_finite(self, measure):
        images = np.ones((2, 4, 4))
        images[0, 0, 0] = np.nan
        with pytest.raises(ValueError, match="images contains NaN"):
            measure(images)

    def test_quantities(self, measure):
        images = np.ones((2, 4, 4))
        for given in (Quantity(images, "electron"), [Quantity(images[0], "adu")]):
            with pytest.raises(TypeError, match="images must be plain numbers in adu"):
                measure(given)
        with pytest.raises(TypeError, match="background must be plain numbers in adu"):
            measure(images, background=Quantity(1.0, "adu"))

    def test_input_is_not_changed(self, measure):
        images = np.ones((2, 4, 4))
        measure(images, background=0.5)
        np.testing.assert_array_equal(images, 1)


def test_quantities_of_the_radius():
    images, scale = np.ones((2, 4, 4)), Quantity(0.2, "arcsec")
    with pytest.raises(TypeError, match=r"pixel_scale .* \.to_value\('arcsec / pix'\)"):
        half_light_radius(images, pixel_scale=scale)
    with pytest.raises(TypeError, match=r"centers must be plain numbers in pix\."):
        half_light_radius(images, centers=Quantity([2.0, 2.0], "pix"))


class TestSweepSlopes:
    asked = np.array([1.0, 2.0, 3.0, 5.0])

    @pytest.mark.parametrize("slope", [1.0, 0.0, -0.5, 2.0])
    def test_power_law(self, slope):
        measured = 7 * self.asked**slope
        assert sweep_slopes(self.asked, measured) == pytest.approx(slope)

    def test_rows(self):
        measured = np.stack([self.asked, np.ones(4), self.asked**2])
        slopes = sweep_slopes(self.asked, measured)
        np.testing.assert_allclose(slopes, [1, 0, 2], atol=1e-12)
        asked = np.stack([self.asked, 2 * self.asked, self.asked + 1])
        assert sweep_slopes(asked, measured).shape == (3,)

    def test_least_squares(self):
        measured = np.array([1.0, 3.0, 2.0, 6.0])
        expected, _ = np.polyfit(np.log(self.asked), np.log(measured), 1)
        assert sweep_slopes(self.asked, measured) == pytest.approx(expected)

    def test_steps_without_logarithm_are_left_out(self):
        asked = [-1.0, 0.0, 1.0, 2.0, 4.0, 5.0, np.inf]
        measured = [1.0, 2.0, 3.0, 6.0, 12.0, np.nan, 1.0]
        assert sweep_slopes(asked, measured) == pytest.approx(1)

    @pytest.mark.parametrize(
        ("asked", "measured", "message"),
        [
            ([1.0], [1.0], "at least two different values of asked.*got 1"),
            ([2.0, 2.0], [1.0, 3.0], "at least two different values.*got 1"),
            ([-1.0, 0.0], [1.0, 3.0], "got 0 in the sweep"),
            ([1.0, 2.0], [[1.0, 2.0], [0.0, 1.0]], "got 1 in row 1"),
            ([1.0, 2.0], [1.0], r"same n_steps and n_rows, got \(2,\) and \(1,\)"),
            (1.0, 2.0, "asked and measured must have the shape"),
            (np.ones((2, 3)), np.ones((3, 3)), r"got \(2, 3\) and \(3, 3\)"),
            (np.ones((2, 2, 3)), np.ones(3), "asked and measured must have the shape"),
            (np.ones(3), np.ones((2, 2, 3)), "asked and measured must have the shape"),
            ("bright", [1.0, 2.0], "asked must be an array of numbers"),
        ],
    )
    def test_errors(self, asked, measured, message):
        with pytest.raises(ValueError, match=message):
            sweep_slopes(asked, measured)
