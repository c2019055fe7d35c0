"""Write `monte_carlo.json`: values and gradients of BoTorch's acquisitions on fixed base samples.

Run by hand where torch and botorch are installed: `python -m tests.oracle.generate_botorch`.
"""

import json
import pathlib

import numpy as np
import torch
from botorch.acquisition import logei, monte_carlo
from botorch.sampling.normal import IIDNormalSampler

from benchmarks._botorch import same_gp
from tests.oracle.pair import hyperparameters

OUT = pathlib.Path(__file__).with_name("monte_carlo.json")


def fixed_sampler(base):
    """A sampler of joint samples made of given normal numbers [s, q]."""
    sampler = IIDNormalSampler(sample_shape=torch.Size([base.shape[0]]))
    sampler.register_buffer("base_samples", torch.as_tensor(base)[:, None, :])
    return sampler


def model_of(case):
    """The GPyTorch model of a case."""
    numbers = {name: np.asarray(case[name]) for name in ("lengthscale", "outputscale", "noise_var", "mean")}
    return same_gp(
        np.asarray(case["X"]), np.asarray(case["y"]), **{k: v if v.ndim else float(v) for k, v in numbers.items()}
    )


def evaluate(acquisition, X):
    """Value and gradient at a batch [q, d]."""
    X = torch.as_tensor(X).requires_grad_(True)
    value = acquisition(X[None])[0]
    (gradient,) = torch.autograd.grad(value, X)
    return float(value.detach()), gradient.numpy().tolist()


def cases():
    """Every acquisition on a few processes, batch sizes and incumbents, far tails included."""
    for seed, (q, p, far) in enumerate(
        [(1, 0, 0.0), (2, 0, 0.5), (4, 0, 3.0), (8, 0, 0.0), (2, 2, 0.0), (3, 1, 30.0), (1, 3, 80.0)]
    ):
        case = hyperparameters(seed)
        rng = np.random.default_rng(100 + seed)
        X, pending, base = rng.random((q, 3)), rng.random((p, 3)), rng.normal(size=(16, q + p))
        m = 5
        base -= base.mean(axis=0)  # BoTorch's bound is around the mean of the samples, ours around that of the process
        noisy = rng.normal(size=(16, m + q + p))
        best_f = max(case["y"]) + far
        model = model_of(case)
        rest = {"X_pending": torch.as_tensor(pending) if p else None}
        with_base = rest | {"sampler": fixed_sampler(base)}
        baseline = np.asarray(case["X"])[:m]
        found = {
            "q_log_ei": logei.qLogExpectedImprovement(model, best_f=best_f, **with_base),
            "q_pi": monte_carlo.qProbabilityOfImprovement(model, best_f=best_f, tau=0.1, **with_base),
            "q_ucb": monte_carlo.qUpperConfidenceBound(model, beta=2.0, **with_base),
            "q_simple_regret": monte_carlo.qSimpleRegret(model, **with_base),
            "q_log_nei": logei.qLogNoisyExpectedImprovement(
                model,
                torch.as_tensor(baseline),
                prune_baseline=False,
                cache_root=False,
                incremental=False,
                sampler=fixed_sampler(noisy),
                **rest,
            ),
        }
        out = {name: dict(zip(("value", "gradient"), evaluate(a, X), strict=True)) for name, a in found.items()}
        yield {
            "gp": case,
            "X": X.tolist(),
            "pending": pending.tolist(),
            "base": base.tolist(),
            "noisy_base": noisy.tolist(),
            "baseline": baseline.tolist(),
            "best_f": best_f,
            "acquisitions": out,
        }


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    OUT.write_text(json.dumps(list(cases())))
    print(f"{OUT}: {OUT.stat().st_size} bytes")
