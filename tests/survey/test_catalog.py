"""Catalogues in this process: rows, columns, files, plans and bad stamps."""

import errno
import json
import subprocess
import sys
import warnings

import h5py
import numpy as np
import pandas as pd
import pytest
from astropy import units as u
from astropy.io.votable.ucd import check_ucd
from astropy.table import QTable, Table
from hypothesis import given
from hypothesis import strategies as st

from sklcae import (
    ConditionalAutoencoderRegressor,
    ProfileFitRegressor,
    load_pretrained,
)
from sklcae.datasets import make_galaxies
from sklcae.exceptions import CatalogError, ModelFileError
from sklcae.survey import _catalog_file as catalog_file
from sklcae.survey import (
    open_stamps,
    predict_catalog,
    read_catalog,
    verify_catalog,
    write_catalog,
)
from sklcae.survey._columns import flag_names
from sklcae.survey._parts import Journal, Task
from sklcae.survey._plan import rows_of_parts
from tests.survey.sources import NAMES, make_stamps, save_model, write_zarr

N = 50


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.sklcae"
    save_model(path)
    return path


@pytest.fixture
def source(tmp_path):
    images, _ = make_stamps(N, seed=1)
    return write_zarr(tmp_path / "stamps.zarr", images, object_id=np.arange(N) + 100)


