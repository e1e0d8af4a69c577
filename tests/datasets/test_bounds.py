"""The Cramer-Rao bound against analytic values, limits and maximum-likelihood fits."""

import re

import joblib
import numpy as np
import pytest
from scipy import stats
from scipy.differentiate import derivative
from scipy.optimize import least_squares
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Bunch

from sklcae.datasets import (
    _bounds,
    _derivatives,
    cramer_rao_bound,
    make_galaxies,
    signal_to_noise,
)
from sklcae.datasets._galaxies import OPTICS
from sklcae.datasets._noise import inverse_variance
from tests.quantities import Quantity

NAMES = ["flux", "half_light_radius", "sersic_index", "e1", "e2", "x0", "y0"]
# One galaxy in the middle of a small stamp: quick to render.
QUICK = {
    "flux": 20_000.0,
    "half_light_radius": 0.6,
    "sersic_index": 1.0,
    "ellipticity": 0.3,
    "position_angle": 30.0,
    "x0": 12.0,
    "y0": 12.0,
    "image_shape": (24, 24),
    "random_state": 0,
}
# The prior of a galaxy with known parameters.
KNOWN = {name: QUICK[name] for name in list(QUICK)[:7]}


def make(n_samples=1, **changes):
    settings = {"noise": False, "targets": NAMES, **QUICK, **changes}
    return make_galaxies(n_samples, return_X_y=False, **settings)


def deviations(galaxies, **options):
    return np.sqrt(cramer_rao_bound(galaxies, **options).variance)


class TestAnalyticValues:
    def test_flux_alone(self):
        galaxies = make()
        free = {**KNOWN, "flux": (0.1, 1e12)}
        bound = cramer_rao_bound(galaxies, prior=free, targets="flux")
        image = galaxies.images[0].astype(float)
        profile, variance = image / 20_000, image + 10 + 2**2
        expected = 1 / np.sum(profile**2 / variance)
        np.testing.assert_allclose(bound.variance, expected, rtol=1e-5)

    def test_gaussian_in_white_noise(self):
        sky, flux, radius = 1e6, 1e5, 5.0
        galaxies = make(
            flux=flux,
            half_light_radius=radius,
            sersic_index=0.5,
            ellipticity=0.0,
            pixel_scale=1.0,
            psf_fwhm=3.0,
            x0=24.0,
            y0=24.0,
            image_shape=(48, 48),
            sky_level=sky,
            read_noise=0.0,
        )
        to_radius = np.sqrt(2 * np.log(2))
        sigma2 = (radius / to_radius) ** 2 + (3 / 2 / to_radius) ** 2 + 1 / 12
        free = {**KNOWN, "sersic_index": 0.5, "half_light_radius": radius}
        free |= {"ellipticity": 0.0, "flux": (1.0, 1e12)}
        free |= {"x0": (0.0, 1e6), "y0": (0.0, 1e6)}
        variance = cramer_rao_bound(galaxies, prior=free).variance[0]
        expected = 4 * np.pi * sigma2 * sky
        np.testing.assert_allclose(variance[0], expected, rtol=0.01)
        expected = 8 * np.pi * sigma2**2 * sky / flux**2
        np.testing.assert_allclose(variance[[5, 6]], expected, rtol=0.01)
        # Parameters symmetric about the centre do not increase its variance.
        full = cramer_rao_bound(galaxies, prior=None).variance[0]
        np.testing.assert_allclose(full[[5, 6]], expected, rtol=0.01)
        assert full[0] > 1.5 * variance[0]

    def test_noise_of_photons_alone(self):
        galaxies = make(2, flux=[5000.0, 20_000.0], sky_level=0.0, read_noise=0.0)
        faint, bright = deviations(galaxies, prior=None)
        np.testing.assert_allclose(bright[0] / faint[0], 2, rtol=1e-3)
        np.testing.assert_allclose(bright[1:] / faint[1:], 1 / 2, rtol=1e-3)
        galaxies.gain = 4.0
        np.testing.assert_allclose(
            deviations(galaxies, prior=None)[1] / bright, 1 / 2, rtol=1e-3
        )

    def test_noise_of_the_sky_alone(self):
        galaxies = make(2, flux=[5000.0, 20_000.0], sky_level=1e7)
        faint, bright = deviations(galaxies, prior=None)
        np.testing.assert_allclose(bright[0] / faint[0], 1, rtol=1e-3)
        np.testing.assert_allclose(bright[1:] / faint[1:], 1 / 4, rtol=1e-3)

    def test_read_noise_is_in_electrons(self):
        one = deviations(make(sky_level=0.0, read_noise=6.0, gain=2.0))
        # The same variance in ADU, from the sky.
        other = deviations(make(sky_level=18.0, read_noise=0.0, gain=2.0))
        np.testing.assert_allclose(one, other, rtol=1e-12)

    @pytest.mark.parametrize("x0", [12.0, 2.0])
    def test_quarter_turn(self, x0):
        one = deviations(make(x0=x0, y0=9.0, position_angle=20.0), prior=None)[0]
        turned = make(x0=24.0 - 9.0, y0=x0, position_angle=110.0)
        other = deviations(turned, prior=None)[0]
        np.testing.assert_allclose(other, one[[0, 1, 2, 3, 4, 6, 5]], rtol=1e-4)

    def test_edge_hides(self):
        inside, cut, outside = deviations(make(3, x0=[12.0, 1.0, -1.0]), prior=None)
        assert (cut > 1.1 * inside).all()
        assert (outside > 1.1 * cut).all()

    def test_information_of_a_pixel(self):
        """1 / variance is nearly the information of Poisson and read noise."""
        electrons, read_noise = 10.0, 2.0
        counts = np.arange(80)
        values = np.linspace(-30, 120, 3001)
        joint = stats.poisson.pmf(counts, electrons) * stats.norm.pdf(
            values[:, np.newaxis], counts, read_noise
        )
        density = joint.sum(axis=1)
        slope = (joint * (counts / electrons - 1)).sum(axis=1)
        information = np.sum(slope**2 / density) * (values[1] - values[0])
        weight = inverse_variance(
            np.zeros(1), sky_level=electrons, gain=1.0, read_noise=read_noise
        )[0]
        assert weight < information < 1.004 * weight


