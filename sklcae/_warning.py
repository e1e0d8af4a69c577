"""Warnings that point to the line of the user."""

import sys
import warnings

# Between the user and a method stand sklcae, and scikit-learn's decorator of fit.
OWN_PACKAGES = ("sklcae", "sklearn")


def warn_user(message, category=UserWarning):
    """Warn, with the line that called sklcae as the place of the warning."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_own(frame):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def _is_own(frame):
    return frame.f_globals.get("__name__", "").partition(".")[0] in OWN_PACKAGES
