"""The conditional autoencoder as a scikit-learn estimator."""

import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import (
    BaseEstimator,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from sklcae._adaptation import adapt_codec, check_adaptable
from sklcae._attributes import part_of
from sklcae._blocks import by_blocks, has_no_rows, over_blocks, without_rows
from sklcae._codec import Codec, usable_device
from sklcae._compat import (
    CallbackSupportMixin,
    DocumentationLinkMixin,
    Interval,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
    validate_parameter_constraints,
)
from sklcae._dask import token_of
from sklcae._fit_monitor import FitMonitor
from sklcae._fitting import Fit, fit_codec, symmetry_of, warn_if_not_learned
from sklcae._flags import flag_predictions
from sklcae._inputs import (
    check_images,
    check_latents,
    check_psf_of_images,
    check_same_targets,
    check_training_data,
    check_wanted_targets,
)
from sklcae._recommended import recommended_settings
from sklcae._rescaling import rescaled, rescaled_width
from sklcae._scaling import LIMITS, STRETCHES
from sklcae._storage.checkpoint import open_checkpoint
from sklcae._streaming import rows_to_train_on
from sklcae._symmetry import check_turnable
from sklcae._targets import TargetDistribution, check_coverage
from sklcae._torch import (
    LR_SCHEDULES,
    NETWORKS,
    OPTIMIZERS,
    PHYSICAL_LOSSES,
    RECONSTRUCTION_LOSSES,
    check_callbacks,
    check_device,
)
from sklcae._typing import (
    File,
    Floats,
    PhysicalLoss,
    RandomState,
    ReconstructionLoss,
)
from sklcae._warning import warn_user
from sklcae.exceptions import OutsideTrainingWarning
from sklcae.metrics import known_r2_score

# More neighbours on a stamp than this are not a galaxy with neighbours.
MOST_NEIGHBOURS = 100
# The attributes of a fitted estimator. "codec_" holds scalers and network, and
# "_optimizer_state_" is there after partial_fit only.
FITTED_ATTRIBUTES = ("codec_", "history_", "best_epoch_", "_optimizer_state_")


class ConditionalAutoencoderRegressor(
    CallbackSupportMixin,
    RegressorMixin,
    TransformerMixin,
    MultiOutputMixin,
    DocumentationLinkMixin,
    BaseEstimator,
):
    """Read physical parameters off galaxy images, and set them.

    A convolutional autoencoder compresses each image to `latent_dim` numbers. The
    first of them, z_phy, are supervised to be the (standardised) targets, one latent
    each; the others, z_rest, carry the remaining information. The decoder turns all
    latents back into an image. The loss is Eq. 2 of [1]_, ``L_rec + alpha * L_phy +
    beta * L_reg``, and the defaults come from its appendix. For the best results see
    :meth:`recommended`.

    Parameters
    ----------
    latent_dim : int, default=64
        Size of the latent space, z_phy and z_rest together. Must be greater than the
        number of targets.
    alpha : float, default=1.0
        Weight of the physical loss, Eq. 4 of [1]_. With 0 the targets have no
        influence and the predictions no meaning.
    beta : float, default=1e-4
        Weight of the L1 regularization of z_rest, Eq. 5 of [1]_.
    gamma : float, default=0.0
        Weight of the exchange loss, which makes the latents set the targets that they
        are supervised to be. It is not in [1]_; 0 gives the paper's loss. The decoder
        takes the targets of one image and the z_rest of another, and its image is
        compared with the first one by the reconstruction loss. The two images must
        differ in their targets only. This holds for all images if the targets include
        everything in which the galaxies differ; otherwise pass `groups` to
        :meth:`fit`, or set `gamma` to 0.
    network : str or callable, default="paper"
        The network, for images of any shape: one of the names below, a name given to
        :func:`~sklcae.networks.register_network`, or a callable that takes an
        :class:`~sklcae.networks.Architecture` and returns a torch module.

        - "paper" is the network of the appendix of [1]_.
        - "strided" has the same decoder and a deeper encoder: strided convolutions
          whose features are pooled over the image. It is made for
          ``stretch="asinh"``, many targets and a falling learning rate.
        - "neural_field" has the deeper encoder, and a decoder that draws a single
          galaxy as a function of position. It is made for ``stretch="asinh"``.
        - "sersic" has an encoder that measures shapelets around the galaxy, dense
          layers that compute the latents from them, and a decoder without weights: a
          Sersic profile with the parameters of the latents, through the PSF of each
          stamp.

        "sersic" needs a "psf" among the `planes` or the parameter `psf`, `pixel_scale`,
        stamps without a background, and targets among "flux", "half_light_radius",
        "sersic_index", "e1", "e2", "x0" and "y0". Parameters that are not among the
        targets become the first latents of z_rest, and targets may be NaN for all
        images: "chi_square" alone then teaches them. The other latents are coefficients
        of shapelets, for light that no Sersic profile has. With several bands the
        targets name the bands, in the order of the channels of X, as in "flux_g",
        "flux_r": one flux for each band, and either one "half_light_radius" or one for
        each band. All other parameters, and the shapelets relative to the flux, are
        common to all bands.
    reconstruction_loss : str or None, default="binary_cross_entropy"
        The reconstruction loss:

        - "binary_cross_entropy" is Eq. 3 of [1]_, for images scaled to [0, 1].
        - "squared_error" is the squared difference of images scaled to [0, 1].
        - "chi_square" is half the squared difference in the unit of the images over
          the variance of the noise. The variance is the sum of the noise of empty
          pixels, estimated from the training set, and the Poisson noise of the light.
          Light is counted from the sky, the median pixel of the training set (of about
          a thousand of its images). With a "variance" among the `planes` the noise of
          empty pixels is that of each pixel of each stamp.
        - None leaves the term out. It is for the "sersic" network with "simulation":
          there the targets teach all latents that the decoder uses, and training takes
          less than half the time.
    gain : float, array-like of shape (n_bands,) or None, default=1.0
        Electrons for each unit of light in the images: one number, or one for each
        band. It sets the Poisson noise of the light; with a very large number only the
        noise of empty pixels remains. Used by "chi_square", by the "sersic" network, by
        "simulation" and by `score_samples`. With None the "variance" among the
        `planes` holds the Poisson noise of the light too.
    physical_loss : {"squared_error", "gaussian_likelihood"}, default="squared_error"
        The physical loss. The first is Eq. 4 of [1]_. With the second the network also
        predicts the variance of each target, which weights its error [5]_ and which
        ``predict(X, return_std=True)`` returns.
    stretch : {"linear", "asinh"}, default="linear"
        How pixels are scaled to [0, 1] by the minimum and the maximum of each channel
        over the training set: linearly, or after
        ``asinh((pixel - background) / softening)``, which brings out faint parts.
    softening : float, default=None
        Softening of the "asinh" stretch, in the unit of the images. None takes ten
        times the noise per pixel, estimated from the differences of neighbouring
        pixels; set it for images without noise. Not used by the "linear" stretch.
    limits : {"extremes", "robust"}, default="extremes"
        The pixels from which minimum and maximum are taken. "extremes" takes all pixels
        of the training set, and warns if one image sets the range. "robust" leaves out
        images with pixels far beyond the pixels of most others, such as hot pixels and
        bright stars, also from the training, with a warning (in training sets of 30
        images or more). In prediction such pixels are clipped.
    target_names : list of str, default=None
        Names of the targets, for a y without column names. For the "sersic" network and
        "simulation" None takes the first of "flux", "half_light_radius",
        "sersic_index", "e1", "e2", "x0" and "y0"; with several bands "flux_0",
        "flux_1", ... take the place of "flux".
    log_targets : "all" or list of str, default=None
        Names of positive targets whose natural logarithm is regressed; "all" stands for
        all targets, with or without names. "flux" and "half_light_radius" also stand
        for targets of several bands, such as "flux_g". Predictions are then positive,
        and the physical loss counts relative errors. y stays in its unit everywhere.
    augmentation : {"dihedral", "simulation"}, default=None
        "dihedral" gives every stamp, each time that it is used in training, one of the
        four flips or, for square stamps, eight flips and quarter turns. The targets e1,
        e2, x0 and y0 (recognised by the column names of y) turn with it; fit raises if
        the effect on a target is unknown. x0 and y0 must be in pixels from the outer
        corner of the first pixel, x0 along the columns, as in
        :func:`~sklcae.datasets.make_galaxies`. "simulation" does so too, with a new
        galaxy in place of the one of the stamp, each time that the stamp is used in
        training: a Sersic profile through the PSF of the stamp with noise of its
        variance. The parameters are those of a random row of y, each moved to a near
        quantile of y, with a random position angle. With several bands the flux of the
        first band and the colours of neighbouring bands move. So the network never sees
        a stamp twice, and it learns from y and from the planes of X, but not from the
        images. It needs a "psf" among the `planes` or the parameter `psf`,
        `pixel_scale`, `gain` and all parameters of the "sersic" network as targets.
    simulated_neighbours : float, default=0.0
        Mean number of other galaxies on the stamps of "simulation", so that predictions
        are right for crowded stamps. Their number has a Poisson distribution. They are
        7 pixels to 0.6 times the larger side of the stamp from the galaxy, with 0.05 to
        2 times its flux. Their other parameters are those of y; radii are multiplied by
        the square root of that ratio, so that faint neighbours are small.
    simulated_sky : float, default=0.0
        Standard deviation of the background that is left on the stamps of "simulation",
        in units of the noise of a pixel, so that predictions are right for stamps whose
        sky is not subtracted well.
    invariant_targets : "all" or list of str, default=None
        Names of further targets that are invariant under flips and rotations; "all"
        stands for all targets, with or without names. Used only with `augmentation`.
        ``flux``, ``half_light_radius``, ``sersic_index`` and ``ellipticity`` need not
        be listed, nor fluxes and radii of bands such as ``flux_g``.
    test_time_augmentation : bool, default=False
        Whether predictions are means over all flips and turns of an image, each turned
        back [6]_. Such predictions turn with the image, and their errors are smaller,
        at eight times the cost (four for images that are not square). Needs
        `augmentation`. `transform`, `reconstruct` and `score_samples` do not turn the
        image. It may be set on a fitted model.
    image_shape : tuple of int, default=None
        (H, W) or (C, H, W), channels first, the shape of the images in flat rows. With
        None, flat rows are assumed to be square images when the number of pixels is a
        perfect square, and otherwise images of one row of pixels. C counts the channels
        of all `planes`.
    planes : tuple of str, default=("image",)
        The channels of X: "image", alone or followed by "variance", "psf" or both, each
        with one channel for each band. :func:`~sklcae.stack_planes` makes such an X.
        "variance" is the variance of the background noise of each pixel, in the unit of
        the images squared; it weights the pixels in the "chi_square" loss and in
        `score_samples`. "psf" is the effective PSF of each stamp: sampled at its
        pixels, with the response of the pixel, and with its centre in pixel
        (H // 2, W // 2). The network reads the PSF when it encodes and when it decodes;
        "neural_field" and "sersic" can, "paper" and "strided" cannot. Only images are
        scaled, and may have masked pixels.
    psf : float or array-like, default=None
        The PSF of all stamps, for networks that read PSFs, if there is no plane "psf":
        the full width at half maximum of a Gaussian, in the unit of `pixel_scale` (in
        pixels without), or an effective PSF of shape (h, w) as in
        :func:`~sklcae.stack_planes`. Several bands may have their own: an array of
        shape (n_bands,) or (n_bands, h, w).
    pixel_scale : float, default=None
        Side of a pixel in the unit of the half-light radius, such as arcsec. Used by
        the "sersic" network and by "simulation".
    allow_nan : bool, default=False
        Whether NaN in X (or a masked entry of a NumPy masked array) is a masked pixel,
        for example in a dead column or under a cosmic ray. Masked pixels enter neither
        the reconstruction loss nor the scaling. For the network they are filled from
        their neighbours, also in prediction. It may be set on a fitted model. With
        False, NaN is refused.
    handle_empty : {"error", "nan"}, default="error"
        With `allow_nan`, how to handle images in which all pixels are masked. "error"
        raises. With "nan" their results are NaN, with a warning, and fit leaves them
        out. It may be set on a fitted model.
    max_epochs : int, default=100
        Number of passes over the training set.
    batch_size : int, default=64
        Images for one step of the optimizer.
    optimizer : {"adam", "adamw"}, default="adam"
        The optimizer, Adam [2]_ or AdamW with decoupled weight decay [3]_.
    lr : float, default=1e-3
        Learning rate of the optimizer; with "one_cycle" the highest learning rate.
    lr_schedule : {"constant", "one_cycle"}, default="constant"
        "one_cycle" raises the learning rate from a twenty-fifth of `lr` to `lr` in the
        first three tenths of the steps, and lowers it to nearly nothing in the others
        [4]_.
    weight_decay : float, default=0.0
        Weight decay of the optimizer: with "adam" an L2 penalty that is added to the
        gradient; with "adamw" the share, times the learning rate, by which each step
        shrinks the weights.
    early_stopping : bool, default=False
        Whether to hold out a share of the training set, to stop when its loss (Eq. 2)
        no longer falls, and to take the weights of its best epoch.
    validation_fraction : float, default=0.1
        The share that is held out. Used only with `early_stopping`.
    n_iter_no_change : int, default=10
        Number of epochs in which the loss of the held-out share may fail to fall by
        `tol`. Used only with `early_stopping`.
    tol : float, default=1e-4
        The smallest fall of the loss that counts, see `n_iter_no_change`.
    warm_start : bool, default=False
        Whether fit continues from the weights, the scaling and the history of the last
        fit, for another `max_epochs` epochs, with a new optimizer.
    callbacks : list, default=None
        List of skorch callbacks, or of tuples of a name and a callback. They are not
        copied. For the callbacks of scikit-learn itself see `set_callbacks`.
    checkpoint : str or path-like, default=None
        File that fit writes after every epoch. If the file exists and belongs to the
        same fit, training resumes after its last epoch and gives bitwise the result of
        an uninterrupted run on the same machine. The same fit has the same data,
        parameters and version of sklcae; only `verbose`, `device` and
        `test_time_augmentation` may differ, and `max_epochs` with a constant
        `lr_schedule`. The file is not deleted, and a file of another fit is refused.
    device : str, default="cpu"
        Where fit trains and the fitted model predicts: a device name of PyTorch, such
        as "cuda". A pickled model is loaded to this device, or to the CPU with a
        warning.
    random_state : int, RandomState instance or None, default=None
        Source of the first weights, of the order of the images and of their
        augmentation.
    verbose : int, default=0
        With 1, fit prints the meaning of the terms of the loss, and a line an epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net.
    history_ : dict of list
        One entry an epoch: ``epoch``, ``train_loss`` (Eq. 2), its terms without their
        weights (``reconstruction_loss``, ``physical_loss``, ``regularization_loss``
        and, with `gamma`, ``exchange_loss``; no ``reconstruction_loss`` if this
        parameter is None), with early stopping the
        ``validation_loss`` (Eq. 2), and ``duration`` in seconds.
    best_epoch_ : int
        The epoch of the weights, with `early_stopping` only.
    image_shape_ : tuple of int
        Channels of X (all `planes` together), height and width.
    image_scaler_ : object
        Scales images to [0, 1]. Has ``softening_``, ``background_``, and the ``sky_``
        and ``noise_`` of each channel.
    target_scaler_ : StandardScaler
        Scales targets, or the logarithms of `log_targets`, to mean 0 and variance 1.
    target_range_ : ndarray of shape (2, n_targets)
        The smallest and the largest of each target in the training set.
    target_names_ : list of str or None
        Column names of y, or `target_names`, None if it had no names.
    pixel_scale_ : float or None
        The side of a pixel, of the fit or of :meth:`rescale`. A fitted model uses this
        one and `gain_`: like most parameters, `pixel_scale` and `gain` count from the
        next fit.
    gain_ : float, tuple of float or None
        The electrons for each unit of light, of the fit or of :meth:`rescale`.
    psf_ : ndarray of shape (n_bands, H, W) or None
        The effective PSF of all stamps, if `psf` was set.
    n_targets_ : int
        Number of targets, the size of z_phy.
    n_iter_ : int
        Number of epochs in the history, including earlier calls that this one
        continued.
    n_features_in_ : int
        Number of values in an image, C * H * W.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, if they are all strings.
    codec_ : object
        The scalers, the noise model and the net, which encode and decode arrays. The
        attributes above are parts of it.

    Notes
    -----
    With an int `random_state`, fits on the CPU of one machine with the same versions of
    all packages give bitwise the same model: alone, in worker processes or in threads
    of joblib, and with any number of threads. The latents and predictions for an image
    are bitwise the same for any other images in the same call, in any order and
    batches, and with any number of threads. No call changes or reads the global random
    state of NumPy or PyTorch. None of this is promised across releases of PyTorch,
    across kinds of processors, or on a GPU, where results agree up to rounding.

    References
    ----------
    .. [1] K. Leung, C. Yan and J. Yin, "A Generative Model for Disentangling Galaxy
       Photometric Parameters", section 3.1.1 and appendix.
    .. [2] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR
       2015.
    .. [3] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR
       2019.
    .. [4] L. N. Smith and N. Topin, "Super-Convergence: Very Fast Training of Neural
       Networks Using Large Learning Rates", arXiv:1708.07120.
    .. [5] M. Seitzer, A. Tavakoli, D. Antic and G. Martius, "On the Pitfalls of
       Heteroscedastic Uncertainty Estimation with Probabilistic Neural Networks", ICLR
       2022.
    .. [6] S. Dieleman, K. W. Willett and J. Dambre, "Rotation-Invariant Convolutional
       Neural Networks for Galaxy Morphology Prediction", MNRAS 450, 1441 (2015).

    Examples
    --------
    >>> from sklcae import ConditionalAutoencoderRegressor
    >>> from sklcae.datasets import make_galaxies
    >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
    >>> model = ConditionalAutoencoderRegressor(max_epochs=2, random_state=0).fit(X, y)
    >>> model.predict(X).shape
    (20, 2)
    >>> Z = model.transform(X)
    >>> Z.shape
    (20, 64)
    >>> model.inverse_transform(Z).shape
    (20, 256)
    """

    codec_: Any

    _parameter_constraints = {  # noqa: RUF012
        "latent_dim": [Interval(Integral, 2, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        # A view of the names: networks that are registered later are allowed too.
        "network": [StrOptions(NETWORKS.keys()), callable],
        "reconstruction_loss": [StrOptions(RECONSTRUCTION_LOSSES.keys()), None],
        "gain": [Interval(Real, 0, None, closed="neither"), "array-like", None],
        "physical_loss": [StrOptions(PHYSICAL_LOSSES.keys())],
        "stretch": [StrOptions(set(STRETCHES))],
        "softening": [Interval(Real, 0, None, closed="neither"), None],
        "limits": [StrOptions(set(LIMITS))],
        "target_names": ["array-like", None],
        "log_targets": [StrOptions({"all"}), list, tuple, None],
        "augmentation": [StrOptions({"dihedral", "simulation"}), None],
        "simulated_neighbours": [Interval(Real, 0, MOST_NEIGHBOURS, closed="both")],
        "simulated_sky": [Interval(Real, 0, None, closed="left")],
        "invariant_targets": [StrOptions({"all"}), list, tuple, None],
        "test_time_augmentation": ["boolean"],
        "image_shape": [list, tuple, None],
        "planes": [str, list, tuple],
        "psf": [Interval(Real, 0, None, closed="neither"), "array-like", None],
        "pixel_scale": [Interval(Real, 0, None, closed="neither"), None],
        "allow_nan": ["boolean"],
        "handle_empty": [StrOptions({"error", "nan"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "optimizer": [StrOptions(set(OPTIMIZERS))],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions(set(LR_SCHEDULES))],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "callbacks": [list, None],
        "checkpoint": [str, os.PathLike, None],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        latent_dim: int = 64,
        alpha: float = 1.0,
        beta: float = 1e-4,
        gamma: float = 0.0,
        network: str | Callable[..., Any] = "paper",
        reconstruction_loss: ReconstructionLoss | None = "binary_cross_entropy",
        gain: ArrayLike | None = 1.0,
        physical_loss: PhysicalLoss = "squared_error",
        stretch: Literal["linear", "asinh"] = "linear",
        softening: float | None = None,
        limits: Literal["extremes", "robust"] = "extremes",
        target_names: Sequence[str] | None = None,
        log_targets: Literal["all"] | Sequence[str] | None = None,
        augmentation: Literal["dihedral", "simulation"] | None = None,
        simulated_neighbours: float = 0.0,
        simulated_sky: float = 0.0,
        invariant_targets: Literal["all"] | Sequence[str] | None = None,
        test_time_augmentation: bool = False,
        image_shape: Sequence[int] | None = None,
        planes: str | Sequence[str] = ("image",),
        psf: ArrayLike | None = None,
        pixel_scale: float | None = None,
        allow_nan: bool = False,
        handle_empty: Literal["error", "nan"] = "error",
        max_epochs: int = 100,
        batch_size: int = 64,
        optimizer: Literal["adam", "adamw"] = "adam",
        lr: float = 1e-3,
        lr_schedule: Literal["constant", "one_cycle"] = "constant",
        weight_decay: float = 0.0,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        warm_start: bool = False,
        callbacks: list[Any] | None = None,
        checkpoint: File | None = None,
        device: str = "cpu",
        random_state: RandomState = None,
        verbose: int = 0,
    ) -> None:
        self.latent_dim = latent_dim
        self.alpha = alpha
        self.beta = beta
        self.gamma = gamma
        self.network = network
        self.reconstruction_loss = reconstruction_loss
        self.gain = gain
        self.physical_loss = physical_loss
        self.stretch = stretch
        self.softening = softening
        self.limits = limits
        self.target_names = target_names
        self.log_targets = log_targets
        self.augmentation = augmentation
        self.simulated_neighbours = simulated_neighbours
        self.simulated_sky = simulated_sky
        self.invariant_targets = invariant_targets
        self.test_time_augmentation = test_time_augmentation
        self.image_shape = image_shape
        self.planes = planes
        self.psf = psf
        self.pixel_scale = pixel_scale
        self.allow_nan = allow_nan
        self.handle_empty = handle_empty
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.tol = tol
        self.warm_start = warm_start
        self.callbacks = callbacks
        self.checkpoint = checkpoint
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @classmethod
    def recommended(cls, **overrides: Any) -> Self:
        """Make an estimator with the settings for the best results.

        They suit simulated and real stamps with any targets whose names are known, and
        training sets of a thousand images or more. With the default `gamma` of these
        settings the targets should include everything in which the galaxies differ;
        for fewer targets pass ``gamma=0``, or `groups` to :meth:`fit`. The augmentation
        needs the names of the targets, see `target_names`.

        With a "psf" among the `planes`, or the parameter `psf`, the settings are those
        for the "sersic" network and "simulation": pass `pixel_scale`, and the seven
        targets. One model then serves all PSFs like those of the training set. There is
        no reconstruction loss, unless another network or augmentation, or a `gamma`, is
        passed. For some of the seven targets pass their names as `target_names`; the
        augmentation is then "dihedral".

        Parameters
        ----------
        **overrides : dict
            Parameters of the estimator, in place of the recommended ones.

        Returns
        -------
        model : ConditionalAutoencoderRegressor
            An estimator that is not fitted.

        Examples
        --------
        >>> from sklcae import ConditionalAutoencoderRegressor
        >>> model = ConditionalAutoencoderRegressor.recommended(max_epochs=12)
        >>> model.network, model.max_epochs
        ('neural_field', 12)
        """
        return cls(**recommended_settings(overrides))

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train the autoencoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images, in any linear unit. :func:`~sklcae.datasets.make_galaxies` makes
            images in ADU. With other `planes` than images,
            :func:`~sklcae.stack_planes` makes X. Stamps of
            :func:`~sklcae.survey.open_stamps` and arrays of Zarr, HDF5 or Dask that
            take more than 256 MiB are not loaded: they are read in blocks, and the
            stamps of a few random blocks at a time are shuffled. `gamma` must be 0
            then.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Physical parameters, in any units. NaN is an unknown target: it is left out
            of the physical loss, and its image still trains the autoencoder.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images in all terms of the loss, and in the mean and the
            variance of the targets. A weight of 0 leaves an image out; otherwise the
            scaling of the images does not depend on weights. In the exchange loss the
            weight of a pair is the weight of the image giving z_rest, times the weight
            of the other image relative to the mean of the candidates. None gives equal
            weights.
        groups : array-like of shape (n_samples,), default=None
            Labels of any kind. The images of a group differ in their targets (and
            their noise) only. Used only with `gamma` above 0; None then makes one group
            of all images. An image does not enter the exchange loss if it is alone in
            its group, or if all others lack a target. With `early_stopping` whole
            groups are held out, if there are several. In a Pipeline or a search pass
            them by metadata routing, ``set_fit_request(groups=True)``. See
            :func:`~sklcae.datasets.make_galaxy_variants`.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The fitted estimator.

        Raises
        ------
        TypeError
            If X or y is a file name, or a type whose units, masks or columns NumPy
            would drop, such as a Quantity or a Table of astropy.
        ValueError
            If a parameter, X, y, sample_weight or groups is not as described (a wrong
            variance or PSF is named by the row of its stamp), a target is missing for
            all images, `latent_dim` is not greater than the number of targets (and
            parameters of a profile), the "sersic" network or "simulation" lacks what it
            needs, `reconstruction_loss` is None without both of them,
            `checkpoint` holds another fit, the training diverges, or the loss of the
            held-out images is not finite; or if `gamma` is above 0 for an array that is
            not loaded.
        KeyboardInterrupt
            If the user interrupts. After any exception a model that was fitted before
            is unchanged.

        Warns
        -----
        ConvergenceWarning
            If R2 of a target is below 0.05 on the training set (a thousand images at
            most): it was not learned.
        UserWarning
            If pixels of one image set the range of all with ``limits="extremes"``, if
            long flat rows are taken for images of one row of pixels, if the stretch
            does not suit the network, or if images are empty, see `handle_empty`.

        Examples
        --------
        >>> from sklcae import ConditionalAutoencoderRegressor
        >>> from sklcae.datasets import make_galaxies, make_galaxy_variants
        >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
        >>> model = ConditionalAutoencoderRegressor(max_epochs=3, random_state=0)
        >>> model.fit(X, y).history_["epoch"]
        [1, 2, 3]

        The exchange loss takes pairs of images that differ in their targets only:

        >>> X, y, groups = make_galaxy_variants(
        ...     10, image_shape=(16, 16), random_state=0
        ... )
        >>> model.set_params(gamma=1.0).fit(X, y, groups=groups).n_targets_
        2
        """
        previous = None
        if self.warm_start and hasattr(self, "codec_"):
            previous = Fit(self.codec_, {"history": self.history_})
        settings = self._settings()
        monitor = FitMonitor(self, X, y, sample_weight, groups)
        fit = self._fit(X, y, sample_weight, groups, settings, previous, monitor)
        monitor.end(fit.attributes)
        self._adopt(fit.attributes())
        warn_if_not_learned(fit)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on a part of the data.

        The first call decides the scaling of images and targets, so its images should
        be typical. Later calls continue with the optimizer of the last call; after
        :meth:`fit` or :meth:`load` they begin with a new one. The learning rate is
        always `lr`, since the length of the training is unknown. :meth:`generate` and
        :meth:`score_samples` use the images of the last call only.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Physical parameters.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images, as for :meth:`fit`.
        groups : array-like of shape (n_samples,), default=None
            Labels of the images, as for :meth:`fit`.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            As for :meth:`fit`; with `early_stopping` or `checkpoint`; and if images or
            targets do not have the form of the first call.

        Examples
        --------
        >>> from sklcae import ConditionalAutoencoderRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> X, y = make_galaxies(40, image_shape=(16, 16), random_state=0)
        >>> model = ConditionalAutoencoderRegressor(random_state=0)
        >>> for part in (slice(0, 20), slice(20, 40)):
        ...     model = model.partial_fit(X[part], y[part])
        >>> model.n_iter_
        2
        """
        for name in ("early_stopping", "checkpoint"):
            if getattr(self, name):
                raise ValueError(
                    f"partial_fit does not support {name}. Got "
                    f"{name}={getattr(self, name)!r}."
                )
        previous = None
        if hasattr(self, "codec_"):
            training = {"history": self.history_}
            if hasattr(self, "_optimizer_state_"):
                training["optimizer"] = self._optimizer_state_
            previous = Fit(self.codec_, training)
        settings = self._settings(max_epochs=1, lr_schedule="constant")
        monitor = FitMonitor(None, X, y, sample_weight, groups)
        fit = self._fit(X, y, sample_weight, groups, settings, previous, monitor)
        optimizer = fit.codec.net.get_optimizer_state()
        return self._adopt(fit.attributes() | {"_optimizer_state_": optimizer})

    def _settings(self, **changed):
        # The parameters of this class: a subclass may set some of them itself.
        names = ConditionalAutoencoderRegressor._get_param_names()
        values = {name: getattr(self, name) for name in names}
        return SimpleNamespace(**(values | changed))

    def _fit(self, X, y, sample_weight, groups, settings, previous, monitor):
        """Validate and train, without a change to this object."""
        check_device(self.device)
        check_callbacks(self.callbacks)
        layout = None if previous is None else previous.codec.layout
        with rows_to_train_on(X) as rows:
            data = check_training_data(self, rows, y, sample_weight, groups, layout)
            self._check_test_time_augmentation(data.layout)
            checkpoint = open_checkpoint(settings, data, previous)
            return fit_codec(data, settings, monitor, checkpoint, previous)

    def _adopt(self, attributes):
        vars(self).update(attributes)
        for name in set(FITTED_ATTRIBUTES) - set(attributes):
            vars(self).pop(name, None)
        return self

    def __sklearn_is_fitted__(self):
        return hasattr(self, "codec_")

    net_ = part_of("codec_.net")
    image_shape_ = part_of("codec_.layout.image_shape")
    image_scaler_ = part_of("codec_.image_scaler")
    target_scaler_ = part_of("codec_.target_scaler")
    target_names_ = part_of("codec_.layout.target_names")
    n_targets_ = part_of("codec_.layout.n_targets")
    n_features_in_ = part_of("codec_.layout.n_features")
    pixel_scale_ = part_of("codec_.pixel_scale")
    gain_ = part_of("codec_.gain")

    target_range_ = part_of("codec_.training_range.targets")

    @property
    def psf_(self) -> Floats | None:
        """The effective PSF of all stamps, (n_bands, H, W), or None."""
        psf = self.codec_.psf
        return None if psf is None else psf[0]

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the columns of X, if they are all strings."""
        names = self.codec_.layout.feature_names
        if names is None:
            raise AttributeError("X had no column names in fit.")
        return np.asarray(names, dtype=object)

    @property
    def n_iter_(self) -> int:
        """Number of epochs in the history."""
        return len(self.history_["epoch"])

    @by_blocks
    def transform(self, X: ArrayLike) -> Floats:
        """Encode images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.

        Returns
        -------
        Z : ndarray of shape (n_samples, latent_dim)
            The latents, z_phy (standardised targets) first, then z_rest.

        Raises
        ------
        ValueError
            If the images do not have the shape of the training set, or are not finite.

        Examples
        --------
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> Z = model.transform(X)
        >>> Z.shape
        (3, 8)
        >>> model.get_feature_names_out()
        array(['flux', 'half_light_radius', 'sersic_index', 'e1', 'e2', 'x0',
               'y0', 'z_rest0'], dtype=object)
        """
        images = self._check_images(X)
        return self.codec_.encode(images).astype(images.dtype, copy=False)

    @overload
    def predict(self, X: ArrayLike, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[True]
    ) -> tuple[Floats, Floats]: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: bool
    ) -> Floats | tuple[Floats, Floats]: ...

    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> Floats | tuple[Floats, Floats]:
        """Predict the physical parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.
        return_std : bool, default=False
            Whether to return the standard deviation of the targets too. Needs a model
            that was fitted with ``physical_loss="gaussian_likelihood"``.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Parameters in the units of y in fit: one latent each, or its mean over the
            turns of `test_time_augmentation`. For `log_targets` it is the exponential
            of the predicted logarithm, which is the median.
        y_std : ndarray of the shape of y
            Standard deviation of each, in the same units. Only with
            ``return_std=True``. NaN for images outside the training set, see
            :meth:`is_outside`. For a mean over turns, each error is assumed to be the
            sum of a part common to all turns and an independent part. For `log_targets`
            see :meth:`predict_interval` too: their distribution is not symmetric.

        Raises
        ------
        TypeError
            If X is a file name, a Quantity or a Table.
        ValueError
            If the images do not have the shape of the training set or are not finite,
            if the model predicts no standard deviation, or if `test_time_augmentation`
            is set and the effect of a turn on some target is unknown.

        Warns
        -----
        OutsideTrainingWarning
            If images are outside the training set, see :meth:`is_outside`.

        Examples
        --------
        >>> import numpy as np
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> y_pred, y_std = model.predict(X, return_std=True)
        >>> y_pred.shape, y_std.shape
        ((3, 7), (3, 7))
        >>> np.abs(y_pred - y).max(axis=0) < 5 * y_std.max(axis=0)
        array([ True,  True,  True,  True,  True,  True,  True])
        """
        if return_std:
            self._check_predicts_variance("return_std=True")
        targets = self._read_targets(X)
        y = self._like_y(targets.median())
        return (y, self._like_y(targets.std())) if return_std else y

    @by_blocks
    def _predict_once(self, X):
        """Predict without turns and warnings: a start for profile fits."""
        targets = self.codec_.read_targets(self._check_images(X))
        return self._like_y(targets.median())

    def predict_interval(
        self, X: ArrayLike, coverage: float = 0.68
    ) -> tuple[Floats, Floats]:
        """Predict central intervals of the physical parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.
        coverage : float, default=0.68
            The probability that an interval contains the parameter, above 0 and below
            1.

        Returns
        -------
        lower, upper : ndarrays of shape (n_samples,) or (n_samples, n_targets)
            Ends of the intervals in the units of y in fit; NaN where the standard
            deviation of :meth:`predict` is. They are symmetric about the prediction,
            for `log_targets` in the logarithm.

        Raises
        ------
        ValueError
            If `coverage` is not between 0 and 1, or as in :meth:`predict` with
            ``return_std=True``.

        Warns
        -----
        OutsideTrainingWarning
            As in :meth:`predict`.

        Examples
        --------
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> lower, upper = model.predict_interval(X, coverage=0.95)
        >>> lower.shape
        (3, 7)
        >>> ((lower < y) & (y < upper))[:, 0]
        array([ True,  True,  True])
        """
        self._check_predicts_variance("predict_interval")
        check_coverage(coverage)
        lower, upper = self._read_targets(X).interval(coverage)
        return self._like_y(lower), self._like_y(upper)

    @by_blocks
    def is_outside(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Find images outside the range of the training set.

        The smallest pixel of an image, the largest pixel above it, the mean difference
        of neighbouring pixels (the noise), the largest difference of a pixel from its
        neighbours (a hot pixel, a cosmic ray) and the share of masked pixels are
        compared with their ranges over the training set, widened by some room: for
        example, twice as bright as the brightest is inside. The noise of a plane
        "variance" may be 1.5 times larger or smaller, and the width of a plane "psf"
        1.15 times, than in the training set. This finds images in another unit, empty
        images, bad pixels, a sky that was not subtracted, and another seeing. It does
        not find galaxies of another kind, see :meth:`score_samples`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.

        Returns
        -------
        outside : ndarray of shape (n_samples,), bool
            True for images outside, and for images without a pixel that is not masked.

        Raises
        ------
        ValueError
            If the images do not have the shape of the training set, or are not finite.

        Examples
        --------
        An image in another unit is outside:

        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> X[0, 0] *= 1000
        >>> model.is_outside(X)
        array([ True, False, False])
        """
        return self.codec_.is_outside(self._check_images(X))

    @by_blocks
    def flags(self, X: ArrayLike) -> Bunch:
        """Flag the stamps whose predictions are not to be trusted.

        The flags have the names and the meaning of :meth:`ProfileFitRegressor.flags`.
        With ``network="sersic"`` they come from chi-square at the predictions, with a
        free background, without a fit: "not_converged" means that a step of a fit would
        move a parameter by more than two of its errors, predicted or of chi-square.

        Other networks have the flags "no_pixels", "masked", "saturated", "poor_fit",
        where chi-square is larger than for all images that are kept of the training
        set, and "outside_training". Their other flags are always False.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.

        Returns
        -------
        flags : :class:`~sklearn.utils.Bunch`
            Bool arrays of shape (n_samples,), the columns of a DataFrame.

        Raises
        ------
        ValueError
            If the images do not have the shape of the training set, or are not finite.

        Examples
        --------
        The core of the first small galaxy is masked, and the second is saturated:

        >>> import numpy as np
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, half_light_radius=0.8, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> model.allow_nan = True
        >>> X[0, 0, 30:35, 30:35] = np.nan
        >>> X[1, 0] = np.minimum(X[1, 0], X[1, 0].max() / 2)
        >>> flags = model.flags(X)
        >>> flags["masked"], flags["saturated"]
        (array([ True, False, False]), array([False,  True, False]))
        """
        images = self._check_images(X)
        return Bunch(**flag_predictions(self.codec_, images))

    def adapt(
        self, X: ArrayLike, y: ArrayLike | None = None, random_state: RandomState = None
    ) -> Self:
        """Adapt a fitted model to the stamps of another survey.

        All weights are trained at a low rate for a few epochs, on three kinds of
        stamps: those of X, new galaxies on the PSFs and noise maps of X and with the
        backgrounds left on X, and galaxies like those of the first training on planes
        like theirs, so that the model remembers these. If the stamps have another pixel
        scale or gain, call :meth:`rescale` first. A later `fit` with `warm_start`, or
        `partial_fit`, trains the errors anew and forgets their scale.

        Parameters
        ----------
        X : array-like of shape (n_samples, C, H, W)
            Stamps of the other survey, a hundred or more, with the `planes` of the fit.
        y : array-like of shape (n_samples, n_targets), default=None
            Their parameters; NaN is an unknown target. A quarter of the stamps whose
            parameters are all known is held out, and the predicted errors are scaled
            so that they hold about 68 % of these; with few such stamps the scale stays
            closer to 1. With fewer than 38 such stamps none is held out. Without y the
            parameters of profile fits of a thousand stamps at most take the place of
            labels; they come from the PSFs and the noise of the stamps. The errors are
            not scaled then.
        random_state : int, RandomState instance or None, default=None
            Source of the new galaxies and of the stamps held out.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The adapted model. The new epochs are at the end of `history_`.

        Raises
        ------
        ValueError
            If galaxies cannot be simulated for the model: it has neither the "sersic"
            network nor "simulation", no gain, or a parameter of the profile that is no
            target. If X or y is not like those of the fit; if y is None and all profile
            fits fail. After any exception the model is unchanged.

        Warns
        -----
        UserWarning
            If profile fits of some stamps contradict y, which another unit or another
            order of its rows causes; or if pixels of some stamps are far beyond those
            of the others, as in :meth:`fit`.

        Examples
        --------
        >>> from sklcae import load_pretrained
        >>> from sklcae.survey import open_stamps
        >>> model = load_pretrained("ground").rescale(pixel_scale=0.27, gain=4.0)
        >>> stamps = open_stamps("my_survey.zarr")  # doctest: +SKIP
        >>> model.adapt(stamps[:1000], random_state=0)  # doctest: +SKIP
        >>> model.save("my_survey.sklcae")  # doctest: +SKIP
        """
        check_is_fitted(self)
        self._validate_params()
        codec = self.codec_
        check_device(self.device)
        check_adaptable(codec, self.gain)
        if y is None:
            n = len(self._check_images(X))
            y = np.full((n, codec.layout.n_targets), np.nan)
        data = check_training_data(self, X, y, None, None, codec.layout)
        seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
        codec, history = adapt_codec(codec, data, self, self.history_, seed)
        return self._adopt({"codec_": codec, "history_": history})

    def rescale(
        self, pixel_scale: float | None = None, gain: ArrayLike | None = None
    ) -> Self:
        """Change the units of a fitted model to those of other stamps.

        The "sersic" network works in pixels and electrons. So a model for stamps with
        one pixel scale and gain also reads stamps with others, as long as they are
        within its training set in pixels and electrons: the radii in pixels, the width
        of the PSF in pixels, and the noise in electrons. Nothing is trained.

        Parameters
        ----------
        pixel_scale : float, default=None
            Side of a pixel of the other stamps, in the unit of the half-light radius.
            None leaves it unchanged.
        gain : float or array-like of shape (n_bands,), default=None
            Electrons for each unit of light in the other stamps. Predicted fluxes are
            then in this unit of light. None leaves it unchanged.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The model with other scalers and another training range. The parameters
            `pixel_scale` and `gain` are set, and with them a `psf` that is a width,
            which stays the same in pixels, and `softening`.

        Raises
        ------
        ValueError
            If `pixel_scale` or `gain` is not positive, or so large or small that the
            noise leaves the range of its type; if the model was fitted with
            neither the "sersic" network nor "simulation", or `gain` is given for a
            model that was fitted with None; if `gain` is not the same multiple of the
            gains of all bands.

        Examples
        --------
        Stamps of a camera with pixels of 0.27 arcsec, in ADU of 4 electrons:

        >>> import numpy as np
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground").rescale(pixel_scale=0.27, gain=4.0)
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, pixel_scale=0.27, gain=4.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> y_pred, y_std = model.predict(X, return_std=True)
        >>> (np.abs(y_pred - y) < 5 * y_std).all()
        np.True_
        """
        check_is_fitted(self)
        given = {"pixel_scale": pixel_scale, "gain": gain}
        given = {name: value for name, value in given.items() if value is not None}
        validate_parameter_constraints(
            {name: self._parameter_constraints[name] for name in given},
            given,
            "rescale",
        )
        codec = rescaled(self.codec_, pixel_scale, gain)
        if pixel_scale is not None:
            ratio = pixel_scale / self.codec_.pixel_scale
            given["psf"] = rescaled_width(self.psf, ratio)
        if self.softening is not None:
            given["softening"] = codec.image_scaler.softening
        self.set_params(**given)
        self.codec_ = codec
        self.__dict__.pop("_optimizer_state_", None)
        return self

    def score(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return R2 of the predictions, the mean over the targets.

        Missing targets are left out, see :func:`~sklcae.metrics.known_r2_score`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            True parameters, NaN where unknown.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images.

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
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     20, x0=(28.0, 36.0), y0=(28.0, 36.0), random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> round(model.score(X, y), 1)
        1.0
        """
        check_is_fitted(self)
        check_same_targets(y, self.codec_.layout)
        return known_r2_score(y, self.predict(X), sample_weight=sample_weight)

    def _check_predicts_variance(self, wanted):
        check_is_fitted(self)
        if not self.codec_.predicts_variance:
            raise ValueError(
                f"{wanted} needs a model that was fitted with physical_loss="
                "'gaussian_likelihood'. Got one that was fitted with 'squared_error', "
                "which predicts no standard deviation."
            )

    def _read_targets(self, X):
        """Return the `TargetDistribution` of images, with a warning if needed."""
        check_is_fitted(self)
        layout = self.codec_.layout
        self._check_test_time_augmentation(layout)
        turns = symmetry_of(layout, self) if self.test_time_augmentation else None

        def read(block, rows):
            images = self._check_images(block)
            targets = self.codec_.read_targets(images, turns)
            return targets.mean, targets.variance, targets.outside, images.is_empty

        if has_no_rows(X):
            results = without_rows(read(self._stand_in(X), None))
        else:
            results = over_blocks(X, read)
        mean, variance, is_outside, is_empty = results
        outside = np.flatnonzero(is_outside & ~is_empty)
        if len(outside):
            warn_user(
                f"{len(outside)} of {len(mean)} images are outside the range of the "
                f"training set, the first in row {outside[0]}: in the brightness of "
                "their pixels, their noise, their PSF or their masked share. Do not "
                "trust their predictions; their standard deviations are NaN. See "
                "is_outside.",
                OutsideTrainingWarning,
            )
        logarithmic = self.target_scaler_.logarithmic
        return TargetDistribution(mean, variance, logarithmic, is_outside)

    def _like_y(self, y):
        return y.ravel() if self.codec_.layout.y_ndim == 1 else y

    def _check_test_time_augmentation(self, layout):
        if not self.test_time_augmentation:
            return
        # All of it may have been set on the fitted model.
        self._validate_params()
        if self.augmentation is None:
            raise ValueError(
                "The 'test_time_augmentation' parameter of "
                "ConditionalAutoencoderRegressor must be False without 'augmentation', "
                "which names the flips and turns. Got "
                f"{self.test_time_augmentation!r} instead."
            )
        check_turnable(
            layout.target_names,
            self.invariant_targets,
            "test_time_augmentation=True",
            "set it to False",
        )

    def generate(
        self,
        y: ArrayLike,
        random_state: RandomState = None,
        psf: ArrayLike | None = None,
    ) -> Floats:
        """Make images with wanted parameters.

        The decoder takes the wanted targets, and the z_rest of an image of the training
        set, drawn from the ten with the nearest targets (among a thousand images at
        most). Train with `gamma` above 0, so that the images have the wanted
        parameters.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            The wanted targets, in the units of y in fit.
        random_state : int, RandomState instance or None, default=None
            Source of the choice.
        psf : array-like of shape (h, w), (n_samples, h, w) or \
                (n_samples, n_bands, h, w), default=None
            The effective PSF of all images or of each, as in
            :func:`~sklcae.stack_planes`. Needed by models with a "psf" among their
            `planes`. None takes the parameter `psf` of the fit. Only for models that
            read PSFs.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Noiseless images in the unit and the layout of the training set; of shape
            (n_samples, n_bands, H, W) if it has other `planes` than images.

        Raises
        ------
        ValueError
            If the PSF is missing, not needed or not as described; if y is not finite or
            overflows when it is scaled, does not have `n_targets_` columns, has other
            column names than y in fit, is not positive for one of `log_targets`, or has
            an ellipticity (e1, e2) that is not below 1.

        Warns
        -----
        OutsideTrainingWarning
            If a target is outside `target_range_` by more than a hundredth of it.

        Examples
        --------
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> model.target_names_
        ['flux', 'half_light_radius', 'sersic_index', 'e1', 'e2', 'x0', 'y0']
        >>> wanted = [[20_000.0, 1.0, 1.0, 0.3, 0.0, 32.0, 32.0]]
        >>> images = model.generate(wanted, psf=X[0, 2], random_state=0)
        >>> images.shape, round(images.sum(), -3)
        ((1, 1, 64, 64), np.float32(20000.0))
        """
        check_is_fitted(self)
        layout = self.codec_.layout
        y = check_wanted_targets(self, y, layout)
        psf = check_psf_of_images(psf, len(y), layout, self.codec_.psf)
        images = self.codec_.generate(y, psf, check_random_state(random_state))
        self._warn_of_targets(y)
        return self._like_X(images)

    def _warn_of_targets(self, y):
        outside = self.codec_.training_range.targets_outside(y)
        columns = np.flatnonzero(outside.any(axis=0))
        if not len(columns):
            return
        names = self.target_names_ or range(self.n_targets_)
        low, high = self.target_range_
        ranges = ", ".join(f"{names[i]!r}: {low[i]:g} to {high[i]:g}" for i in columns)
        warn_user(
            f"{outside.any(axis=1).sum()} of {len(y)} rows of y are outside the range "
            f"of the training set ({ranges}). Their images may not have these targets.",
            OutsideTrainingWarning,
        )

    @by_blocks
    def score_samples(self, X: ArrayLike) -> Floats:
        """Score how similar images are to the training set.

        An image is described by its latents, by their predicted variances if there are
        any, and by two misfits of its reconstruction: the mean of the squared residuals
        over the variance of the noise (as in the "chi_square" loss), pixel by pixel and
        summed in boxes of 5 x 5. The score is minus the Mahalanobis distance of this
        description from the descriptions of images of the training set (a thousand at
        most), with logarithms of variances and misfits [1]_ and a shrunk covariance
        [2]_. Unusual images, such as blends, stars or images without a galaxy, have
        low scores. Images outside the training set, see :meth:`is_outside`, have lower
        scores than all of those images. Compare with the scores of images that you
        trust, for instance with their percentile of 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The higher, the more normal, as in scikit-learn's outlier detectors.

        Raises
        ------
        ValueError
            If the images do not have the shape of the training set, or are not finite.

        References
        ----------
        .. [1] K. Lee, K. Lee, H. Lee and J. Shin, "A Simple Unified Framework for
           Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS
           2018.
        .. [2] O. Ledoit and M. Wolf, "A Well-Conditioned Estimator for
           Large-Dimensional Covariance Matrices", Journal of Multivariate Analysis
           88, 365 (2004).

        Examples
        --------
        A stamp with a second galaxy beside the first is less like the training set:

        >>> import numpy as np
        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> blend = X[:1].copy()
        >>> blend[0, 0] += np.roll(X[0, 0], 9, axis=1)
        >>> model.score_samples(blend) < model.score_samples(X[:1])
        array([ True])
        """
        images = self._check_images(X)
        return self.codec_.score(images)

    def inverse_transform(self, Z: ArrayLike, psf: ArrayLike | None = None) -> Floats:
        """Decode latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            The latents, as :meth:`transform` returns them.
        psf : array-like of shape (h, w), (n_samples, h, w) or \
                (n_samples, n_bands, h, w), default=None
            The effective PSF of all images or of each, as in
            :func:`~sklcae.stack_planes`. Needed by models with a "psf" among their
            `planes`. None takes the parameter `psf` of the fit. Only for models that
            read PSFs.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Images in the unit and the layout (flat or not) of the training set, of
            shape (n_samples, n_bands, H, W) if it has other `planes` than images;
            float32 if the training set was, else float64.

        Raises
        ------
        ValueError
            If the PSF is missing, not needed or not as described; if Z does not have
            `latent_dim` finite columns, or has other column names than
            :meth:`get_feature_names_out`.

        Examples
        --------
        The first latent is the logarithm of the flux:

        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> Z = model.transform(X)
        >>> images = model.inverse_transform(Z, psf=X[:, 2])
        >>> Z[:, 0] += 0.1
        >>> brighter = model.inverse_transform(Z, psf=X[:, 2])
        >>> images.shape, brighter.sum() > images.sum()
        ((3, 1, 64, 64), np.True_)
        """
        check_is_fitted(self)
        latents = check_latents(self, Z, self.get_feature_names_out())
        codec = self.codec_
        psf = check_psf_of_images(psf, len(latents), codec.layout, codec.psf)
        return self._like_X(self.codec_.decode(latents, psf))

    @by_blocks
    def reconstruct(self, X: ArrayLike) -> Floats:
        """Encode images and decode them again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of the training set.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, ...)
            Images in the unit and the layout of the training set; of shape
            (n_samples, n_bands, H, W), each with the PSF of its stamp, if it has other
            `planes` than images.

        Raises
        ------
        ValueError
            If the images do not have the shape of the training set, or are not finite.

        Examples
        --------
        The residuals have about the variance of the noise:

        >>> from sklcae import load_pretrained
        >>> from sklcae.datasets import make_galaxies
        >>> model = load_pretrained("ground")
        >>> X, y = make_galaxies(
        ...     3, x0=32.0, y0=32.0, random_state=0,
        ...     planes=model.planes, targets=model.target_names_,
        ... )
        >>> residuals = X[:, :1] - model.reconstruct(X)
        >>> variance = X[:, 1:2] + model.reconstruct(X)
        >>> (residuals**2 / variance).mean(axis=(1, 2, 3)).round(1)
        array([1., 1., 1.], dtype=float32)
        """
        images = self._check_images(X)
        return self._like_X(self.codec_.reconstruct(images))

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> NDArray[np.object_]:
        """Name the latents.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X. They do not change the result, and are only
            compared with the names in fit.

        Returns
        -------
        names : ndarray of shape (latent_dim,), dtype object
            The names of the targets if y had names, else z_phy0, z_phy1, ...; then
            z_rest0, z_rest1, ...

        Raises
        ------
        ValueError
            If `input_features` are not the columns of X in fit.

        Examples
        --------
        >>> from sklcae import load_pretrained
        >>> load_pretrained("ground").get_feature_names_out()
        array(['flux', 'half_light_radius', 'sersic_index', 'e1', 'e2', 'x0',
               'y0', 'z_rest0'], dtype=object)
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
        phy = self.target_names_ or [f"z_phy{i}" for i in range(self.n_targets_)]
        rest = [f"z_rest{i}" for i in range(self.codec_.architecture.n_rest)]
        return np.asarray([*phy, *rest], dtype=object)

    def _stand_in(self, X):
        """Return one stamp in the place of none, whose form is checked."""
        check_is_fitted(self)
        check_images(self, X, self.codec_.layout)
        return np.ones((1, self.n_features_in_), getattr(X, "dtype", np.float64))

    def _check_images(self, X):
        """Return checked images (n, C, H, W) for the fitted model."""
        check_is_fitted(self)
        return check_images(self, X, self.codec_.layout)

    def _like_X(self, images):  # noqa: N802
        layout = self.codec_.layout
        if len(layout.planes) > 1:
            return images
        return images.reshape(len(images), *layout.sample_shape)

    def __dask_tokenize__(self):
        return token_of(self)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = bool(self.allow_nan)
        # For any y that is no parameter of a profile, its images contradict it.
        tags.regressor_tags.poor_score = self.network == "sersic"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def save(self, path: File) -> None:
        """Save the fitted model to one file that is safe to load.

        The file holds the weights as `safetensors` and the rest as JSON, and no code.
        It replaces an older file of that name in one step; if the process is killed, a
        file ``.sklcae-<16 digits>.tmp`` may be left beside it. A file that may not be
        written to is refused as by ``open(path, "wb")``. A replaced file keeps its
        permissions, and its owner and group where the system allows it; a hard link to
        it keeps the old content. `checkpoint` is not in
        the file. A model with a network of your own can be saved after
        :func:`~sklcae.networks.register_network`.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        TypeError
            If the model is of another class, or has an attribute that is not plain.
        ValueError
            If the network is a callable that is not registered.
        OSError
            If the file cannot be written; an older file is then unchanged.

        Warns
        -----
        UserWarning
            If a parameter is not a plain value, such as `callbacks` or a RandomState.
            The loaded model has its default.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklcae import ConditionalAutoencoderRegressor, load_pretrained
        >>> model = load_pretrained("ground")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.sklcae"
        ...     model.save(path)
        ...     loaded = ConditionalAutoencoderRegressor.load(path)
        >>> loaded.target_names_ == model.target_names_
        True
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
        model : ConditionalAutoencoderRegressor
            The fitted model. It predicts bitwise the same as the saved model.

        Raises
        ------
        ModelFileError
            If the file is not, to the last byte, a file that :meth:`save` could have
            written, or if its network is not registered.
        OSError
            If the file cannot be read.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from sklcae import ConditionalAutoencoderRegressor, load_pretrained
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.sklcae"
        ...     load_pretrained("ground").save(path)
        ...     model = ConditionalAutoencoderRegressor.load(path)
        >>> model.network, model.image_shape_
        ('sersic', (3, 64, 64))
        """
        from sklcae._storage.model import load_model

        return load_model(path, "ConditionalAutoencoderRegressor")

    def to_onnx(self, path: File) -> None:
        """Export the fitted model to one ONNX file.

        The file holds everything that :meth:`predict` does: raw stamps go in, and
        parameters and errors in the units of y come out. A runtime for ONNX reads it
        without Python, PyTorch or sklcae. It has standard operators only, and any
        number of stamps may be passed at a time.

        Inputs are float32. A model with images alone has the input ``image``, of the
        shape of X in fit. With other `planes` there is an input for each of them,
        ``image``, ``variance`` and ``psf``, of shape (n_samples, n_bands, H, W). The
        outputs are ``parameters``, float64 of shape (n_samples, n_targets); ``errors``
        of the same shape, for models that predict standard deviations; and ``outside``,
        bool of shape (n_samples,), see :meth:`is_outside`. The errors of stamps outside
        are NaN. `allow_nan` and `test_time_augmentation` decide the graph. Stamps that
        :meth:`predict` refuses, such as those with NaN without `allow_nan`, have NaN as
        parameters and are outside.

        Parameters
        ----------
        path : str or path-like
            The file. It is replaced as by :meth:`save`.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        ImportError
            If onnx or onnxscript is not installed.
        ValueError
            If a network of your own has operations that ONNX lacks, or depends on the
            number of stamps; if `test_time_augmentation` is set and the effect of a
            turn on some target is unknown.
        OSError
            If the file cannot be written; an older file is then unchanged.

        Notes
        -----
        The names and units of the targets, the planes, the pixel scale and the version
        of sklcae are in the metadata of the file. Pipelines are exported by
        :func:`sklcae.onnx.register`.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import onnxruntime as ort
        >>> from sklcae import ConditionalAutoencoderRegressor
        >>> from sklcae.datasets import make_galaxies
        >>> X, y = make_galaxies(20, image_shape=(16, 16), random_state=0)
        >>> model = ConditionalAutoencoderRegressor(max_epochs=2, random_state=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "model.onnx"
        ...     model.fit(X, y).to_onnx(path)
        ...     session = ort.InferenceSession(path)
        >>> parameters, outside = session.run(None, {"image": X})
        >>> np.allclose(parameters, model.predict(X), rtol=1e-4)
        True

        A model with planes and error bars has more inputs and outputs:

        >>> stamps = {"image": image, "variance": var, "psf": psf}  # doctest: +SKIP
        >>> y, y_std, is_outside = session.run(None, stamps)  # doctest: +SKIP
        """
        from sklcae._storage.archive import replace_file

        replace_file(path, self._exported().to_graph().SerializeToString())

    def _exported(self):
        """Return what `predict` depends on, for an ONNX graph."""
        from sklcae._onnx import Exported

        check_is_fitted(self)
        layout = self.codec_.layout
        self._check_test_time_augmentation(layout)
        turns = symmetry_of(layout, self) if self.test_time_augmentation else None
        return Exported(self.codec_, self.allow_nan, turns)

    def __getstate__(self):
        """Return a state of NumPy arrays and plain values, without live objects."""
        state = dict(super().__getstate__())
        if "codec_" in state:
            state["codec_"] = self.codec_.to_state()
        return state

    def __setstate__(self, state):
        super().__setstate__(state)
        if "codec_" in state:
            device = usable_device(self.device)
            self.codec_ = Codec.from_state(state["codec_"], device)
