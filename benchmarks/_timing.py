"""Shared by the scripts: interleaved timing, Markdown tables, and a record of where a figure was measured.

The machine's load changes while a benchmark runs. So what is compared runs in turns (A B C, B C A, ...), and the
median of many turns is reported with its quartiles. The first call of each, which compiles, is kept apart.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).resolve().parents[1]

REST = 0.02
"""Seconds of quiet before each measurement: OpenMP threads of the one before spin for a while after their work."""

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "flax", "optax", "lineax", "optuna", "gpjax", "torch", "botorch")
PACKAGES += ("gpytorch", "torchopt", "higher", "betty-ml")

NO_BOTORCH = (
    "BoTorch is left out: torch and botorch are not installed. Install them with "
    '`pip install "torch==2.13.0" "botorch>=0.18"` or with the extra: `pip install -e ".[bench]"`.'
)


class Samples(NamedTuple):
    """Seconds of one contestant.

    Attributes:
        seconds: one entry a round.
        first: the untimed first call, compilation included.
    """

    seconds: list[float]
    first: float

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.seconds)

    @property
    def compile(self) -> float:
        """What the first call took longer than a median one."""
        return max(self.first - self.median, 0.0)

    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile of the rounds."""
        return quartiles(self.seconds)

    def summary(self) -> dict[str, Any]:
        """Plain data for the JSON record."""
        return {"median_s": self.median, "first_call_s": self.first, "rounds_s": self.seconds}


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile; the value itself when there is only one."""
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def interleave(functions: Mapping[str, Callable[[int], Any]], rounds: int) -> dict[str, Samples]:
    """Times every function once a round, in a rotating order.

    Args:
        functions: from a name to a function of the round's number (0 in the first call, which is kept apart). It must
            return only when its work is done.
        rounds: measurements of each, at least 1.
    """
    names = list(functions)
    first = {name: _time(functions[name], 0) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(rounds):
        shift = i % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(_time(functions[name], i))
    return {name: Samples(seconds[name], first[name]) for name in names}


def _time(function, i):
    time.sleep(REST)
    start = time.perf_counter()
    function(i)
    return time.perf_counter() - start


class Report:
    """Prints Markdown as results come, and appends one JSON line a figure to a file when one is given."""

    def __init__(self, script: str, args: argparse.Namespace):
        self.environment = environment()
        self._script = script
        self._json = args.json
        env = self.environment
        print(f"# {script}\n")
        print(f"{env['date']}, commit {env['git']}, `{env['command']}`\n")
        print(f"{env['processor']}, {env['cores']} cores, load average {env['load']} at the start, {env['system']}\n")
        print(", ".join(f"{name} {version}" for name, version in env["versions"].items()) + "\n", flush=True)

    def section(self, title: str, note: str = "") -> None:
        """A heading and what the section measures."""
        print(f"\n## {title}\n")
        if note:
            self.note(note)

    def note(self, text: str) -> None:
        """A paragraph."""
        print(text + "\n", flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A Markdown table; every column but the first is aligned to the right."""
        print("| " + " | ".join(header) + " |")
        print("|" + "|".join([" --- "] + [" ---: "] * (len(header) - 1)) + "|")
        for row in rows:
            print("| " + " | ".join(str(cell) for cell in row) + " |")
        print(flush=True)

    def figure(self, name: str, **values: Any) -> None:
        """Records one figure."""
        if self._json is None:
            return
        load = [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None
        record = {"script": self._script, "figure": name, "values": values, "load_now": load, **self.environment}
        with open(self._json, "a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


def milliseconds(samples: Samples) -> str:
    """A median with its quartiles, in milliseconds."""
    low, high = samples.quartiles()
    return f"{1e3 * samples.median:.3g} ({1e3 * low:.3g} to {1e3 * high:.3g})"


def timing_rows(samples: Mapping[str, Samples], reference: str) -> list[list[str]]:
    """Rows [name, milliseconds, how many times as fast as `reference`]."""
    base = samples[reference].median
    return [[name, milliseconds(s), f"{base / s.median:.2f}"] for name, s in samples.items()]


def spread(values: Sequence[float], form: str = ".2g") -> str:
    """A median with its quartiles."""
    low, high = quartiles(values)
    return f"{statistics.median(values):{form}} ({low:{form}} to {high:{form}})"


def parser(description: str | None, *, botorch: bool = True) -> argparse.ArgumentParser:
    """The arguments that all scripts share."""
    out = argparse.ArgumentParser(description=(description or "").split("\n", 1)[0])
    out.add_argument(
        "--quick", action="store_true", help="tiny settings: shows that the script works, measures nothing"
    )
    out.add_argument("--json", metavar="FILE", help="append one JSON line a figure to this file")
    if botorch:
        out.add_argument("--no-botorch", action="store_true", help="leave BoTorch out")
    return out


def has(*packages: str) -> bool:
    """Whether all packages can be imported; none is imported."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def environment() -> dict[str, Any]:
    """Where and how this process measures, as plain data."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": _git(),
        "command": " ".join(["python", *_command()]),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": [round(x, 2) for x in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: v for name in PACKAGES if (v := _version(name))},
    }


def _command():
    script = pathlib.Path(sys.argv[0])
    try:
        name = ".".join(script.resolve().relative_to(ROOT).with_suffix("").parts)
    except ValueError:
        name = script.name
    return ["-m", name, *sys.argv[1:]]


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git():
    try:
        commit = _output("git", "rev-parse", "--short=12", "HEAD")
        return commit + ("+changes" if _output("git", "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _output(*command):
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.processor() or "unknown processor"
    except OSError:
        return platform.processor() or "unknown processor"
