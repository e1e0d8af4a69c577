"""Reports a fit to the callbacks of scikit-learn (``sklearn.callback``, from 1.9)."""


class FitMonitor:
    """Report a fit and its epochs to the callbacks of an estimator.

    Nothing is reported for None, and before scikit-learn 1.9, which has no callbacks.
    """

    def __init__(self, estimator, X, y, sample_weight, groups):
        self.estimator = estimator
        metadata = {"sample_weight": sample_weight, "groups": groups}
        metadata = {k: value for k, value in metadata.items() if value is not None}
        self.data = {"X": X, "y": y, "metadata": metadata}
        self.context = None

    def begin(self, n_epochs):
        """Report the begin of the fit."""
        if hasattr(self.estimator, "_init_callback_context"):
            self.context = self.estimator._init_callback_context(max_subtasks=n_epochs)
            self.context.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def begin_epoch(self):
        """Report the begin of an epoch."""
        if self.context is not None:
            self.epoch = self.context.subcontext("epoch")
            self.epoch.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end_epoch(self, make_attributes):
        """Report the end of an epoch, and return whether a callback asks to stop.

        `make_attributes` returns the attributes of the estimator, were it fitted now.
        """
        return self.context is not None and self._end(self.epoch, make_attributes)

    def end(self, make_attributes):
        """Report the end of the fit, see `end_epoch`."""
        if self.context is not None:
            self._end(self.context, make_attributes)

    def _end(self, context, make_attributes):
        return context.call_on_fit_task_end(
            estimator=self.estimator,
            reconstruction_attributes=make_attributes,
            **self.data,
        )
