"""The conditional autoencoder as a scikit-learn estimator."""

import warnings
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from sklcae._compat import Interval, StrOptions, _fit_context
from sklcae._images import (
    STRETCHES,
    ImageScaler,
    check_not_masked,
    flatten_images,
    resolve_image_shape,
)
from sklcae._targets import (
    check_turnable,
    dihedral_target_maps,
    target_names_of,
    turned_targets,
)
from sklcae._torch import NETWORKS, RECONSTRUCTION_LOSSES, build_net, check_device
from sklcae.exceptions import ImageShapeError

__all__ = ["ConditionalAutoencoderRegressor"]

# Stamps that are scaled at a time, so that inference needs no second copy of them.
CHUNK_SIZE = 1024

# Fitted attributes that are small objects; a state holds what they hold.
SCALERS = {"image_scaler_": ImageScaler, "target_scaler_": StandardScaler}


class ConditionalAutoencoderRegressor(
    RegressorMixin, TransformerMixin, MultiOutputMixin, BaseEstimator
):
    """Read physical parameters off galaxy images, and set them.

    A convolutional autoencoder compresses each image to `latent_dim` numbers. The
    first of them, z_phy, are supervised to be the (standardised) targets, one each;
    the others, z_rest, carry what is left. The decoder turns all of them back into an
    image. The loss is Eq. 2 of [1]_, ``L_rec + alpha * L_phy + beta * L_reg``, and the
    defaults are those of its appendix.

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
    network : {"paper"}, default="paper"
        The network. "paper" is that of the appendix of [1]_, for images of any shape.
    reconstruction_loss : {"binary_cross_entropy", "squared_error"}, \
            default="binary_cross_entropy"
        The reconstruction loss, of the image scaled to [0, 1]. The first is Eq. 3 of
        [1]_.
    stretch : {"linear", "asinh"}, default="linear"
        How pixels are scaled to [0, 1] by the minimum and the maximum of each channel
        over the training set: as they are, or after
        ``asinh((pixel - background) / softening)``, which lifts what is faint.
    softening : float, default=None
        Softening of the "asinh" stretch, in the unit of the images. None takes ten
        times the noise per pixel, estimated from the differences of neighbouring
        pixels; set it for images without noise. Has no part in the "linear" stretch.
    augmentation : {"dihedral"}, default=None
        "dihedral" gives every stamp, each time that it is used in training, one of the
        four flips or, where stamps are square, eight flips and quarter turns. The
        targets e1, e2, x0 and y0 (recognised by the column names of y) are turned
        along; with targets of which that is unknown, fit raises. x0 and y0 must be in
        pixels from the outer corner of the first pixel, as
        :func:`~sklcae.datasets.make_galaxies` has them, x0 along the columns.
    invariant_targets : "all" or list of str, default=None
        Names of further targets that stay what they are when an image is flipped or
        turned; "all" says so of all targets, named or not. Has a part in augmentation
        only. ``flux``, ``half_light_radius``, ``sersic_index`` and ``ellipticity``
        need not be listed.
    image_shape : tuple of int, default=None
        (H, W) or (C, H, W), channels first, the shape of the images in flat rows. None
        takes flat rows for squares where their length is a square number and else for
        images of one row of pixels.
    max_epochs : int, default=100
        Number of passes over the training set.
    batch_size : int, default=64
        Images for one step of the optimizer.
    lr : float, default=1e-3
        Learning rate of the Adam optimizer.
    device : str, default="cpu"
        Where fit trains, and the fitted model predicts, a name that PyTorch knows, such
        as "cuda". A pickled model is loaded to it, or to the CPU with a warning.
    random_state : int, RandomState instance or None, default=None
        Source of the first weights, of the order of the images and of their
        augmentation.
    verbose : int, default=0
        With 1, fit prints a line an epoch.

    Attributes
    ----------
    net_ : skorch.NeuralNet
        The trained net.
    history_ : dict of list
        One entry an epoch: ``epoch``, ``train_loss`` (Eq. 2), its terms
        ``reconstruction_loss``, ``physical_loss`` and ``regularization_loss`` before
        they are weighed, and ``duration`` in seconds.
    image_shape_ : tuple of int
        Channels, height and width.
    image_scaler_ : object
        What scales images to [0, 1], with ``softening_`` and ``background_``.
    target_scaler_ : StandardScaler
        What scales targets to mean 0 and variance 1.
    target_names_ : list of str or None
        Column names of y, None where it had none.
    n_targets_ : int
        Number of targets, the size of z_phy.
    n_iter_ : int
        Number of epochs that were run.
    n_features_in_ : int
        Number of values in an image, C * H * W.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, where they are all strings.

    Notes
    -----
    With an int `random_state`, two fits on the CPU of the same machine, with the same
    versions and number of threads, give the same weights. The prediction for an image
    does not depend on the other images that are passed along.

    References
    ----------
    .. [1] K. Leung, C. Yan and J. Yin, "A Generative Model for Disentangling Galaxy
       Photometric Parameters", section 3.1.1 and appendix.

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

    _parameter_constraints = {  # noqa: RUF012
        "latent_dim": [Interval(Integral, 2, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "network": [StrOptions(set(NETWORKS))],
        "reconstruction_loss": [StrOptions(set(RECONSTRUCTION_LOSSES))],
        "stretch": [StrOptions(set(STRETCHES))],
        "softening": [Interval(Real, 0, None, closed="neither"), None],
        "augmentation": [StrOptions({"dihedral"}), None],
        "invariant_targets": [StrOptions({"all"}), list, tuple, None],
        "image_shape": [list, tuple, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "device": [str],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        *,
        latent_dim=64,
        alpha=1.0,
        beta=1e-4,
        network="paper",
        reconstruction_loss="binary_cross_entropy",
        stretch="linear",
        softening=None,
        augmentation=None,
        invariant_targets=None,
        image_shape=None,
        max_epochs=100,
        batch_size=64,
        lr=1e-3,
        device="cpu",
        random_state=None,
        verbose=0,
    ):
        self.latent_dim = latent_dim
        self.alpha = alpha
        self.beta = beta
        self.network = network
        self.reconstruction_loss = reconstruction_loss
        self.stretch = stretch
        self.softening = softening
        self.augmentation = augmentation
        self.invariant_targets = invariant_targets
        self.image_shape = image_shape
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
        """Train the autoencoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images, in any linear unit; ADU for those of
            :func:`~sklcae.datasets.make_galaxies`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Physical parameters, in any units.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X or y is not as described, X or y has NaN, infinity or
            masked entries, `latent_dim` is not greater than the number of targets, or
            the training diverges. A model that was fitted before is then left as it
            was.
        """
        # All is done on a second, unfitted object: whatever interrupts the fit, this
        # one is what it was.
        fresh = type(self)(**self.get_params(deep=False))
        fresh._fit(X, y)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)
        fitted = {name: v for name, v in vars(fresh).items() if name.endswith("_")}
        vars(self).update(fitted)
        return self

    def _fit(self, X, y):
        images, y = self._validate_fit_input(X, y)
        rng = check_random_state(self.random_state)
        self.image_scaler_ = ImageScaler(self.stretch, self.softening).fit(images)
        target_maps = self._target_maps()
        self.target_scaler_ = _fit_target_scaler(y, target_maps)
        self._architecture_ = {
            "network": self.network,
            "image_shape": self.image_shape_,
            "n_targets": self.n_targets_,
            "latent_dim": self.latent_dim,
        }
        self.net_ = build_net(
            **self._architecture_,
            seed=int(rng.randint(np.iinfo(np.int32).max)),
            target_maps=self._scale_target_maps(target_maps),
            device=self.device,
            alpha=self.alpha,
            beta=self.beta,
            reconstruction_loss=self.reconstruction_loss,
            max_epochs=self.max_epochs,
            batch_size=int(self.batch_size),
            lr=self.lr,
            verbose=self.verbose,
        )
        self.net_.fit_arrays(
            self.image_scaler_.transform(images),
            self.target_scaler_.transform(y).astype(np.float32),
        )
        self.history_ = self.net_.history_table()
        self.n_iter_ = len(self.history_["epoch"])

    def _validate_fit_input(self, X, y):
        """Return images (n, C, H, W) and targets (n, n_targets), float64."""
        check_device(self.device)
        self._check_image_shape()
        check_not_masked(y, "y")
        self.target_names_ = target_names_of(y)
        X, shape = flatten_images(X)
        X, y = validate_data(
            self,
            X,
            y,
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
        )
        self.image_shape_ = resolve_image_shape(shape, X.shape[1], self.image_shape)
        self._input_shape_ = shape or X.shape[1:]
        self._y_ndim_ = y.ndim
        y = y.reshape(len(y), -1).astype(np.float64)
        self.n_targets_ = y.shape[1]
        if self.latent_dim <= self.n_targets_:
            raise ValueError(
                "The 'latent_dim' parameter of ConditionalAutoencoderRegressor must be "
                f"greater than the number of targets, which is {self.n_targets_}. Got "
                f"{self.latent_dim} instead."
            )
        if self.augmentation is not None:
            check_turnable(self.target_names_, self.invariant_targets)
        return X.reshape(len(X), *self.image_shape_), y

    def _check_image_shape(self):
        shape = self.image_shape
        if shape is None:
            return
        lengths_are_right = all(
            isinstance(length, Integral) and length > 0 for length in shape
        )
        if len(shape) not in (2, 3) or not lengths_are_right:
            raise ValueError(
                "The 'image_shape' parameter of ConditionalAutoencoderRegressor must "
                "be (H, W) or (C, H, W) with positive integers, or None. Got "
                f"{shape!r} instead."
            )

    def _target_maps(self):
        """Return what the augmentation does to the targets, in their own units."""
        if self.augmentation is None:
            return None
        return dihedral_target_maps(
            self.target_names_,
            self.n_targets_,
            self.image_shape_[1:],
            self.invariant_targets,
        )

    def _scale_target_maps(self, maps):
        """Return what the augmentation does to the standardised targets."""
        if maps is None:
            return None
        matrices, offsets = maps
        mean, scale = self.target_scaler_.mean_, self.target_scaler_.scale_
        scaled_offsets = (matrices @ mean + offsets - mean) / scale
        return matrices * scale / scale[:, None], scaled_offsets

    def transform(self, X):
        """Encode images.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of those that fit saw.

        Returns
        -------
        Z : ndarray of shape (n_samples, latent_dim)
            The latents, z_phy (standardised targets) first, then z_rest.

        Raises
        ------
        ValueError
            If the images are not of the shape that fit saw, or not finite.
        """
        check_is_fitted(self)
        images = self._validate_images(X)
        return self._encode(images).astype(images.dtype, copy=False)

    def predict(self, X):
        """Predict the physical parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of those that fit saw.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Parameters in the units of the y that fit saw, one latent each.

        Raises
        ------
        ValueError
            If the images are not of the shape that fit saw, or not finite.
        """
        check_is_fitted(self)
        z_phy = self._encode(self._validate_images(X))[:, : self.n_targets_]
        y = self.target_scaler_.inverse_transform(z_phy.astype(np.float64))
        return y.ravel() if self._y_ndim_ == 1 else y

    def inverse_transform(self, Z):
        """Decode latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, latent_dim)
            The latents, as :meth:`transform` returns them.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Images in the unit and the layout (flat or not) of those that fit saw;
            float32 if those were, else float64.

        Raises
        ------
        ValueError
            If Z does not have `latent_dim` finite columns, or names them otherwise
            than :meth:`get_feature_names_out` does.
        """
        check_is_fitted(self)
        self._check_latent_names(Z)
        Z = check_array(Z, dtype=np.float32, input_name="Z", estimator=self)
        latent_dim = self._architecture_["latent_dim"]
        if Z.shape[1] != latent_dim:
            raise ValueError(
                f"Z must have {latent_dim} columns, one for each latent of this "
                f"ConditionalAutoencoderRegressor. Got {Z.shape[1]} instead."
            )
        return self._decode(Z)

    def reconstruct(self, X):
        """Encode images and decode them again.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of those that fit saw.

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, ...)
            Images in the unit and the layout of those that fit saw.

        Raises
        ------
        ValueError
            If the images are not of the shape that fit saw, or not finite.
        """
        check_is_fitted(self)
        return self._decode(self._encode(self._validate_images(X)))

    def get_feature_names_out(self, input_features=None):
        """Name the latents.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used, present for scikit-learn's API.

        Returns
        -------
        names : ndarray of shape (latent_dim,), dtype object
            The names of the targets where y had names, else z_phy0, z_phy1, ...; then
            z_rest0, z_rest1, ...
        """
        check_is_fitted(self)
        phy = self.target_names_ or [f"z_phy{i}" for i in range(self.n_targets_)]
        n_rest = self._architecture_["latent_dim"] - self.n_targets_
        rest = [f"z_rest{i}" for i in range(n_rest)]
        return np.asarray([*phy, *rest], dtype=object)

    def _check_latent_names(self, Z):
        """Refuse a DataFrame whose columns are named, but not as the latents are."""
        names, expected = list(getattr(Z, "columns", ())), self.get_feature_names_out()
        named = names and all(isinstance(name, str) for name in names)
        if named and len(names) == len(expected) and names != list(expected):
            raise ValueError(
                "The columns of Z must be the latents in the order of "
                f"get_feature_names_out(), {_shorten(expected)}. Got "
                f"{_shorten(names)} instead."
            )

    def _validate_images(self, X):
        """Return images (n, C, H, W) that are as those that fit saw."""
        X, shape = flatten_images(X)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        if shape is not None and (1, *shape)[-3:] != self.image_shape_:
            raise ImageShapeError(
                f"X must hold images of the shape {self.image_shape_}, channels, "
                f"height and width, as fit saw them. Got {shape} instead."
            )
        return X.reshape(len(X), *self.image_shape_)

    def _encode(self, images):
        return np.concatenate(
            [
                self.net_.encode(self.image_scaler_.transform(images[rows]))
                for rows in gen_batches(len(images), CHUNK_SIZE)
            ]
        )

    def _decode(self, latents):
        images = np.concatenate(
            [
                self.image_scaler_.inverse_transform(self.net_.decode(latents[rows]))
                for rows in gen_batches(len(latents), CHUNK_SIZE)
            ]
        )
        return images.reshape(len(latents), *self._input_shape_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self):
        """Return a state of NumPy arrays and plain values, without live objects."""
        state = dict(super().__getstate__())
        if "net_" in state:
            state["net_"] = self.net_.get_weights()
            for name in SCALERS:
                state[name] = dict(vars(state[name]))
        if "feature_names_in_" in state:
            state["feature_names_in_"] = list(self.feature_names_in_)
        return state

    def __setstate__(self, state):
        state = dict(state)
        weights = state.pop("net_", None)
        for name, scaler_class in SCALERS.items():
            if name in state:
                values, state[name] = state[name], scaler_class()
                vars(state[name]).update(values)
        if "feature_names_in_" in state:
            names = state["feature_names_in_"]
            state["feature_names_in_"] = np.asarray(names, dtype=object)
        super().__setstate__(state)
        if weights is not None:
            # What inference does not need is left at skorch's defaults: parameters
            # may have been set anew since the fit.
            net = build_net(**self._architecture_, seed=0, device=self._usable_device())
            self.net_ = net.set_weights(weights)

    def _usable_device(self):
        try:
            check_device(self.device)
        except ValueError:
            warnings.warn(
                f"This model was made for the device {self.device!r}, which PyTorch "
                "cannot use here; it is loaded to the CPU.",
                UserWarning,
                stacklevel=3,
            )
            return "cpu"
        return self.device


def _fit_target_scaler(y, target_maps):
    """Fit to all targets that training sees, those of turned images among them."""
    with np.errstate(over="ignore", invalid="ignore"):
        seen = y if target_maps is None else turned_targets(y, target_maps)
        scaler = StandardScaler().fit(seen)
    if not np.isfinite([scaler.mean_, scaler.scale_]).all():
        raise ValueError(
            "y must have a finite mean and variance. Got values up to "
            f"{np.abs(y).max():g}, which overflow."
        )
    return scaler


def _shorten(names):
    names = list(names)
    return f"{names[:4]}..." if len(names) > 4 else f"{names}"
