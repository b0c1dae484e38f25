"""Every verb of the command line with wrong words for every argument: verbs × flags × values, and wrong files."""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.wrong_inputs.files import FILES, IMAGES, TABLES, Written
from tests.wrong_inputs.judging import Case
from tests.wrong_inputs.values import X

from vaelab.cli import VERBS, main


class RefusedError(Exception):
    """The command ended with a status for wrong input, and said why."""


REFUSALS = (RefusedError,)

_SHORT = ["--network", "mlp([8])", "--epochs", "1", "--latent-dim", "2", "--densities", "gaussian", "--quiet"]

GOOD: Mapping[str, Sequence[str]] = {
    "train": ["x.csv", *_SHORT, "--name", "new"],
    "sample": ["run", "-n", "3", "-o", "out.npy"],
    "reconstruct": ["run", "x.csv", "-o", "out.npy"],
    "impute": ["mixed", "gaps.csv", "-o", "out.csv"],
    "encode": ["run", "x.csv", "-o", "out.npy"],
    "evaluate": ["--real", "x.csv", "--fake", "x.csv", "--quiet"],
    "score": ["run", "x.csv", "-o", "out.csv"],
    "export": ["run", "m.pt2"],
    "diagnose": ["run", "--rows", "100", "--quiet", "-o", "out.html"],
    "explore": ["run", "--rows", "10", "-o", "out.html"],
    "enhance": ["run", "--rows", "100", "--quiet", "-o", "better", "--densities", "gaussian"],
    "dimension": ["run"],
    "info": ["run"],
    "datasets": [],
    "reproduce": ["zheng/table1", "--scale", "smoke"],
}
"""Commands that work, or nearly; a case changes one thing."""

_COUNTS = ("0", "-1", "1.5", "many", "nan", "1e400", "")
_SEEDS = ("-1", "1.5", "seed", "")
_PATHS = ("", "/dev/full/x.npy", "/nonexistent/\x01", "x.csv/inside.npy", "x" * 300 + ".npy", "out.docx", ".")
_NAMES = ("", "nonesuch", "(", "3", "kl(", "\x1b[31m", "ünïcödé")