class TestDerivatives:
    @pytest.mark.parametrize(
        "offsets", [_derivatives._BOTH_SIDES, _derivatives._ONE_SIDE]
    )
    def test_weights_are_exact_for_polynomials(self, offsets):
        weights = _derivatives._difference_weights(0.1 * offsets)
        for degree in range(5):
            expected = 2.0 if degree == 1 else 0.0
            found = weights @ (2 * (0.1 * offsets) ** degree)
            np.testing.assert_allclose(found, expected, atol=1e-12)

    def test_jacobian_equals_scipys(self):
        galaxies = make()
        optics = {name: galaxies[name] for name in OPTICS}
        theta = galaxies.target[0]
        image = _derivatives.render(theta, optics)
        free = np.ones(7, bool)
        jacobian, _ = _derivatives.jacobians(theta, image, optics, free, 1.0)
        for column in range(7):

            def render(values, column=column):
                # The points are the same for all pixels; each row is one pixel.
                points = values.reshape(image.size, -1)[0]
                moves = points - theta[column]
                moved = [_derivatives._moved(theta, column, move) for move in moves]
                images = [_derivatives.render(one, optics).ravel() for one in moved]
                return np.stack(images, axis=-1).reshape(values.shape)

            expected = derivative(
                render,
                np.full(image.size, theta[column]),
                initial_step=0.05 * max(theta[column], 1.0),
                order=4,
                maxiter=1,
                preserve_shape=True,
            ).df
            scale = np.abs(expected).max()
            np.testing.assert_allclose(
                jacobian[column].ravel(), expected, atol=2e-3 * scale
            )

    @pytest.mark.parametrize(("n", "nearby"), [(0.3, 0.41), (6.2, 6.05)])
    def test_limits_of_the_sersic_index(self, n, nearby):
        galaxies = make(2, sersic_index=[n, nearby], x0=11.7)
        bound = cramer_rao_bound(galaxies, prior=None)
        at, near = np.sqrt(bound.variance)
        assert (bound.step_error < 0.02).all()
        np.testing.assert_allclose(at[2] / at[0], near[2] / near[0], rtol=0.35)
        others = [1, 3, 4, 5, 6]
        np.testing.assert_allclose(at[others], near[others], rtol=0.2)

    def test_sersic_index_is_rounded(self):
        """GalSim cannot render 0.49999999999999994, and stamps share tables."""
        theta = np.array([1.0, 1.0, 0.6 + 2e-16, 0.0, 0.0, 0.0, 0.0])
        assert _derivatives._moved(theta, 2, -0.1)[2] == 0.5
        theta[2] = 0.3 - 2e-16
        assert _derivatives._moved(theta, 2, 0.2)[2] == 0.5

    def test_almost_round_and_almost_flat(self):
        galaxies = make(3, ellipticity=[0.0, 1e-9, 0.9], half_light_radius=1.5)
        bound = cramer_rao_bound(galaxies, prior=None)
        assert np.isfinite(bound.variance).all()
        np.testing.assert_allclose(bound.variance[0], bound.variance[1], rtol=1e-6)

    def test_steps_are_halved_until_it_makes_no_difference(self, monkeypatch):
        galaxies = make()
        expected = cramer_rao_bound(galaxies)
        assert 0 < expected.step_error[0] < 0.01
        monkeypatch.setitem(_derivatives._STEPS, "x0", 3.2)
        halved = cramer_rao_bound(galaxies)
        assert halved.step_error[0] <= 0.02
        np.testing.assert_allclose(halved.variance, expected.variance, rtol=0.02)
        monkeypatch.setattr(_bounds, "_MAX_HALVINGS", 0)
        with pytest.warns(ConvergenceWarning, match=r"1 of 1 stamps .* first at .* 0;"):
            bad = cramer_rao_bound(galaxies)
        assert bad.step_error[0] > 0.02


