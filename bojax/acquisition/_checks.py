"""Checks of the `acquisition` argument, made when an algorithm is constructed and not at its first model-based ask."""

import inspect
from typing import Any

from bojax.acquisition._analytic import log_ei
from bojax.acquisition._batch import BatchAcquisition
from bojax.acquisition._greedy import batch_log_ei

INSTEAD = {
    "discrete_kg": "knowledge_gradient()",
    "gibbon_information": "gibbon()",
    "joint_entropy": "jes()",
    "max_value_entropy": "mes()",
    "one_shot_kg": "knowledge_gradient()",
    "q_log_ei": "batch_log_ei()",
    "q_log_nei": "batch_log_nei()",
    "q_pi": "batch_log_pi()",
    "q_simple_regret": "batch_simple_regret()",
    "q_ucb": "batch_ucb()",
}
"""Functions of this package that take arguments which algorithms do not provide -> the acquisition to use instead."""


def check_acquisition(acquisition: Any) -> None:
    """Check that an object is an acquisition.

    Args:
        acquisition: the object to check.

    Raises:
        TypeError: it is neither a `BatchAcquisition` nor a function `(posterior, X, best_f) -> [k]`. The message says
            what to use instead.

    Example:
        >>> from bojax.acquisition import log_ei
        >>> print(check_acquisition(log_ei))
        None
    """
    if isinstance(acquisition, BatchAcquisition):
        return
    name = getattr(acquisition, "__name__", None) or type(acquisition).__name__
    wanted = "`acquisition` must be a BatchAcquisition or a function (posterior, X, best_f) -> [k]"
    if not callable(acquisition):
        raise TypeError(f"{wanted}, got {acquisition!r}.")
    if name in INSTEAD and _is_ours(acquisition):
        raise TypeError(f"{wanted}, got {name}, which takes other arguments. Use {INSTEAD[name]}.")
    try:
        signature = inspect.signature(acquisition)
    except (TypeError, ValueError):  # no signature available
        return
    try:
        signature.bind(None, None, None)
    except TypeError:
        hint = f" Did you forget the parentheses: {name}()?" if _takes_nothing(signature) else ""
        raise TypeError(f"{wanted}, got {name}{signature}.{hint}") from None


def is_log_improvement(acquisition: Any) -> bool:
    """Tell whether the values of an acquisition are logarithms of an expected improvement.

    Args:
        acquisition: a `BatchAcquisition` or an acquisition function.

    Returns:
        True for `log_ei`, `batch_log_ei()` and `batch_log_nei()`.

    Example:
        >>> from bojax.acquisition import batch_log_nei, log_pi
        >>> is_log_improvement(batch_log_nei()), is_log_improvement(log_pi)
        (True, False)
    """
    improvement = batch_log_ei().value
    return acquisition is log_ei or (isinstance(acquisition, BatchAcquisition) and acquisition.value is improvement)


def _is_ours(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("bojax.acquisition.")


def _takes_nothing(signature: inspect.Signature) -> bool:
    """Whether a call without arguments is possible, as for factories of acquisitions."""
    try:
        signature.bind()
    except TypeError:
        return False
    return True
