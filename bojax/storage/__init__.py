"""Optuna's storages, opened by URL, with error messages that name the file and the problem.

Journals survive a full disk, and a waiting trial that several workers want goes to exactly one of them.
"""

from bojax.storage._claims import claim
from bojax.storage._distributions import to_distributions
from bojax.storage._errors import is_locked
from bojax.storage._finish import finish
from bojax.storage._open import NUM_RETRIES, file_of, hide_password, open_storage, retry
from bojax.storage._params import set_params

__all__ = [
    "NUM_RETRIES",
    "claim",
    "file_of",
    "finish",
    "hide_password",
    "is_locked",
    "open_storage",
    "retry",
    "set_params",
    "to_distributions",
]