class TestPrior:
    def test_without_information_the_bound_is_the_prior(self):
        galaxies = make(flux=1e-6)
        prior = {"flux": (1e-7, 1.0)}
        bound = cramer_rao_bound(galaxies, prior=prior)
        widths = np.array([1.0, 4.7, 3.5, 0, 0, 24, 24])
        expected = widths**2 / 12
        expected[[3, 4]] = 0.6**2 / 3 / 2
        np.testing.assert_allclose(bound.variance[0], expected, rtol=1e-3)
        np.testing.assert_allclose(
            bound.covariance[0], np.diag(expected), atol=1e-3, rtol=1e-3
        )

    def test_prior_adds_to_the_information(self):
        galaxies = make(4, flux=[600.0, 2000.0, 8000.0, 50_000.0], x0=1.0)
        without = deviations(galaxies, prior=None)
        bound = deviations(galaxies)
        assert (bound < without).all()
        prior_alone = np.sqrt([49_500**2 / 12, 4.7**2 / 12, 3.5**2 / 12])
        assert (bound[:, :3] < prior_alone).all()
        expected = np.linalg.inv(
            np.linalg.inv(cramer_rao_bound(galaxies, prior=None).covariance)
            + np.diag(1 / np.array([49_500**2, 4.7**2, 3.5**2, 0.72, 0.72, 576, 576]))
            * 12
        )
        np.testing.assert_allclose(
            cramer_rao_bound(galaxies).covariance, expected, rtol=1e-3, atol=1e-6
        )

    def test_known_parameters_have_no_variance(self):
        prior = {**KNOWN, "flux": (500.0, 50_000.0)}
        variance = cramer_rao_bound(make(), prior=prior).variance[0]
        assert variance[0] > 0
        np.testing.assert_array_equal(variance[1:], 0.0)

    def test_known_angle(self):
        prior = {"position_angle": 30.0}
        covariance = cramer_rao_bound(make(flux=1e-6), prior={**prior, "flux": 1e-6})
        covariance = covariance.covariance[0][3:5, 3:5]
        direction = np.array([np.cos(np.pi / 3), np.sin(np.pi / 3)])
        expected = 0.6**2 / 12 * np.outer(direction, direction)
        np.testing.assert_allclose(covariance, expected, rtol=1e-4)

    def test_known_ellipticity_and_unknown_angle(self):
        prior = {"ellipticity": 0.3, "flux": 1e-6}
        covariance = cramer_rao_bound(make(flux=1e-6), prior=prior).covariance[0]
        expected = 0.3**2 / 2 * np.eye(2)
        np.testing.assert_allclose(covariance[3:5, 3:5], expected, atol=1e-6)

    def test_arrays_and_distributions(self):
        flux = np.array([1.0, 3.0]) * 1e-6
        radius = stats.uniform(0.5, 2.0)
        galaxies = make(2, flux=flux)
        prior = {"flux": flux, "half_light_radius": radius}
        variance = cramer_rao_bound(galaxies, prior=prior).variance[0]
        np.testing.assert_allclose(variance[0], 1e-12, rtol=1e-3)
        np.testing.assert_allclose(variance[1], 4 / 12, rtol=1e-3)

    def test_without_information_or_prior(self):
        jacobian = np.random.default_rng(0).normal(size=(7, 4, 4))
        assert np.isfinite(_bounds._covariance(jacobian, None)).all()
        jacobian[3] = 1e-3 * jacobian[2]
        assert np.isinf(_bounds._covariance(jacobian, None)).all()
        assert np.isinf(_bounds._covariance(np.zeros((7, 4, 4)), None)).all()