FLAGS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "train": {
        "--latent-dim": (*_COUNTS, "1000000000000"),
        "--epochs": _COUNTS,
        "--batch-size": _COUNTS,
        "--lr": ("0", "-1", "nan", "inf", "fast", ""),
        "--held-out": ("1", "-0.5", "nan", "half", ""),
        "--seed": _SEEDS,
        "--network": (*_NAMES, "mlp([0])", "mlp([-1])", "infogan", "nowhere:Networks", "os:system"),
        "--likelihood": (*_NAMES, "gaussian(fixed(-1))", "logistic_mixture", "bernoulli", "mixed(ties=nonesuch)"),
        "--posterior": _NAMES,
        "--penalties": (*_NAMES, "kl(-1)", "kl(nan)", "kl(.inf)", "kl(schedule=nonesuch)", "kl(schedule=rising(0))"),
        "--densities": (*_NAMES, "mixture(0)", "mixture(99999999)"),
        "--training.schedule": _NAMES,
        "--training.nonesuch": ("1",),
        "--compute.accelerator": _NAMES,
        "--test-fraction": ("0", "1", "-1", "nan", "some", ""),
        "--image-size": _COUNTS,
        "--label-column": _NAMES[:-2],
        "--separator": ("ab", "a", "1"),
        "--preset": _NAMES,
        "--config": ("", "missing.yaml", "x.csv", ".", "bad.yaml", "list.yaml", "binary.yaml"),
        "--resume": ("", "missing", "x.csv", "."),
        "--home": ("x.csv/inside",),
        "--nonesuch": ("1",),
    },
    "sample": {
        "-n": (*_COUNTS, "1000000000000"),
        "-o": _PATHS,
        "--density": _NAMES,
        "--condition": ("a", "nan"),
        "--temperature": ("0", "-1", "nan", "inf", "warm", ""),
        "--balance": ("nonesuch", "a", ""),
        "--seed": _SEEDS,
        "--nonesuch": ("1",),
    },
    "score": {
        "-n": _COUNTS,
        "-o": _PATHS,
        "--false-alarms": ("0", "1", "-0.1", "nan", "many", ""),
        "--rule": _NAMES,
        "--calibrate": ("missing.csv", "narrow.csv", "run", "bad.yaml", "gaps.csv"),
    },
    "export": {"--what": _NAMES, "--density": (*_NAMES, "mixture"), "--nonesuch": ("1",)},
    "reconstruct": {"-n": _COUNTS, "-o": _PATHS},
    "impute": {"-n": _COUNTS, "-o": _PATHS, "--draws": _COUNTS, "--k": _COUNTS, "--seed": _SEEDS},
    "encode": {"-n": _COUNTS, "-o": _PATHS},
    "evaluate": {
        "--real": ("", "missing.csv", "run", "narrow.csv", "bad.yaml"),
        "--fake": ("", "missing.csv", "run", "narrow.csv", "bad.yaml"),
        "--train": ("missing.csv", "narrow.csv"),
        "--target": ("nonesuch",),
        "--metrics": (*_NAMES, "fid", "nll"),
        "--protocol": (*_NAMES, "tabular+n=0", "tabular+n=many", "tabular+nonesuch=1", "ttur-10k", "tabular+seed=-1"),
        "--draws": _COUNTS,
        "--likelihood-rows": ("-1", "many"),
        "--image-size": _COUNTS,
        "--label-column": ("nonesuch",),
        "--inception": ("missing.pth", "x.csv"),
        "-o": ("x.csv", "x.csv/inside", ""),
    },
    "explore": {"--rows": (*_COUNTS, "1"), "--seed": _SEEDS, "--most-mb": ("0", "-1", "nan", "inf", "x", "")},
    "diagnose": {
        "--rows": (*_COUNTS, "5"),
        "--seed": _SEEDS,
        "--data": ("", "missing.csv", "narrow.csv", "bad.yaml", "gaps.csv"),
        "--held-out": ("missing.csv", "narrow.csv"),
        "--conditions": ("missing.csv", "x.csv"),
        "--gamma": ("-1", "nan", "1", "much"),
        "--range": ("01", "nonesuch"),
        "--adapter": ("", "missing.py:load", "x.csv:load", "adapter.py:broken", "adapter.py:", "adapter"),
        "-o": ("out.docx", "x.csv/inside.html", "run", ""),
    },
    "enhance": {
        "-n": _COUNTS,
        "--rows": (*_COUNTS, "5"),
        "--seed": _SEEDS,
        "--epochs": _COUNTS,
        "--densities": (*_NAMES, "mixture(0)"),
        "--data": ("", "missing.csv", "narrow.csv"),
        "--gamma": ("-1", "nan", "1"),
        "-o": ("run", "x.csv", "x.csv/inside", "out.csv"),
    },
    "dimension": {
        "--seeds": _COUNTS[:-1],
        "--epochs": _COUNTS[:-1],
        "--latent-dim": _COUNTS[:-1],
        "--home": ("x.csv",),
    },
    "info": {"--nonesuch": ("1",)},
    "datasets": {"--home": ("x.csv/inside",), "--nonesuch": ("1",)},
    "reproduce": {
        "--data": ("nonesuch",),
        "--scale": ("nonesuch", "", "3"),
        "--processes": _COUNTS,
        "--inception": ("missing.pth", "x.csv"),
        "-o": ("x.csv", "x.csv/inside"),
    },
}

# what means a folder of a run for these verbs
_RUNS = ("", "missing", "x.csv", "empty", ".", "broken", "foreign", "a\x00b", "run/config.yaml")
# what they want beside it
_SECOND = {"reconstruct": ["x.csv"], "impute": ["x.csv"], "encode": ["x.csv"], "score": ["x.csv"], "export": ["m.pt2"]}
# what they may also do with a value that looks odd
_MAY = {
    ("train", "--separator", "1"), ("train", "--home", "x.csv/inside"), ("train", "--label-column", ""),
    ("sample", "-o", "."), ("evaluate", "-o", ""), ("dimension", "--home", "x.csv"),
    ("datasets", "--home", "x.csv/inside"), ("reproduce", "--inception", "x.csv"), ("diagnose", "-o", ""),
}  # fmt: skip


@cache
def _place() -> Path:
    """A folder with two runs and a few files, which cases copy nothing of."""
    place = Path(tempfile.mkdtemp(prefix="wrong-inputs-"))
    lines = [",".join(f"{v:.4f}" for v in row) for row in X]
    (place / "x.csv").write_text("a,b,c\n" + "\n".join(lines) + "\n")
    (place / "narrow.csv").write_text("a,b\n" + "\n".join(line.rsplit(",", 1)[0] for line in lines) + "\n")
    (place / "gaps.csv").write_text("a,b,c\n,1,2\n" + "\n".join(lines) + "\n")
    (place / "bad.yaml").write_text("a: [1, 2\n")
    (place / "list.yaml").write_text("- 1\n- 2\n")
    (place / "binary.yaml").write_bytes(bytes(range(256)))
    (place / "adapter.py").write_text("def broken():\n    return 1 / 0\n")
    (place / "empty").mkdir()
    with contextlib.chdir(place):
        for name, more in (("run", []), ("mixed", ["--likelihood", "mixed"])):
            data = "gaps.csv" if more else "x.csv"
            status, said = _said(["train", data, *_SHORT, *more, "--name", name, "--out", "."])
            assert status == 0, said
    shutil.copytree(place / "run", place / "broken")
    (place / "broken" / "model.safetensors").write_bytes(b"nothing")
    (place / "foreign").mkdir()
    (place / "foreign" / "config.yaml").write_text("name: somebody's\nlr: 0.1\n")
    return place


