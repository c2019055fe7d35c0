"""A search in a Ray cluster on this machine that is interrupted, restored and continued; prints what it found as JSON.

A process of its own, because Ray forks, and a process in which JAX has computed should not. Which trials are stopped
depends on time, values do not. The guide's search follows in the same cluster.
"""

import json
import os
import pathlib
import signal
import sys

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler

from bojax.integrations.ray import BojaxSearch
from tests.guides import scripts, with_trials

NUM_TRIALS, NUM_STEPS, NUM_RUNNING, NUM_IN_GUIDE = 14, 4, 4, 5
SPACE = {
    "optimizer": {"lr": tune.loguniform(1e-4, 1e-1), "name": tune.choice(["adam", "sgd"])},
    "layers": [tune.randint(1, 5), 32],
    "steps": NUM_STEPS,
}


def train(config):
    for step in range(1, config["steps"] + 1):
        lr, layers = config["optimizer"]["lr"], config["layers"]
        value = abs(lr - 0.01) * 10 + layers[0] / layers[1] + (config["optimizer"]["name"] == "sgd") + 1 / step
        tune.report({"loss": value})


class Interrupt(tune.Callback):
    """Presses Ctrl-C when a few trials have ended, once: `Tuner.restore` restores callbacks, too."""

    def __init__(self, marker, after):
        self.marker, self.left = marker, after

    def on_trial_complete(self, iteration, trials, trial, **info):
        self.left -= 1
        if self.left == 0 and not os.path.exists(self.marker):
            pathlib.Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGINT)


def states_in(folder):
    """The saved states of the searcher, the newest last."""
    return [json.loads(path.read_text()) for path in sorted(pathlib.Path(folder).glob("searcher-state-*.json"))]


def main(folder):
    interrupt = Interrupt(os.path.join(folder, "interrupted"), after=5)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        tuner = tune.Tuner(
            tune.with_resources(train, {"cpu": 0.5}),
            param_space=SPACE,
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                search_alg=BojaxSearch(seed=5),
                scheduler=ASHAScheduler(max_t=NUM_STEPS, grace_period=1, reduction_factor=2),
                num_samples=NUM_TRIALS,
                max_concurrent_trials=NUM_RUNNING,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(name="search", storage_path=folder, callbacks=[interrupt], verbose=0),
        )
        tuner.fit()
        experiment = os.path.join(folder, "search")
        interrupted = states_in(experiment)[-1]
        results = tune.Tuner.restore(experiment, tune.with_resources(train, {"cpu": 0.5})).fit()
        guide = {"__name__": "search"}
        exec(with_trials(scripts("scaling_out.md")["search.py"], NUM_IN_GUIDE), guide)
        shown = guide["tuner"](folder).fit()
    finally:
        ray.shutdown()
    searcher = BojaxSearch()
    searcher.restore_from_dir(experiment)
    found = {
        "interrupted": interrupted,
        "finished": states_in(experiment)[-1],
        "configs": [result.config for result in results],
        "losses": [(result.metrics or {}).get("loss") for result in results],
        "errors": [str(result.error) for result in results if result.error],
        "steps": [(result.metrics or {}).get("training_iteration") for result in results],
        "best": searcher.study.best_value,
        "guide": [[result.config, result.metrics["loss"], str(result.error or "")] for result in shown],
        "guide_best": shown.get_best_result().config,
        "next": searcher.suggest("next"),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