def predicted(model_path, images):
    """Return the predictions and errors of images, as the catalogue has them."""
    model = ConditionalAutoencoderRegressor.load(model_path)
    model.set_params(allow_nan=True, handle_empty="nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.predict(images, return_std=True)


def check_rows(table, y, y_std):
    for column, name in enumerate(NAMES):
        np.testing.assert_array_equal(table[name], y[:, column])
        np.testing.assert_array_equal(table[f"{name}_err"], y_std[:, column])


@pytest.mark.parametrize("rows_per_part", ["auto", 7, 16, 50, 1000])
def test_rows_are_those_of_predict(model_path, source, tmp_path, rows_per_part):
    run = predict_catalog(
        model_path, source, tmp_path / "out", rows_per_part=rows_per_part
    )
    assert run.failed == []
    assert run.verify() == N
    table = run.read()
    check_rows(table, *predicted(model_path, make_stamps(N, seed=1)[0]))
    np.testing.assert_array_equal(table["object_id"], np.arange(N) + 100)
    assert not table["sklcae_flag_bad_stamp"].any()
    assert json.loads((tmp_path / "out" / "_SUCCESS").read_text()) == {"rows": N}


def test_open_stamps_with_options_are_a_source(model_path, tmp_path):
    images, _ = make_stamps(N, seed=1)
    with h5py.File(tmp_path / "stamps.h5", "w") as file:
        file["light"], file["number"] = images, np.arange(N)
        file["light"].attrs["unit"] = "nJy"
    with open_stamps(tmp_path / "stamps.h5", image="light", id="number") as stamps:
        run = predict_catalog(model_path, stamps, tmp_path / "out", rows_per_part=20)
        assert len(stamps[:3]) == 3
    check_rows(run.read(), *predicted(model_path, images))
    assert str(run.read()["flux"].unit) == "nJy"


def test_columns_units_and_scores(model_path, source, tmp_path):
    run = predict_catalog(
        model_path,
        source,
        tmp_path / "out",
        columns=["half_light_radius"],
        units={"flux": "nJy", "half_light_radius": "mas"},
        return_std=False,
        score=True,
        flags=True,
    )
    table = run.read()
    flags = [f"sklcae_flag_{name}" for name in flag_names(True)]
    names = ["object_id", "half_light_radius", "score", "sklcae_flag", *flags]
    assert table.colnames == names
    assert str(table["half_light_radius"].unit) == "mas"
    model = ConditionalAutoencoderRegressor.load(model_path)
    images, _ = make_stamps(N, seed=1)
    np.testing.assert_array_equal(table["score"], model.score_samples(images))
    expected = model.flags(images)
    for name, flag in expected.items():
        np.testing.assert_array_equal(table[f"sklcae_flag_{name}"], flag)
    serious = np.any([f for n, f in expected.items() if n != "neighbours"], axis=0)
    np.testing.assert_array_equal(table["sklcae_flag"], serious)


def test_other_libraries_read_the_catalogue(model_path, source, tmp_path):
    out = tmp_path / "out"
    run = predict_catalog(
        model_path, source, out, rows_per_part=20, units={"flux": "nJy"}
    )
    table = run.read()
    frame = pd.read_parquet(out)
    assert list(frame.columns) == table.colnames
    np.testing.assert_array_equal(frame["flux"], table["flux"])
    part = Table.read(out / "part-000001.parquet", format="parquet.votable")
    assert len(part) == 20
    for name in table.colnames:
        assert part[name].unit == table[name].unit
        np.testing.assert_array_equal(part[name], table[name][20:40])
    assert str(part["flux"].unit) == "nJy"
    for column in table.itercols():
        assert check_ucd(column.meta["ucd"], check_controlled_vocabulary=True)
        assert column.description
        assert "\n" not in column.description
    assert read_catalog(out, ["flux"]).colnames == ["flux"]
    assert len(read_catalog(out / "part-000002.parquet")) == 10


def test_text_names_and_places(model_path, tmp_path):
    images, _ = make_stamps(N, seed=1)
    places = {"ra": np.linspace(10, 20, N), "dec": np.linspace(-5, 5, N)}
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["image"] = images
        file["object_id"] = [f"galaxy {row}" for row in range(N)]
        for name, values in places.items():
            file[name] = values
    table = predict_catalog(model_path, tmp_path / "s.h5", tmp_path / "out").read()
    assert table["object_id"][3] == "galaxy 3"
    for name, values in places.items():
        np.testing.assert_array_equal(table[name], values)
        assert str(table[name].unit) == "deg"


def test_fits_has_a_bit_mask(model_path, tmp_path):
    images, _ = make_stamps(N, seed=1)
    images[3] = np.nan
    images[5] *= 1e4
    source = write_zarr(tmp_path / "s.zarr", images)
    for flags in (False, True):
        out = tmp_path / f"out{flags}"
        table = predict_catalog(model_path, source, out, flags=flags).read()
        write_catalog(table, tmp_path / "catalogue.fits", overwrite=True)
        stored = Table.read(tmp_path / "catalogue.fits")
        for bit, name in enumerate(flag_names(flags)):
            assert stored.meta[f"SKLFLG{bit}"] == name
            np.testing.assert_array_equal(
                stored["sklcae_flags"] >> bit & 1, table[f"sklcae_flag_{name}"]
            )
        np.testing.assert_array_equal(stored["flux"], table["flux"])
        assert stored["half_light_radius"].unit == "arcsec"
        # "no_pixels" is bit 1, and "outside_training" is bit 2.
        assert stored["sklcae_flags"][3] & 2
        assert stored["sklcae_flags"][5] & 4
    with pytest.raises(FileExistsError, match=r"new file.*catalogue.fits"):
        write_catalog(table, tmp_path / "catalogue.fits")
    with pytest.raises(ValueError, match=r"ends in one of \['.parquet', '.fits'"):
        write_catalog(table, tmp_path / "catalogue.txt")
    write_catalog(table, tmp_path / "catalogue.parquet")
    again = read_catalog(tmp_path / "catalogue.parquet")
    for name in table.colnames:
        np.testing.assert_array_equal(again[name], table[name])
        assert again[name].unit == table[name].unit
        assert again[name].meta == table[name].meta
    assert table["flux"].meta["ucd"] == "phot.flux"


def test_fits_and_covariances(tmp_path):
    names = ["flux", "half_light_radius", "e1"]
    X, _ = make_galaxies(12, x0=32.0, y0=32.0, random_state=0)
    X = X.reshape(-1, 1, 64, 64)
    X[4] = np.nan
    np.save(tmp_path / "stamps.npy", X)
    fitter = ProfileFitRegressor(
        psf=0.7,
        pixel_scale=0.2,
        target_names=names,
        allow_nan=True,
        handle_empty="nan",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter.fit(X).save(tmp_path / "fitter.sklcae")
        y, y_std, y_cov = fitter.predict(X, return_std=True, return_cov=True)
        flags = fitter.flags(X)
        report = fitter.fit_report(X)
    run = predict_catalog(
        tmp_path / "fitter.sklcae",
        tmp_path / "stamps.npy",
        tmp_path / "out",
        return_cov=True,
        flags=True,
        rows_per_part=5,
    )
    table = run.read()
    for column, name in enumerate(names):
        np.testing.assert_array_equal(table[name], y[:, column])
        np.testing.assert_array_equal(table[f"{name}_err"], y_std[:, column])
    np.testing.assert_array_equal(table["flux_e1_cov"], y_cov[:, 0, 2])
    np.testing.assert_array_equal(table["half_light_radius_e1_cov"], y_cov[:, 1, 2])
    np.testing.assert_array_equal(table["chi_square"], report.chi_square)
    for name, flag in flags.items():
        np.testing.assert_array_equal(table[f"sklcae_flag_{name}"], flag)
    assert str(table["half_light_radius"].unit) == "arcsec"
    with pytest.raises(ValueError, match="'polish' parameter must be False"):
        predict_catalog(
            tmp_path / "fitter.sklcae", tmp_path / "stamps.npy", "new", polish=True
        )


def test_polish_starts_fits_from_the_network(tmp_path):
    X, y = make_galaxies(24, x0=32.0, y0=32.0, random_state=0)
    X = X.reshape(-1, 1, 64, 64)
    np.save(tmp_path / "stamps.npy", X)
    model = ConditionalAutoencoderRegressor(
        network="strided", max_epochs=1, target_names=NAMES, random_state=0
    )
    model.fit(X, y).save(tmp_path / "model.sklcae")
    polish = {"psf": 0.7, "pixel_scale": 0.2, "fit_sky": False}
    call = (tmp_path / "model.sklcae", tmp_path / "stamps.npy", tmp_path / "out")
    options = {"polish": polish, "rows_per_part": 9, "return_std": True}
    run = predict_catalog(*call, **options)
    (fitter_path,) = (tmp_path / "out").glob("_fitter-*.sklcae")
    fitter = ProfileFitRegressor.load(fitter_path)
    assert not fitter.fit_sky
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y_fit, y_std = fitter.predict(X, return_std=True)
    check_rows(run.read(), y_fit, y_std)
    # The same call finds all done, another polish is refused.
    before = [p.stat().st_mtime_ns for p in sorted((tmp_path / "out").glob("part*"))]
    predict_catalog(*call, **options)
    after = [p.stat().st_mtime_ns for p in sorted((tmp_path / "out").glob("part*"))]
    assert before == after
    with pytest.raises(CatalogError, match=r"another options polish psf: 0\.7, now"):
        predict_catalog(*call, polish=True, rows_per_part=9)


def test_polish_has_the_units_of_the_model(tmp_path):
    """Also after rescale, and with the same call twice."""
    model = load_pretrained("ground").rescale(pixel_scale=0.4, gain=0.5)
    model.save(tmp_path / "model.sklcae")
    X, _ = make_galaxies(5, x0=32.0, y0=32.0, planes=model.planes, random_state=0)
    X[:, 0] *= 2
    X[:, 1] *= 4
    parts = dict(zip(model.planes, np.moveaxis(X, 1, 0), strict=True))
    source = write_zarr(tmp_path / "s.zarr", parts.pop("image"), **parts)
    call = (tmp_path / "model.sklcae", source, tmp_path / "out")
    options = {
        "columns": ["e1", "flux"],
        "polish": {"bounds": {"sersic_index": (0.5, 4.0)}, "max_steps": np.int64(50)},
        "return_cov": True,
        "rows_per_part": np.int64(3),
    }
    predict_catalog(*call, **options)
    table = predict_catalog(*call, **options).read()
    with (
        open_stamps(source, pixel_scale=0.2) as stamps,
        pytest.warns(UserWarning, match="'pixel_scale' of the model is 0.4"),
    ):
        predict_catalog(call[0], stamps, tmp_path / "other")
    fitter = ProfileFitRegressor(
        model,
        prefit=True,
        planes=model.planes,
        pixel_scale=0.4,
        gain=0.5,
        bounds={"sersic_index": (0.5, 4.0)},
        max_steps=50,
    ).fit(X)
    y, y_cov = fitter.predict(X, return_cov=True)
    np.testing.assert_array_equal(table["flux"], y[:, 0])
    assert table.colnames[1:6] == ["e1", "e1_err", "flux", "flux_err", "flux_e1_cov"]
    np.testing.assert_array_equal(table["flux_e1_cov"], y_cov[:, 0, 3])
    ProfileFitRegressor(psf=2.5).fit(X[:, 0]).save(tmp_path / "fitter.sklcae")
    np.save(tmp_path / "stamps.npy", X[:, 0])
    call = (tmp_path / "fitter.sklcae", tmp_path / "stamps.npy", tmp_path / "new")
    with pytest.raises(ValueError, match="'score' parameter must be False"):
        predict_catalog(*call, score=True)


def test_units_that_the_standard_lacks(model_path, source, tmp_path):
    run = predict_catalog(
        model_path, source, tmp_path / "out", units={"flux": "electron / s"}
    )
    table = run.read()
    assert str(table["flux"].unit) == "electron / s"
    write_catalog(table, tmp_path / "catalogue.parquet")
    again = read_catalog(tmp_path / "catalogue.parquet")
    assert str(again["flux"].unit) == "electron / s"


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.arange(N) + 2.5, "2.5"),
        (np.arange(N, dtype=np.uint64) + 2**63, "9223372036854775808"),
        (np.arange(N, dtype=np.uint16), 0),
    ],
)
def test_numbers_as_names(model_path, tmp_path, ids, expected):
    images, _ = make_stamps(N, seed=1)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["image"], file["object_id"] = images, ids
    table = predict_catalog(model_path, tmp_path / "s.h5", tmp_path / "out").read()
    assert table["object_id"][0] == expected


