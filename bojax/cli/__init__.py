"""The command `bojax`: tune an objective of the zoo or your own, and look at what came of it.

Exit codes: 0 all is well, 1 something failed while running, 2 the command was used wrongly, 130 interrupted.
Errors are one line on stderr. With `--json` stdout holds one JSON document and nothing else, whatever the objective
prints; it holds nothing where the command was used wrongly or nothing could be opened. Heavy imports wait until needed,
so that `bojax --help` answers at once.
"""

from bojax.cli._app import ALGORITHMS, DEFAULT_STORAGE, app, main, run
from bojax.cli._running import DEFAULT_SEED, TARGET_ATTR
from bojax.cli._target import Target, find_target

__all__ = [
    "ALGORITHMS",
    "DEFAULT_SEED",
    "DEFAULT_STORAGE",
    "TARGET_ATTR",
    "Target",
    "app",
    "find_target",
    "main",
    "run",
]
