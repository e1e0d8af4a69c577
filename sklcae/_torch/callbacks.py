"""skorch callbacks: the user's, early stopping, a hook for each epoch."""

import inspect

from skorch.callbacks import Callback, EarlyStopping


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


def early_stopping(n_iter_no_change, tol):
    """Return the callback that stops and restores the weights of the best epoch."""
    return EarlyStopping(
        monitor="valid_loss",
        patience=n_iter_no_change,
        threshold=tol,
        threshold_mode="abs",
        load_best=True,
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