class TestResult:
    def test_rows_are_in_the_order_of_the_galaxies(self):
        galaxies = make(5, sersic_index=[2.0, 3.0, 1.0, 0.5, 1.5], flux=(5e3, 2e4))
        both = [cramer_rao_bound(galaxies)]
        with joblib.parallel_config("threading"):
            both.append(cramer_rao_bound(galaxies, n_jobs=2))
        for name in ("variance", "covariance", "signal_to_noise", "step_error"):
            np.testing.assert_array_equal(both[0][name], both[1][name])
        part = Bunch(**{**galaxies, "frame": galaxies.frame[2:4]})
        np.testing.assert_array_equal(
            cramer_rao_bound(part).variance, both[0].variance[2:4]
        )
        expected = signal_to_noise(galaxies.images)
        np.testing.assert_allclose(both[0].signal_to_noise, expected, rtol=1e-5)

    def test_targets(self):
        galaxies = make(2, targets=["y0", "flux"])
        bound = cramer_rao_bound(galaxies)
        assert bound.target_names == ["y0", "flux"]
        assert bound.parameter_names == NAMES
        assert bound.covariance.shape == (2, 7, 7)
        np.testing.assert_array_equal(
            bound.variance, bound.covariance[:, [6, 0], [6, 0]]
        )
        one = cramer_rao_bound(galaxies, targets="e1")
        np.testing.assert_array_equal(one.variance, bound.covariance[:, 3, 3])
        assert cramer_rao_bound(make(2, targets="flux")).variance.shape == (2,)

    def test_noise_need_not_be_there(self):
        noisy = cramer_rao_bound(make(noise=True))
        np.testing.assert_array_equal(noisy.variance, cramer_rao_bound(make()).variance)

    def test_plain_mapping(self):
        galaxies = make(2)
        plain = dict(galaxies, frame={k: list(v) for k, v in galaxies.frame.items()})
        np.testing.assert_array_equal(
            cramer_rao_bound(plain).variance, cramer_rao_bound(galaxies).variance
        )

    def test_other_optics(self):
        sharp = deviations(make(psf="moffat", psf_fwhm=0.5, moffat_beta=3.0))
        blurred = deviations(make(psf="moffat", psf_fwhm=1.5, moffat_beta=3.0))
        assert (sharp < blurred).all()

    def test_progress_bar(self, capsys):
        cramer_rao_bound(make(), verbose=1)
        assert "1/1" in capsys.readouterr().err


SEEN = {
    "psf": "moffat",
    "psf_fwhm": (0.5, 1.2),
    "psf_ellipticity": (0.0, 0.3),
    "moffat_beta": (2.5, 5.0),
    "sky_level": (5.0, 50.0),
    "read_noise": (1.0, 9.0),
}
PLANES = ("image", "variance", "psf")


