"""The code of the guide for users of GPyOpt runs."""

import pathlib
import re

import pytest

GUIDE = pathlib.Path(__file__).parents[2] / "bojax" / "guide" / "coming_from_gpyopt.md"


@pytest.mark.long
def test_the_code_of_the_guide_runs():
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), flags=re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, str(GUIDE), "exec"), names)


def test_the_guide_is_short():
    assert len(GUIDE.read_text().splitlines()) < 200
