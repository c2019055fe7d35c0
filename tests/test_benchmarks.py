"""The benchmark scripts run from end to end with tiny settings. They measure nothing here."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIMEOUT = 120
"""Seconds for one script, on a machine that is busy with the other tests."""


def run(tmp_path, *command, **env):
    """Runs a script; returns what it printed and the figures it recorded."""
    record = tmp_path / "figures.jsonl"
    # Unoptimised programs compile in half the time.
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0".strip()
    done = subprocess.run(
        [sys.executable, *command, "--quick", "--json", str(record)],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags, **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, [json.loads(line) for line in record.read_text().splitlines()]


def by_name(figures):
    """The values of figures, by their names."""
    return {figure["figure"]: figure["values"] for figure in figures}


@pytest.mark.long
def test_warm_suggestion_and_quality(tmp_path):
    printed, figures = run(tmp_path, "-m", "benchmarks.speed", "--no-botorch", "--only", "warm", "quality")
    values = by_name(figures)
    assert {"bojax, cold", "bojax, warm start", "bojax acquisition"} <= set(values["warm suggestion"]["samples"])
    fits = values["fit quality"]
    assert all(own <= scipy + 1e-3 for own, scipy in zip(fits["bojax"], fits["scipy"], strict=True))
    assert "| whole suggestion |" in printed
    assert figures[0]["versions"]["jax"] and figures[0]["command"].startswith("python -m benchmarks.speed")


@pytest.mark.slow
def test_first_minute(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.speed", "--no-botorch", "--only", "first")
    marks = by_name(figures)["first minute"]["marks_s"]
    assert set(marks) == {"bojax, empty cache", "bojax, warm cache"}
    assert all(len(line) == 9 and line == sorted(line) for lines in marks.values() for line in lines)


@pytest.mark.slow
def test_what_a_user_of_study_waits_for(tmp_path):
    sections = ["second", "ask", "batch", "mixed"]
    printed, figures = run(tmp_path, "-m", "benchmarks.speed", "--no-botorch", "--only", *sections)
    values = by_name(figures)
    assert {"Study.ask", "algorithm alone"} == set(values["ask through Study"]["samples"])
    assert all(count >= 0 for count in values["second study"]["compiled"].values())
    assert len(values["mixed spaces"]["samples"]) == 4
    assert "| trials | aim | times as fast as BoTorch |" in printed


@pytest.mark.slow
def test_a_fresh_process_and_the_longest_wait(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.speed", "--no-botorch", "--only", "fresh", "long")
    values = by_name(figures)
    assert set(values["fresh process"]["seconds"]) == {"bojax, nothing on disk", "bojax, class known"}
    assert len(values["longest wait"]["asks_s"]) == 12


@pytest.mark.long
def test_host(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.host", "--only", "memory", "sqlite")
    assert {"memory, 4 trials", "sqlite, 4 trials"} <= set(by_name(figures))


@pytest.mark.long
def test_compilations(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.speed", "--no-botorch", "--only", "compilations")
    assert by_name(figures)["compilations"]["at_trials"] == [[16, 1], [32, 18]]


@pytest.mark.skipif(
    importlib.util.find_spec("botorch") is None or importlib.util.find_spec("torch") is None,
    reason="BoTorch is not installed",
)
def test_botorch_gets_the_same_function(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.speed", "--only", "quality", OMP_NUM_THREADS="1")
    values = by_name(figures)["candidate quality"]
    assert values["largest_disagreement"] < 1e-3
    assert all(own >= other - 1e-4 for own, other in zip(values["bojax"], values["botorch"], strict=True))


@pytest.mark.long
def test_studies(tmp_path):
    command = ["-m", "benchmarks.studies", "--no-botorch", "--only", "time", "--modes", "map", "shard"]
    printed, figures = run(tmp_path, *command)
    regrets = {figure["values"]["mode"]: figure["values"]["regret"] for figure in figures}
    assert set(regrets) == {"map", "shard"}
    assert all(regret >= -1e-6 for values in regrets.values() for regret in values)
    assert "bojax, shard over" in printed


@pytest.mark.long
def test_gpu_script_runs_without_a_gpu(tmp_path):
    printed, figures = run(tmp_path, "benchmarks/gpu.py", "--only", "suggestion", JAX_PLATFORMS="cpu")
    assert "JAX sees no GPU" in printed
    assert by_name(figures)["gpu suggestion"]["agreement"]["CPU"]["status"] == 0


@pytest.mark.slow
def test_training(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.training")
    gaps = by_name(figures)["training"]["largest_gap"]
    assert gaps["train_loss"] < 1e-2


@pytest.mark.slow
def test_zoo(tmp_path):
    printed, figures = run(tmp_path, "-m", "benchmarks.zoo")
    values = by_name(figures)
    assert values["tuned"]["num_steps"] == 3 and 0 <= values["tuned"]["metrics"]["test_accuracy"] <= 1
    assert 2 < values["ngram"]["test"] < 4
    assert "missed" in printed  # three steps do not train a network


@pytest.mark.slow
def test_multifidelity(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.multifidelity")
    runs = {figure["values"]["contestant"]: figure["values"] for figure in figures}
    assert runs["random search, in full"]["steps"] == 6 * 9
    assert runs["hyperband"]["steps"] == (9 + 3 * 2 + 6) + (5 * 3 + 6) + 3 * 9


@pytest.mark.slow
def test_hypergrad(tmp_path):
    printed, figures = run(tmp_path, "-m", "benchmarks.hypergrad", "--no-peers")
    values = by_name(figures)
    assert values["accuracy"]["reference_check"] < 1e-10
    errors = values["accuracy"]["errors"]
    assert errors["bojax Implicit(CG())"]["float64"] < 1e-8
    assert errors["bojax Implicit(Direct())"]["float32"] < 1e-4
    assert errors["bojax Unrolled(mixflow, step)"]["float64"] < 1e-1  # 50 steps of gradient descent
    assert values["memory"]["temp_mib"] > 0 and values["unroll"]["compile_s"]
    assert {"inner gradient", "training, T = 4", "Implicit, 2 CG steps"} <= set(values["cost"]["samples"])
    assert "## One outer step" in printed


def test_hypergrad_peers_say_the_same(tmp_path):
    """Through the same 50 steps, and by the same conjugate gradients."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "torchopt", "higher")):
        pytest.skip("TorchOpt or higher is not installed")
    _, figures = run(tmp_path, "-m", "benchmarks.hypergrad", "--only", "accuracy", "small", OMP_NUM_THREADS="1")
    values = by_name(figures)
    errors = values["accuracy"]["errors"]
    for peer in ("TorchOpt MetaSGD", "higher"):
        assert errors[peer]["float64"] == pytest.approx(errors["bojax Unrolled(mixflow, step)"]["float64"], rel=1e-6)
    assert errors["TorchOpt implicit, CG, rtol 1e-10"]["float64"] < 1e-8
    assert float(values["small"]["differs"]["TorchOpt MetaSGD"]) < 1e-5


@pytest.mark.slow
def test_gradient_bo(tmp_path):
    _, figures = run(tmp_path, "-m", "benchmarks.gradient_bo")
    methods = {figure["values"]["method"] for figure in figures if figure["figure"] == "race"}
    assert methods == {"BO", "BO with gradients", "BO with wrong gradients"}
    clocks = [figure["values"] for figure in figures if figure["figure"] == "equal clock"]
    assert len(clocks) == 4 and all(0 <= clock["trials"] <= 8 and clock["cost"] > 0 for clock in clocks)


@pytest.mark.long
def test_conditional_spaces(tmp_path):
    command = ["-m", "benchmarks.conditional", "--only", "random search", "Optuna TPE, multivariate, group"]
    _, figures = run(tmp_path, *command)
    studies = [figure["values"] for figure in figures if figure["figure"] == "study"]
    assert {(study["problem"], study["method"]) for study in studies} == {
        (problem, method)
        for problem in ("branches", "widths")
        for method in ("random search", "Optuna TPE, multivariate, group")
    }
    assert all(study["best"] < 5.0 for study in studies)
