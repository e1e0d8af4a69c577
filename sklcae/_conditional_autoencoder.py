"""The conditional autoencoder as a scikit-learn estimator."""

import os
import warnings
from functools import partial
from numbers import Integral, Real

import numpy as np
from sklearn.base import (
    BaseEstimator,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.preprocessing import StandardScaler
from sklearn.utils import (
    check_array,
    check_consistent_length,
    check_random_state,
    gen_batches,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from sklcae._checkpoint import open_checkpoint
from sklcae._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    _check_feature_names_in,
    _fit_context,
)
from sklcae._fit_monitor import FitMonitor
from sklcae._images import (
    STRETCHES,
    ImageScaler,
    check_nan_pixels,
    check_not_masked,
    fill_masked,
    flatten_images,
    masked_to_nan,
    resolve_image_shape,
)
from sklcae._reference import Reference, evenly_spaced, misfits_of
from sklcae._targets import (
    check_turnable,
    dihedral_target_maps,
    mean_over_turns,
    target_names_of,
    turned_targets,
)
from sklcae._torch import (
    LR_SCHEDULES,
    NETWORKS,
    OPTIMIZERS,
    PHYSICAL_LOSSES,
    RECONSTRUCTION_LOSSES,
    EpochHook,
    build_net,
    check_callbacks,
    check_device,
    make_pixel_scale,
)
from sklcae._training_data import (
    FitData,
    check_groups,
    check_sample_weight,
    check_some_exchange,
    check_some_targets,
    check_some_together,
    hold_out,
    leave_out_weightless,
    make_stamps,
)
from sklcae.exceptions import ImageShapeError

__all__ = ["ConditionalAutoencoderRegressor"]

# Fitted attributes that are small objects; a state holds what they hold.
SCALERS = {"image_scaler_": ImageScaler, "target_scaler_": StandardScaler}
# Images of which reconstructions, and copies in float64, are held at the same time.
DESCRIBED_AT_ONCE = 64


class ConditionalAutoencoderRegressor(
    CallbackSupportMixin,
    RegressorMixin,
    TransformerMixin,
    MultiOutputMixin,
    BaseEstimator,
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
    gamma : float, default=0.0
        Weight of the exchange loss, which makes the latents set what they are
        supervised to be; it is not in [1]_, of which 0 is the loss. Above 0, fit needs
        `groups`: images of one group differ in their targets only. The decoder is given
        the targets of one of them and the z_rest of another, and its image is compared
        with the first one's by the reconstruction loss. See
        :func:`~sklcae.datasets.make_galaxy_variants`.
    network : {"paper", "strided", "neural_field"}, default="paper"
        The network, for images of any shape. "paper" is that of the appendix of [1]_.
        "strided" has the same decoder and a deeper encoder, strided convolutions whose
        features are pooled over the image. It is made for ``stretch="asinh"``, for
        many targets and for a falling learning rate. "neural_field" has that encoder,
        and a decoder that draws one galaxy, and one only, as a function of the place in
        it; it is made for ``stretch="asinh"`` too.
    reconstruction_loss : {"binary_cross_entropy", "squared_error", "chi_square"}, \
            default="binary_cross_entropy"
        The reconstruction loss. The first is Eq. 3 of [1]_, of the image scaled to
        [0, 1], as is the second. "chi_square" is half the squared difference in the
        unit of the images over the variance of its noise: that of empty pixels,
        estimated from the training set, and the Poisson noise of the light, which is
        what is above the median pixel of the training set (of a thousand or so of its
        images), the sky.
    gain : float, default=1.0
        Electrons for each unit of light in the images, which the Poisson noise depends
        on; a very large number leaves the noise of empty pixels alone. Has a part in
        the "chi_square" loss and in `score_samples` only.
    physical_loss : {"squared_error", "gaussian_likelihood"}, default="squared_error"
        The physical loss. The first is Eq. 4 of [1]_. With the second the network also
        predicts the variance of each target, which ``predict(X, return_std=True)``
        returns, and each error is weighed by it [5]_.
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
    test_time_augmentation : bool, default=False
        Whether predictions are means over all flips and turns of an image, each turned
        back [6]_. They then turn with the image, whatever the network does, and err
        less, at eight times the cost (four where images are not square). Needs
        `augmentation`. `transform`, `reconstruct` and `score_samples` take the image as
        it is. It may be set on a fitted model.
    image_shape : tuple of int, default=None
        (H, W) or (C, H, W), channels first, the shape of the images in flat rows. None
        takes flat rows for squares where their length is a square number and else for
        images of one row of pixels.
    allow_nan : bool, default=False
        Whether NaN in X (or a masked entry of a NumPy masked array) is a masked pixel,
        such as one of a dead column or under a cosmic ray. Masked pixels enter neither
        the reconstruction loss nor the scaling; for the network they are filled from
        their neighbours, in prediction too. It may be set on a fitted model. With
        False they are refused.
    max_epochs : int, default=100
        Number of passes over the training set.
    batch_size : int, default=64
        Images for one step of the optimizer.
    optimizer : {"adam", "adamw"}, default="adam"
        The optimizer, Adam [2]_ or AdamW with decoupled weight decay [3]_.
    lr : float, default=1e-3
        Learning rate of the optimizer, the highest one of the "one_cycle" schedule.
    lr_schedule : {"constant", "one_cycle"}, default="constant"
        "one_cycle" raises the learning rate from a twenty-fifth of `lr` to `lr` in the
        first three tenths of the steps, and lowers it to nearly nothing in the others
        [4]_.
    weight_decay : float, default=0.0
        Weight decay of the optimizer: with "adam" an L2 penalty that is added to the
        gradient, with "adamw" the share, times the learning rate, by which each step
        shrinks the weights.
    early_stopping : bool, default=False
        Whether to hold out a share of the training set, to stop when its loss (Eq. 2)
        no longer falls, and to take the weights of its best epoch.
    validation_fraction : float, default=0.1
        The share that is held out. Has a part in early stopping only.
    n_iter_no_change : int, default=10
        Number of epochs in which the loss of the held-out share may fail to fall by
        `tol`. Has a part in early stopping only.
    tol : float, default=1e-4
        See `n_iter_no_change`.
    warm_start : bool, default=False
        Whether fit goes on from the weights, the scaling and the history of the fit
        before, for another `max_epochs` epochs, with a new optimizer.
    callbacks : list, default=None
        List of skorch callbacks, or of tuples of a name and a callback. They are
        used as they are, not copied. For the callbacks of scikit-learn itself see
        `set_callbacks`.
    checkpoint : str or path-like, default=None
        File that fit writes after every epoch. Where it exists already and is of the
        same fit (same data, parameters and version of sklcae; only `verbose`, `device`
        and `test_time_augmentation` may differ, and `max_epochs` with a constant
        `lr_schedule`), fit goes on after its last epoch
        and ends, bit for bit on the same machine, where it would have ended without the
        interruption. The file stays, and a file of another fit is refused.
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
        ``reconstruction_loss``, ``physical_loss``, ``regularization_loss`` and, with
        `gamma`, ``exchange_loss``, before they are weighed, with early stopping the
        ``validation_loss`` (Eq. 2), and ``duration`` in seconds.
    best_epoch_ : int
        The epoch that the weights are of, with `early_stopping` only.
    image_shape_ : tuple of int
        Channels, height and width.
    image_scaler_ : object
        What scales images to [0, 1], with ``softening_``, ``background_``, and the
        ``sky_`` and ``noise_`` of each channel.
    target_scaler_ : StandardScaler
        What scales targets to mean 0 and variance 1.
    target_names_ : list of str or None
        Column names of y, None where it had none.
    n_targets_ : int
        Number of targets, the size of z_phy.
    n_iter_ : int
        Number of epochs in the history, those of earlier calls that this one went on
        from among them.
    n_features_in_ : int
        Number of values in an image, C * H * W.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Names of the columns of X, where they are all strings.

    Notes
    -----
    With an int `random_state`, fits on the CPU of one machine with the same versions of
    all packages give bitwise the same model: alone, in worker processes or in threads
    of joblib, and with any number of threads. The latents and predictions for an image
    are bitwise the same whichever images are passed along, in whatever order and
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

    _parameter_constraints = {  # noqa: RUF012
        "latent_dim": [Interval(Integral, 2, None, closed="left")],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left")],
        "network": [StrOptions(set(NETWORKS))],
        "reconstruction_loss": [StrOptions(set(RECONSTRUCTION_LOSSES))],
        "gain": [Interval(Real, 0, None, closed="neither")],
        "physical_loss": [StrOptions(set(PHYSICAL_LOSSES))],
        "stretch": [StrOptions(set(STRETCHES))],
        "softening": [Interval(Real, 0, None, closed="neither"), None],
        "augmentation": [StrOptions({"dihedral"}), None],
        "invariant_targets": [StrOptions({"all"}), list, tuple, None],
        "test_time_augmentation": ["boolean"],
        "image_shape": [list, tuple, None],
        "allow_nan": ["boolean"],
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
        latent_dim=64,
        alpha=1.0,
        beta=1e-4,
        gamma=0.0,
        network="paper",
        reconstruction_loss="binary_cross_entropy",
        gain=1.0,
        physical_loss="squared_error",
        stretch="linear",
        softening=None,
        augmentation=None,
        invariant_targets=None,
        test_time_augmentation=False,
        image_shape=None,
        allow_nan=False,
        max_epochs=100,
        batch_size=64,
        optimizer="adam",
        lr=1e-3,
        lr_schedule="constant",
        weight_decay=0.0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        tol=1e-4,
        warm_start=False,
        callbacks=None,
        checkpoint=None,
        device="cpu",
        random_state=None,
        verbose=0,
    ):
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
        self.augmentation = augmentation
        self.invariant_targets = invariant_targets
        self.test_time_augmentation = test_time_augmentation
        self.image_shape = image_shape
        self.allow_nan = allow_nan
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, groups=None):
        """Train the autoencoder.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images, in any linear unit; ADU for those of
            :func:`~sklcae.datasets.make_galaxies`.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            Physical parameters, in any units. NaN is a target that is not known: it is
            left out of the physical loss, and the image still trains the autoencoder.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the images in all terms of the loss, and in the mean and the
            variance of the targets. A weight of 0 leaves an image out; otherwise
            weights have no part in the scaling of the images. In the exchange loss a
            pair weighs what the image that gives z_rest does, times the weight of the
            other one relative to those that it is drawn among. None weighs all the
            same.
        groups : array-like of shape (n_samples,), default=None
            Which images belong together, by any labels: those of a group differ in
            their targets (and their noise) only. Needed with `gamma` above 0, and has
            no part otherwise. An image that is alone in its group, or whose others
            lack a target, has no part in the exchange loss. With `early_stopping`
            whole groups are held out, where there are several. In a Pipeline or a
            search pass them by metadata routing, ``set_fit_request(groups=True)``.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, X, y, sample_weight or groups is not as described, a target
            is missing for all images, `latent_dim` is not greater than the number of
            targets, `checkpoint` holds another fit, or the training diverges.
        KeyboardInterrupt
            If the user interrupts. Whatever fit raises, a model that was fitted before
            is left as it was.
        """
        previous = self if self.warm_start and hasattr(self, "net_") else None
        monitor = FitMonitor(self, X, y, sample_weight, groups)
        fresh = self._unfitted_copy()
        fresh._fit(X, y, (sample_weight, groups), self.max_epochs, previous, monitor)
        monitor.end(fresh._fitted_attributes)
        return self._adopt(fresh)

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, groups=None):
        """Train for one epoch on a part of the data.

        What `generate` draws from and `score_samples` compares with is the part of the
        last call.

        The first call decides the scaling of images and targets, so that its images
        should be typical. Later calls go on with the optimizer where the last one
        ended; after :meth:`fit` or :meth:`load` they begin with a new one. The learning
        rate is always `lr`, for no schedule can know where the training will end.

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
            Which images belong together, as for :meth:`fit`.

        Returns
        -------
        self : ConditionalAutoencoderRegressor
            The fitted estimator.

        Raises
        ------
        ValueError
            As for :meth:`fit`; with `early_stopping` or `checkpoint`; and if images or
            targets are not of the kind that the first call saw.
        """
        for name in ("early_stopping", "checkpoint"):
            if getattr(self, name):
                raise ValueError(
                    f"partial_fit does not support {name}. Got "
                    f"{name}={getattr(self, name)!r}."
                )
        previous = self if hasattr(self, "net_") else None
        fresh = self._unfitted_copy()
        # No call knows where the training will end.
        fresh.lr_schedule = "constant"
        monitor = FitMonitor(None, X, y, sample_weight, groups)
        # There after an earlier partial_fit only.
        optimizer = getattr(self, "_optimizer_state_", None)
        fresh._fit(X, y, (sample_weight, groups), 1, previous, monitor, optimizer)
        fresh._optimizer_state_ = fresh.net_.get_optimizer_state()
        return self._adopt(fresh)

    def _unfitted_copy(self):
        # All is done on a second object: whatever interrupts the fit, the first one
        # is what it was.
        return type(self)(**self.get_params(deep=False))

    def _fitted_attributes(self):
        return {name: value for name, value in vars(self).items() if name[-1] == "_"}

    def _adopt(self, fresh):
        for name in self._fitted_attributes():
            delattr(self, name)
        vars(self).update(fresh._fitted_attributes())
        return self

    def _fit(self, X, y, metadata, epochs, previous, monitor, optimizer=None):
        """Train on this object, from the start or from another, fitted one."""
        data = self._validate_fit_input(X, y, *metadata, previous)
        checkpoint = open_checkpoint(self, data.hashed(), previous)
        seeds = checkpoint.seeds or self._draw_seeds()
        train, held_out = self._hold_out(data, seeds)
        check_some_targets(data.y[train], self.target_names_)
        self._gain_ = float(self.gain)
        if previous is None:
            self._fit_scalers(data, train)
        else:
            self.image_scaler_ = previous.image_scaler_
            self.target_scaler_ = previous.target_scaler_
        stamps, held_out = self._make_stamps(data, [train, held_out])
        check_some_exchange(stamps, self.gamma)
        self.net_ = self._build_net(seeds["net"])
        make_reference = partial(self._describe, data.images, evenly_spaced(train))
        monitor.begin(epochs)
        self.net_.fit_arrays(
            stamps,
            validation=held_out,
            n_epochs=epochs,
            n_before=0 if previous is None else previous.n_iter_,
            state=checkpoint.state or _state_to_go_on_from(previous, optimizer),
            epoch_hook=self._epoch_hook(monitor, checkpoint, seeds, make_reference),
        )
        self._note_history()
        self._reference_ = make_reference()

    def _draw_seeds(self):
        rng = check_random_state(self.random_state)
        names = ["net", "split"] if self.early_stopping else ["net"]
        return {name: int(rng.randint(np.iinfo(np.int32).max)) for name in names}

    def _hold_out(self, data, seeds):
        """Return rows to train on and, with early stopping, rows to validate with."""
        if not self.early_stopping:
            return np.arange(len(data.y)), None
        return hold_out(data, self.validation_fraction, seeds["split"])

    def _fit_scalers(self, data, rows):
        images, weights = data.images, data.weights
        self.image_scaler_ = ImageScaler(self.stretch, self.softening).fit(images, rows)
        self.target_scaler_ = _fit_target_scaler(
            data.y[rows],
            None if weights is None else weights[rows],
            self._target_maps(),
        )

    def _make_stamps(self, data, parts):
        """Return the stamps of each part, given by its rows or None."""
        filled = data._replace(images=None), *fill_masked(data.images)
        scalers = self.image_scaler_, self.target_scaler_
        return [
            None if rows is None else make_stamps(*filled, scalers, rows)
            for rows in parts
        ]

    def _build_net(self, seed):
        self._architecture_ = {
            "network": self.network,
            "image_shape": self.image_shape_,
            "n_targets": self.n_targets_,
            "latent_dim": int(self.latent_dim),
            "predicts_variance": self.physical_loss == "gaussian_likelihood",
        }
        return build_net(
            **self._architecture_,
            seed=seed,
            target_maps=self._scale_target_maps(self._target_maps()),
            device=self.device,
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            reconstruction_loss=self.reconstruction_loss,
            physical_loss=self.physical_loss,
            pixel_scale=self._pixel_scale(),
            batch_size=int(self.batch_size),
            optimizer=self.optimizer,
            lr=self.lr,
            lr_schedule=self.lr_schedule,
            weight_decay=self.weight_decay,
            n_iter_no_change=self.n_iter_no_change,
            tol=self.tol,
            callbacks=self.callbacks,
            verbose=self.verbose,
        )

    def _pixel_scale(self):
        scaler = self.image_scaler_
        # In units of the noise the squares of light are within the range of float32.
        unit = float(scaler.noise_.mean(dtype=np.float64))
        noise, softening = scaler.noise_ / unit, scaler.softening_ / unit
        # The sky is no light, be it taken off by the stretch or not.
        sky = (scaler.sky_ - scaler.background_) / scaler.softening_
        return make_pixel_scale(
            scaler.stretch,
            (scaler.minimum_ - sky, scaler.range_, softening, noise**2),
            self.gain * unit,
        )

    def _epoch_hook(self, monitor, checkpoint, seeds, make_reference):
        def end_epoch(net):
            stop = monitor.end_epoch(lambda: self._snapshot(make_reference))
            checkpoint.write(net.get_training_state, seeds)
            return stop

        return EpochHook(lambda net: monitor.begin_epoch(), end_epoch)

    def _snapshot(self, make_reference):
        """Return the fitted attributes as if the training had ended now."""
        self._note_history()
        net = build_net(**self._architecture_, seed=0, device=self.device)
        net.set_weights(self.net_.get_weights())
        fitted = {"net_": net, "_reference_": make_reference()}
        return self._fitted_attributes() | fitted

    def _note_history(self):
        self.history_ = self.net_.history_table()
        self.n_iter_ = len(self.history_["epoch"])
        if self.early_stopping:
            self.best_epoch_ = self.net_.best_epoch

    def _validate_fit_input(self, X, y, sample_weight, groups, previous):
        """Return the checked data, without images of no weight."""
        check_device(self.device)
        self._check_image_shape()
        self._check_callbacks()
        check_not_masked(y, "y")
        self._check_same_kind_as(previous)
        X, shape = self._validate_rows(X, y, reset=previous is None)
        self.image_shape_ = resolve_image_shape(shape, X.shape[1], self.image_shape)
        self._input_shape_ = shape or X.shape[1:]
        y = self._validate_targets(X, y, previous)
        weights = check_sample_weight(sample_weight, X)
        groups = check_groups(groups, X, self.gamma)
        self._check_same_data_as(previous)
        images = X.reshape(len(X), *self.image_shape_)
        data = leave_out_weightless(FitData(images, y, weights, groups))
        check_some_together(data.groups, self.gamma)
        return data

    def _validate_rows(self, X, y="no_validation", *, reset):
        """Return the images as rows, NaN where masked, and their shape or None."""
        if self.allow_nan:
            X = masked_to_nan(X)
        check_not_masked(X, "X")
        X, shape = flatten_images(X)
        X = validate_data(
            self,
            X,
            # Targets may be missing, but not all of y.
            None if y is None else "no_validation",
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
            reset=reset,
        )
        check_nan_pixels(X, self.allow_nan)
        return X, shape

    def _validate_targets(self, X, y, previous):
        """Return targets (n, n_targets), float64, NaN where one is missing."""
        self.target_names_ = target_names_of(y) or getattr(
            previous, "target_names_", None
        )
        y = check_array(
            y,
            dtype=np.float64,
            order="C",
            ensure_2d=False,
            ensure_all_finite="allow-nan",
            input_name="y",
            estimator=self,
        )
        if y.ndim == 0:
            raise ValueError(f"y must have one row for each image. Got {y}.")
        check_consistent_length(X, y)
        self._y_ndim_ = y.ndim
        y = y.reshape(len(y), -1)
        self.n_targets_ = y.shape[1]
        if self.latent_dim <= self.n_targets_:
            raise ValueError(
                "The 'latent_dim' parameter of ConditionalAutoencoderRegressor must be "
                f"greater than the number of targets, which is {self.n_targets_}. Got "
                f"{self.latent_dim} instead."
            )
        if self.augmentation is not None:
            check_turnable(self.target_names_, self.invariant_targets)
        self._check_test_time_augmentation()
        return y

    def _check_test_time_augmentation(self):
        if not self.test_time_augmentation:
            return
        # All of it may have been set on the fitted model.
        self._validate_params()
        if self.augmentation is None:
            raise ValueError(
                "The 'test_time_augmentation' parameter of "
                "ConditionalAutoencoderRegressor must be False without 'augmentation', "
                "which says how images are turned. Got "
                f"{self.test_time_augmentation!r} instead."
            )
        check_turnable(
            self.target_names_,
            self.invariant_targets,
            "test_time_augmentation=True",
            "set it to False",
        )

    def _check_callbacks(self):
        if not self.callbacks:
            return
        check_callbacks(self.callbacks)
        if self.checkpoint is not None:
            raise ValueError(
                "The 'checkpoint' parameter of ConditionalAutoencoderRegressor must be "
                "None together with 'callbacks', since what they remember is not in "
                f"the file. Got {self.checkpoint!r} instead."
            )

    def _check_same_kind_as(self, previous):
        """Refuse to go on from weights that mean something else."""
        if previous is None:
            return
        fitted = previous._architecture_ | vars(previous.image_scaler_)
        fitted["physical_loss"] = previous._fitted_physical_loss()
        for name in ("network", "latent_dim", "physical_loss", "stretch", "softening"):
            if getattr(self, name) != fitted[name]:
                raise ValueError(
                    f"The {name!r} parameter of ConditionalAutoencoderRegressor must "
                    f"stay what it was, {fitted[name]!r}, to go on from an earlier "
                    f"fit. Got {getattr(self, name)!r} instead."
                )
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(previous, name):
                setattr(self, name, getattr(previous, name))

    def _check_same_data_as(self, previous):
        if previous is None:
            return
        for name in ("image_shape_", "n_targets_", "target_names_"):
            before, now = getattr(previous, name), getattr(self, name)
            if before != now:
                raise ValueError(
                    f"X and y must be as those of the fit to go on from, with {name} "
                    f"of {before}. Got {now} instead."
                )

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

    def predict(self, X, return_std=False):
        """Predict the physical parameters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of those that fit saw.
        return_std : bool, default=False
            Whether to return the standard deviation of the targets too. Needs a model
            that was fitted with ``physical_loss="gaussian_likelihood"``.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_targets)
            Parameters in the units of the y that fit saw, one latent each, or its mean
            over the turns of `test_time_augmentation`.
        y_std : ndarray of the shape of y
            Standard deviation of each, in the same units. Only with
            ``return_std=True``. That of a mean takes the errors of the turns for the
            sum of one that they have in common and independent ones.

        Raises
        ------
        ValueError
            If the images are not of the shape that fit saw, or not finite, if there is
            no standard deviation to return, or if `test_time_augmentation` is set and
            it is not known how images and targets turn.
        """
        check_is_fitted(self)
        if return_std:
            self._check_predicts_variance()
        self._check_test_time_augmentation()
        y, variance = self._predict(self._validate_images(X), return_std)
        if not return_std:
            return self._as_fit_saw(y)
        return self._as_fit_saw(y), self._as_fit_saw(np.sqrt(variance))

    def _predict(self, images, with_variance):
        """Return targets (n, n_targets) and their variances or None."""
        maps = self._target_maps() if self.test_time_augmentation else None
        elements = range(len(maps[0])) if maps else [0]
        values = self.net_.read_targets(images, self._scale, elements, with_variance)
        y = [self._to_units(values[:, k, 0]) for k in elements]
        variances = None
        if with_variance:
            scale = self.target_scaler_.scale_
            variances = [values[:, k, 1] * scale**2 for k in elements]
        if maps:
            return mean_over_turns(y, variances, maps)
        return y[0], variances[0] if variances else None

    def _fitted_physical_loss(self):
        predicts_variance = self._architecture_["predicts_variance"]
        return "gaussian_likelihood" if predicts_variance else "squared_error"

    def _check_predicts_variance(self):
        if self._fitted_physical_loss() != "gaussian_likelihood":
            raise ValueError(
                "return_std=True needs a model that was fitted with physical_loss="
                "'gaussian_likelihood'. Got one that was fitted with 'squared_error', "
                "which predicts no standard deviation."
            )

    def _to_units(self, z_phy):
        return self.target_scaler_.inverse_transform(
            z_phy.astype(np.float64), copy=False
        )

    def _as_fit_saw(self, y):
        return y.ravel() if self._y_ndim_ == 1 else y

    def generate(self, y, random_state=None):
        """Make images with wanted parameters.

        The decoder is given the wanted targets and a z_rest that is drawn among those
        of the ten images of the training set (or of a thousand of them) whose targets
        are the nearest. Whether the images then have the wanted parameters is a
        question of the training: with `gamma` above 0 they are made to.

        Parameters
        ----------
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            The wanted targets, in the units of the y that fit saw.
        random_state : int, RandomState instance or None, default=None
            Source of the choice.

        Returns
        -------
        X : ndarray of shape (n_samples, ...)
            Noiseless images in the unit and the layout of those that fit saw.

        Raises
        ------
        ValueError
            If y is not finite or overflows when it is scaled, does not have
            `n_targets_` columns, or names them otherwise than the y that fit saw did.
        """
        check_is_fitted(self)
        z_phy = self._scale_wanted(self._validate_wanted(y))
        rng = check_random_state(random_state)
        z_rest = self._reference.draw_rest(z_phy, rng)
        return self._decode(np.hstack([z_phy, z_rest]))

    def _scale_wanted(self, y):
        with np.errstate(over="ignore"):
            z_phy = np.asarray(self.target_scaler_.transform(y)).astype(np.float32)
        if not np.isfinite(z_phy).all():
            raise ValueError(
                "y must have values of the size of those that fit saw. Got values up "
                f"to {np.abs(y).max():g}, which overflow when they are scaled."
            )
        return z_phy

    def _validate_wanted(self, y):
        check_not_masked(y, "y")
        names = target_names_of(y)
        if names and self.target_names_ and names != self.target_names_:
            raise ValueError(
                f"The columns of y must be the targets that fit saw, "
                f"{self.target_names_}. Got {names} instead."
            )
        y = check_array(
            y, dtype=np.float64, ensure_2d=False, input_name="y", estimator=self
        )
        y = y.reshape(-1, 1) if y.ndim == 1 and self.n_targets_ == 1 else y
        if y.ndim != 2 or y.shape[1] != self.n_targets_:
            raise ValueError(
                f"y must have the shape (n_samples, {self.n_targets_}), one column for "
                f"each target that fit saw. Got {y.shape} instead."
            )
        return y

    def score_samples(self, X):
        """Tell how much images are like those of the training set.

        An image is described by its latents, by their predicted variances where there
        are some, and by the misfit of its reconstruction: the mean of the squared
        residuals over the variance of the noise (as in the "chi_square" loss), pixel
        by pixel and summed in boxes of 5 x 5. Its score is minus the Mahalanobis
        distance of that description from those of the training set's images (or of a
        thousand of them), with logarithms of variances and misfits [1]_ and a shrunk
        covariance [2]_.
        Images that are like none, such as blends, stars or images without a galaxy,
        have low scores: compare with those of images that you trust, for instance with
        their percentile of 1.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_pixels), (n_samples, H, W) or \
                (n_samples, C, H, W)
            Images in the unit of those that fit saw.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            The higher, the more normal, as scikit-learn's outlier detectors have it.

        Raises
        ------
        ValueError
            If the images are not of the shape that fit saw, or not finite.

        References
        ----------
        .. [1] K. Lee, K. Lee, H. Lee and J. Shin, "A Simple Unified Framework for
           Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS
           2018.
        .. [2] O. Ledoit and M. Wolf, "A Well-Conditioned Estimator for
           Large-Dimensional Covariance Matrices", Journal of Multivariate Analysis
           88, 365 (2004).
        """
        check_is_fitted(self)
        images = self._validate_images(X)
        rows = np.arange(len(images))
        return self._reference.score(**self._describe(images, rows))

    @property
    def _reference(self):
        return Reference(self.n_targets_, **self._reference_)

    def _describe(self, images, rows):
        """Return latents, misfits and, if predicted, variances of some images."""
        parts = [
            self._describe_part(images[rows[part]])
            for part in gen_batches(len(rows), DESCRIBED_AT_ONCE)
        ]
        return {
            name: np.concatenate([part[name] for part in parts]) for name in parts[0]
        }

    def _describe_part(self, images):
        latents = self._encode(images)
        description = {
            "latents": latents,
            "misfits": misfits_of(self._residuals(images, latents)),
        }
        if self._architecture_["predicts_variance"]:
            values = self.net_.read_targets(images, self._scale, with_variance=True)
            description["variances"] = values[:, 0, 1]
        return description

    def _residuals(self, images, latents):
        """Return image minus reconstruction in units of the noise."""
        scaler = self.image_scaler_
        expected = self.net_.decode(latents, scaler.inverse_transform)
        # Squares of float32 may leave its range where the pixels do not.
        noise, expected = scaler.noise_.astype(np.float64), expected.astype(np.float64)
        light = np.maximum(expected - scaler.sky_, 0)
        return (images - expected) / np.sqrt(noise**2 + light / self._gain_)

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
            Names of the columns of X. They have no part in the result, and are only
            compared with those that fit saw.

        Returns
        -------
        names : ndarray of shape (latent_dim,), dtype object
            The names of the targets where y had names, else z_phy0, z_phy1, ...; then
            z_rest0, z_rest1, ...

        Raises
        ------
        ValueError
            If `input_features` are not the columns that fit saw.
        """
        check_is_fitted(self)
        _check_feature_names_in(self, input_features)
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
        X, shape = self._validate_rows(X, reset=False)
        if shape is not None and (1, *shape)[-3:] != self.image_shape_:
            raise ImageShapeError(
                f"X must hold images of the shape {self.image_shape_}, channels, "
                f"height and width, as fit saw them. Got {shape} instead."
            )
        return X.reshape(len(X), *self.image_shape_)

    def _encode(self, images):
        return self.net_.encode(images, self._scale)

    def _scale(self, images):
        filled = fill_masked(images)[0] if self.allow_nan else images
        return self.image_scaler_.transform(filled)

    def _decode(self, latents):
        images = self.net_.decode(latents, self.image_scaler_.inverse_transform)
        return images.reshape(len(latents), *self._input_shape_)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = bool(self.allow_nan)
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def save(self, path):
        """Save the fitted model to one file, which is safe to load from strangers.

        The file holds the weights as `safetensors` and all else as JSON; nothing in it
        is code. It replaces an older file of that name in one step.

        Parameters
        ----------
        path : str or path-like
            The file.

        Raises
        ------
        NotFittedError
            If the model is not fitted.
        OSError
            If the file cannot be written; an older one is then left whole.

        Warns
        -----
        UserWarning
            If a parameter is no plain value, such as `callbacks` or a RandomState. The
            loaded model has the default of it.
        """
        from sklcae._persistence import save_model

        save_model(self, path)

    @classmethod
    def load(cls, path):
        """Load a model that :meth:`save` has saved, from whomever it is.

        Parameters
        ----------
        path : str or path-like
            The file.

        Returns
        -------
        model : ConditionalAutoencoderRegressor
            The fitted model. It predicts bitwise what the saved one did.

        Raises
        ------
        ModelFileError
            If the file is not, to the last byte, one that :meth:`save` may have
            written.
        OSError
            If the file cannot be read.
        """
        from sklcae._persistence import load_model

        return load_model(path)

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


def _state_to_go_on_from(previous, optimizer):
    """Return the training state of a fitted estimator, see `fit_arrays`."""
    if previous is None:
        return None
    state = {"weights": previous.net_.get_weights(), "history": previous.history_}
    return state if optimizer is None else state | {"optimizer": optimizer}


def _fit_target_scaler(y, weights, target_maps):
    """Fit to all targets that training sees, those of turned images among them."""
    with np.errstate(over="ignore", invalid="ignore"):
        seen = y if target_maps is None else turned_targets(y, target_maps)
        if weights is not None:
            weights = np.tile(weights, len(seen) // len(y))
        scaler = StandardScaler().fit(seen, sample_weight=weights)
    if not np.isfinite([scaler.mean_, scaler.scale_]).all():
        raise ValueError(
            "y must have a finite mean and variance. Got values up to "
            f"{np.nanmax(np.abs(y)):g}, which overflow."
        )
    return scaler


def _shorten(names):
    names = list(names)
    return f"{names[:4]}..." if len(names) > 4 else f"{names}"
