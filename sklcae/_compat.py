"""The private names of scikit-learn that sklcae uses, and optional imports.

scikit-learn may move these names without notice. They are imported here and nowhere
else, so that a new release concerns one file.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from inspect import signature
from typing import Any, Protocol, TypeVar, cast

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


# The root of the documentation.
DOCUMENTATION = "https://sklcae.readthedocs.io/en/latest/"


class DocumentationLinkMixin:
    """Link the HTML representation of an estimator to its page of the documentation.

    The mixin goes before `BaseEstimator`, whose attributes it overrides. Since release
    1.9 of scikit-learn each parameter is linked to its entry on the page, too.
    """

    _doc_link_module = "sklcae"
    _doc_link_template = (
        f"{DOCUMENTATION}api/generated/{{estimator_module}}.{{estimator_name}}.html"
    )


__all__ = [
    "DOCUMENTATION",
    "CallbackSupportMixin",
    "DocumentationLinkMixin",
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


def validate_params(
    constraints: Any, *, prefer_skip_nested_validation: bool
) -> Callable[[Function], Function]:
    """Return scikit-learn's decorator, with errors of arguments that name the function.

    The arguments are those of scikit-learn's decorator.
    """
    decorate = _untyped_validate_params(
        constraints, prefer_skip_nested_validation=prefer_skip_nested_validation
    )

    def decorate_named(function: Function) -> Function:
        checked, parameters = decorate(function), signature(function)

        @wraps(checked)
        def named(*args: Any, **kwargs: Any) -> Any:
            try:
                parameters.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            return checked(*args, **kwargs)

        return cast(Function, named)

    return decorate_named


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