class TestTelescopeOfEachStamp:
    def test_equals_the_bounds_of_single_telescopes(self):
        galaxies = make(3, sersic_index=[2.0, 1.0, 0.5], gain=2.0, **SEEN)
        bound = cramer_rao_bound(galaxies, prior=None)
        plain = {**galaxies, "frame": galaxies.frame[list(KNOWN)]}
        for index, row in galaxies.frame.iterrows():
            alone = cramer_rao_bound(
                {**plain, **{name: float(row[name]) for name in list(SEEN)[1:]}},
                prior=None,
            )
            for name in ("variance", "signal_to_noise"):
                np.testing.assert_allclose(
                    bound[name][index], alone[name][index], rtol=1e-5
                )

    def test_arrays_of_settings(self):
        galaxies = make(2)
        fwhm = np.array([0.5, 1.2])
        both = deviations({**galaxies, "psf_fwhm": fwhm}, prior=None)
        for index in range(2):
            alone = {**galaxies, "psf_fwhm": float(fwhm[index])}
            np.testing.assert_array_equal(
                both[index], deviations(alone, prior=None)[index]
            )

    def test_elliptical_psf_limits_one_direction(self):
        round_one = {"ellipticity": 0.0, "half_light_radius": 0.3, "sky_level": 1e5}
        along_x = make(1, **round_one, psf_ellipticity=0.6)
        deviation = deviations(along_x, prior=None)[0]
        assert deviation[5] > 1.3 * deviation[6]

    def test_planes_give_the_same_bound(self):
        galaxies = make(2, planes=PLANES, **{**SEEN, "moffat_beta": 5.0})
        expected = cramer_rao_bound(galaxies, prior=None)
        plain = {name: galaxies[name] for name in ("image_shape", "pixel_scale")}
        plain |= {"frame": galaxies.frame[list(KNOWN)], "gain": galaxies.gain}
        bound = cramer_rao_bound(
            plain,
            targets=NAMES,
            prior=None,
            variance=galaxies.variance_images,
            psf=galaxies.psf_images,
        )
        # The small stamps cut off the wings of the PSF.
        np.testing.assert_allclose(bound.variance, expected.variance, rtol=1e-2)
        np.testing.assert_allclose(
            bound.signal_to_noise, expected.signal_to_noise, rtol=5e-3
        )

    def test_variance_that_holds_everything(self):
        galaxies = make()
        variance = galaxies.images.astype(float) + 14
        expected = cramer_rao_bound(galaxies, prior=None)
        bound = cramer_rao_bound(
            {**galaxies, "gain": None}, prior=None, variance=variance
        )
        np.testing.assert_allclose(bound.variance, expected.variance, rtol=1e-4)

    def test_masked_pixels_have_no_information(self):
        # Half of the light: twice the variance of the flux.
        settings = {"ellipticity": 0.0, "sky_level": 1e7, "x0": 12.0}
        galaxies = make(**settings)
        variance = np.full((24, 24), 1e7)
        prior = {**KNOWN, **settings, "flux": (0.1, 1e12)}
        del prior["sky_level"]
        whole = cramer_rao_bound(galaxies, prior=prior, variance=variance).variance
        variance[:, :12] = np.inf
        half = cramer_rao_bound(galaxies, prior=prior, variance=variance).variance
        np.testing.assert_allclose(half[0, 0], 2 * whole[0, 0], rtol=1e-3)

    def test_array_of_psfs(self):
        source = make(3, planes=PLANES, psf_fwhm=[0.6, 0.9, 1.2])
        galaxies = make(5, psf=source.psf_images)
        bound = deviations(galaxies)
        index = galaxies.frame["psf_index"].to_numpy()
        assert len(set(index)) > 1
        seen = deviations({**galaxies, "psf_fwhm": 0.7, "psf": "gaussian"})
        for one, fwhm in enumerate((0.6, 0.9, 1.2)):
            model = {**galaxies, "psf": "gaussian", "psf_fwhm": fwhm}
            expected = deviations(model)[index == one]
            np.testing.assert_allclose(bound[index == one], expected, rtol=2e-3)
        assert (bound[:, 1] != seen[:, 1]).all()
        # Rows keep their PSF.
        part = Bunch(**{**galaxies, "frame": galaxies.frame[2:4]})
        np.testing.assert_array_equal(deviations(part), bound[2:4])

    def test_jobs_change_nothing(self):
        galaxies = make(5, **SEEN)
        expected = cramer_rao_bound(galaxies).covariance
        with joblib.parallel_config("threading"):
            found = cramer_rao_bound(galaxies, n_jobs=2).covariance
        np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"psf_fwhm": (0.5, 1.2)}, r"'psf_fwhm' item .* Got \(0.5, 1.2\)"),
            ({"psf_fwhm": [0.5, 1.2]}, "'psf_fwhm' item .* Got an array of 2 values"),
            ({"sky_level": [-1.0]}, "'sky_level' item .* Got -1 at index 0"),
            ({"psf": np.ones((2, 3, 3))}, "'psf' item must be one PSF, .* Got 2 PSFs"),
            ({"psf": "airy"}, "'psf' item must be .* Got 'airy'"),
            ({"gain": None}, "'gain' item must be .* Got None"),
        ],
    )
    def test_bad_settings(self, change, message):
        with pytest.raises(ValueError, match=f"'galaxies' .* {message}"):
            cramer_rao_bound({**make(), **change})

    def test_missing_settings(self):
        galaxies = dict(make())
        del galaxies["sky_level"], galaxies["psf_fwhm"]
        with pytest.raises(ValueError, match="without psf_fwhm, sky_level"):
            cramer_rao_bound(galaxies)
        cramer_rao_bound(galaxies, variance=14.0, psf=np.ones((3, 3)))

    def test_missing_psf_of_an_index(self):
        frame = make().frame.assign(psf_index=3)
        with pytest.raises(ValueError, match=r"each psf_index, up to 3\. Got 2 PSFs"):
            cramer_rao_bound({**make(), "psf": np.ones((2, 3, 3)), "frame": frame})

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"variance": -1.0}, "'variance' .* above 0 in all pixels. Got -1 in 1 "),
            ({"variance": np.nan}, "'variance' .* Got nan in 1 pixels"),
            ({"variance": np.ones(3)}, r"'variance' .* \(24, 24\) or \(1, 24, 24\)"),
            ({"variance": "map.fits"}, "variance must be an array of numbers, got str"),
            ({"psf": "gaussian"}, "'psf' parameter .* array-like .* Got 'gaussian'"),
            ({"psf": np.ones((2, 3, 3))}, "'psf' parameter .* Got 2 PSFs"),
            ({"psf": np.zeros((3, 3))}, "'psf' parameter .* have a positive sum"),
        ],
    )
    def test_bad_planes(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            cramer_rao_bound(make(), **arguments)

    def test_quantities(self):
        with pytest.raises(TypeError, match="sky_level must be plain numbers in adu"):
            cramer_rao_bound({**make(), "sky_level": Quantity([1.0], "electron")})
        with pytest.raises(TypeError, match="variance must be plain numbers in adu2"):
            cramer_rao_bound(make(), variance=Quantity(np.ones((24, 24)), "electron2"))


class TestErrors:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"psf_fwhm": -1.0}, "'galaxies' .* 'psf_fwhm' .* Got -1.0"),
            ({"gain": 1e-200}, "'galaxies' .* 'gain' .* Got 1e-200"),
            ({"gain": True}, "'galaxies' .* 'gain' .* Got True"),
            ({"moffat_beta": 200}, "'galaxies' .* 'moffat_beta' .* Got 200"),
            ({"image_shape": [24]}, r"'galaxies' .* 'image_shape' .* Got \[24\]"),
            ({"frame": {"flux": [1.0]}}, "'galaxies' .* without half_light_radius"),
            (
                {"frame": "galaxies.csv"},
                "'galaxies' .* without flux, half_light_radius",
            ),
            ({"frame": None}, "'galaxies' .* without flux, half_light_radius"),
        ],
    )
    def test_galaxies(self, change, message):
        with pytest.raises(ValueError, match=message):
            cramer_rao_bound({**make(), **change})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"flux": 1e3}, "'flux' item must be a .* 1-D array"),
            ({"x0": [1e9]}, "'x0' item must be in pixels .* Got values from 1e"),
            ({"y0": np.ma.masked_all(1)}, "'y0' item must be .* without masked"),
        ],
    )
    def test_frame(self, change, message):
        galaxies = make()
        with pytest.raises(ValueError, match=f"'galaxies' .* {message}"):
            cramer_rao_bound({**galaxies, "frame": {**galaxies.frame, **change}})

    def test_quantities(self):
        galaxies = make()
        scale = {"pixel_scale": Quantity(0.2, "arcsec")}
        with pytest.raises(TypeError, match="pixel_scale must be plain numbers in arc"):
            cramer_rao_bound({**galaxies, **scale})
        radius = {"half_light_radius": [Quantity(1.0, "arcmin")]}
        with pytest.raises(TypeError, match="half_light_radius must be plain numbers"):
            cramer_rao_bound({**galaxies, "frame": {**galaxies.frame, **radius}})
        with pytest.raises(TypeError, match="half_light_radius must be plain numbers"):
            cramer_rao_bound(galaxies, prior=radius)

    def test_galaxies_without_settings(self):
        with pytest.raises(ValueError, match=r"'galaxies' .* a dict without frame, "):
            cramer_rao_bound({"flux": [1.0]})
        with pytest.raises(ValueError, match="'galaxies' parameter"):
            cramer_rao_bound(make().frame)

    def test_impossible_galaxy(self):
        frame = make().frame.assign(sersic_index=7.0)
        with pytest.raises(ValueError, match=r"'galaxies' .* 'sersic_index' .* Got 7"):
            cramer_rao_bound({**make(), "frame": frame})

    @pytest.mark.parametrize("targets", ["ellipticity", [], ["flux", "flux"], ["a"]])
    def test_targets(self, targets):
        message = f"'targets' .* different names of flux, .* {re.escape(repr(targets))}"
        with pytest.raises(ValueError, match=message):
            cramer_rao_bound(make(), targets=targets)

    def test_targets_of_the_galaxies(self):
        galaxies = make(targets=["position_angle"])
        with pytest.raises(
            ValueError, match=r"'targets' .* galaxies.target_names=.'position_angle'"
        ):
            cramer_rao_bound(galaxies)

    @pytest.mark.parametrize(
        ("prior", "message"),
        [
            ("flat", "'prior' parameter"),
            ({"e1": (0, 1)}, "'prior' .* keys flux, .* Got .'e1'"),
            ({"flux": (2.0, 1.0)}, "'prior' .* 'flux' .* low <= high"),
            ({"flux": (1.0, 100.0)}, r"'prior' .* 'flux' .* \(1.0, 100.0\).* 20000"),
            ({"x0": 3.0}, "'prior' .* 'x0' .* Got 3.0 and the value 12 "),
            ({"flux": [1.0, 2.0]}, "'prior' .* 'flux' .* n_samples=1 .* 2 values"),
        ],
    )
    def test_prior(self, prior, message):
        with pytest.raises(ValueError, match=message):
            cramer_rao_bound(make(), prior=prior)

    def test_galaxy_outside_the_default_ranges(self):
        with pytest.raises(ValueError, match=r"'prior' .* 'flux' .* 60000 at index 1"):
            cramer_rao_bound(make(2, flux=[1000.0, 60_000.0]))


