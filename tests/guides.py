"""The code in the guides that are shipped with the package."""

import pathlib
import re

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "bojax" / "guide"


def scripts(guide):
    """The Python blocks of a guide that begin with a file name, by that name."""
    blocks = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", (FOLDER / guide).read_text(), flags=re.DOTALL)
    return dict(blocks)


def with_trials(script, num_trials):
    """A script that says `NUM_TRIALS = ...`, with fewer of them."""
    shorter, count = re.subn(r"^NUM_TRIALS = \d+$", f"NUM_TRIALS = {num_trials}", script, flags=re.MULTILINE)
    assert count == 1
    return shorter
