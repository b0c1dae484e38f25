"""``python -m tests.planting [NAME …]``: plant every fault, or those whose name or file contains a NAME."""

from __future__ import annotations

import argparse
import sys

from tests.planting.campaign import read, run, unharmed


def main() -> int:
    """Print a line per fault; fail where one survives that need not."""
    parser = argparse.ArgumentParser(prog="python -m tests.planting", description=__doc__)
    parser.add_argument("names", nargs="*", help="only faults whose name or file contains one of these")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time")
    parser.add_argument("--check", action="store_true", help="first see that the named tests pass without any fault")
    arguments = parser.parse_args()
    faults = [f for f in read() if not arguments.names or any(n in f.name or n in f.file for n in arguments.names)]
    if arguments.check and not unharmed(faults):
        print("The named tests fail on the source as it is.")
        return 1
    wrong = caught = 0
    for result in run(faults, jobs=arguments.jobs):
        fault = result.fault
        caught += result.outcome == "caught"
        fine = result.outcome == ("survived" if fault.survives else "caught")
        wrong += not fine
        reason = f"  ({fault.survives})" if fault.survives else ""
        print(f"{result.outcome:9}{result.seconds:6.1f} s  {fault.file}: {fault.name}{reason}", flush=True)
    print(f"{caught} of {len(faults)} planted faults caught")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
