"""The command line, ``sklcae`` or ``python -m sklcae``."""

import json
import sys
import warnings
from contextlib import contextmanager, suppress

from sklcae._cli.parser import make_parser

# Exit codes.
DONE, FAILED, USAGE, PARTS_FAILED = 0, 1, 2, 3
INTERRUPTED = 130
# Commands that keep what they have done.
CONTINUED = ("simulate", "predict")


def main(arguments=None):
    """Run a command, and return its exit code.

    Parameters
    ----------
    arguments : list of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    code : int
        0 if all is done, 1 after an error, 2 for wrong arguments, 3 if some parts of a
        catalogue failed, 130 if it was interrupted.
    """
    parser = make_parser()
    try:
        options = parser.parse_args(arguments)
    except SystemExit as end:
        # argparse has printed help or an error.
        return end.code
    try:
        # The imports of a command take longer than its help may.
        from sklcae._cli import commands

        with _plain_warnings():
            report = getattr(commands, options.command)(options)
    except KeyboardInterrupt:
        continues = options.command in CONTINUED
        advice = "; the same command continues" if continues else ""
        print(f"sklcae: interrupted{advice}", file=sys.stderr)
        return INTERRUPTED
    except (ArithmeticError, ImportError, LookupError, OSError) as error:
        return _say(error, FAILED)
    except (TypeError, ValueError) as error:
        return _say(error, FAILED)
    _print(report, options.json)
    return PARTS_FAILED if report.get("failed") else DONE


@contextmanager
def _plain_warnings():
    """Print warnings without the place in the code."""

    def show(message, *_):
        print(f"sklcae: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


def _say(error, code):
    """Print an error with its notes, without a traceback."""
    message = str(error) or type(error).__name__
    for line in [message, *getattr(error, "__notes__", [])]:
        print(f"sklcae: {line}", file=sys.stderr)
    return code


def _print(report, as_json):
    """Print what a command returns, a dict."""
    if as_json:
        text = json.dumps(report, default=str)
    else:
        text = "\n".join(f"{name}: {value}" for name, value in report.items())
    with suppress(BrokenPipeError):
        print(text)
