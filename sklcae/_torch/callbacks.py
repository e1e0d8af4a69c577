"""skorch callbacks: the user's, early stopping, the log, a hook for each epoch."""

import inspect
import time
from datetime import timedelta
from numbers import Real

from skorch.callbacks import Callback, EarlyStopping
from skorch.callbacks.logging import filter_log_keys
from skorch.utils import noop

from sklcae._torch.losses import LossTerms


class TrainingStoppedError(Exception):
    """Ends a training and keeps its result, from a callback's ``on_epoch_end``."""


class EpochHook(Callback):
    """Call two functions with the net, at the start and at the end of each epoch.

    The training stops when ``end`` returns True.
    """

    def __init__(self, begin, end):
        self.begin = begin
        self.end = end

    def on_epoch_begin(self, net, **kwargs):
        """Call ``begin``."""
        self.begin(net)

    def on_epoch_end(self, net, **kwargs):
        """Call ``end``, and stop if it returns True."""
        if self.end(net):
            raise TrainingStoppedError


# The columns of the log: the names of skorch's history, and of the log.
COLUMNS = {
    "train_loss": "train_loss",
    **{f"{name}_loss": name for name in LossTerms._fields},
    "valid_loss": "validation_loss",
}

# The terms of the loss, in the words of the log.
RECONSTRUCTION_MEANINGS = {
    "binary_cross_entropy": "cross-entropy of the pixels scaled to [0, 1]; "
    "the best possible value is above 0",
    "squared_error": "squared error of the pixels scaled to [0, 1]; 0 is perfect",
    "chi_square": "half the squared residual over the variance of the noise, mean over "
    "pixels; about 0.5 when only noise is left",
}
PHYSICAL_MEANINGS = {
    "squared_error": "squared error of the standardised targets; "
    "1 when nothing is known, 0 is perfect",
    "gaussian_likelihood": "negative log-likelihood of the standardised targets; "
    "0.5 when nothing is known, log(s) + 0.5 for errors of size s: far below 0 is good",
}


class EpochLog(Callback):
    """Print a log of the training: the meaning of the loss, then a line an epoch.

    The log is plain text on stdout. Unless the fit continues an earlier one, it begins
    with the formula of ``train_loss`` and the meaning of the terms. Then each epoch has
    a line, in aligned columns:

    - ``epoch``: its number and the number of all epochs, such as 3/100;
    - ``train_loss``, and its terms without their weights;
    - ``validation_loss``, with early stopping; ``*`` marks the best epoch so far;
    - numbers that other callbacks recorded in the history;
    - ``seconds``: the duration of the epoch;
    - ``time left``: the mean time of the epochs of this run, times the number of epochs
      to come.

    With early stopping the last line names the epoch whose weights are kept.
    ``n_before`` and ``n_epochs`` are as in `fit_batches`.
    """

    def __init__(self, n_before, n_epochs):
        self.n_before = n_before
        self.n_total = n_before + n_epochs

    def on_train_begin(self, net, **kwargs):
        """Print the meaning of the loss."""
        self.begin, self.n_printed, self.widths = time.monotonic(), 0, {}
        if self.n_before == 0:
            _print(*_explain(net))

    def on_epoch_end(self, net, **kwargs):
        """Print a line, after the names of the columns if it is the first."""
        self.n_printed += 1
        cells = self._cells(net, net.history[-1])
        if not self.widths:
            self.widths = {name: max(len(name), 10) for name in cells}
            _print(self._line({name: name for name in cells}))
        _print(self._line(cells))

    def on_train_end(self, net, **kwargs):
        """Print which weights are kept."""
        if net.stops_early:
            _print(f"The weights of epoch {net.best_epoch} are kept.")

    def _cells(self, net, row):
        ignored = ("epoch", "batches", "dur", *COLUMNS)
        others = [k for k in filter_log_keys(row, ignored) if isinstance(row[k], Real)]
        known = [key for key in COLUMNS if key in row]
        cells = {COLUMNS.get(k, k): f"{row[k]:#.5g}" for k in (*known, *others)}
        epoch = row["epoch"]
        if net.stops_early:
            cells["validation_loss"] += "*" if epoch == net.best_epoch else " "
        seconds = (time.monotonic() - self.begin) / self.n_printed
        left = timedelta(seconds=round(seconds * (self.n_total - epoch)))
        ends = {"seconds": f"{row['dur']:.2f}", "time left": str(left)}
        return {"epoch": f"{epoch}/{self.n_total}"} | cells | ends

    def _line(self, cells):
        return "  ".join(cells.get(n, "").rjust(w) for n, w in self.widths.items())


def _print(*lines):
    # Unbuffered, so that a log in a file can be followed.
    print(*lines, sep="\n", flush=True)


def _explain(net):
    """Return lines on the meaning of the loss of a net and of its terms."""
    weights = net.loss_weights
    terms = {
        "physical": PHYSICAL_MEANINGS[net.physical_loss],
        "regularization": "mean size of z_rest",
    }
    total = f"{weights.alpha:g} physical + {weights.beta:g} regularization"
    if net.reconstruction_loss is not None:
        meaning = RECONSTRUCTION_MEANINGS[net.reconstruction_loss]
        terms = {"reconstruction": meaning} | terms
        total = f"reconstruction + {total}"
    if weights.gamma:
        total += f" + {weights.gamma:g} exchange"
        terms["exchange"] = "reconstruction with z_rest of another image of the group"
    if net.stops_early:
        terms["validation_loss"] = "train_loss of the held-out images; * is the best"
    return [f"train_loss = {total}", *(f"  {n}: {text}" for n, text in terms.items())]


def early_stopping(n_iter_no_change, tol):
    """Return the callback that stops and restores the weights of the best epoch."""
    return EarlyStopping(
        monitor="valid_loss",
        patience=n_iter_no_change,
        threshold=tol,
        threshold_mode="abs",
        load_best=True,
        # The log has its own words.
        sink=noop,
    )


def wants_to_stop(callback):
    """Return whether a callback stops by a KeyboardInterrupt, as skorch's do."""
    return isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience


def check_callbacks(callbacks):
    """Raise TypeError, naming the parameter, unless all are skorch callbacks.

    Each must be an instance, a class, or a tuple of a name and one of these.
    """
    for item in callbacks or ():
        named = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
        callback = item[1] if named else item
        kind = callback if inspect.isclass(callback) else type(callback)
        if not issubclass(kind, Callback):
            raise TypeError(
                "The 'callbacks' parameter of ConditionalAutoencoderRegressor must be "
                "a list of skorch callbacks, or of tuples of a name and a callback. "
                f"Got {item!r} in it."
            )
