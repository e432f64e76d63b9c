"""The benchmarks of what should be fast, one after the other, as tables and as one JSON.

    python -m benchmarks --data ../shared/data [--memory] [--json results.json]

Each runs in a process of its own, so that none warms the next one up. Accuracy (``python -m benchmarks.accuracy``)
takes longer and is run by itself.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import machine


def commands(data: str, memory: bool) -> dict[str, list[str]]:
    """What is run, by name."""
    sets = [argument for name in ("HG002", "NA12878", "NA12878-cram", "sim") for argument in ("--set", name)]
    return {
        "tensors": ["benchmarks.tensors", "--data", data, "--blocks", "4", *sets],
        "dataset": ["benchmarks.dataset", "--data", data, *(["--memory"] if memory else [])],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data")
    parser.add_argument("--memory", action="store_true", help="a worker's peak memory up to 100,000 variants, too")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    if not Path(options.data, "real").is_dir():
        print(f"there is no data at {options.data}; give the folder with --data", file=sys.stderr)
        return 2
    results: dict[str, object] = {"machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(options.data, options.memory).items():
            print(f"== {name}", flush=True)
            target = Path(folder, f"{name}.json")
            done = subprocess.run([sys.executable, "-m", *command, "--json", str(target)], check=False)
            if done.returncode:
                return done.returncode
            results[name] = json.loads(target.read_text())
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
