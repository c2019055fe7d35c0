"""Parts of an algorithm that are given the way the manual writes them, and those that cannot work, refused at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bojax
from bojax import acquisition, optim, surrogates
from tests.helpers import observe, smooth

SPACE = bojax.Space(x=bojax.Float(0.0, 1.0), y=bojax.Float(0.0, 1.0))
X = np.array([[0.1, 0.2], [0.5, 0.9], [0.8, 0.3]])


@pytest.fixture(scope="module")
def posterior():
    surrogate = surrogates.gp(max_evals=20, num_restarts=1)
    seen = observe(X, smooth(X))
    return surrogate.posterior(surrogate.init(2, seen.X.dtype), seen)


@pytest.mark.long
def test_ucb_of_a_number_is_an_acquisition_with_that_weight(posterior):
    points = jnp.asarray(X + 0.05, jnp.float32)
    mean, var = posterior.mean_var(points)
    for made in (acquisition.ucb(2.0), acquisition.ucb(beta=2.0), acquisition.ucb(np.float32(2.0))):
        np.testing.assert_allclose(made(posterior, points, 0.0), mean + jnp.sqrt(2.0 * var), rtol=1e-5)
    np.testing.assert_allclose(acquisition.ucb(posterior, points, 0.0), mean + 2.0 * jnp.sqrt(var), rtol=1e-5)
    np.testing.assert_allclose(acquisition.ucb(posterior, points, beta=2.0), mean + jnp.sqrt(2.0 * var), rtol=1e-5)
    np.testing.assert_array_equal(acquisition.ucb()(posterior, points), acquisition.ucb(posterior, points))


@pytest.mark.long
def test_ucb_of_a_number_goes_into_an_algorithm():
    algorithm = bojax.bayesopt(SPACE, acquisition=acquisition.ucb(2.0))
    key = jax.random.key(0)
    assert jax.eval_shape(lambda: algorithm.ask(key, algorithm.init(key)))[0].shape == (1, 2)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: acquisition.ucb(-1.0), ValueError, "`beta` must not be negative, got -1.0"),
        (lambda: acquisition.ucb("2"), TypeError, "`beta` must be a number, got '2'"),
        (lambda: acquisition.ucb(2.0, beta=1.0), TypeError, "`beta` must be given once"),
        (lambda: surrogates.sparse_gp(surrogates.matern52()), TypeError, r"sparse_gp\(kernel=matern52\(\)\)"),
        (lambda: surrogates.sparse_gp(2.5), TypeError, "`num_inducing` must be an integer"),
        (lambda: surrogates.gp(noise=surrogates.learned_noise), TypeError, "`noise` must be a Noise"),
        (lambda: surrogates.gp(surrogates.matern52), TypeError, "`kernel` must be"),
    ],
)
def test_a_part_says_what_it_must_be_given(call, error, match):
    with pytest.raises(error, match=match):
        call()


MISTAKES = {
    "batch_log_ei": r"Did you forget the parentheses: batch_log_ei\(\)\?",
    "gibbon": r"Did you forget the parentheses: gibbon\(\)\?",
    "knowledge_gradient": r"parentheses: knowledge_gradient\(\)",
    "q_log_ei": r"Use batch_log_ei\(\)",
    "q_ucb": r"Use batch_ucb\(\)",
    "max_value_entropy": r"Use mes\(\)",
    "kriging_believer": "must be a BatchAcquisition or a function",
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("where", ["bayesopt", "hybrid", "cost_aware", "with_prior", "per_cost"])
def test_what_is_no_acquisition_is_refused_when_it_is_given(name, where):
    wrong = getattr(acquisition, name)
    make = {
        "bayesopt": lambda: bojax.bayesopt(SPACE, acquisition=wrong),
        "hybrid": lambda: bojax.loop.hybrid(SPACE, acquisition=wrong),
        "cost_aware": lambda: bojax.loop.cost_aware(SPACE, acquisition=wrong),
        "with_prior": lambda: acquisition.with_prior(wrong, lambda X: X[:, 0]),
        "per_cost": lambda: acquisition.per_cost(wrong, lambda X: X[:, 0]),
    }[where]
    with pytest.raises(TypeError, match=MISTAKES[name]):
        make()


@pytest.mark.unchecked
@pytest.mark.parametrize("wrong", ["log_ei", 3.0])
def test_an_acquisition_that_cannot_be_called_is_refused(wrong):
    with pytest.raises(TypeError, match="`acquisition` must be a BatchAcquisition or a function"):
        bojax.bayesopt(SPACE, acquisition=wrong)


def test_functions_of_the_right_form_are_taken():
    def own(posterior, X, best_f):
        return posterior.mean(X)

    for right in (own, functools.partial(acquisition.ucb, beta=1.0), lambda posterior, X, *rest: posterior.mean(X)):
        bojax.bayesopt(SPACE, acquisition=right)
    for name in ("ei", "log_ei", "log_pi", "pi", "posterior_mean", "ucb"):
        bojax.bayesopt(SPACE, acquisition=getattr(acquisition, name))


def own_optimizer(key, lattice, fn, seen, center):
    raise NotImplementedError


def test_an_optimizer_of_ones_own_is_taken():
    bojax.bayesopt(SPACE, optimizer=own_optimizer)


@pytest.mark.unchecked
@pytest.mark.parametrize("wrong", [optim.multistart, 3])
def test_what_is_no_optimizer_is_refused(wrong):
    with pytest.raises(TypeError, match=r"`optimizer` must be a function \(key, lattice, fn, seen, center\)"):
        bojax.bayesopt(SPACE, optimizer=wrong)


@pytest.mark.unchecked
@pytest.mark.parametrize("make", [bojax.bayesopt, bojax.thompson, bojax.turbo])
def test_a_surrogate_without_parentheses_is_refused(make):
    with pytest.raises(TypeError, match=r"`surrogate` must be a Surrogate.*forget the parentheses: gp\(\)"):
        make(SPACE, surrogate=surrogates.gp)


def test_a_surrogate_says_whether_it_learns_from_gradients():
    for deaf in (surrogates.gp(), surrogates.sparse_gp(8)):
        assert "grad" not in bojax.bayesopt(SPACE, surrogate=deaf).columns
    learns = surrogates.with_output_transform(surrogates.gradient_gp(), surrogates.log_tail)
    assert "grad" in bojax.bayesopt(SPACE, surrogate=learns).columns


def test_presets_set_the_parts_that_they_name():
    assert not bojax.bayesopt(SPACE).repeats and bojax.noisy_bayesopt(SPACE).repeats
    assert bojax.noisy_bayesopt(SPACE, acquisition=acquisition.ucb(2.0)).repeats
    assert bojax.gradient_bayesopt(SPACE).columns == ("noise_var", "grad")
    with pytest.raises(TypeError, match="surrogate"):
        bojax.gradient_bayesopt(SPACE, surrogate=surrogates.gp())
    with pytest.raises(TypeError, match="noisy"):
        bojax.bayesopt(SPACE, noisy=True)


@pytest.mark.parametrize("name", ["batch_ucb", "batch_log_pi", "gibbon", "batch_simple_regret"])
def test_hybrid_refuses_utilities_that_are_no_log_improvement(name):
    with pytest.raises(ValueError, match=r"`acquisition` must be batch_log_ei\(\)"):
        bojax.loop.hybrid(SPACE, acquisition=getattr(acquisition, name)())


def test_hybrid_takes_log_improvements():
    for right in (acquisition.batch_log_ei(num_samples=16), acquisition.batch_log_nei(), acquisition.log_ei):
        assert bojax.loop.hybrid(SPACE, acquisition=right).q == 1
