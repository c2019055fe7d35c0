"""Hyperopt's interface: change `from hyperopt import ...` to `from bojax.integrations.hyperopt import ...`.

Search spaces, `fmin`, `Trials` and results keep their form. Trials are chosen by bojax: by a Gaussian process, unless
`algo` says otherwise. Hyperopt itself is not needed; its own search spaces are read where it is installed. This module
also has what Hyperopt keeps in submodules: `no_progress_loss`, `scope`, `pyll.stochastic.sample`, `AllTrialsFailed`,
`generate_trials_to_calculate`.
"""

from bojax.integrations._hyperopt import hp
from bojax.integrations._hyperopt._early_stop import no_progress_loss
from bojax.integrations._hyperopt._errors import (
    AllTrialsFailed,
    BadSearchSpace,
    DuplicateLabel,
    InvalidLoss,
    InvalidResultStatus,
    InvalidTrial,
)
from bojax.integrations._hyperopt._fmin import fmin
from bojax.integrations._hyperopt._namespaces import pyll, scope
from bojax.integrations._hyperopt._spaces import space_eval, space_from_hyperopt
from bojax.integrations._hyperopt._suggest import anneal, rand, tpe
from bojax.integrations._hyperopt._trials import (
    JOB_STATE_CANCEL,
    JOB_STATE_DONE,
    JOB_STATE_ERROR,
    JOB_STATE_NEW,
    JOB_STATE_RUNNING,
    JOB_STATES,
    STATUS_FAIL,
    STATUS_NEW,
    STATUS_OK,
    STATUS_RUNNING,
    STATUS_STRINGS,
    STATUS_SUSPENDED,
    Trials,
    generate_trials_to_calculate,
)

__all__ = [
    "JOB_STATES",
    "JOB_STATE_CANCEL",
    "JOB_STATE_DONE",
    "JOB_STATE_ERROR",
    "JOB_STATE_NEW",
    "JOB_STATE_RUNNING",
    "STATUS_FAIL",
    "STATUS_NEW",
    "STATUS_OK",
    "STATUS_RUNNING",
    "STATUS_STRINGS",
    "STATUS_SUSPENDED",
    "AllTrialsFailed",
    "BadSearchSpace",
    "DuplicateLabel",
    "InvalidLoss",
    "InvalidResultStatus",
    "InvalidTrial",
    "Trials",
    "anneal",
    "fmin",
    "generate_trials_to_calculate",
    "hp",
    "no_progress_loss",
    "pyll",
    "rand",
    "scope",
    "space_eval",
    "space_from_hyperopt",
    "tpe",
]
