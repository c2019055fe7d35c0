"""The skeletons of CONTRIBUTING.md run, with public names only."""

import ast
import math
import pathlib
import re

import pytest

TEXT = (pathlib.Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"### (?:An?) (.+?)\n.*?```python\n(.*?)```", TEXT, flags=re.DOTALL))


def run(title):
    namespace = {"__name__": "skeleton"}
    exec(compile(RECIPES[title], f"CONTRIBUTING.md, {title}", "exec"), namespace)
    return namespace


def test_there_is_a_recipe_for_every_kind_of_piece():
    assert set(RECIPES) == {"acquisition", "algorithm", "kernel", "surrogate", "model of the zoo"}


@pytest.mark.parametrize("title", RECIPES)
def test_skeletons_use_public_names_only(title):
    for node in ast.walk(ast.parse(RECIPES[title])):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [node.attr] if isinstance(node, ast.Attribute) else []
        names = [name for name in names if name != "_replace"]  # of NamedTuples
        private = [name for name in names if any(part.startswith("_") for part in name.split("."))]
        assert not private


def test_the_acquisition_passes_the_kit():
    assert run("acquisition")["algorithm"].q == 1


@pytest.mark.long
def test_the_surrogate_passes_the_kit():
    from bojax import testing

    testing.check_surrogate(run("surrogate")["surrogate"], dtypes=["float64"])


@pytest.mark.long
def test_the_algorithm_passes_the_kit():
    from bojax import testing

    testing.check_algorithm(run("algorithm")["algorithm"], dtypes=["float64"])


@pytest.mark.long
def test_the_kernel_makes_a_surrogate():
    import jax
    import jax.numpy as jnp
    import numpy as np

    from tests.helpers import observe

    surrogate = run("kernel")["surrogate"]
    X = jnp.linspace(0.0, 1.0, 5)[:, None]
    observations = observe(X, jnp.sin(6.0 * X[:, 0]))
    params, info = surrogate.fit(jax.random.key(0), observations, surrogate.init(1, jnp.float32))
    mean = surrogate.posterior(params, observations).mean(X)
    assert bool(info.ok)
    np.testing.assert_allclose(mean, np.sin(6.0 * X[:, 0]), atol=0.1)


@pytest.mark.long
def test_the_model_trains():
    names = run("model of the zoo")
    assert all(math.isfinite(value) for value in names["metrics"].values())
    assert names["iris"].kind("width") == "structural"
