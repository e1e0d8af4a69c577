"""The private names of scikit-learn that sklcae uses, and optional imports.

scikit-learn may move these names without notice. They are imported here and nowhere
else, so that a new release concerns one file.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol, TypeVar

from sklearn.base import _fit_context as _untyped_fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._param_validation import validate_params as _untyped_validate_params
from sklearn.utils.validation import (
    _check_feature_names,
    _check_feature_names_in,
    _check_sample_weight,
    _get_feature_names,
)

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in for scikit-learn before 1.9, which has no callbacks."""


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "_check_feature_names",
    "_check_feature_names_in",
    "_check_sample_weight",
    "_fit_context",
    "_get_feature_names",
    "import_optional",
    "validate_parameter_constraints",
    "validate_params",
]


Function = TypeVar("Function", bound=Callable[..., Any])


class _Decorator(Protocol):
    """A decorator with arguments that keeps the type of the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Callable[[Function], Function]: ...


_fit_context: _Decorator = _untyped_fit_context
validate_params: _Decorator = _untyped_validate_params


def import_optional(module, *, extra, purpose):
    """Import a module of an optional dependency, or name the extra that installs it.

    The function that needs it, `purpose`, begins the message of the ImportError.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(
            f"{purpose} needs {package}, which is not installed. "
            f"Install it with: pip install 'sklcae[{extra}]'"
        ) from error