def _said(words: Sequence[str]) -> tuple[int, str]:
    """Return the exit status and what was written to the error output."""
    errors, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(output):
        try:
            status = main(list(words))
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
    return status, errors.getvalue() or output.getvalue()


def _ran(words: Sequence[str], written: Written | None = None, name: str = "") -> Any:
    """Run a command in a folder of its own; its status and words as an exception where they refuse."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for path in _place().iterdir():
            Path(path.name).symlink_to(path)
        if written is not None:
            Path("given").mkdir()
            path = written[name][0](Path("given"))
            words = [str(path) if word == "{}" else word for word in words]
        status, said = _said(words)
        if status == 0:
            return None
        lines = said.strip().splitlines()
        if status not in (1, 2) or not lines or "Traceback" in said:
            raise RuntimeError(f"status {status}: {said[-300:]}")
        raise RefusedError(said.strip()[:300])


def cases() -> Iterator[Case]:
    """All of them."""
    for verb, flags in FLAGS.items():
        for flag, values in flags.items():
            for value in values:
                words = _with(verb, flag, value)
                shown = f"vaelab {verb} {flag} {value!r}"
                yield Case(shown, lambda words=words: _ran(words), may=(verb, flag, value) in _MAY)
            bare = [verb, *_with(verb, flag, "")[1:-1]]
            switch = flag in ("--penalties", "--densities", "--metrics", "--protocol", "--condition")
            yield Case(f"vaelab {verb} {flag} without a value", lambda words=bare: _ran(words), may=switch)
    for path in _PATHS:
        yield Case(f"vaelab export run {path!r}", lambda words=["export", "run", path]: _ran(words))
    for table in ("nonesuch", "zheng/table99", "zheng/", "ALL"):
        yield Case(f"vaelab reproduce {table!r}", lambda words=["reproduce", table]: _ran(words))
    for verb in ("sample", "reconstruct", "impute", "encode", "evaluate", "diagnose", "explore", "enhance", "info",
                 "dimension", "score", "export"):  # fmt: skip
        for run in _RUNS:
            if verb == "dimension" and run == "x.csv":  # data that it trains on
                continue
            words = [verb, run, *_SECOND.get(verb, [])]
            yield Case(f"vaelab {verb} RUN={run!r}", lambda words=words: _ran(words))
    for verb in VERBS:
        yield Case(f"vaelab {verb} with too many words", lambda words=[verb, "a", "b", "c", "d"]: _ran(words))
        yield Case(f"vaelab {verb} --Help", lambda words=[verb, "--Help"]: _ran(words))
    for verb in ("", "tarin", "-x", "--verb", "TRAIN"):
        yield Case(f"vaelab {verb!r}", lambda words=[verb]: _ran(words))
    for written, readers in ((TABLES, ("train", "encode", "evaluate", "diagnose")), (FILES, ("train", "encode")),
                             (IMAGES, ("train", "encode", "evaluate"))):  # fmt: skip
        for name, (_, fine) in written.items():
            for verb in readers:
                yield Case(f"vaelab {verb} ← {name}", lambda v=verb, w=written, n=name: _ran(_reading(v), w, n), fine)


def _with(verb: str, flag: str, value: str) -> list[str]:
    """Return the good command with one flag set, in the place of the same one."""
    words, good = [verb], list(GOOD[verb])
    if flag == "--adapter":
        good = [word for word in good if word != "run"] + ["--data", "x.csv"]
    if flag == "--resume":
        good = []
    while good:
        word = good.pop(0)
        if word == flag:
            good.pop(0)
            continue
        words.append(word)
    return [*words, flag, value]


def _reading(verb: str) -> list[str]:
    return {
        "train": ["train", "{}", *_SHORT, "--name", "new"],
        "encode": ["encode", "run", "{}", "-o", "out.npy"],
        "evaluate": ["evaluate", "--real", "x.csv", "--fake", "{}", "--quiet"],
        "diagnose": ["diagnose", "run", "--data", "{}", "--rows", "100", "--quiet", "-o", "out.html"],
    }[verb]
