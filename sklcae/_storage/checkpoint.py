"""A file from which an interrupted fit continues.

The file holds the seeds, the state of the training, and the part of the codec that the
training learns; data and parameters decide the other part. All of it is checked before
the training starts, see `TrainingRules`.
"""

from functools import partial
from pathlib import Path

import joblib

from sklcae._codec import Codec
from sklcae._fitting import Fit
from sklcae._storage.archive import naming_file, read_archive, write_archive
from sklcae._storage.rules import DICT, TEXT, Rule, check_table
from sklcae._storage.training import TrainingRules, content_of
from sklcae._storage.values import pack, unpack
from sklcae._torch import name_of
from sklcae._version import __version__
from sklcae.exceptions import ModelFileError

KIND = "checkpoint of a fit"
# Increase this when the same parameters would train a different network, or by a
# different loss, or when the content of the file changes.
STATE_OF_TRAINING = 5
MANIFEST = {
    "kind": Rule(f"{KIND!r}", lambda value: value == KIND),
    "fingerprint": TEXT,
    "content": DICT,
}
# Parameters that may change between the interrupted fit and the one that continues it.
FREE_PARAMETERS = (
    "max_epochs",
    "verbose",
    "device",
    "checkpoint",
    "callbacks",
    "test_time_augmentation",
)


def open_checkpoint(settings, data, previous):
    """Return the checkpoint of a fit, with the content of its file.

    ``previous`` is the fit that this one continues, or None. The checkpoint's ``seeds``
    and ``fit`` are None if there is no file yet. ModelFileError is raised if the file
    is damaged, is no checkpoint, belongs to another fit, or has more epochs than
    ``max_epochs``. ValueError is raised if the fit cannot be described in a file.
    """
    if settings.checkpoint is None:
        return NoCheckpoint()
    if settings.callbacks:
        raise ValueError(
            "The 'checkpoint' parameter of ConditionalAutoencoderRegressor must be "
            "None together with 'callbacks', since the file does not hold their "
            f"state. Got {settings.checkpoint!r} instead."
        )
    if name_of(settings.network) is None:
        raise ValueError(
            "The 'checkpoint' parameter of ConditionalAutoencoderRegressor must be "
            "None with a 'network' without a name: register it by "
            f"sklcae.networks.register_network. Got {settings.checkpoint!r} instead."
        )
    return Checkpoint(settings, data, previous)


class NoCheckpoint:
    """Stands for a fit without a checkpoint."""

    seeds = None
    fit = None

    def write(self, seeds, codec, net):
        """Do nothing."""


class Checkpoint:
    """Read and write the state of a fit; see `open_checkpoint`."""

    def __init__(self, settings, data, previous):
        self.path = Path(settings.checkpoint)
        self.fingerprint = _fingerprint(settings, data, previous)
        self.seeds = self.fit = None
        if self.path.exists():
            self._read(TrainingRules(settings, data, previous))

    def _read(self, rules):
        manifest, tensors = read_archive(self.path, partial(self._check, rules))
        with naming_file(self.path):
            content = self._check(rules, manifest, tensors)
            rules.check_values(content)
        self.seeds = content["seeds"]
        codec = Codec.from_state(rules.known | content["codec"])
        self.fit = Fit(codec, content["training"])

    def _check(self, rules, manifest, tensors):
        """Return the content of a file, not yet checked by its values."""
        check_table(manifest, MANIFEST, "its manifest")
        if manifest["fingerprint"] != self.fingerprint:
            raise ModelFileError(
                "it is the checkpoint of a fit with other data or parameters, or by "
                "another version of sklcae; remove it, or name another file in "
                "'checkpoint'"
            )
        content = unpack(manifest["content"], tensors)
        rules.check_shapes(content)
        return content

    def write(self, seeds, codec, net):
        """Write the seeds, the codec as it is now, and its net in training."""
        content, tensors = pack(content_of(seeds, codec, net))
        manifest = {"kind": KIND, "fingerprint": self.fingerprint, "content": content}
        write_archive(self.path, manifest, tensors)


def _fingerprint(settings, data, previous):
    """Return a hash of all that decides the result of a fit."""
    parameters = {
        name: value
        for name, value in vars(settings).items()
        if name not in FREE_PARAMETERS
    }
    parameters["network"] = name_of(settings.network)
    if settings.lr_schedule != "constant":
        # The end then decides every step.
        parameters["max_epochs"] = settings.max_epochs
    if not isinstance(settings.random_state, int):
        # The file holds the seed that was drawn.
        del parameters["random_state"]
    start = None if previous is None else previous.codec.net.get_weights()
    version = __version__, STATE_OF_TRAINING
    return joblib.hash((parameters, data.hashed(), start, version))