class TestSignalToNoise:
    def test_hand_computed(self):
        images = np.array([[[3.0, 0.0], [0.0, 6.0]]])
        found = signal_to_noise(images, sky_level=1.0, gain=2.0, read_noise=2.0)
        expected = np.sqrt(3**2 / (4 / 2 + 1) + 6**2 / (7 / 2 + 1))
        np.testing.assert_allclose(found, [expected])
        flat = signal_to_noise(
            images.reshape(1, -1), sky_level=1.0, gain=2.0, read_noise=2.0
        )
        np.testing.assert_array_equal(flat, found)

    def test_noise_of_each_image(self):
        images = np.array([[[3.0, 0.0]], [[0.0, 6.0]]])
        found = signal_to_noise(
            images, sky_level=[1.0, 5.0], gain=2.0, read_noise=[2.0, 4.0]
        )
        expected = [3 / np.sqrt(4 / 2 + 1), 6 / np.sqrt(11 / 2 + 4)]
        np.testing.assert_allclose(found, expected)
        flat = signal_to_noise(
            images.reshape(2, -1), sky_level=[1.0, 5.0], gain=2.0, read_noise=[2.0, 4.0]
        )
        np.testing.assert_array_equal(flat, found)

    def test_variance_of_each_pixel(self):
        images = np.array([[[3.0, 0.0, 9.0]], [[0.0, 6.0, 9.0]]])
        variance = np.array([[[1.0, 2.0, np.inf]], [[4.0, 1.0, np.inf]]])
        found = signal_to_noise(images, variance=variance, gain=2.0)
        np.testing.assert_allclose(found, [3 / np.sqrt(2.5), 6 / np.sqrt(4.0)])
        same = signal_to_noise(images, variance=variance[0], gain=None)
        np.testing.assert_allclose(same, [3.0, 6 / np.sqrt(2)])
        np.testing.assert_allclose(
            signal_to_noise(images, variance=9.0, gain=None),
            np.linalg.norm(images, axis=2)[:, 0] / 3,
        )

    def test_planes_of_make_galaxies(self):
        galaxies = make(3, planes=PLANES, sky_level=(5.0, 50.0), read_noise=[1, 2, 9])
        found = signal_to_noise(galaxies.images, variance=galaxies.variance_images)
        noise = {n: galaxies.frame[n] for n in ("sky_level", "read_noise")}
        expected = signal_to_noise(galaxies.images, **noise)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        bound = cramer_rao_bound(galaxies)
        np.testing.assert_allclose(bound.signal_to_noise, expected, rtol=1e-4)

    def test_equals_the_bound_of_the_flux_alone(self):
        prior = {**KNOWN, "flux": (0.1, 1e12)}
        bound = cramer_rao_bound(make(), prior=prior, targets="flux")
        np.testing.assert_allclose(
            20_000 / np.sqrt(bound.variance), bound.signal_to_noise, rtol=1e-6
        )

    def test_pixels_without_light_and_noise(self):
        images = np.array([[[4.0, 0.0, -0.1]]])
        found = signal_to_noise(images, sky_level=0.0, read_noise=0.0)
        np.testing.assert_allclose(found, [2.0])

    @pytest.mark.parametrize(
        ("images", "options", "message"),
        [
            (np.ones(3), {}, "2D array"),
            (np.ones((1, 1, 2, 2)), {}, r"images must .* got \(1, 1, 2, 2\)"),
            (np.full((1, 2, 2), np.nan), {}, "images contains NaN"),
            (np.ones((1, 2, 2)), {"gain": 0.0}, "'gain'"),
            (np.ones((1, 2, 2)), {"gain": 1e-200}, "'gain'"),
            (np.ones((1, 2, 2)), {"gain": True}, "'gain'"),
            (np.ones((1, 2, 2)), {"read_noise": 10**400}, "'read_noise'"),
            (np.ones((1, 2, 2)), {"sky_level": -1.0}, "'sky_level'"),
            (np.ones((1, 2, 2)), {"sky_level": (1.0, 2.0)}, "'sky_level'.*a number or"),
            (np.ones((1, 2, 2)), {"sky_level": [1.0, 2.0]}, "n_images=1 values"),
            (np.ones((1, 2, 2)), {"gain": None}, "'gain' .* except with 'variance'"),
            (np.ones((1, 2, 2)), {"variance": 0.0}, "'variance' parameter of signal_"),
            (np.ones((1, 2, 2)), {"variance": [1.0]}, "'variance' .* of shape .1,."),
            ("stamps.fits", {}, "images must be an array of numbers, got str"),
            (np.ma.masked_all((1, 2, 2)), {}, "images must not have masked"),
        ],
    )
    def test_errors(self, images, options, message):
        with pytest.raises(ValueError, match=message):
            signal_to_noise(images, **options)

    def test_quantities(self):
        images = np.ones((1, 2, 2))
        with pytest.raises(TypeError, match="images must be plain numbers in adu"):
            signal_to_noise(Quantity(images, "electron"))
        with pytest.raises(TypeError, match="gain must be plain numbers in electron"):
            signal_to_noise(images, gain=Quantity(1.0, "electron / adu"))


