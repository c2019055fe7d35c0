"""The command `bojax`: tune an objective of the zoo or your own, and show the results.

Exit codes: 0 success, 1 something failed while running, 2 the command was used wrongly, 130 interrupted. Errors are
one line on stderr. With `--json` stdout holds one JSON document and nothing else, whatever the objective prints; it is
empty where the command was used wrongly or nothing could be opened. Heavy imports are deferred until they are needed,
so that `bojax --help` answers at once.
"""

from bojax.cli._app import app, main, run
from bojax.cli._methods import METHODS
from bojax.cli._options import DEFAULT_STORAGE
from bojax.cli._running import DEFAULT_SEED, TARGET_ATTR
from bojax.cli._target import Target, find_target

__all__ = [
    "DEFAULT_SEED",
    "DEFAULT_STORAGE",
    "METHODS",
    "TARGET_ATTR",
    "Target",
    "app",
    "find_target",
    "main",
    "run",
]
