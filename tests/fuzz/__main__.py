"""`make fuzz`: fuzz the decoder for a bounded time and print executions and findings.

Exit code 1 for findings, and where no more was executed than the seeds.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.fuzz import corpus

DONE = re.compile(r"^(?:#|stat::number_of_executed_units:\s+)(\d+)", re.MULTILINE)
COVERED = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Figures:
    """One session: `findings` are the inputs, hexadecimal, that raised; `edges` the branches that were reached."""

    seconds: float
    seeds: int
    executions: int
    edges: int
    findings: list[str]

    @property
    def idle(self) -> bool:
        """Whether it ended before the first input that is no seed."""
        return self.executions <= self.seeds


def main() -> int:
    """Fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="executions at most; -1: as many as fit")
    parser.add_argument("--seed", type=int, default=0, help="0: another one each time")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures, told = fuzz(Path(folder), asked.seconds, asked.runs, asked.seed)
    if figures.findings:
        sys.stderr.write(told[-8000:])
    sys.stdout.write((json.dumps(asdict(figures)) if asked.json else shown(figures)) + "\n")
    if figures.idle:
        sys.stderr.write("nothing was fuzzed: executions must exceed the seeds; give more --seconds or --runs\n")
    return 1 if figures.findings or figures.idle else 0


def fuzz(folder: Path, seconds: int, runs: int, seed: int) -> tuple[Figures, str]:
    """One session in a process of its own; gives its figures and what it wrote."""
    seeds, found = folder / "seeds", folder / "found"
    seeds.mkdir()
    found.mkdir()
    count = corpus.write(seeds)
    started = time.monotonic()
    limits = [f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}", f"-max_len={corpus.LONGEST}"]
    process = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.target", str(seeds), *limits, f"-artifact_prefix={found}/",
            "-print_final_stats=1", "-rss_limit_mb=2048", "-timeout=10"],
        capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    told = process.stdout + process.stderr
    findings = [path.read_bytes().hex() for path in sorted(found.iterdir())]
    if process.returncode and not findings:
        raise SystemExit(f"the fuzzer ended with code {process.returncode}:\n{told[-4000:]}")
    executions = max(map(int, DONE.findall(told)), default=0)
    edges = max(map(int, COVERED.findall(told)), default=0)
    return Figures(round(time.monotonic() - started, 1), count, executions, edges, findings), told


def shown(figures: Figures) -> str:
    """The figures for people."""
    lines = [
        f"{figures.executions} executions in {figures.seconds} s from {figures.seeds} seeds, {figures.edges} edges, "
        f"{len(figures.findings)} findings"
    ]
    return "\n".join([*lines, *figures.findings])


if __name__ == "__main__":
    sys.exit(main())
