"""The arguments of the command line. Imports nothing of the library."""

import argparse
import json

from sklcae._version import __version__

DESCRIPTION = "Physical parameters of galaxies from their images."
EPILOG = """\
a first try, with the model that comes with sklcae:
  sklcae simulate stamps.zarr -n 1000 --planes image variance psf \\
      --set x0=32 --set y0=32 --set psf_fwhm='[0.5, 1.2]'
  sklcae predict ground stamps.zarr catalogue
  sklcae info catalogue

exit codes: 0 done, 1 error, 2 wrong arguments, 3 some parts of a catalogue failed,
130 interrupted. After 1, 3 and 130 the same "simulate" or "predict" continues with
what is missing; other commands begin anew.
"""
MODEL_HELP = (
    'a model that "save" or "sklcae train" wrote, or "ground", which comes along'
)
STAMPS_HELP = "stamps in NumPy (.npy), FITS, HDF5, Zarr, Parquet, Arrow or Cutana files"


def make_parser():
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="sklcae",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sklcae {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _add_simulate,
        _add_train,
        _add_predict,
        _add_measure,
        _add_export,
        _add_info,
        _add_verify,
    ):
        command = add(commands)
        command.add_argument(
            "--json", action="store_true", help="print the result as JSON"
        )
    return parser


