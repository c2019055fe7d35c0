"""The guide on several machines: its workers share a study on a PostgreSQL server.

Its search in Ray Tune runs in `tests/integrations/ray_cluster.py`.
"""

import ast
import os
import subprocess
import sys

import pytest

from bojax.study import Study
from tests.faults.servers import postgres
from tests.guides import FOLDER, scripts, with_trials

NUM_TRIALS, NUM_WORKERS = 6, 2


def start(path, url):
    environ = os.environ | {"STUDY_URL": url}
    return subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ
    )


def output_of(processes):
    """What they print; all of them end, however this does."""
    try:
        outputs = [process.communicate(timeout=200) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return [output for output, _ in outputs]


@pytest.mark.long
def test_the_workers_of_the_guide_share_a_study_on_postgresql(tmp_path):
    code = scripts("scaling_out.md")
    (tmp_path / "worker.py").write_text(with_trials(code["worker.py"], NUM_TRIALS))
    (tmp_path / "look.py").write_text(code["look.py"])
    with postgres() as url:
        output_of([start(tmp_path / "worker.py", url) for _ in range(NUM_WORKERS)])
        [shown] = output_of([start(tmp_path / "look.py", url)])
        study = Study(storage=url, name="cnn")
        trials = study.trials
        study.optuna._storage.remove_session()
    assert NUM_TRIALS <= len(trials) < NUM_TRIALS + NUM_WORKERS
    assert {trial.state for trial in trials} == {"complete"}
    assert len({str(sorted(trial.params.items())) for trial in trials}) == len(trials)
    assert all(("momentum" in trial.params) == (trial.params["optimizer"] == "sgd") for trial in trials)
    counts, best = shown.splitlines()
    assert ast.literal_eval(counts) == {"complete": len(trials)}
    assert float(best.split()[0]) == min(trial.value for trial in trials if trial.value is not None)


def test_the_guide_is_short():
    assert len((FOLDER / "scaling_out.md").read_text().splitlines()) < 200
