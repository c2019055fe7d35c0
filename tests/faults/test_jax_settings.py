"""What a user sets JAX to do neither breaks a suggestion nor changes it."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import _runtime, acquisition, multifidelity
from tests.helpers import small_bayesopt

SETTINGS = {
    "debug_nans": True,
    "debug_infs": True,
    "debug_key_reuse": True,
    "numpy_dtype_promotion": "strict",
    "numpy_rank_promotion": "raise",
    "disable_jit": True,
    "default_prng_impl": "rbg",
    "default_matmul_precision": "bfloat16",
    "threefry_partitionable": False,
    "check_tracer_leaks": True,
    "transfer_guard": "disallow",
    "default_device": "cpu",
    "enable_x64": True,
}
SPACE = bojax.Space(x=bojax.Float(0.0, 1.0), c=bojax.Categorical(["u", "v", "w"]))


@contextlib.contextmanager
def setting(name):
    with getattr(jax, name)(SETTINGS[name]):
        yield


def algorithm(space, q):
    return small_bayesopt(space, q=q, num_initial=2, acquisition=acquisition.batch_log_ei(joint=False))


def search(space, q):
    return bojax.random_search(space, q=q)


ALGORITHM = algorithm(SPACE, 1)


def objective(params):
    if isinstance(params["c"], str) and params["c"] == "w":
        raise ValueError("a failure")  # so that the model of success takes part
    return (params["x"] - 0.3) ** 2


@pytest.fixture(scope="module")
def suggested():
    """Suggestions of a study with a failed trial, as without any setting."""
    return _suggested()


def _suggested():
    study = bojax.Study(SPACE, seed=3, algorithm=algorithm)
    study.enqueue({"x": 0.5, "c": "w"})
    with contextlib.suppress(UserWarning), pytest.warns(bojax.BojaxWarning, match="failed"):
        study.optimize(objective, num_trials=5, progress=False)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_study_suggests_the_same_under_every_setting(name, suggested):
    with setting(name):
        assert _suggested() == suggested


@pytest.mark.filterwarnings("ignore::bojax.BojaxWarning")
@pytest.mark.parametrize("name", ["numpy_dtype_promotion", "debug_nans", "default_prng_impl", "disable_jit"])
def test_minimize_works_with_a_global_setting_too(name, suggested):
    before = getattr(jax.config, f"jax_{name}")
    jax.config.update(f"jax_{name}", SETTINGS[name])
    try:
        result = bojax.minimize(objective, SPACE, num_trials=2, seed=3, algorithm=algorithm, progress=False)
        assert getattr(jax.config, f"jax_{name}") == SETTINGS[name]
    finally:
        jax.config.update(f"jax_{name}", before)
    assert result.trials[0].params == suggested[1]  # the first that was not enqueued


def f(params):
    return -((params["x"] - 0.3) ** 2)


@pytest.fixture(scope="module")
def ran():
    return _ran()


def _ran():
    # The key is made under the setting, as a user's is.
    key = jax.random.key(0)
    final = bojax.run(key, ALGORITHM, f, 3)
    return final.observations.X


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"enable_x64", "transfer_guard"}))
def test_run_suggests_the_same_under_every_setting(name, ran):
    with setting(name):
        np.testing.assert_array_equal(_ran(), ran)


@pytest.mark.long
def test_run_many_draws_the_same_with_other_keys():
    drawn = bojax.random_search(SPACE)
    plain = bojax.run_many(jax.random.split(jax.random.key(1), 2), drawn, f, 3).observations.X
    with setting("default_prng_impl"):
        other = bojax.run_many(jax.random.split(jax.random.key(1), 2), drawn, f, 3).observations.X
        old = bojax.run_many(jax.random.split(jax.random.PRNGKey(1), 2), drawn, f, 3).observations.X
    np.testing.assert_array_equal(plain, other)
    np.testing.assert_array_equal(plain, old)


@pytest.mark.long
def test_run_traces_the_objective_under_the_settings_of_the_user():
    seen = []

    def objective(params):
        seen.append((jnp.zeros(()).dtype, jax.config.jax_numpy_dtype_promotion, jax.config.jax_default_prng_impl))
        return -params["x"]

    with setting("numpy_dtype_promotion"), setting("default_prng_impl"):
        bojax.run(jax.random.key(0), bojax.random_search(SPACE), objective, 2)
    assert seen and all(row == (jnp.float32, "strict", "rbg") for row in seen)


@pytest.fixture(scope="module")
def pure():
    return _pure()


def _pure():
    state = ALGORITHM.init(jax.random.key(0))
    for i in range(3):
        X, state, _ = ALGORITHM.ask(jax.random.key(i), state)
        state = ALGORITHM.tell(state, X, [0.1 * i])
    return np.asarray(X)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"enable_x64", "transfer_guard"}))
def test_the_pure_functions_suggest_the_same_under_every_setting(name, pure):
    with setting(name):
        np.testing.assert_array_equal(_pure(), pure)


@pytest.mark.slow
@pytest.mark.parametrize("make", [bojax.random_search, bojax.thompson, bojax.turbo, bojax.loop.cost_aware])
def test_every_algorithm_starts_under_strict_settings(make):
    made = make(SPACE, q=2)
    plain = made.ask(jax.random.key(0), made.init(jax.random.key(1)))[0]
    with setting("debug_nans"), setting("numpy_dtype_promotion"), setting("default_prng_impl"):
        other = made.ask(jax.random.key(0), made.init(jax.random.key(1)))[0]
    np.testing.assert_array_equal(plain, other)


@pytest.mark.parametrize("key", [0, np.arange(3), "0", None])
def test_what_is_no_key_is_refused_by_name(key):
    with pytest.raises(TypeError, match=r"`key` must be a random key.*jax\.random\.key"):
        bojax.run(key, ALGORITHM, f, 3)


def test_a_seed_gives_the_key_that_it_always_gave():
    for seed in (0, 7, 2**32 - 1):
        with jax.enable_x64(True):
            wanted = jax.random.key_data(jax.random.key(seed))
        np.testing.assert_array_equal(jax.random.key_data(_runtime.seed_key(seed)), wanted)


def train(key, hparams):
    return (hparams["x"] - 0.3) ** 2


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:the tuned metric does not depend on")
@pytest.mark.parametrize("name", ["numpy_dtype_promotion", "debug_nans", "disable_jit", "default_prng_impl"])
def test_tune_suggests_the_same(name):
    def tuned():
        result = bojax.tune(train, SPACE, num_trials=4, batch_size=2, seed=1, algorithm=search, progress=False)
        return [trial.params for trial in result.trials]

    plain = tuned()
    with setting(name):
        assert tuned() == plain


LINE = multifidelity.from_functions(
    bojax.Space(x=bojax.Float(0.0, 1.0)),
    init=lambda key, h: jnp.zeros_like(h["x"]),
    advance=lambda state, h, n: state + h["x"] * jnp.asarray(n, h["x"].dtype),
    evaluate=lambda state, h: {"value": state},
    metric="value",
    num_steps=4,
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["numpy_dtype_promotion", "debug_nans", "default_prng_impl", "enable_x64"])
@pytest.mark.parametrize("method", ["successive_halving", "asha", "pbt"])
def test_populations_draw_the_same_configurations(name, method):
    settings = {
        "pbt": {"population": 4, "num_rounds": 2},
        "asha": {"budget_steps": 8, "population": 2, "num_workers": 1},
        "successive_halving": {"num_members": 4, "num_workers": 1},
    }

    def drawn():
        return getattr(multifidelity, method)(LINE, **settings[method], seed=0).X

    plain = drawn()
    with setting(name):
        np.testing.assert_allclose(np.asarray(drawn()), np.asarray(plain), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:the tuned metric does not depend on")
def test_threads_of_a_population_see_the_settings_of_the_caller():
    seen = []

    def advance(state, h, n):
        seen.append(str(jax.config.jax_numpy_dtype_promotion))
        return state

    trainable = LINE._replace(functions=LINE.functions._replace(advance=advance))
    keys, hparams = jax.random.split(jax.random.key(0), 8), {"x": np.linspace(0.0, 1.0, 8)}
    with setting("numpy_dtype_promotion"):
        population = multifidelity.Population(trainable, keys, hparams, num_workers=2)
        population.advance(1)
    assert set(seen) == {"strict"}


@pytest.mark.parametrize("name", ["debug_nans", "transfer_guard"])
def test_a_state_is_restored_whatever_the_setting(name):
    state = bojax.random_search(SPACE).init(jax.random.key(0))
    X = np.full((2, SPACE.num_dims), 0.5)
    with setting(name):
        restored = bojax.loop.restore(state, bojax.data.Told(X, np.array([np.nan, 1.0]), X[:0]))
    assert restored.observations.mask[:3].tolist() == [False, True, False]
