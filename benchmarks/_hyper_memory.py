"""Runs in a fresh process: what memory does one hypergradient take? Used by `benchmarks.hypergrad`.

Prints one JSON line: the rise of the resident memory during one run above what was resident before it, and for bojax
what XLA reports and the seconds to compile. Programs are compiled, and the libraries warmed up on short runs, before.
"""

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
from typing import Any

from benchmarks._timing import ROOT

PEERS = ("TorchOpt MetaSGD", "higher", "torch.func")


def measure(contestant: str, num_steps: int, *, quick: bool = False) -> dict[str, Any]:
    """Asks a fresh process.

    Returns:
        rise_mib: of the resident memory; None where the system does not tell. temp_mib, compile_s: None for peers.

    Raises:
        RuntimeError: the process failed.
    """
    command = [sys.executable, "-m", "benchmarks._hyper_memory", contestant, str(num_steps)]
    command += ["--quick"] if quick else []
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def peer(contestant: str, case: Any, num_steps: int) -> Any:
    """A peer's hypergradient of a run of so many steps."""
    from benchmarks import _hyper_peers

    make = {
        "TorchOpt MetaSGD": _hyper_peers.torchopt_unrolled,
        "higher": _hyper_peers.higher_unrolled,
        "torch.func": _hyper_peers.torch_unrolled,
    }
    return make[contestant](case, num_steps)


def rise_mib(call: Any) -> float | None:
    """How far the resident memory rises during a call."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier work has freed must not hide what is needed now
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")  # forgets the peak so far
        before = _status("VmRSS")
        call()
        return (_status("VmHWM") - before) / 1024
    except OSError:
        return None


def _status(field):
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def _own(contestant, task, num_steps):
    from benchmarks import _hyper_own

    method, inner_solver = _hyper_own.unrolls(task, num_steps)[contestant]
    return _hyper_own.program(task, method, inner_solver=inner_solver)


def main() -> None:
    """Measures what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("contestant")
    parser.add_argument("num_steps", type=int)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    from benchmarks._hyper_tasks import digits

    task = digits(8, 16) if args.quick else digits()
    if args.contestant in PEERS:
        import torch

        from benchmarks._hyper_peers import Case

        torch.set_num_threads(1)
        case = Case(task)
        peer(args.contestant, case, 2)()
        out = {"rise_mib": rise_mib(peer(args.contestant, case, args.num_steps)), "temp_mib": None, "compile_s": None}
    else:
        _own(args.contestant, task, 2).call()
        program = _own(args.contestant, task, args.num_steps)
        out = {
            "rise_mib": rise_mib(program.call),
            "temp_mib": program.temp_bytes / 2**20,
            "compile_s": program.compile_s,
        }
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
