"""The searcher in a Ray cluster on this machine: ASHA, four trials at a time, interrupted, restored and continued.

It takes about 40 s of processor time, most of it Ray's processes and one program for the model-based suggestions.
"""

import json
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip("ray")

from tests.integrations import ray_cluster

TIMEOUT = 270


def run_cluster(folder):
    """What `ray_cluster` prints. Its process and all that Ray started are gone afterwards."""
    environ = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONWARNINGS": "ignore", "HOME": str(folder / "home")}
    command = [sys.executable, "-m", "tests.integrations.ray_cluster", str(folder / "results")]
    (folder / "home").mkdir()
    with open(folder / "errors", "w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environ, start_new_session=True
        )
        try:
            output, _ = process.communicate(timeout=TIMEOUT)
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):  # nothing of the session is left
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    break
            process.wait(30)
        errors.seek(0)
        assert process.returncode == 0, errors.read()[-4000:]
    return json.loads(output.splitlines()[-1])


def told(state):
    """Values by the trial's name in Ray."""
    return {trial["attrs"]["ray_trial_id"]: trial["value"] for trial in state["trials"] if trial["state"] == "complete"}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_search_with_asha_is_interrupted_restored_and_finished(tmp_path):
    found = run_cluster(tmp_path)
    interrupted, finished = found["interrupted"], found["finished"]
    # It was interrupted in the middle: some trials had ended, and others were running.
    assert 5 <= len(told(interrupted)) < ray_cluster.NUM_TRIALS
    assert set(interrupted["live"]) and {trial["state"] for trial in interrupted["trials"]} == {"complete", "running"}
    # All trials have ended, none failed, and those of the first part kept their names and values.
    assert found["errors"] == [] and len(finished["trials"]) == len(found["losses"]) == ray_cluster.NUM_TRIALS
    assert set(told(interrupted).items()) <= set(told(finished).items())
    assert set(interrupted["live"]) <= set(told(finished)) and not finished["live"]
    # The searcher was told what each trial reported last, stopped ones included.
    assert sorted(told(finished).values()) == sorted(found["losses"])
    assert min(found["steps"]) < max(found["steps"]) == ray_cluster.NUM_STEPS
    assert found["best"] == min(found["losses"])
    # Every trial has all constants, and parameters of its own.
    for config in [*found["configs"], found["next"]]:
        assert config["steps"] == ray_cluster.NUM_STEPS and config["layers"][1] == 32
        assert config["layers"][0] in range(1, 5) and config["optimizer"]["name"] in ("adam", "sgd")
    assert len({json.dumps(config) for config in found["configs"]}) == ray_cluster.NUM_TRIALS
    assert finished["seed"] == interrupted["seed"] == 5
    # The search of the guide, with a conditional space.
    configs = [config for config, _, _ in found["guide"]]
    assert len(configs) == ray_cluster.NUM_IN_GUIDE and not any(error for *_, error in found["guide"])
    for config in configs:
        assert set(config) == {"optimizer", "layers", "epochs"} and config["epochs"] == 9
        assert ("momentum" in config["optimizer"]) == (config["optimizer"]["name"] == "sgd")
    assert found["guide_best"] in configs