def fit_galaxy(galaxies, index, deviation):
    """Return the error of a maximum-likelihood fit, in units of the bound.

    Read noise is replaced by additional electrons of sky with the same variance.
    """
    optics = {name: galaxies[name] for name in OPTICS}
    truth = galaxies.target[index]
    background = galaxies.sky_level + galaxies.read_noise**2
    data = np.maximum(galaxies.images[index] + background, 1e-3).ravel()

    def residuals(step):
        model = (
            _derivatives.render(truth + deviation * step, optics).ravel() + background
        )
        deviance = 2 * (model - data + data * np.log(data / model))
        return np.sign(data - model) * np.sqrt(np.maximum(deviance, 0.0))

    def jacobian(step):
        return np.column_stack(
            [
                (residuals(step + 0.3 * unit) - residuals(step - 0.3 * unit)) / 0.6
                for unit in np.eye(7)
            ]
        )

    fit = least_squares(residuals, np.zeros(7), jac=jacobian, method="lm", xtol=1e-3)
    assert fit.success
    return fit.x


def fit_bright_galaxies(n_samples, **changes):
    galaxies = make_galaxies(
        n_samples,
        flux=(30_000.0, 50_000.0),
        targets=NAMES,
        random_state=11,
        return_X_y=False,
        **changes,
    )
    bound = cramer_rao_bound(galaxies, prior=None)
    assert bound.signal_to_noise.min() > 100
    # In the order of the Sersic index, so that galaxies share GalSim's tables.
    order = np.argsort(galaxies.frame["sersic_index"])
    errors = [fit_galaxy(galaxies, i, np.sqrt(bound.variance[i])) for i in order]
    return np.array(errors), bound.covariance[order]


