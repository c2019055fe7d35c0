"""Write `information.json`: BoTorch's GIBBON, joint entropy search and one-shot knowledge gradient on fixed samples.

Run by hand where torch and botorch are installed: `python -m tests.oracle.generate_information`.
"""

import json
import pathlib
import warnings

import numpy as np
import torch
from botorch.acquisition.joint_entropy_search import qJointEntropySearch
from botorch.acquisition.knowledge_gradient import qKnowledgeGradient
from botorch.acquisition.max_value_entropy_search import qLowerBoundMaxValueEntropy
from botorch.models import SingleTaskGP

from tests.oracle.generate_botorch import evaluate, fixed_sampler, model_of
from tests.oracle.pair import hyperparameters

OUT = pathlib.Path(__file__).with_name("information.json")


def learned_noise(case):
    """The model of a case with one noise variance instead of one a point, which conditioning would average."""
    fixed = model_of(case)
    model = SingleTaskGP(
        torch.as_tensor(case["X"]),
        torch.as_tensor(case["y"])[:, None],
        covar_module=fixed.covar_module,
        mean_module=fixed.mean_module,
        outcome_transform=None,
    )
    model.likelihood.noise = case["noise_var"]
    return model.eval()


def cases():
    """Three processes, without and with pending points, maxima near and far."""
    for seed, (p, far) in enumerate([(0, 0.3), (2, 1.0), (1, 8.0)]):
        case = hyperparameters(20 + seed)
        rng = np.random.default_rng(200 + seed)
        x, pending, optima = rng.random((1, 3)), rng.random((p, 3)), rng.random((4, 3))
        values = max(case["y"]) + far + rng.random(4)
        found = {}
        model = model_of(case)
        gibbon = qLowerBoundMaxValueEntropy(model, torch.as_tensor(rng.random((8, 3))), num_mv_samples=4)
        gibbon.posterior_max_values = torch.as_tensor(values)[:, None]
        if p:
            gibbon.X_pending = torch.as_tensor(pending)
        found["gibbon"] = evaluate(gibbon, x)
        entropy = qJointEntropySearch(
            learned_noise(case),
            torch.as_tensor(optima),
            torch.as_tensor(values)[:, None],
            condition_noiseless=False,
            estimation_type="LB",
        )
        found["jes"] = evaluate(entropy, x)
        fantasies, base = rng.random((4, 3)), rng.normal(size=(4, 2))
        X = rng.random((2, 3))
        gradient = qKnowledgeGradient(
            model_of(case), num_fantasies=4, sampler=fixed_sampler(base), current_value=torch.tensor(0.25)
        )
        found["kg"] = evaluate(gradient, np.concatenate([X, fantasies]))
        yield {
            "gp": case,
            "x": x.tolist(),
            "pending": pending.tolist(),
            "optima": optima.tolist(),
            "values": values.tolist(),
            "X": X.tolist(),
            "fantasies": fantasies.tolist(),
            "base": base.tolist(),
            "optimum_noise": case["noise_var"],
            "found": {name: {"value": v, "gradient": g} for name, (v, g) in found.items()},
        }


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        OUT.write_text(json.dumps(list(cases())))
    print(f"{OUT}: {OUT.stat().st_size} bytes")