def test_masked_values_and_other_tables(tmp_path):
    path = tmp_path / "catalogue.parquet"
    table = Table({"flux": [1.0, 2.0], "n": [3, 4]}, masked=True)
    table["flux"].mask[1] = True
    write_catalog(table, path)
    assert np.isnan(read_catalog(path)["flux"][1])
    write_catalog(QTable({"flux": [1.0] * u.nJy}), path, overwrite=True)
    assert read_catalog(path)["flux"].unit == u.nJy
    with pytest.raises(TypeError, match="must be an astropy Table"):
        write_catalog(pd.DataFrame({"flux": [1.0]}), tmp_path / "new.parquet")
    with pytest.raises(ValueError, match=r"one value in each row.*'flux'"):
        write_catalog(Table({"flux": np.ones((3, 2))}), tmp_path / "new.parquet")
    write_catalog(Table({"sklcae_flag_masked": [True]}), tmp_path / "flags.fits")
    assert Table.read(tmp_path / "flags.fits")["sklcae_flags"][0] == 8


def test_incomplete_catalogues_are_said(model_path, source, tmp_path, monkeypatch):
    call = (model_path, source, tmp_path / "out")
    predict_catalog(*call, rows_per_part=10)
    (tmp_path / "out" / "part-000002.parquet").unlink()

    def fail(*args):
        raise RuntimeError("CUDA error: out of memory")

    monkeypatch.setattr("sklcae.survey._measurement.measure_stamps", fail)
    run = predict_catalog(*call)
    assert [failure["part"] for failure in run.failed] == [2]
    assert run.bad_stamps() == {}
    assert not (tmp_path / "out" / "_SUCCESS").exists()
    with pytest.warns(UserWarning, match="has 4 of 5 parts"):
        assert len(run.read()) == 40