def _command(commands, name, help, example):
    """Add a command with an example at the end of its help."""
    return commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_simulate(commands):
    parser = _command(
        commands,
        "simulate",
        "simulate stamps of galaxies with known parameters into a Zarr store",
        "sklcae simulate train.zarr -n 20000 --targets flux half_light_radius",
    )
    parser.add_argument("out", metavar="OUT", help="the store, OUT.zarr")
    parser.add_argument(
        "-n", "--n-samples", type=_count, required=True, help="number of stamps"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument("--targets", nargs="+", help="parameters that are stored")
    parser.add_argument("--planes", nargs="+", help="image, variance, psf")
    _add_settings(parser, "make_galaxies", 'psf_fwhm="[0.5, 1.2]"')
    _add_run(parser)
    return parser


def _add_train(commands):
    parser = _command(
        commands,
        "train",
        "train a model on stamps with targets",
        "sklcae train train.zarr model.sklcae --set max_epochs=40",
    )
    parser.add_argument("stamps", metavar="STAMPS", help=STAMPS_HELP)
    parser.add_argument("model", metavar="MODEL", help="the file of the model, .sklcae")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    parser.add_argument(
        "--plain",
        action="store_true",
        help="begin with the settings of the paper, not with those for best results",
    )
    parser.add_argument(
        "--test",
        metavar="STAMPS",
        help="other stamps with targets, for R2 of the trained model",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace MODEL")
    _add_settings(parser, "ConditionalAutoencoderRegressor", "max_epochs=40")
    _add_opening(parser)
    parser.add_argument(
        "--quiet", action="store_true", help="no progress on standard error"
    )
    return parser


def _add_predict(commands):
    parser = _command(
        commands,
        "predict",
        "measure all stamps of a file, and write a catalogue",
        "sklcae predict ground stamps.fits catalogue --flags",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("stamps", metavar="STAMPS", help=STAMPS_HELP)
    parser.add_argument("out", metavar="OUT", help="the folder of the catalogue")
    parser.add_argument("--columns", nargs="+", help="the parameters; default all")
    parser.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="NAME=UNIT",
        type=_pair,
        help="the unit of a parameter, such as flux=nJy; may be repeated",
    )
    parser.add_argument("--no-std", action="store_true", help="no error bars")
    parser.add_argument(
        "--cov", action="store_true", help="covariances, of profile fits"
    )
    parser.add_argument("--score", action="store_true", help="a column with the score")
    parser.add_argument("--flags", action="store_true", help="all flags")
    _add_polish(parser)
    parser.add_argument(
        "--on-bad-stamp",
        choices=("flag", "raise"),
        default="flag",
        help="flag a stamp that cannot be measured, or fail its part (default flag)",
    )
    _add_opening(parser)
    _add_run(parser)
    return parser


def _add_measure(commands):
    parser = _command(
        commands,
        "measure",
        "find the galaxies of a survey image, and measure them",
        "sklcae measure ground image.fits catalogue.parquet --psf image.psf",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("image", metavar="IMAGE", help="a FITS image with a WCS")
    parser.add_argument("out", metavar="OUT", help="the catalogue, .parquet or .fits")
    parser.add_argument(
        "--positions", metavar="FILE", help="a table with ra, dec or x, y"
    )
    parser.add_argument("--hdu", help="the HDU of the image")
    for name in ("weight", "variance", "mask", "background"):
        parser.add_argument(
            f"--{name}", metavar="HDU|FILE", help=f"the {name}: an HDU, file or number"
        )
    parser.add_argument(
        "--psf",
        metavar="FWHM|FILE",
        help="FWHM in arcsec, an image of the PSF, or a model of PSFEx",
    )
    parser.add_argument(
        "--size", type=_count, help="side of stamps, pixels; default is the model's"
    )
    parser.add_argument("--gain", type=float, help="electrons for a unit of light")
    parser.add_argument("--no-polish", action="store_true", help="no profile fits")
    parser.add_argument("--no-flags", action="store_true", help="only the basic flags")
    _add_settings(parser, "sklcae.survey.measure", "mask_bits=3")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    return parser


def _add_export(commands):
    parser = _command(
        commands,
        "export",
        "export a model to ONNX, or a catalogue to one file",
        "sklcae export ground ground.onnx\n  sklcae export catalogue catalogue.fits",
    )
    parser.add_argument("source", metavar="MODEL|CATALOGUE", help="the source")
    parser.add_argument("out", metavar="OUT", help="OUT.onnx, OUT.fits or OUT.parquet")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    return parser


def _add_info(commands):
    parser = _command(
        commands,
        "info",
        "describe a model, a file of stamps or a catalogue",
        "sklcae info model.sklcae",
    )
    parser.add_argument("file", metavar="FILE", help="the file or folder")
    _add_opening(parser)
    return parser


def _add_verify(commands):
    parser = _command(
        commands,
        "verify",
        "check that a catalogue is complete and undamaged",
        "sklcae verify catalogue",
    )
    parser.add_argument("out", metavar="OUT", help="the folder or the Parquet file")
    return parser


# Groups of arguments -----------------------------------------------------------------


def _add_settings(parser, owner, example):
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_setting,
        help=f"a parameter of {owner}, with a value in JSON or text, such as "
        f"{example}; may be repeated",
    )


def _add_opening(parser):
    parser.add_argument(
        "--open",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_setting,
        help="an option of open_stamps, such as image=SCI or id=null; may be repeated",
    )


def _add_polish(parser):
    parser.add_argument(
        "--polish", action="store_true", help="fit profiles from the predictions"
    )
    parser.add_argument(
        "--polish-set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        type=_setting,
        help="a parameter of ProfileFitRegressor, such as max_neighbours=4; implies "
        "--polish; may be repeated",
    )


def _add_run(parser):
    """Add the arguments of a run in parts."""
    parser.add_argument(
        "--rows-per-part",
        type=_count,
        help="stamps of a part; default about 1 GiB, or 32 MiB of simulate",
    )
    cluster = parser.add_mutually_exclusive_group()
    cluster.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler, tcp://host:8786"
    )
    cluster.add_argument(
        "--scheduler-file", metavar="FILE", help="the file of a Dask scheduler"
    )
    cluster.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="N processes of this machine; default is this process",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the expected cost, and stop"
    )
    parser.add_argument(
        "--quiet", action="store_true", help="no progress on standard error"
    )


def _count(text):
    """Return a positive int."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"must be an int of at least 1. Got {text!r}.")
    return count


def _pair(text):
    """Return name and value of "name=value"."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE. Got {text!r}.")
    return name, value


def _setting(text):
    """Return name and value of "name=value", the value as JSON if it is."""
    name, value = _pair(text)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
