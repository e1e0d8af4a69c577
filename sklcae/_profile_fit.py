"""Profile fits as a scikit-learn estimator."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import (
    Bunch,
    check_array,
    check_consistent_length,
    check_random_state,
)
from sklearn.utils.validation import check_is_fitted

from sklcae._array_likes import without_traps
from sklcae._attributes import part_of
from sklcae._blocks import by_blocks
from sklcae._compat import (
    DocumentationLinkMixin,
    HasMethods,
    Interval,
    StrOptions,
    _fit_context,
)
from sklcae._dask import token_of
from sklcae._fixed_psf import SHORTEST_SIDE, effective_fwhm, fixed_psf
from sklcae._flags import find_hit_stamps, flag_profiles
from sklcae._gain import as_gain, check_gain
from sklcae._image_inputs import check_rows
from sklcae._images import Images, parts_of
from sklcae._inputs import (
    Layout,
    check_images,
    check_same_targets,
    target_names_of,
)
from sklcae._labels import compare_with_fits, some_of
from sklcae._neighbours import check_neighbours, warn_of_galaxies
from sklcae._noise import is_correlation, measure_autocorrelation
from sklcae._planes import check_kinds
from sklcae._profile_fitter import ProfileFitter, are_bounds
from sklcae._profiles import ProfileParameters
from sklcae._scaling import noise_level
from sklcae._targets import check_coverage
from sklcae._torch import check_device
from sklcae._torch.sersic import INDEX_LIMITS
from sklcae._typing import Columns, File, Floats, RandomState
from sklcae._warning import warn_user
from sklcae.metrics import known_r2_score

NAME = "ProfileFitRegressor"
# A narrower PSF, FWHM in pixels, is not sampled by the pixels.
LEAST_FWHM = 2.0
# So many stamps give the noise of plain images.
N_FOR_NOISE = 256
EDGE = 8
# Residuals of a stamp show the noise if chi-square is at most so many times the median.
LARGEST_MISFIT = 1.3


class ProfileFitRegressor(
    MultiOutputMixin, RegressorMixin, DocumentationLinkMixin, BaseEstimator
):
    """Fit a Sersic profile to every stamp, through its own PSF and noise.

    The profile that lowers chi-square most is found by the method of Levenberg and
    Marquardt, for many stamps at once. It starts from image moments, and then needs no
    training, or from the predictions of an estimator: :meth:`fit` trains a clone of it,
    unless `prefit` is True. Fits that start from either agree to a hundredth of their
    errors where both converge.

    Parameters
    ----------
    estimator : estimator object, default=None
        A regressor whose predictions the fits start from, such as a
        :class:`ConditionalAutoencoderRegressor`. Parameters that it does not predict,
        and all of them with None, start from the moments of the image.
    planes : tuple of str, default=None
        The planes of a stamp in X: "image", then "variance", "psf" or both, see
        :func:`stack_planes`. None takes the planes of `estimator` if it has any, else
        ``("image",)``.
    psf : float or array-like of shape (h, w), default=None
        The PSF of all stamps, if there is no plane "psf": the full width at half
        maximum of a Gaussian, in the unit of `pixel_scale`, or an effective PSF as in
        :func:`stack_planes`. With several bands also a list of widths, or PSFs of the
        shape (n_bands, h, w). None takes that of `estimator` if it has one.
    noise : float, default=None
        Standard deviation of the noise of a pixel without light, if there is no plane
        "variance". None estimates it from the training set.
    pixel_scale : float, default=None
        Side of a pixel in the unit of the radii, such as arcsec. None takes that of
        `estimator` if it has one, else 1: radii are in pixels.
    gain : float, array-like of shape (n_bands,), "auto" or None, default="auto"
        Electrons for each unit of light: one number, or one for each band. It sets the
        Poisson noise of the source. "auto" takes that of `estimator` if it has one,
        else 1. With None the plane "variance" holds the noise of the source too.
    fit_sky : bool or float, default=True
        Whether each stamp has a constant background of its own. A number is the width
        of a Gaussian prior around 0, in the unit of the images.
    bounds : dict, default=None
        For names of parameters the lowest and the highest value, in the unit of the
        parameter; for "ellipticity" the lowest is 0. Without bounds the Sersic index is
        from 0.3 to 6.2, the ellipticity at most 0.95, the radius from 0.02 pixels to
        four sides of the stamp, and the centre within the stamp.
    max_steps : int, default=100
        The largest number of steps of a fit.
    max_neighbours : int, default=0
        The largest number of neighbours that are fitted together with the galaxy. They
        are found on each stamp; after the fit those with a flux below five of its
        errors are left out, and sources in the residuals are taken in. The galaxy is
        the source nearest to the centre that `estimator` predicts, or to the middle of
        the stamp.
    mask_cosmic_rays : bool, default=False
        Whether cosmic rays, pixels that are sharper than the PSF allows, are found and
        masked before the fit. For PSFs of at least 2 pixels (FWHM).
    bulge : bool, default=False
        Whether the galaxy is fitted with a bulge and a disc, with the Sersic indices 4
        and 1, one centre and one ellipticity. Flux and half-light radius are those of
        both together, "sersic_index" is that of the disc, and :meth:`fit_report` has
        the share of the bulge. For stamps of one band.
    noise_correlation : array-like of shape (h, w) or "estimate", default=None
        The autocorrelation of the noise, for images that were resampled: odd sides, 1
        in the middle. The fitted parameters stay the same, and their errors grow.
        "estimate" measures it in the residuals of some stamps in fit. None means that
        the noise is independent from pixel to pixel.
    prefit : bool, default=False
        Whether `estimator` is fitted already, so that fit does not train it again. The
        planes, PSF, pixel scale and gain that come from it are then those of its fit.
    target_names : list of str, default=None
        Names of the columns of y: "flux", "half_light_radius", "sersic_index", "e1",
        "e2", "x0", "y0", "ellipticity" or "position_angle", with the meaning of
        :func:`~sklcae.datasets.make_galaxies`. None takes the column names of y, else
        those of `estimator`, else the first of these names.
    image_shape : tuple of int, default=None
        (H, W) or (C, H, W), channels first, the shape of flat rows; None as in
        :class:`ConditionalAutoencoderRegressor`.
    allow_nan : bool, default=False
        Whether NaN in the images is a masked pixel, which does not count.
    handle_empty : {"error", "nan"}, default="error"
        With `allow_nan`, how to handle stamps in which all pixels are masked: "error"
        raises, with "nan" their results are NaN, with a warning.
    device : str, default="cpu"
        Where the fits are computed: a device name of PyTorch, such as "cuda".

    Attributes
    ----------
    estimator_ : estimator object or None
        The fitted estimator.
    target_names_ : list of str
        The parameters that predict returns.
    noise_ : float, list of float or None
        The noise of plain images; a list if there are several bands.
    noise_correlation_ : ndarray of shape (h, w) or None
        The autocorrelation of the noise.
    pixel_scale_ : float
        The side of a pixel.
    gain_ : float, tuple of float or None
        The electrons for each unit of light.
    image_shape_ : tuple of int
        Channels, height and width of a stamp, all planes together.
    n_features_in_ : int
        Number of values in a stamp, all planes together.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, if they are all strings.

    See Also
    --------
    ConditionalAutoencoderRegressor : Reads parameters off images without a fit.

    Notes
    -----
    The model is a Sersic profile [1]_ with elliptical isophotes, convolved with the
    PSF, plus a constant background. Chi-square is the sum over the pixels of the
    squared residual over the variance, that of the background plus the Poisson noise of
    the predicted light. This variance is held constant in each step, so that the
    solution is that of a Poisson likelihood and not biased by noise. The covariance is
    the inverse of the Gauss-Newton matrix at the solution, for which the background is
    free if it was fitted.

    The result for a stamp is bitwise the same for any other stamps in the same call and
    any number of threads, on the CPU of one machine with the same versions of all
    packages. On a GPU results agree up to rounding.

    The PSF is known at the pixels only. Images are exact if the PSF has no power beyond
    the Nyquist frequency. A PSF with a FWHM below 2 pixels has such power, and fit and
    predict warn of it: for galaxies of GalSim without noise, with radii of 1.5 to 12
    pixels, 95 % of the fitted fluxes, radii and indices were right to 0.1, 0.2 and
    0.4 % with a Gaussian PSF of FWHM 2 pixels, to 4, 4 and 10 % with 1.5 pixels, and to
    13, 20 and 33 % with 1 pixel.

    References
    ----------
    .. [1] A. W. Graham and S. P. Driver, "A Concise Reference to (Projected) Sersic
       R^(1/n) Quantities", PASA 22, 118 (2005).

    Examples
    --------
    >>> from sklcae import ProfileFitRegressor
    >>> from sklcae.datasets import make_galaxies
    >>> X, y = make_galaxies(20, x0=32.0, y0=32.0, random_state=0)
    >>> model = ProfileFitRegressor(psf=0.7, pixel_scale=0.2).fit(X, y)
    >>> y_pred, y_std = model.predict(X, return_std=True)
    >>> y_pred.shape
    (20, 2)
    """

    _parameter_constraints = {  # noqa: RUF012
        "estimator": [HasMethods(["fit", "predict"]), None],
        "planes": [str, list, tuple, None],
        "psf": [Interval(Real, 0, None, closed="neither"), "array-like", None],
        "noise": [Interval(Real, 0, None, closed="neither"), None],
        "pixel_scale": [Interval(Real, 0, None, closed="neither"), None],
        "gain": [
            Interval(Real, 0, None, closed="neither"),
            "array-like",
            StrOptions({"auto"}),
            None,
        ],
        "fit_sky": ["boolean", Interval(Real, 0, None, closed="neither")],
        "bounds": [dict, None],
        "max_steps": [Interval(Integral, 1, None, closed="left")],
        "max_neighbours": [Interval(Integral, 0, None, closed="left")],
        "mask_cosmic_rays": ["boolean"],
        "bulge": ["boolean"],
        "noise_correlation": ["array-like", StrOptions({"estimate"}), None],
        "prefit": ["boolean"],
        "target_names": ["array-like", None],
        "image_shape": [list, tuple, None],
        "allow_nan": ["boolean"],
        "handle_empty": [StrOptions({"error", "nan"})],
        "device": [str],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        planes: str | Sequence[str] | None = None,
        psf: ArrayLike | None = None,
        noise: float | None = None,
        pixel_scale: float | None = None,
        gain: ArrayLike | Literal["auto"] | None = "auto",
        fit_sky: float = True,
        bounds: dict[str, Any] | None = None,
        max_steps: int = 100,
        max_neighbours: int = 0,
        mask_cosmic_rays: bool = False,
        bulge: bool = False,
        noise_correlation: ArrayLike | Literal["estimate"] | None = None,
        prefit: bool = False,
        target_names: Sequence[str] | None = None,
        image_shape: Sequence[int] | None = None,
        allow_nan: bool = False,
        handle_empty: Literal["error", "nan"] = "error",
        device: str = "cpu",
    ) -> None:
        self.estimator = estimator
        self.planes = planes
        self.psf = psf
        self.noise = noise
        self.pixel_scale = pixel_scale
        self.gain = gain
        self.fit_sky = fit_sky
        self.bounds = bounds
        self.max_steps = max_steps
        self.max_neighbours = max_neighbours
        self.mask_cosmic_rays = mask_cosmic_rays
        self.bulge = bulge
        self.noise_correlation = noise_correlation
        self.prefit = prefit
        self.target_names = target_names
        self.image_shape = image_shape
        self.allow_nan = allow_nan
        self.handle_empty = handle_empty
        self.device = device

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Check stamps and parameters, and fit `estimator` if there is one.

        With ``estimator=None`` nothing is learned but the names of the parameters, the
        shape of the stamps and, for plain images, their noise. Some stamps are fitted
        and compared with y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            Parameters of the profiles, NaN where unknown. None, without an `estimator`
            to fit: predict returns the first seven of `target_names`.

        Returns
        -------
        self : ProfileFitRegressor
            The fitted estimator.

        Raises
        ------
        TypeError
            If X or y is a file name, a Quantity or a Table.
        ValueError
            If a parameter, X or y is not as described, if there is no PSF, or if a
            stamp has a wrong variance or PSF; the message names it.

        Warns
        -----
        UserWarning
            If the fits contradict y, which a wrong `pixel_scale` or PSF, another unit
            of y or another order of its rows causes; or if a PSF is narrower than two
            pixels.

        Examples
        --------
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> fitter.target_names_
        ['flux', 'half_light_radius']

        The predictions of a network may start the fits:

        >>> from sklcae import load_pretrained
        >>> network = load_pretrained("ground")
        >>> fitter = ProfileFitRegressor(network, prefit=True).fit(X)
        >>> fitter.pixel_scale_
        0.2
        """
        fitter, data = self._prepare(X, y)
        estimator = self._fit_estimator(X, y)
        _warn_of_narrow_psfs(fitter, data.images)
        if isinstance(self.noise_correlation, str):
            fitter = self._with_correlation(fitter, data.images)
        if data.y is not None:
            compare_with_fits(fitter, data.images, _rows_of(data.images), data.y)
        self.fitter_, self.estimator_ = fitter, estimator
        return self

    def _prepare(self, X, y):
        """Return the `ProfileFitter`, and the checked images and targets."""
        check_device(self.device)
        if self.prefit and self.estimator is not None:
            check_is_fitted(self.estimator)
        planes = self.planes
        if planes is None:
            planes = self._of_estimator("planes") or ("image",)
        planes = check_kinds(planes, NAME)
        gain = self._given_gain()
        self._check_planes(planes, gain)
        rows, image_shape, shape, empty, names = check_rows(
            self, X, "no_validation" if y is None else y, planes, None
        )
        if len(empty) == len(rows):
            raise ValueError("X must have a stamp with a pixel that is not NaN.")
        n_bands = image_shape[0] // len(planes)
        check_gain(gain, n_bands, NAME)
        y, target_names, y_ndim = self._check_targets(y, rows, n_bands)
        layout = Layout(
            image_shape=image_shape,
            sample_shape=shape or rows.shape[1:],
            n_targets=len(target_names),
            y_ndim=y_ndim,
            target_names=target_names,
            feature_names=names,
            planes=planes,
        )
        images = Images(rows.reshape(len(rows), *image_shape), empty, planes)
        scale = self.pixel_scale or self._of_estimator("pixel_scale") or 1.0
        fitter = ProfileFitter(
            layout=layout,
            pixel_scale=float(scale),
            gain=as_gain(gain),
            noise=self._find_noise(images),
            psf=fixed_psf(self._given_psf(), scale, layout, NAME),
            bounds=_check_bounds(self.bounds, target_names, n_bands),
            fit_sky=self.fit_sky,
            max_steps=int(self.max_steps),
            device=self.device,
            max_neighbours=int(self.max_neighbours),
            mask_cosmic_rays=bool(self.mask_cosmic_rays),
            noise_correlation=_check_correlation(self.noise_correlation),
            bulge=_check_bulge(self.bulge, self.bounds, n_bands),
        )
        return fitter, Bunch(images=images, y=y)

    def _of_estimator(self, name, default=None):
        """Return a parameter of the estimator, that of its fit if it is prefit."""
        if self.prefit and hasattr(self.estimator, f"{name}_"):
            name = f"{name}_"
        return getattr(self.estimator, name, default)

    def _given_psf(self):
        return self._of_estimator("psf") if self.psf is None else self.psf

    def _given_gain(self):
        given = self.gain, self._of_estimator("gain", 1.0), 1.0
        return next(gain for gain in given if not isinstance(gain, str))

    def _check_planes(self, planes, gain):
        """Raise ValueError unless planes and parameters give noise and PSF once."""
        psf = self._given_psf()
        if "psf" in planes and self.psf is not None:
            raise ValueError(
                f"The 'psf' parameter of {NAME} must be None with a plane 'psf'. Got "
                f"{self.psf!r:.50} instead."
            )
        if "psf" not in planes and psf is None:
            raise ValueError(
                f"The 'psf' parameter of {NAME} must be the PSF, a FWHM or a stamp, "
                f"without a plane 'psf'. Got None with planes={planes!r}."
            )
        if "variance" in planes and self.noise is not None:
            raise ValueError(
                f"The 'noise' parameter of {NAME} must be None with a plane "
                f"'variance'. Got {self.noise!r} instead."
            )
        if "variance" not in planes and gain is None:
            raise ValueError(
                f"The 'gain' parameter of {NAME} must be a number without a plane "
                "'variance', which would have the noise of the source. Got None."
            )

    def _check_targets(self, y, rows, n_bands):
        """Return targets (n, n_targets) or None, their names, and the axes of y."""
        names = self.target_names
        names = None if names is None else _check_names(list(names), n_bands)
        if y is None:
            if self.estimator is not None and not self.prefit:
                raise ValueError(
                    f"This {NAME} estimator requires y to be passed, but the target y "
                    "is None."
                )
            found = names or getattr(self.estimator, "target_names_", None)
            return None, _check_names(found or _names_of(n_bands), n_bands), 2
        y = without_traps(y, "y")
        named = target_names_of(y)
        if named and names and named != names:
            raise ValueError(
                f"The 'target_names' parameter of {NAME} must be the columns of y, "
                f"{named}, or None. Got {names!r} instead."
            )
        y = check_array(
            y,
            dtype=np.float64,
            ensure_2d=False,
            ensure_all_finite="allow-nan",
            input_name="y",
            estimator=self,
        )
        check_consistent_length(rows, y)
        if np.isnan(y).all():
            raise ValueError(
                "y must have a value that is not NaN, or be None. Got NaN alone."
            )
        columns = y.reshape(len(y), -1)
        names = named or names or getattr(self.estimator, "target_names_", None)
        names = names or _names_of(n_bands)[: columns.shape[1]]
        names = _check_names(names, n_bands)
        if len(names) != columns.shape[1]:
            raise ValueError(
                f"y must have one column for each of the targets {names}. Got "
                f"{columns.shape[1]} columns."
            )
        return columns, names, y.ndim

    def _find_noise(self, images):
        """Return the noise of plain images, or None with a variance plane."""
        if images.variance is not None:
            return None
        n_bands = images.shape[1]
        if self.noise is not None:
            return [float(self.noise)] * n_bands
        pixels = images[_rows_of(images)[:N_FOR_NOISE]]
        # Rows of pixels at the edges, where the light of the source adds little noise.
        n_rows = pixels.shape[2] // EDGE
        edges = [pixels[..., :n_rows, :], pixels[..., -n_rows:, :]]
        pixels = np.concatenate(edges, axis=2) if n_rows else pixels
        return [float(noise_level(pixels[:, band])) for band in range(n_bands)]

    def _fit_estimator(self, X, y):
        if self.estimator is None:
            return None
        if self.prefit:
            return self.estimator
        return clone(self.estimator).fit(X, y)

    def _with_correlation(self, fitter, images):
        """Return the fitter with the correlation of the noise in some residuals."""
        images = fitter.without_cosmic_rays(images.take(some_of(_rows_of(images))))
        start = np.full((len(images), len(fitter.profile.names)), np.nan)
        measured = fitter.fit(images, start)
        misfit = np.where(measured.converged, measured.chi_square, np.inf)
        misfit /= np.maximum(measured.n_pixels, 1)
        # Where other sources are left the residuals are no noise.
        good = measured.converged & (misfit <= LARGEST_MISFIT * np.median(misfit))
        if not good.any():
            raise ValueError(
                f"The 'noise_correlation' parameter of {NAME} cannot be 'estimate' as "
                "no fit of a stamp of X has converged. Pass an array."
            )
        residuals = fitter.residuals(images, measured)[good]
        return replace(fitter, noise_correlation=measure_autocorrelation(residuals))

    def __sklearn_is_fitted__(self):
        return hasattr(self, "fitter_")

    target_names_ = part_of("fitter_.layout.target_names")
    n_features_in_ = part_of("fitter_.layout.n_features")
    image_shape_ = part_of("fitter_.layout.image_shape")
    pixel_scale_ = part_of("fitter_.pixel_scale")
    gain_ = part_of("fitter_.gain")

    @property
    def noise_(self) -> float | list[float] | None:
        """The noise of plain images: a float, or one for each of several bands."""
        noise = self.fitter_.noise
        return noise[0] if noise and len(noise) == 1 else noise

    noise_correlation_ = part_of("fitter_.noise_correlation")

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the columns of X, if they are all strings."""
        names = self.fitter_.layout.feature_names
        if names is None:
            raise AttributeError("X had no column names in fit.")
        return np.asarray(names, dtype=object)

    @overload
    def predict(
        self,
        X: ArrayLike,
        return_std: Literal[False] = False,
        return_cov: Literal[False] = False,
        neighbours: Columns | None = None,
    ) -> Floats: ...

    @overload
    def predict(
        self,
        X: ArrayLike,
        return_std: Literal[True],
        return_cov: bool = False,
        neighbours: Columns | None = None,
    ) -> tuple[Floats, ...]: ...

    @overload
    def predict(
        self,
        X: ArrayLike,
        return_std: bool = False,
        *,
        return_cov: Literal[True],
        neighbours: Columns | None = None,
    ) -> tuple[Floats, ...]: ...

    @overload
    def predict(
        self,
        X: ArrayLike,
        return_std: bool,
        return_cov: bool = False,
        neighbours: Columns | None = None,
    ) -> Floats | tuple[Floats, ...]: ...

    @by_blocks
    def predict(
        self,
        X: ArrayLike,
        return_std: bool = False,
        return_cov: bool = False,
        neighbours: Columns | None = None,
    ) -> Floats | tuple[Floats, ...]:
        """Fit a profile to each stamp.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        return_std : bool, default=False
            Whether to return standard deviations too.
        return_cov : bool, default=False
            Whether to return covariances too.
        neighbours : DataFrame or dict of arrays, default=None
            The neighbours that are fitted together with the galaxies, instead of those
            that `max_neighbours` finds. Its columns "stamp", "x0" and "y0" are the row
            in X and the place of each neighbour, in the units of
            :func:`~sklcae.datasets.make_galaxies`, whose neighbours have this form.
            Neighbours outside of the stamp are left out.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            The parameters `target_names_`, in the units of
            :func:`~sklcae.datasets.make_galaxies`; flux in the unit of the images,
            radius in that of `pixel_scale`. NaN for stamps without a pixel.
        y_std : ndarray of the shape of y
            Their standard deviations, if ``return_std=True``. NaN where the fit has not
            converged.
        y_cov : ndarray of shape (n_samples, n_targets, n_targets)
            Their covariances, if ``return_cov=True``.

        Raises
        ------
        ValueError
            If stamps do not have the shape of fit, or have a wrong variance or PSF; the
            message names the stamp.

        Warns
        -----
        ConvergenceWarning
            If fits have not converged, see :meth:`fit_report`.
        UserWarning
            If a PSF is narrower than two pixels, or if a galaxy is among its own
            `neighbours`.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> y_fit, y_std = fitter.predict(X, return_std=True)
        >>> (np.abs(y_fit - y) < 5 * y_std).all()
        np.True_
        >>> y_fit, y_cov = fitter.predict(X, return_cov=True)
        >>> y_cov.shape
        (3, 2, 2)
        """
        _, measured = self._measure(X, neighbours)
        fitter = self.fitter_
        results = [self._like_y(fitter.named(measured))]
        if return_std or return_cov:
            covariance = fitter.covariance(measured)
        if return_std:
            variance = np.diagonal(covariance, axis1=1, axis2=2)
            results.append(self._like_y(np.sqrt(variance)))
        if return_cov:
            results.append(covariance)
        return tuple(results) if len(results) > 1 else results[0]

    @by_blocks
    def predict_interval(
        self, X: ArrayLike, coverage: float = 0.68, neighbours: Columns | None = None
    ) -> tuple[Floats, Floats]:
        """Fit a profile to each stamp, and return central intervals.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        coverage : float, default=0.68
            The probability that an interval contains the parameter, above 0 and below
            1.
        neighbours : DataFrame or dict of arrays, default=None
            As in :meth:`predict`.

        Returns
        -------
        lower, upper : ndarrays of shape (n_samples,) or (n_samples, n_targets)
            Ends of the intervals, symmetric about the fit; for flux, radius and index
            in the logarithm, in which errors are more nearly Gaussian at low
            signal-to-noise. NaN where the fit has not converged.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1, or as in :meth:`predict`.

        Warns
        -----
        ConvergenceWarning, UserWarning
            As in :meth:`predict`.

        Examples
        --------
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> lower, upper = fitter.predict_interval(X, coverage=0.95)
        >>> lower.shape
        (3, 2)
        >>> (lower < upper).all()
        np.True_
        """
        check_coverage(coverage)
        _, measured = self._measure(X, neighbours)
        lower, upper = self.fitter_.interval(measured, coverage)
        return self._like_y(lower), self._like_y(upper)

    @by_blocks
    def fit_report(self, X: ArrayLike, neighbours: Columns | None = None) -> Bunch:
        """Fit a profile to each stamp, and report on the fits.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        neighbours : DataFrame or dict of arrays, default=None
            As in :meth:`predict`.

        Returns
        -------
        report : :class:`~sklearn.utils.Bunch`
            Arrays of shape (n_samples,), the columns of a DataFrame:

            converged : bool
                Whether the fit is at a minimum and has errors. Stamps with constant
                pixels, or with fewer pixels than parameters, have none.
            at_bound : bool
                Whether a parameter is at its bound. Its error is then not symmetric.
            chi_square : float
                Chi-square per pixel; about 1 for a good fit.
            n_pixels : int
                Number of pixels that are not masked.
            n_steps : int
                Number of steps.
            n_neighbours : int
                Number of fitted neighbours.
            bulge_fraction, bulge_fraction_std : float
                With `bulge`, the share of the bulge in the light, and its standard
                deviation.
            sky, sky_std : float
                The fitted background in the unit of the images, and its standard
                deviation; with several bands that of each, such as sky_g.
            flux, flux_std, ... : float
                All parameters and their standard deviations.

        Raises
        ------
        ValueError
            As in :meth:`predict`.

        Examples
        --------
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> report = fitter.fit_report(X)
        >>> report.converged, report.chi_square.round(1)
        (array([ True,  True,  True]), array([1., 1., 1.]))
        """
        _, measured = self._measure(X, neighbours, warn=False)
        fitter = self.fitter_
        names, scale = fitter.profile.all_names, fitter.pixel_scale
        values = fitter.profile.named(measured.parameters, names, scale)
        covariance = fitter.profile.covariance_of_named(
            measured.parameters, measured.covariance, names, scale
        )
        std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        report = Bunch(
            converged=measured.converged,
            at_bound=measured.at_limit.any(axis=1),
            chi_square=measured.chi_square / np.maximum(measured.n_pixels, 1),
            n_pixels=measured.n_pixels,
            n_steps=measured.n_steps,
            n_neighbours=measured.n_neighbours,
        )
        if fitter.bulge:
            report["bulge_fraction"] = measured.bulge_fraction
            report["bulge_fraction_std"] = measured.bulge_fraction_std
        for band, suffix in enumerate(fitter.profile.suffixes):
            report[f"sky{suffix}"] = measured.sky[:, band]
            report[f"sky{suffix}_std"] = measured.sky_std[:, band]
        for column, name in enumerate(names):
            report[name], report[f"{name}_std"] = values[:, column], std[:, column]
        return report

    def deblend(self, X: ArrayLike, neighbours: Columns | None = None) -> Bunch:
        """Fit a profile to each source of each stamp, and draw them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        neighbours : DataFrame or dict of arrays, default=None
            As in :meth:`predict`.

        Returns
        -------
        scenes : :class:`~sklearn.utils.Bunch`
            The fitted profiles, as images of the shape (n_samples, H, W) or, with
            several bands, (n_samples, n_bands, H, W):

            total : ndarray
                The light of all sources, and the background.
            central : ndarray
                The light of the galaxy alone.
            residual : ndarray
                The image minus the total; NaN in masked pixels.
            neighbours : Bunch
                One entry for each neighbour, the columns of a DataFrame: stamp, the row
                in X, and the parameters and their standard deviations, such as flux
                and flux_std. It can be passed to :meth:`predict`.

        Raises
        ------
        ValueError
            As in :meth:`predict`.

        Warns
        -----
        ConvergenceWarning, UserWarning
            As in :meth:`predict`.

        Examples
        --------
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> galaxies = make_galaxies(
        ...     2, x0=32.0, y0=32.0, neighbours=1, random_state=0,
        ...     planes=("image", "variance", "psf"), return_X_y=False,
        ... )
        >>> fitter = ProfileFitRegressor(
        ...     planes=galaxies.planes, pixel_scale=0.2, max_neighbours=3
        ... )
        >>> scenes = fitter.fit(galaxies.data).deblend(galaxies.data)
        >>> scenes.central.shape, scenes.neighbours.stamp
        ((2, 64, 64), array([1]))
        """
        images, measured = self._measure(X, neighbours)
        fitter = self.fitter_
        total = fitter.render(images, measured) + measured.sky[:, :, None, None]
        scenes = {
            "total": total,
            "central": fitter.render(images, measured, central=True),
            "residual": fitter.pixels(images) - total,
        }
        if images.shape[1] == 1:
            scenes = {name: part[:, 0] for name, part in scenes.items()}
        return Bunch(**scenes, neighbours=self._table_of(measured.neighbours()))

    def _table_of(self, found):
        """Return neighbours as the columns of a table."""
        profile, scale = self.fitter_.profile, self.fitter_.pixel_scale
        values = profile.named(found.parameters, profile.all_names, scale)
        covariance = profile.covariance_of_named(
            found.parameters, found.covariance, profile.all_names, scale
        )
        std = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
        table = Bunch(stamp=found.rows)
        for column, name in enumerate(profile.all_names):
            table[name], table[f"{name}_std"] = values[:, column], std[:, column]
        return table

    @by_blocks
    def flags(self, X: ArrayLike, neighbours: Columns | None = None) -> Bunch:
        """Fit a profile to each stamp, and flag the results that are not to be trusted.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        neighbours : DataFrame or dict of arrays, default=None
            As in :meth:`predict`.

        Returns
        -------
        flags : :class:`~sklearn.utils.Bunch`
            Bool arrays of shape (n_samples,), the columns of a DataFrame:

            no_pixels
                All pixels are masked.
            masked
                More than a tenth of the light of the galaxy is in masked pixels.
            saturated
                Three pixels or more share the highest value of the stamp, which is more
                than ten deviations of the pixels above their median.
            cosmic_ray
                A cosmic ray was found.
            edge
                More than a third of the light of the galaxy is outside of the stamp.
            neighbours
                There are other sources on the stamp.
            blended
                Their light is more than a twentieth of the light where the galaxy is
                (blendedness, [1]_).
            sky_off
                The background differs from 0 by more than five of its errors.
            correlated_noise
                The noise of adjacent pixels is correlated by more than about 0.2, and
                the errors do not allow for it.
            poor_fit
                Chi-square is more than five of its deviations too large.
            wrong_psf
                The width of the PSF is wrong by more than three of its errors, from a
                score test.
            at_bound
                A parameter is at its bound.
            not_converged
                A step of the fit would move a parameter by two of its errors, or there
                are no errors.
            outside_training
                The image is unlike the images of the training set of `estimator`.

        Raises
        ------
        ValueError
            As in :meth:`predict`.

        References
        ----------
        .. [1] J. Bosch et al., "The Hyper Suprime-Cam software pipeline", PASJ 70, S5
           (2018), section 4.9.11.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> X[0, 0] = np.minimum(X[0, 0], X[0, 0].max() / 2)
        >>> flags = fitter.flags(X)
        >>> flags.saturated, flags.poor_fit
        (array([ True, False, False]), array([False, False, False]))
        """
        images, measured = self._measure(X, neighbours, warn=False, checks=True)
        return self._flags_of(X, images, measured)

    def _flags_of(self, X, images, measured):
        fitter = self.fitter_
        flags = flag_profiles(fitter, images, measured)
        flags["not_converged"] |= ~measured.converged & ~flags["no_pixels"]
        given = check_images(self, X, fitter.layout)
        flags["cosmic_ray"] = find_hit_stamps(fitter, given)
        if hasattr(self.estimator_, "is_outside"):
            outside = self.estimator_.is_outside(X)
            flags["outside_training"] = outside & ~flags["no_pixels"]
        return Bunch(**flags)

    def sample(
        self,
        X: ArrayLike,
        n_draws: int = 100,
        random_state: RandomState = None,
        neighbours: Columns | None = None,
    ) -> Floats:
        """Draw parameters from their posterior distribution.

        Proposals from a t distribution around the fit are weighted by the likelihood
        and drawn again [1]_. The prior is constant within the bounds, in the logarithms
        of flux, radius and index and in the other parameters, the background among
        them. At low signal-to-noise the draws show distributions that are not Gaussian.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        n_draws : int, default=100
            Number of draws for each stamp.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.
        neighbours : DataFrame or dict of arrays, default=None
            As in :meth:`predict`.

        Returns
        -------
        draws : ndarray of shape (n_samples, n_draws, n_targets)
            The parameters `target_names_`. NaN where the fit has not converged.

        Raises
        ------
        ValueError
            If `n_draws` is not a positive int, if the noise is correlated, or as in
            :meth:`predict`.

        Warns
        -----
        ConvergenceWarning
            If the draws of some stamps are worth less than a tenth as many independent
            ones.

        References
        ----------
        .. [1] A. F. M. Smith and A. E. Gelfand, "Bayesian Statistics without Tears: A
           Sampling-Resampling Perspective", The American Statistician 46, 84 (1992).

        Examples
        --------
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> draws = fitter.sample(X, n_draws=50, random_state=0)
        >>> draws.shape
        (3, 50, 2)
        >>> (draws.std(axis=1) > 0).all()
        np.True_
        """
        if not isinstance(n_draws, Integral) or n_draws < 1:
            raise ValueError(
                f"The 'n_draws' parameter must be a positive int. Got {n_draws!r}."
            )
        check_is_fitted(self)
        if self.noise_correlation_ is not None:
            raise ValueError(
                f"sample of {NAME} needs noise that is independent from pixel to "
                "pixel. Got a noise_correlation."
            )
        images, measured = self._measure(X, neighbours)
        fitter = self.fitter_
        draws, effective = fitter.draw(
            images, measured, int(n_draws), check_random_state(random_state)
        )
        few = measured.converged & (effective < n_draws / 10)
        if few.any():
            warn_user(
                f"The draws of {few.sum()} of {len(few)} stamps are worth less than "
                f"{n_draws / 10:g} independent ones, the first in row "
                f"{int(np.argmax(few))}.",
                ConvergenceWarning,
            )
        named = fitter.profile.named(
            draws.reshape(-1, draws.shape[2]), self.target_names_, fitter.pixel_scale
        )
        return named.reshape(*draws.shape[:2], named.shape[1])

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return R2 of the fitted parameters, the mean over the targets.

        Missing targets are left out, see :func:`~sklcae.metrics.known_r2_score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Stamps, with all `planes`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True parameters, NaN where unknown.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the stamps.

        Returns
        -------
        score : float
            R2.

        Raises
        ------
        ValueError
            As in :meth:`predict`, or if y does not have the shape of the predictions or
            the column names of y in fit.

        Examples
        --------
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(20, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> round(fitter.score(X, y), 1)
        1.0
        """
        check_is_fitted(self)
        check_same_targets(y, self.fitter_.layout)
        return known_r2_score(y, self.predict(X), sample_weight=sample_weight)

    def _measure(self, X, neighbours=None, warn=True, checks=False):
        """Return checked images, and the `MeasuredProfiles` of them."""
        check_is_fitted(self)
        fitter = self.fitter_
        images = fitter.without_cosmic_rays(check_images(self, X, fitter.layout))
        places = check_neighbours(neighbours, len(images))
        start = self._start(X, len(images))
        if places is not None:
            warn_of_galaxies(places, map(fitter.center_of, start))
        measured = fitter.fit(images, start, places, checks)
        failed = ~measured.converged
        failed[images.empty] = False
        if warn and len(images):
            _warn_of_narrow_psfs(fitter, images)
        if warn and failed.any():
            warn_user(
                f"{failed.sum()} of {len(failed)} profile fits have not converged, the "
                f"first in row {int(np.argmax(failed))}; their standard deviations are "
                "NaN. See fit_report.",
                ConvergenceWarning,
            )
        return images, measured

    def _measure_all(self, X, neighbours=None, flags=False):
        """Return all results of one fit of each stamp, for a catalogue."""
        images, measured = self._measure(X, neighbours, warn=False, checks=flags)
        fitter = self.fitter_
        return Bunch(
            y=fitter.named(measured),
            covariance=fitter.covariance(measured),
            chi_square=measured.chi_square / np.maximum(measured.n_pixels, 1),
            flags=self._flags_of(X, images, measured) if flags else {},
        )

    def _start(self, X, n):
        if self.estimator_ is None or n == 0:
            return np.full((n, len(self.fitter_.profile.names)), np.nan)
        # Means over the turns of an image would cost more than they save.
        predict = getattr(self.estimator_, "_predict_once", self.estimator_.predict)
        y = np.asarray(predict(X), dtype=np.float64)
        return self.fitter_.start_from(y.reshape(n, -1))

    def _like_y(self, y):
        return y.ravel() if self.fitter_.layout.y_ndim == 1 else y

    def save(self, path: File) -> None:
        """Save the fitted model with its estimator to one file that is safe to load.

        See :meth:`ConditionalAutoencoderRegressor.save`.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        TypeError
            If the model is of another class, or `estimator` is neither None nor a
            :class:`ConditionalAutoencoderRegressor`.
        OSError
            If the file cannot be written; an older file is then unchanged.

        Warns
        -----
        UserWarning
            If a parameter is not a plain value. The loaded model has its default.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "fitter.sklcae"
        ...     fitter.save(path)
        ...     loaded = ProfileFitRegressor.load(path)
        >>> (loaded.predict(X) == fitter.predict(X)).all()
        np.True_
        """
        from sklcae._storage.model import save_model

        save_model(self, path)

    @classmethod
    def load(cls, path: File) -> Self:
        """Load a saved model. Safe for files from untrusted sources.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        model : ProfileFitRegressor
            The fitted model. It predicts bitwise the same as the saved model.

        Raises
        ------
        ModelFileError
            If the file is not, to the last byte, a file that :meth:`save` could have
            written.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklcae import ProfileFitRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> planes = ("image", "variance", "psf")
        >>> X, y = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
        >>> fitter = ProfileFitRegressor(planes=planes, pixel_scale=0.2).fit(X, y)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "fitter.sklcae"
        ...     fitter.save(path)
        ...     ProfileFitRegressor.load(path).target_names_
        ['flux', 'half_light_radius']
        """
        from sklcae._storage.model import load_model

        return load_model(path, "ProfileFitRegressor")

    def __dask_tokenize__(self):
        return token_of(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = bool(self.allow_nan)
        tags.target_tags.required = self.estimator is not None
        # A profile is fitted to any numbers, whatever y is.
        tags.regressor_tags.poor_score = True
        return tags


def _names_of(n_bands):
    """Return the names of the parameters of a source if no targets are named."""
    return list(ProfileParameters.of_targets(None, n_bands).names)


def _check_names(names, n_bands):
    allowed = ProfileParameters.of_targets(names, n_bands).all_names
    unknown = [name for name in names if name not in allowed]
    if not names or unknown or len(set(names)) < len(names):
        raise ValueError(
            f"The targets of {NAME} must be different names of {', '.join(allowed)}: "
            f"the columns of y, or the parameter 'target_names'. Got {names}."
        )
    return list(names)


def _check_bounds(bounds, target_names, n_bands):
    """Return bounds by name, or raise ValueError."""
    names = ProfileParameters.of_targets(target_names, n_bands).names
    for name, ends in (bounds or {}).items():
        if not are_bounds(name, ends, names):
            raise ValueError(
                f"The 'bounds' parameter of {NAME} must be a dict of (low, high) with "
                f"low < high for names of {', '.join((*names, 'ellipticity'))}; with "
                "'ellipticity' from 0 and below 1, 'e1' and 'e2' within (-1, 1), "
                f"'sersic_index' within {INDEX_LIMITS}, fluxes and radii above 0. Got "
                f"{name!r}: {ends!r}."
            )
    return bounds or {}


def _rows_of(images):
    """Return the rows of images with pixels."""
    return np.setdiff1d(np.arange(len(images)), images.empty)


def _check_bulge(bulge, bounds, n_bands):
    """Return whether galaxies have bulges, or raise ValueError if they cannot."""
    wrong = {"flux", "half_light_radius", "sersic_index"} & set(bounds or {})
    if bulge and (n_bands > 1 or wrong):
        raise ValueError(
            f"The 'bulge' parameter of {NAME} must be False for stamps of several "
            "bands and with bounds of flux, half_light_radius or sersic_index. Got "
            f"True with {n_bands} bands and bounds={bounds!r}."
        )
    return bool(bulge)


def _check_correlation(correlation):
    """Return the autocorrelation of the noise, or None."""
    if correlation is None or isinstance(correlation, str):
        return None
    try:
        given = np.asarray(without_traps(correlation, "noise_correlation"), np.float64)
    except (TypeError, ValueError):
        given = np.zeros(0)
    if not is_correlation(given):
        raise ValueError(
            f"The 'noise_correlation' parameter of {NAME} must be an array (h, w) with "
            "odd sides, 1 in the middle, no larger values, the same values for "
            "opposite shifts and a positive power spectrum; or 'estimate' or None. "
            f"Got {correlation!r:.100}."
        )
    return given


def _warn_of_narrow_psfs(fitter, images):
    """Warn if the PSF of a stamp is not sampled by the pixels."""
    if min(fitter.layout.band_shape[1:]) < SHORTEST_SIDE:
        return
    if images.psf is None:
        widths = effective_fwhm(fitter.psf).min(axis=1)
    else:
        parts = parts_of(len(images))
        widths = np.concatenate(
            [effective_fwhm(images.psf[part]).min(axis=1) for part in parts]
        )
    narrow = widths < LEAST_FWHM
    if not narrow.any():
        return
    row = int(np.argmax(narrow))
    found = f"The PSF has a FWHM of {widths[row]:.2f} pixels"
    if images.psf is not None:
        found = (
            f"{narrow.sum()} of {len(narrow)} PSFs are narrower than {LEAST_FWHM:g} "
            f"pixels, the first in row {row} with a FWHM of {widths[row]:.2f} pixels"
        )
    warn_user(
        f"{found}. Pixels do not sample a PSF with a FWHM below {LEAST_FWHM:g} pixels, "
        f"and fitted profiles are biased: see the Notes of {NAME}."
    )