def test_paths_may_be_relative(model_path, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = predict_catalog(model_path, source.name, "out", dry_run=True)
    monkeypatch.chdir("/")
    assert run.run().verify() == N


def test_models_without_names_are_refused(source, tmp_path):
    X, y = make_stamps(64)
    model = ConditionalAutoencoderRegressor(max_epochs=1, random_state=0).fit(X, y)
    model.save(tmp_path / "model.sklcae")
    with pytest.raises(ValueError, match="with named targets"):
        predict_catalog(tmp_path / "model.sklcae", source, "out", return_std=False)


def test_bad_stamps_are_flagged(model_path, tmp_path):
    images, _ = make_stamps(N, seed=1)
    images[7, 3, 3] = np.inf
    images[8] = np.nan
    # A stamp with a masked corner is not empty.
    images[9, :2, :2] = np.nan
    images[20] *= 1e4
    source = write_zarr(tmp_path / "s.zarr", images)
    run = predict_catalog(model_path, source, tmp_path / "out", rows_per_part=16)
    assert list(run.bad_stamps()) == [7]
    assert "infinity" in run.bad_stamps()[7]
    table = run.read()
    assert np.flatnonzero(table["sklcae_flag_bad_stamp"]).tolist() == [7]
    assert np.flatnonzero(table["sklcae_flag_no_pixels"]).tolist() == [8]
    assert table["sklcae_flag_outside_training"][20]
    assert table["sklcae_flag"][[7, 8, 20]].all()
    assert np.isnan(table["flux"][7])
    good = np.delete(np.arange(N), [7])
    y, y_std = predicted(model_path, images[good])
    check_rows(table[good], y, y_std)
    raising = predict_catalog(
        model_path, source, tmp_path / "raise", rows_per_part=16, on_bad_stamp="raise"
    )
    (failure,) = raising.failed
    assert (failure["part"], failure["rows"]) == (0, [0, 16])
    assert "infinity" in failure["error"]
    assert json.loads((tmp_path / "raise" / "_failed.json").read_text())
    assert not (tmp_path / "raise" / "_SUCCESS").exists()
    with pytest.raises(CatalogError, match=r"part-000000.parquet is missing"):
        raising.verify()


def test_errors_of_programs_are_no_bad_stamps(
    model_path, source, tmp_path, monkeypatch
):
    def forget(*args):
        raise TypeError("an argument is missing")

    monkeypatch.setattr("sklcae.survey._measurement.measure_stamps", forget)
    run = predict_catalog(model_path, source, tmp_path / "out", rows_per_part=30)
    assert [failure["rows"] for failure in run.failed] == [[0, 30], [30, 50]]
    assert run.failed[0]["error"] == "TypeError: an argument is missing"
    assert run.bad_stamps() == {}


@pytest.mark.parametrize("number", [0, 2])
def test_damaged_chunks_are_flagged(model_path, source, tmp_path, number):
    chunk = source / "image" / "c" / str(number) / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[: len(data) // 2] = b"\x00" * (len(data) // 2)
    chunk.write_bytes(data)
    run = predict_catalog(model_path, source, tmp_path / "out", rows_per_part=20)
    assert run.failed == []
    damaged = list(range(8 * number, 8 * number + 8))
    assert list(run.bad_stamps()) == damaged
    table = run.read()
    good = np.setdiff1d(np.arange(N), damaged)
    images, _ = make_stamps(N, seed=1)
    y, y_std = predicted(model_path, images)
    check_rows(table[good], y[good], y_std[good])
    assert np.isnan(table["flux"][damaged]).all()


def test_no_rows_and_no_pixels(model_path, tmp_path):
    images = np.zeros((0, 16, 16), np.float32)
    np.save(tmp_path / "none.npy", images)
    run = predict_catalog(model_path, tmp_path / "none.npy", tmp_path / "none")
    assert run.verify() == 0
    assert len(run.read()) == 0
    assert run.read()["sklcae_flag"].dtype == bool
    np.save(tmp_path / "nan.npy", np.full((9, 16, 16), np.nan, np.float32))
    table = predict_catalog(
        model_path, tmp_path / "nan.npy", tmp_path / "nan", rows_per_part=4
    ).read()
    assert table["sklcae_flag_no_pixels"].all()
    assert np.isnan(table["flux"]).all()
    assert np.isnan(table["flux_err"]).all()


def test_what_is_done_stays(model_path, source, tmp_path):
    call = (model_path, source, tmp_path / "out")
    run = predict_catalog(*call, rows_per_part=10)
    parts = sorted((tmp_path / "out").glob("part-*"))
    times = [part.stat().st_mtime_ns for part in parts]
    parts[2].unlink()
    parts[3].write_bytes(parts[3].read_bytes()[:-40])
    with pytest.raises(CatalogError, match=r"000002.parquet is missing; .*no whole"):
        verify_catalog(tmp_path / "out")
    # "auto" takes the parts of the plan.
    again = predict_catalog(*call)
    assert again.plan == run.plan
    assert again.verify() == N
    again_times = [part.stat().st_mtime_ns for part in parts]
    assert [a == b for a, b in zip(times, again_times, strict=True)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    data = bytearray(parts[1].read_bytes())
    data[100] ^= 0xFF
    parts[1].write_bytes(data)
    with pytest.raises(CatalogError, match=r"part-000001.parquet' is damaged"):
        verify_catalog(tmp_path / "out")
    (tmp_path / "out" / "part-000009.parquet").write_bytes(b"")
    with pytest.raises(CatalogError, match=r"part-000009.parquet is not in the plan"):
        verify_catalog(tmp_path / "out")


def test_another_plan_is_refused(model_path, source, tmp_path):
    out = tmp_path / "out"
    predict_catalog(model_path, source, out, rows_per_part=10)
    with pytest.raises(CatalogError, match=r"another rows_per_part: 10, now 11"):
        predict_catalog(model_path, source, out, rows_per_part=11)
    with pytest.raises(CatalogError, match=r"another options score: False, now True"):
        predict_catalog(model_path, source, out, score=True)
    other = tmp_path / "other.sklcae"
    save_model(other, alpha=50.0)
    with pytest.raises(CatalogError, match=r"another model: '[0-9a-f]{64}'"):
        predict_catalog(other, source, out)
    images, _ = make_stamps(N, seed=2)
    write_zarr(source, images, object_id=np.arange(N) + 100)
    with pytest.raises(CatalogError, match="another source"):
        predict_catalog(model_path, source, out)
    (out / "_plan.json").write_text("{")
    with pytest.raises(CatalogError, match="is no plan"):
        predict_catalog(model_path, source, out)
    (out / "_plan.json").unlink()
    with pytest.raises(CatalogError, match="with parts and no plan"):
        predict_catalog(model_path, source, out)


@pytest.mark.parametrize("changed", ["model", "source"])
def test_changes_in_mid_run_are_refused(
    model_path, source, tmp_path, monkeypatch, changed
):
    path = tmp_path / "model.sklcae"
    path.write_bytes(model_path.read_bytes())
    call = (path, source, tmp_path / "out")
    run = predict_catalog(*call, rows_per_part=10, dry_run=True)
    write_part = catalog_file.write_part

    def change_after_one(*args):
        write_part(*args)
        if changed == "model":
            from sklcae.survey._parts import load_by_hash

            save_model(path, alpha=50.0)
            load_by_hash.cache_clear()
        else:
            images, _ = make_stamps(N, seed=2)
            write_zarr(source, images, object_id=np.arange(N) + 100)

    monkeypatch.setattr("sklcae.survey._parts.write_part", change_after_one)
    with pytest.raises(CatalogError, match="must not change while"):
        run.run()
    assert len(list((tmp_path / "out").glob("part-*"))) == 1


def test_a_full_disk_is_said_at_once(model_path, source, tmp_path, monkeypatch):
    calls = []

    def fill(path, *args):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_part(path, *args)

    write_part = catalog_file.write_part
    monkeypatch.setattr("sklcae.survey._parts.write_part", fill)
    call = (model_path, source, tmp_path / "out")
    with pytest.raises(OSError, match="No space left") as error:
        predict_catalog(*call, rows_per_part=10)
    assert "that are done stay" in error.value.__notes__[0]
    assert len(list((tmp_path / "out").glob("part-*"))) == 1
    monkeypatch.undo()
    assert predict_catalog(*call, rows_per_part=10).verify() == N


SCRIPT = """
import sys
from sklcae.survey import predict_catalog
predict_catalog(*sys.argv[1:4], rows_per_part=1)
"""
TMPFS = """
set -e
mount -t tmpfs -o size=100k none "$4"
"$0" -c "$1" "$2" "$3" "$4/out" 2>&1 || true
ls "$4/out"
"""


def test_a_disk_that_is_full(model_path, source, tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c"]
    if subprocess.run(
        [*command, f"mount -t tmpfs none {folder}"], check=False
    ).returncode:
        pytest.skip("cannot mount a small disk here")
    arguments = [sys.executable, SCRIPT, str(model_path), str(source), str(folder)]
    result = subprocess.run(
        [*command, TMPFS, *arguments], capture_output=True, text=True, check=True
    )
    assert "No space left on device" in result.stdout
    assert "Make room, and call it again." in result.stdout
    # The parts that fit are whole, and nothing else is left.
    assert "part-000000.parquet" in result.stdout
    assert ".tmp" not in result.stdout


def test_two_runs_at_once_are_refused(model_path, source, tmp_path):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / "_lock"),
        pytest.raises(CatalogError, match="no other run writes into"),
    ):
        predict_catalog(model_path, source, tmp_path / "out")
    assert predict_catalog(model_path, source, tmp_path / "out").verify() == N


def test_estimates(model_path, source, tmp_path):
    call = (model_path, source, tmp_path / "out")
    run = predict_catalog(*call, rows_per_part=10, dry_run=True)
    cost = run.estimate()
    assert not (tmp_path / "out").exists()
    assert (cost["rows"], cost["parts"], cost["parts_done"]) == (N, 5, 0)
    assert cost["bytes_in"] == N * 16 * 16 * 4
    assert cost["core_hours"] > 0
    assert run.run().estimate()["parts_done"] == 5
    assert run.estimate()["core_hours"] == 0
    size = sum(path.stat().st_size for path in (tmp_path / "out").glob("part-*"))
    assert 0 < cost["bytes_out"] < size


def test_progress_is_on_standard_error(model_path, source, tmp_path, capsys):
    predict_catalog(model_path, source, tmp_path / "out", verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{N}/{N}" in err


def test_wrong_parameters(model_path, source, tmp_path):
    def check(error, match, path=model_path, stamps=source, **options):
        with pytest.raises(error, match=match):
            predict_catalog(path, stamps, tmp_path / "out", **options)
        assert not (tmp_path / "out").exists()

    check(ValueError, "columns and units must name targets", columns=["index"])
    check(ValueError, r"must name targets .*\['mass'\]", units={"mass": "g"})
    check(
        ValueError,
        "units must have units .* Got 'galaxies'",
        units={"flux": "galaxies"},
    )
    check(ValueError, "'return_cov' parameter must be False", return_cov=True)
    check(ValueError, "'rows_per_part' parameter must be", rows_per_part=0)
    check(ValueError, "'rows_per_part' parameter must be", rows_per_part=2.5)
    check(ValueError, "'on_bad_stamp' parameter must be", on_bad_stamp="skip")
    check(TypeError, "'polish' parameter must be", polish=1)
    check(ValueError, "polish must be a dict with keys", polish={"prefit": False})
    check(TypeError, "must be plain values", polish={"bounds": {"flux": object()}})
    check(TypeError, "'client' parameter must be", client="tcp://scheduler")
    for columns in ([], ["flux", "flux"]):
        check(ValueError, "'columns' parameter must be None or", columns=columns)
    check(TypeError, "stamps must be the path", stamps=np.zeros((3, 16, 16)))
    check(FileNotFoundError, "nothing", path=tmp_path / "nothing")
    check(FileNotFoundError, "nothing", stamps=tmp_path / "nothing.npy")
    np.save(tmp_path / "large.npy", np.zeros((3, 20, 20)))
    check(ValueError, "stamps must have the shape", stamps=tmp_path / "large.npy")
    check(ModelFileError, "cannot be used", path=tmp_path / "large.npy")
    save_model(tmp_path / "plain.sklcae")
    stacked = write_zarr(
        tmp_path / "v.zarr",
        np.ones((3, 16, 16), np.float32),
        variance=np.ones((3, 16, 16), np.float32),
    )
    check(ValueError, r"planes of the model, \('image',\)", stamps=stacked)
    with pytest.raises(CatalogError, match="with a plan"):
        verify_catalog(tmp_path)
    frame = pd.DataFrame({"flux": [1.0]})
    frame.to_parquet(tmp_path / "part-000000.parquet")
    with pytest.raises(ValueError, match="metadata of a VOTable"):
        read_catalog(tmp_path)


def test_columns_that_a_catalogue_lacks(model_path, source, tmp_path):
    predict_catalog(model_path, source, tmp_path / "out")
    with pytest.raises(ValueError, match=r"columns must be some .*\['mass'\]"):
        read_catalog(tmp_path / "out", ["mass"])


@given(
    n=st.integers(0, 10**6),
    size=st.integers(1, 10**7),
    chunk=st.integers(1, 5000),
)
def test_parts_are_whole_chunks(n, size, chunk):
    rows = rows_of_parts(n, size, chunk)
    assert rows >= 1
    assert rows % chunk == 0
    assert rows * size <= 2**30 or rows == chunk or rows == 1


@given(
    start=st.integers(0, 50),
    n=st.integers(0, 300),
    block=st.integers(1, 100),
    data=st.data(),
)
def test_steps_of_a_journal_have_every_row_once(
    tmp_path_factory, start, n, block, data
):
    folder = tmp_path_factory.mktemp("journal")
    rows = range(start, start + n)
    task = Task(str(folder), 0, rows, "plan", (), (), {}, [], None)
    for _ in range(8):
        journal = Journal(task)
        steps = journal.steps(block)
        assert [row for step in steps for row in step] == list(rows)
        if not rows:
            return
        assert all(0 < len(step) <= block for step in steps)
        alive = [step for step in steps if step.start not in journal.killers]
        if not alive:
            return
        journal.begin(data.draw(st.sampled_from(alive)))
        # The process dies here.


def test_a_deadly_stamp_is_found(tmp_path):
    rows = range(100, 5100)
    task = Task(str(tmp_path), 0, rows, "plan", (), (), {}, [], None)
    deadly, attempts = {321, 4000}, 0
    while True:
        journal = Journal(task)
        attempts += 1
        died = False
        for step in journal.steps(4096):
            if step.start in journal.killers:
                continue
            journal.begin(step)
            if deadly & set(step):
                died = True
                break
        if not died:
            break
    assert set(journal.killers) == deadly
    assert attempts <= 13
