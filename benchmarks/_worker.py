"""A process of its own that runs `bojax.run_many` on request. Used by `benchmarks.studies` and `benchmarks.gpu`.

The number of host devices is fixed when JAX starts, so each way of running studies has a process with its own flags. It
reads one JSON request a line and answers with one JSON line; while it waits it uses no processor.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import traceback
from typing import Any

from benchmarks._timing import ROOT


class Worker:
    """The parent's end.

    Args:
        devices: how many CPU devices JAX should see in the process.
        cpu_only: keep the process away from accelerators.
    """

    def __init__(self, devices: int = 1, *, cpu_only: bool = False):
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}".strip()
        env = {**os.environ, "XLA_FLAGS": flags, "JAX_ENABLE_X64": "1"}
        if cpu_only:
            env["JAX_PLATFORMS"] = "cpu"
        command = [sys.executable, "-m", "benchmarks._worker"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)

    def run(
        self, problem: str, *, studies: int, steps: int, parallel: str, algorithm: str = "bayesopt"
    ) -> dict[str, Any]:
        """Runs studies with the seeds 0, 1, ...; see `_answer` for what comes back.

        Raises:
            RuntimeError: the studies failed, or the process ended.
        """
        request = {"problem": problem, "studies": studies, "steps": steps, "parallel": parallel, "algorithm": algorithm}
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self._process.stdin, flush=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"the worker ended with {self._process.wait()}.")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()


def _answer(request: dict[str, Any], algorithms: dict[tuple[str, str], Any]) -> dict[str, Any]:
    """Runs studies.

    Returns:
        seconds: of this call. cores: processor time over seconds. regret [b]: of each study. X [b, n, d]: all points in
        the order they were evaluated. devices: how many JAX sees.
    """
    import jax
    import numpy as np

    import bojax
    from benchmarks._problems import problem

    chosen = problem(request["problem"])
    name = request["algorithm"]
    algorithm = algorithms.setdefault((request["problem"], name), getattr(bojax, name)(chosen.space))
    keys = jax.random.split(jax.random.key(0), request["studies"])
    start, busy = time.perf_counter(), time.process_time()
    final = bojax.run_many(keys, algorithm, chosen.f, request["steps"], parallel=request["parallel"])
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    y = np.where(final.observations.mask, final.observations.y, -np.inf)
    regret, X = chosen.regret(y), final.observations.X
    return {
        "seconds": seconds,
        "cores": busy / seconds,
        "regret": regret.tolist(),
        "X": X.tolist(),
        "devices": jax.local_device_count(),
    }


def main() -> None:
    """Answers requests until the input ends."""
    algorithms: dict[tuple[str, str], Any] = {}
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing but answers may reach the pipe
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line), algorithms)
        except Exception as error:  # the parent says which contestant failed and goes on
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
