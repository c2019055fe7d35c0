"""A search space with branches, tuned by BojaxSampler."""

import optuna
import optunahub


def objective(trial: optuna.Trial) -> float:
    """A made-up validation loss: the optimizer decides which parameters there are."""
    rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    loss = (rate / 1e-2 - 1.0) ** 2
    if trial.suggest_categorical("optimizer", ["adam", "sgd"]) == "sgd":
        loss += (trial.suggest_float("momentum", 0.0, 1.0) - 0.9) ** 2
    else:
        loss += 0.1
    return loss


if __name__ == "__main__":
    module = optunahub.load_module(package="samplers/bojax")
    study = optuna.create_study(sampler=module.BojaxSampler(seed=0))
    study.optimize(objective, n_trials=50)
    print(study.best_params, study.best_value)
