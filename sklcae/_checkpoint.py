"""A file from which an interrupted fit goes on."""

from pathlib import Path

import joblib

from sklcae._archive import naming_file, read_archive, write_archive
from sklcae._plain_values import pack, unpack
from sklcae._version import __version__
from sklcae.exceptions import ModelFileError

__all__ = ["open_checkpoint"]

KIND = "checkpoint of a fit"
# To be raised when the same parameters come to train another network, or by another
# loss.
STATE_OF_TRAINING = 2
# Parameters that a fit may go on with other values of.
FREE_PARAMETERS = (
    "max_epochs",
    "verbose",
    "device",
    "checkpoint",
    "callbacks",
    "test_time_augmentation",
)


def open_checkpoint(estimator, data, previous):
    """Return the checkpoint of a fit, with what its file holds.

    Parameters
    ----------
    estimator : ConditionalAutoencoderRegressor
        The estimator, with ``checkpoint`` None or the path.
    data : tuple of ndarray or None
        Images, targets and weights.
    previous : ConditionalAutoencoderRegressor or None
        The fitted estimator that the fit goes on from.

    Returns
    -------
    NoCheckpoint or Checkpoint
        With ``seeds`` and ``state``, None where there is no file yet, and ``write``.

    Raises
    ------
    ModelFileError
        If the file is damaged, no checkpoint, of another fit, or further on than
        ``max_epochs``.
    """
    if estimator.checkpoint is None:
        return NoCheckpoint()
    return Checkpoint(estimator, data, previous)


class NoCheckpoint:
    """Stands for a fit without a checkpoint."""

    seeds = None
    state = None

    def write(self, get_state, seeds):
        """Do nothing."""


class Checkpoint:
    """Read and write the state of a fit; see `open_checkpoint`."""

    def __init__(self, estimator, data, previous):
        self.path = Path(estimator.checkpoint)
        self.fingerprint = _fingerprint(estimator, data, previous)
        self.seeds = self.state = None
        if self.path.exists():
            n_before = 0 if previous is None else previous.n_iter_
            self._read(estimator.max_epochs + n_before)

    def _read(self, last_epoch):
        manifest, tensors = read_archive(self.path)
        with naming_file(self.path):
            if manifest.get("kind") != KIND:
                raise ModelFileError("it is no checkpoint of a fit")
            if manifest.get("fingerprint") != self.fingerprint:
                raise ModelFileError(
                    "it is the checkpoint of a fit with other data or parameters, or "
                    "by another version of sklcae; remove it, or name another file in "
                    "'checkpoint'"
                )
            try:
                content = unpack(manifest["content"], tensors)
                self.seeds, self.state = content["seeds"], content["state"]
                n_epochs = len(self.state["history"]["epoch"])
            except (KeyError, TypeError) as error:
                raise ModelFileError(f"it is no whole checkpoint: {error!r}") from None
            if n_epochs > last_epoch:
                raise ModelFileError(
                    f"it is {n_epochs} epochs on, and max_epochs ends at {last_epoch}"
                )

    def write(self, get_state, seeds):
        """Write the state that a function returns, with the seeds of the fit."""
        content, tensors = pack({"seeds": seeds, "state": get_state()})
        manifest = {"kind": KIND, "fingerprint": self.fingerprint, "content": content}
        write_archive(self.path, manifest, tensors)


def _fingerprint(estimator, data, previous):
    """Return a hash of all that decides how a fit goes."""
    parameters = {
        name: value
        for name, value in estimator.get_params(deep=False).items()
        if name not in FREE_PARAMETERS
    }
    if estimator.lr_schedule != "constant":
        # Then the end decides how each step goes.
        parameters["max_epochs"] = estimator.max_epochs
    if not isinstance(estimator.random_state, int):
        # The seed that was drawn is in the file.
        del parameters["random_state"]
    start = None if previous is None else previous.net_.get_weights()
    version = __version__, STATE_OF_TRAINING
    return joblib.hash((parameters, data, start, version))
