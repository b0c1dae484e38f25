"""The command line: one table of verbs; each is imported when it is called."""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module

from vaelab.errors import VaelabError

VERBS = {
    "train": "train both stages on a data set, a folder of images or a table",
    "sample": "draw new data from a run",
    "reconstruct": "encode and decode data",
    "impute": "fill in the missing entries of a table",
    "score": "say which rows are outliers, with p-values",
    "encode": "write latent codes of data",
    "export": "write a run's sampler, encoder or scores for other programs: ONNX or torch",
    "pack": "write a run as one file, or such a file as a run",
    "evaluate": "measure samples and likelihood, or one set of rows against another",
    "diagnose": "say what is wrong with a trained autoencoder, and what mends it",
    "explore": "write a page in which a run is moved about: axes, rows, draws",
    "enhance": "find better samples of a trained autoencoder",
    "dimension": "count the dimensions of the manifold that data lie on",
    "reproduce": "run a paper's table, measured beside published",
    "info": "show what a run is and what it found",
    "datasets": "list the data sets known by name",
}

# verbs of packages that are installed beside this one, and that it never imports by itself
_ELSEWHERE = {"reproduce": "vaelab_papers.command"}

_USAGE = """\
usage: vaelab VERB [arguments]

Gaussian variational autoencoders that work without tuning.

{verbs}

  vaelab VERB --help   shows a verb's arguments
  vaelab train digits  is a good first try: no download, two minutes
  vaelab --version     prints the version; --print-completion bash, zsh or fish completes verbs and flags
"""


def usage() -> str:
    """Return the text of ``vaelab --help``."""
    return _USAGE.format(verbs="\n".join(f"  {verb:<12} {text}" for verb, text in VERBS.items()))


def main(argv: list[str] | None = None) -> int:
    """Run one verb; return the exit status.

    0: done. 1: the output could not be written. 2: the input cannot be used, as the message says. 130, 141 and 143:
    interrupted, nobody reads the output, and asked to end.
    """
    from vaelab.cli.terminal import plain_output, plain_warnings

    with plain_output(), plain_warnings():
        return _main(sys.argv[1:] if argv is None else argv)


def _main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in {"-h", "--help", "help"}:
        print(usage(), end="")
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from vaelab import __version__

        print(__version__)
        return 0
    from vaelab.cli.terminal import plain

    if arguments[0] == "--print-completion":
        from vaelab.cli.completion import script

        try:
            print(script(" ".join(arguments[1:]), VERBS, _ELSEWHERE), end="")
        except VaelabError as error:
            print(plain(f"vaelab: {error}"), file=sys.stderr)
            return 2
        return 0
    verb, *rest = arguments
    if verb not in VERBS:
        import difflib

        close = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        print(f"vaelab: there is no verb {verb!r}; known are {', '.join(VERBS)}.{hint}", file=sys.stderr)
        return 2
    try:
        import_module(_ELSEWHERE.get(verb, f"vaelab.cli.{verb}")).run(rest)
        sys.stdout.flush()
    except VaelabError as error:
        from vaelab.cli.flags import in_flags

        print(plain(f"vaelab {verb}: {in_flags(str(error))}"), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        print(f"vaelab {verb}: {'interrupted' if number == signal.SIGINT else 'asked to end'}.", file=sys.stderr)
        return 128 + int(number)
    except BrokenPipeError:  # `vaelab … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what the interpreter flushes
        return 141
    except OSError as error:
        print(plain(f"vaelab {verb}: {error}"), file=sys.stderr)
        return 1
    return 0