def test_maximum_likelihood_of_a_few_galaxies_reaches_the_bound():
    n_samples = 14
    errors, covariance = fit_bright_galaxies(
        n_samples,
        half_light_radius=(0.4, 0.8),
        sersic_index=1.0,
        x0=(11.0, 13.0),
        y0=(11.0, 13.0),
        image_shape=(24, 24),
    )
    scale = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    correlation = covariance / (scale[:, :, np.newaxis] * scale[:, np.newaxis])
    # If the bound is reached, the squared distance from the truth has a mean of 7, one
    # for each parameter.
    solved = np.linalg.solve(correlation, errors[:, :, np.newaxis])[..., 0]
    ratio = np.sqrt(np.mean(np.sum(errors * solved, axis=1)) / 7)
    assert 0.85 < ratio < 1.15


@pytest.mark.slow
def test_maximum_likelihood_reaches_the_bound():
    errors, _ = fit_bright_galaxies(
        200,
        half_light_radius=(0.5, 2.0),
        sersic_index=(0.8, 3.0),
        x0=(10.0, 38.0),
        y0=(10.0, 38.0),
        image_shape=(48, 48),
    )
    ratios = np.sqrt(np.mean(errors**2, axis=0))
    np.testing.assert_allclose(ratios, 1.0, atol=0.15)
    np.testing.assert_allclose(errors.mean(axis=0), 0.0, atol=0.3)
