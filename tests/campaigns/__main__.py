"""``python -m tests.campaigns kill --seed 3 --runs 50``: do random harm, and print what did not end as it should."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from tests.campaigns import damage, kill, write_errors
from tests.campaigns.ground import Ground, TrialError

TRIALS = {"kill": kill.trial, "damage": damage.trial, "write-errors": write_errors.trial}


def main() -> int:
    """Print a line per failure, and how many trials ended well."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns", description=__doc__)
    parser.add_argument("campaign", choices=TRIALS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="a new one to work in, which stays; such as a small disk")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="campaign-") as temporary:
        ground = Ground(arguments.folder or Path(temporary) / "ground")
        fine = 0
        for run in range(arguments.runs):
            rng = np.random.default_rng([arguments.seed, run])
            try:
                TRIALS[arguments.campaign](ground, rng)
                fine += 1
            except TrialError as error:
                print(f"run {run}: {error}", flush=True)
            if (run + 1) % 10 == 0:
                print(f"{fine} of {run + 1}", file=sys.stderr, flush=True)
    print(f"{arguments.campaign}, seed {arguments.seed}: {fine} of {arguments.runs} ended well")
    return int(fine < arguments.runs)


if __name__ == "__main__":
    sys.exit(main())
