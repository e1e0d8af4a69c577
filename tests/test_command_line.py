"""The command line: what its commands write and print, and their exit codes."""

import inspect
import json
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table

from sklcae import ConditionalAutoencoderRegressor
from sklcae._cli import main
from sklcae._cli.parser import make_parser
from sklcae.survey import read_catalog
from tests.blobs import make_blobs_of_light, quick
from tests.survey.images import make_wcs
from tests.survey.sources import NAMES, make_stamps, save_model, write_zarr

COMMANDS = ["simulate", "train", "predict", "measure", "export", "info", "verify"]
N = 20


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.sklcae"
    save_model(path)
    return str(path)


@pytest.fixture
def source(tmp_path):
    return str(write_zarr(tmp_path / "stamps.zarr", make_stamps(N, seed=1)[0]))


def report_of(capsys, *arguments):
    """Run a command that ends well, and return its report."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def error_of(capsys, code, *arguments):
    """Run a command that ends with a code, and return its message."""
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert out == ""
    return err


def test_help_is_quick_and_needs_no_torch():
    code = (
        "import sys; from sklcae._cli import main; main(['predict', '--help']); "
        "print([m for m in ('torch', 'sklearn', 'numpy') if m in sys.modules])"
    )
    start = time.perf_counter()
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout.endswith("[]\n")
    # It takes a tenth of a second; much more would be an import.
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"example:\n  sklcae {command}" in out
    assert "--json" in out


def test_help_names_all_commands_and_codes(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for command in COMMANDS:
        assert command in out
    assert "3 some parts of a catalogue failed" in out
    (commands,) = (a for a in make_parser()._actions if a.dest == "command")
    assert list(commands.choices) == COMMANDS
    assert main(["--version"]) == 0
    assert main([]) == 2
    assert main(["predict", "ground"]) == 2


def test_module_is_the_command():
    out = subprocess.run(
        [sys.executable, "-m", "sklcae", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert out.stdout.startswith("sklcae ")
    wrong = subprocess.run([sys.executable, "-m", "sklcae", "fly"], check=False)
    assert wrong.returncode == 2


def test_from_simulation_to_catalogue(tmp_path, capsys):
    train, model = str(tmp_path / "train.zarr"), str(tmp_path / "model.sklcae")
    simulate = ["simulate", train, "-n", "40", "--set", "image_shape=[16, 16]"]
    cost = report_of(capsys, *simulate, "--dry-run")
    assert cost["rows"] == 40
    assert not (tmp_path / "train.zarr").exists()
    report = report_of(capsys, *simulate, "--quiet", "--seed", "3")
    assert report["rows"] == 40
    assert report["targets"] == ["flux", "half_light_radius"]
    report = report_of(
        capsys,
        *["train", train, model, "--plain", "--quiet", "--test", train],
        *["--set", "max_epochs=1", "--set", "network=strided"],
        *["--set", "physical_loss=gaussian_likelihood"],
    )
    assert set(report["r2"]) == {"flux", "half_light_radius"}
    trained = ConditionalAutoencoderRegressor.load(model)
    assert (trained.network, trained.n_iter_) == ("strided", 1)
    out = str(tmp_path / "out")
    predict = ["predict", model, train, out, "--unit", "flux=nJy", "--quiet"]
    cost = report_of(capsys, *predict, "--dry-run")
    assert (cost["rows"], cost["parts"]) == (40, 1)
    report = report_of(capsys, *predict)
    assert (report["rows"], report["failed"], report["bad_stamps"]) == (40, [], 0)
    assert str(read_catalog(out)["flux"].unit) == "nJy"
    assert report_of(capsys, "verify", out)["rows"] == 40
    about = report_of(capsys, "info", out)
    assert about["complete"]
    assert about["parts_done"] == 1
    one_part = report_of(capsys, "info", f"{out}/part-000000.parquet")
    assert one_part == {"kind": "catalogue", "rows": 40, "columns": about["columns"]}
    report_of(capsys, "export", out, str(tmp_path / "catalogue.fits"))
    table = Table.read(tmp_path / "catalogue.fits")
    assert len(table) == 40
    one_file = report_of(capsys, "info", str(tmp_path / "catalogue.fits"))
    assert one_file == {**one_part, "columns": table.colnames}
    copy = str(tmp_path / "copy.parquet")
    report_of(capsys, "export", f"{out}/part-000000.parquet", copy)
    assert report_of(capsys, "verify", copy)["rows"] == 40
    damaged = bytearray((tmp_path / "copy.parquet").read_bytes())
    damaged[60] ^= 255
    (tmp_path / "copy.parquet").write_bytes(damaged)
    assert "is damaged" in error_of(capsys, 1, "verify", copy)
    for_fits = ["export", str(tmp_path / "catalogue.fits"), str(tmp_path / "b.parquet")]
    assert "read by Table.read" in error_of(capsys, 1, *for_fits)
    error = error_of(capsys, 1, "export", out, str(tmp_path / "catalogue.fits"))
    assert "new file" in error
    about = report_of(capsys, "info", model)
    assert about["kind"] == "ConditionalAutoencoderRegressor"
    assert report_of(capsys, "info", train)["kind"] == "stamps"


def test_train_takes_the_settings_that_a_store_of_simulate_has(tmp_path, capsys):
    store, model = str(tmp_path / "train.zarr"), str(tmp_path / "model.sklcae")
    settings = ["image_shape=[16, 16]", "psf_fwhm=0.9", "pixel_scale=0.4", "gain=2"]
    report = report_of(
        capsys,
        *["simulate", store, "-n", "40", "--planes", "image", "psf", "--quiet"],
        *["--targets", "flux", "half_light_radius", "sersic_index", "e1", "e2"],
        *["x0", "y0", *(part for one in settings for part in ("--set", one))],
    )
    assert (report["pixel_scale"], report["gain"]) == (0.4, 2.0)
    command = ["train", store, model, "--quiet", "--overwrite", "--set", "max_epochs=1"]
    report_of(capsys, *command)
    trained = ConditionalAutoencoderRegressor.load(model)
    assert (trained.network, trained.pixel_scale, trained.gain) == ("sersic", 0.4, 2.0)
    assert trained.planes == ("image", "psf")
    report_of(capsys, *command, "--set", "pixel_scale=0.3")
    assert ConditionalAutoencoderRegressor.load(model).pixel_scale == 0.3


def test_info_of_a_model_without_names(tmp_path, capsys):
    model = str(tmp_path / "model.sklcae")
    # Parameters count from the next fit.
    quick().fit(*make_blobs_of_light(20)).set_params(gain=7.0).save(model)
    about = report_of(capsys, "info", model)
    assert (about["targets"], about["epochs"]) == ([], quick().max_epochs)
    assert about["gain"] == 1.0


def test_predict_has_the_options_of_predict_catalog(
    model_path, source, tmp_path, capsys
):
    out = str(tmp_path / "out")
    report = report_of(
        capsys,
        *["predict", model_path, source, out, "--columns", "flux", "--no-std"],
        *["--score", "--flags", "--rows-per-part", "8", "--open", "id=null"],
    )
    assert report["parts"] == 3
    names = read_catalog(out).colnames
    assert names[:4] == ["object_id", "flux", "score", "sklcae_flag"]
    assert "sklcae_flag_blended" in names


def test_polish_of_the_shipped_model(tmp_path, capsys):
    from sklcae import load_pretrained
    from sklcae.datasets import make_galaxies

    planes = load_pretrained("ground").planes
    X, _ = make_galaxies(3, x0=32.0, y0=32.0, planes=planes, random_state=0)
    parts = dict(zip(planes, np.moveaxis(X, 1, 0), strict=True))
    source = str(write_zarr(tmp_path / "stamps.zarr", parts.pop("image"), **parts))
    out = str(tmp_path / "out")
    report_of(
        capsys,
        *["predict", "ground", source, out, "--cov", "--quiet"],
        *["--polish-set", "max_neighbours=1"],
    )
    table = read_catalog(out)
    assert "flux_e1_cov" in table.colnames
    assert (table["chi_square"] < 1.5).all()


def test_failed_parts_end_with_3(model_path, tmp_path, capsys):
    images, _ = make_stamps(N, seed=1)
    images[7, 3, 3] = np.inf
    source = str(write_zarr(tmp_path / "stamps.zarr", images))
    out = str(tmp_path / "out")
    command = ["predict", model_path, source, out, "--rows-per-part", "8", "--quiet"]
    assert main([*command, "--on-bad-stamp", "raise", "--json"]) == 3
    (failure,) = json.loads(capsys.readouterr().out)["failed"]
    assert failure["rows"] == [0, 8]
    assert report_of(capsys, "info", out)["failed_parts"] == [failure]
    assert "part-000000.parquet is missing" in error_of(capsys, 1, "verify", out)


def test_processes_of_this_machine(model_path, source, tmp_path, capsys):
    out = str(tmp_path / "out")
    command = ["predict", model_path, source, out, "--rows-per-part", "8", "--quiet"]
    assert report_of(capsys, *command, "--workers", "1")["failed"] == []
    images, _ = make_stamps(N, seed=1)
    y = ConditionalAutoencoderRegressor.load(model_path).predict(images)
    np.testing.assert_array_equal(read_catalog(out)["flux"], y[:, 0])


def test_progress_goes_to_standard_error(model_path, source, tmp_path, capsys):
    assert main(["predict", model_path, source, str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert f"{N}/{N}" in err
    assert f"rows: {N}" in out


def test_errors_name_the_file(model_path, source, tmp_path, capsys):
    def check(text, *arguments, code=1):
        assert text in error_of(capsys, code, *arguments)

    out = str(tmp_path / "out")
    check("nothing.sklcae", "predict", "nothing.sklcae", source, out)
    check("nothing.fits", "predict", model_path, "nothing.fits", out)
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((3, 20, 20)))])
    hdus.writeto(tmp_path / "cube.fits")
    check("shape of the model", "predict", model_path, str(tmp_path / "cube.fits"), out)
    check(
        "image must be the name of an array in the file",
        *["predict", model_path, str(tmp_path / "cube.fits"), out],
        *["--open", "image=LIGHT"],
    )
    check("NAME=VALUE", "predict", model_path, source, out, "--unit", "nJy", code=2)
    check(
        "not allowed with",
        *["predict", model_path, source, out, "--workers", "2", "--scheduler", "a"],
        code=2,
    )
    check("must have targets", "train", source, str(tmp_path / "model.sklcae"))
    check("with a plan", "verify", str(tmp_path))
    (tmp_path / "there.fits").write_text("")
    check("new file", "export", out, str(tmp_path / "there.fits"))
    check("new file", "measure", "ground", "image.fits", str(tmp_path / "there.fits"))


def test_names_of_targets_reach_the_catalogue(model_path, source, tmp_path):
    assert main(["predict", model_path, source, str(tmp_path / "out"), "--quiet"]) == 0
    assert read_catalog(tmp_path / "out").colnames[1::2][:2] == NAMES


def write_targets(path, names, columns, n=N):
    """Write stamps with some columns of their targets."""
    images, y = make_stamps(n, seed=1)
    store = zarr.open_group(write_zarr(path, images), mode="r+")
    target = store.create_array("target", data=np.asarray(y)[:, columns])
    if names:
        target.attrs["target_names"] = names
    return str(path)


PLAIN = ["--plain", "--quiet", "--set", "max_epochs=1", "--set", "random_state=0"]


def test_targets_of_the_test_are_paired_by_name(tmp_path, capsys):
    first, second = NAMES[:2]
    train = write_targets(tmp_path / "a.zarr", [first, second], [0, 1])
    turned = write_targets(tmp_path / "b.zarr", [second, first], [1, 0])
    other = write_targets(tmp_path / "c.zarr", [first, "age"], [0, 1])
    command = ["train", train, str(tmp_path / "model.sklcae"), *PLAIN, "--overwrite"]
    expected = report_of(capsys, *command, "--test", train)["r2"]
    found = report_of(capsys, *command, "--test", turned)["r2"]
    assert found == pytest.approx(expected)
    assert list(found) == [first, second]
    assert "--test must have the targets" in error_of(
        capsys, 1, *command, "--test", other
    )


def test_targets_without_names_are_named_by_set(tmp_path, capsys):
    train = write_targets(tmp_path / "a.zarr", None, [0, 1])
    command = ["train", train, str(tmp_path / "model.sklcae"), *PLAIN]
    assert "--set target_names=" in error_of(capsys, 1, *command)
    names = 'target_names=["flux", "half_light_radius"]'
    report = report_of(capsys, *command, "--set", names, "--test", train)
    assert report["targets"] == list(report["r2"]) == ["flux", "half_light_radius"]


def test_files_are_checked_before_any_work(model_path, source, tmp_path, capsys):
    train = write_targets(tmp_path / "a.zarr", NAMES[:2], [0, 1])
    model = tmp_path / "model.sklcae"
    lost = str(tmp_path / "lost" / "model.sklcae")
    assert "a folder that exists" in error_of(capsys, 1, "train", train, lost)
    command = ["train", train, str(model)]
    error = error_of(capsys, 1, *command, "--set", "epochs=3")
    assert "--set must have one of the names ['latent_dim', " in error
    assert error.rstrip().endswith("Got 'epochs'.")
    error = error_of(capsys, 1, *command, "--test", str(tmp_path / "lost.zarr"))
    assert "lost.zarr" in error
    assert not model.exists()
    model.write_text("mine")
    assert "unless there is --overwrite" in error_of(capsys, 1, *command)
    assert model.read_text() == "mine"
    # The image is not opened: there is none.
    command = ["measure", model_path, "none.fits"]
    error = error_of(capsys, 1, *command, str(tmp_path / "out.csv"))
    assert "ends in one of .parquet, .fits" in error
    error = error_of(capsys, 1, *command, str(tmp_path / "lost" / "out.fits"))
    assert "a folder that exists" in error


@pytest.mark.parametrize("count", ["0", "-3", "few"])
@pytest.mark.parametrize("name", ["--rows-per-part", "--workers", "-n"])
def test_counts_are_positive(name, count, capsys):
    command = ["simulate", "out.zarr", "-n", "5", f"{name}={count}"]
    if name == "-n":
        command = ["simulate", "out.zarr", f"-n{count}"]
    assert "must be an int of at least 1" in error_of(capsys, 2, *command)


def test_a_dry_run_of_simulate_checks_its_arguments(tmp_path, capsys):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "mine").write_text("precious")
    for out, message in (("a.zarr", "has other files"), ("a", "ends in .zarr")):
        command = ["simulate", str(tmp_path / out), "-n", "5", "--dry-run"]
        assert message in error_of(capsys, 1, *command)
    for extra in ([], ["--dry-run"]):
        command = ["simulate", str(tmp_path / "b.zarr"), "-n", "5", *extra]
        error = error_of(capsys, 1, *command, "--set", "n_samples=7")
        assert "'n_samples' is -n" in error
    assert not (tmp_path / "b.zarr").exists()


def test_unknown_names_of_open_and_set(model_path, source, tmp_path, capsys):
    error = error_of(capsys, 1, "info", source, "--open", "picture=SCI")
    assert "one of the names ['image', 'variance'" in error
    command = ["measure", model_path, "none.fits", str(tmp_path / "out.fits")]
    error = error_of(capsys, 1, *command, "--set", "speed=3")
    assert "one of the names ['polish', 'neighbours'" in error
    assert "is --size" in error_of(capsys, 1, *command, "--set", "size=3")
    error = error_of(capsys, 1, *command, "--no-polish", "--set", "polish={}")
    assert "none.fits" in error
    error = error_of(capsys, 1, *command, "--no-polish", "--set", "polish=true")
    assert "with --no-polish" in error


def test_measure_has_further_parameters(tmp_path, monkeypatch, capsys):
    from sklcae._cli import commands

    given = {}

    def measure(model, image, positions, **options):
        given.update(options)
        raise ValueError("seen")

    measure.__signature__ = inspect.signature(commands.measure_image)
    monkeypatch.setattr(commands, "measure_image", measure)
    out = str(tmp_path / "out.fits")
    command = ["measure", "ground", "image.fits", out, "--set", "mask_bits=3"]
    command += ["--set", "neighbours=2", "--set", 'detection={"threshold": 3}']
    command += ["--psf", ".8", "--mask", "null", "--hdu", "SCI"]
    assert "seen" in error_of(capsys, 1, *command)
    assert (given["psf"], given["mask"], given["hdu"]) == (0.8, None, "SCI")
    assert given["size"] is None
    assert (given["mask_bits"], given["neighbours"]) == (3, 2)
    assert given["detection"] == {"threshold": 3}
    assert given["polish"] is True


def test_files_of_an_image_that_are_missing(tmp_path, capsys):
    fits.writeto(tmp_path / "image.fits", np.zeros((90, 90)), make_wcs().to_header())
    (tmp_path / "list.txt").write_text("# ra dec\n150.1 2.2\n")
    image, lost = str(tmp_path / "image.fits"), str(tmp_path / "lost.fits")
    for name, message in [
        *((name, "no such file") for name in ("weight", "variance", "mask", "psf")),
        *((name, "no such file") for name in ("background", "positions")),
        ("positions", "name ends in .csv, "),
    ]:
        file = str(tmp_path / "list.txt") if "csv" in message else lost
        command = ["measure", "ground", image, str(tmp_path / "out.fits")]
        error = error_of(capsys, 1, *command, f"--{name}", file)
        assert f"{name} must be" in error
        assert message in error
        assert len(error.splitlines()) == 1
    command = ["measure", "ground", lost, str(tmp_path / "out.fits")]
    assert "no such file" in error_of(capsys, 1, *command)
    error = error_of(capsys, 1, "measure", "ground", image, str(tmp_path / "out.fits"))
    assert "--variance sep" in error


@pytest.mark.filterwarnings("default")
def test_a_catalogue_without_any_row_has_a_warning(tmp_path, capsys):
    image, wcs = np.random.default_rng(0).normal(size=(90, 90)), make_wcs()
    fits.writeto(tmp_path / "image.fits", image, wcs.to_header())
    (tmp_path / "hours.csv").write_text("ra,dec\n10.0,2.2\n")
    names = [str(tmp_path / name) for name in ("image.fits", "out.fits", "hours.csv")]
    command = ["measure", "ground", *names[:2], "--positions", names[2]]
    assert main([*command, "--psf", "0.8", "--variance", "1"]) == 0
    assert "warning: None of 1 rows could be measured" in capsys.readouterr().err


def test_warnings_are_lines_without_code(monkeypatch, capsys):
    from sklcae._cli import commands

    def warn(options):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("look out", UserWarning, stacklevel=1)
        return {}

    monkeypatch.setattr(commands, "info", warn)
    assert main(["info", "file"]) == 0
    assert capsys.readouterr().err == "sklcae: warning: look out\n"


def test_only_some_commands_continue(monkeypatch, capsys):
    from sklcae._cli import commands

    def interrupt(options):
        raise KeyboardInterrupt

    for command in ("simulate", "train"):
        monkeypatch.setattr(commands, command, interrupt)
    error = error_of(capsys, 130, "simulate", "a.zarr", "-n", "3")
    assert "the same command continues" in error
    assert "continues" not in error_of(capsys, 130, "train", "a.zarr", "b.sklcae")
