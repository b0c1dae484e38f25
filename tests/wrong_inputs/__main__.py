"""``python -m tests.wrong_inputs [--part N] [--number N] [--all]``: run one part of the cases, or all of them."""

from __future__ import annotations

import argparse
import sys

from tests.wrong_inputs import in_python, in_shell
from tests.wrong_inputs.judging import counted, dealt, judged


def main() -> int:
    """Print what became of the cases; fail where one is neither refused clearly nor handled."""
    parser = argparse.ArgumentParser(prog="python -m tests.wrong_inputs", description=__doc__)
    parser.add_argument("--part", type=int, default=0, help="which cases; parts do not overlap")
    parser.add_argument("--python", type=int, default=250, help="how many calls in Python")
    parser.add_argument("--shell", type=int, default=100, help="how many commands")
    parser.add_argument("--all", action="store_true", help="all cases there are")
    parser.add_argument("--names", nargs="*", default=[], help="of all cases those whose names hold one of these")
    arguments = parser.parse_args()
    wrong = 0
    for module, number in ((in_python, arguments.python), (in_shell, arguments.shell)):
        cases = list(module.cases())
        if arguments.names:
            cases = [case for case in cases if any(name in case.name for name in arguments.names)]
        elif not arguments.all:
            cases = dealt(cases, arguments.part, number) if number else []
        outcomes = [judged(case, module.REFUSALS) for case in cases]
        print(counted(outcomes), flush=True)
        wrong += sum(not one.right for one in outcomes)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
