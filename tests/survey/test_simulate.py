"""Stamps that are simulated part by part are those of make_galaxies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import zarr
from distributed import Client, LocalCluster
from filelock import FileLock

from sklcae.datasets import make_galaxies
from sklcae.survey import _simulate, open_stamps, simulate_stamps
from sklcae.survey._simulate import (
    _Array,
    _make_part,
    _parts_of,
    _resolve_rows,
    _rows_of_chunk,
    check_simulation,
)

SHAPE = (12, 14)
N = 25
SMALL = {"image_shape": SHAPE, "sersic_index": 1.0}
# All that has random numbers or arrays of its own.
RICH = {
    "image_shape": SHAPE,
    "planes": ("image", "variance", "psf"),
    "targets": ("flux", "half_light_radius", "bulge_fraction", "x0", "e1"),
    "flux": scipy.stats.loguniform(500.0, 5_000.0),
    "half_light_radius": np.linspace(0.4, 1.0, N),
    "sersic_index": (0.9, 1.1),
    "psf_fwhm": (0.5, 1.2),
    "psf": "moffat",
    "sky_level": {"g": (5.0, 20.0), "r": 10.0},
    "gain": {"g": 1.0, "r": 2.0},
    "pixel_scale": 0.21,
    "bands": ("g", "r"),
    "neighbours": 1.0,
    "bulge_fraction": (0.0, 1.0),
    "cosmic_rays": 1.0,
    "saturation": 2_000.0,
    "dead_columns": 0.3,
    "sky_offset": (-1.0, 1.0),
    "sky_gradient": (0.0, 0.1),
}


def contents_of(folder):
    """Return the bytes of all files of a store by name."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.mark.parametrize("rows_per_part", [9, "auto"])
def test_stamps_are_those_of_make_galaxies(tmp_path, rows_per_part):
    path = tmp_path / "stamps.zarr"
    stamps = simulate_stamps(path, N, 3, rows_per_part=rows_per_part, **RICH)
    wanted = make_galaxies(N, random_state=3, return_X_y=False, **RICH)
    store = zarr.open_group(path, mode="r")
    for name, values in {
        "image": wanted.images,
        "variance": wanted.variance_images,
        "psf": wanted.psf_images,
        "cosmic_ray_mask": wanted.cosmic_ray_mask,
        "saturated_mask": wanted.saturated_mask,
        "target": wanted.target,
        "object_id": np.arange(N),
    }.items():
        assert store[name].dtype == values.dtype
        np.testing.assert_array_equal(store[name][:], values)
    assert stamps.planes == RICH["planes"]
    assert stamps.unit == "adu"
    assert (stamps.pixel_scale, stamps.gain) == (0.21, [1.0, 2.0])
    np.testing.assert_array_equal(stamps[:][:, :2], wanted.images)
    np.testing.assert_array_equal(stamps.target, wanted.target)
    assert stamps.target_names == wanted.target_names
    units = store["target"].attrs["units"]
    assert list(units) == ["adu", "adu", "arcsec", "", "pix", ""]


def test_psfs_of_stamps_and_one_target(tmp_path):
    psf = np.random.default_rng(0).uniform(1, 2, (N, 5, 5))
    psf[:, 2, 2] += 20
    options = {**SMALL, "psf": psf, "planes": ("image", "psf"), "targets": "flux"}
    stamps = simulate_stamps(tmp_path / "a.zarr", N, 1, rows_per_part=10, **options)
    X, y = make_galaxies(N, random_state=1, **options)
    store = zarr.open_group(tmp_path / "a.zarr", mode="r")
    np.testing.assert_array_equal(store["psf"][:], X[:, 1])
    np.testing.assert_array_equal(store["image"][:], X[:, 0])
    np.testing.assert_array_equal(stamps.target, y)
    assert stamps.target_names == ["flux"]


def test_large_stamps_have_small_chunks(tmp_path):
    arrays = {"image": _Array((5, 500, 500), np.float32, "adu")}
    assert _rows_of_chunk(arrays) == 1
    assert _resolve_rows("auto", 1_000, arrays) == 6
    arrays = {"image": _Array((64, 64), np.float32, "adu")}
    assert _rows_of_chunk(arrays) == 100
    assert _resolve_rows("auto", 10**6, arrays) == 2_000
    assert _resolve_rows("auto", 250, arrays) == 300
    stamps = simulate_stamps(tmp_path / "b.zarr", 201, 0, rows_per_part=200, **SMALL)
    assert stamps.chunks[0] == 100
    assert stamps.shards[0] == 200


def test_workers_of_a_cluster(tmp_path, capfd):
    here = simulate_stamps(tmp_path / "here.zarr", 50, 5, rows_per_part=10, **SMALL)
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(processes=True, **options) as cluster, Client(cluster) as client:
        there = simulate_stamps(
            tmp_path / "there.zarr",
            50,
            5,
            rows_per_part=10,
            client=client,
            verbose=1,
            **SMALL,
        )
        (tmp_path / "lost.zarr").mkdir()
        with pytest.raises(ValueError, match="needs an FFT"):
            simulate_stamps(
                tmp_path / "lost.zarr",
                50,
                5,
                client=client,
                rows_per_part=10,
                half_light_radius=[1.0] * 35 + [1e8] * 15,
                image_shape=SHAPE,
            )
    np.testing.assert_array_equal(here[:], there[:])
    assert contents_of(tmp_path / "here.zarr") == contents_of(tmp_path / "there.zarr")
    assert "50/50" in capfd.readouterr().err


KILLED = """
import sys
from sklcae.survey import simulate_stamps
simulate_stamps(
    sys.argv[1], 600, 0, rows_per_part=20, image_shape=(12, 14), sersic_index=1.0
)
"""


def test_a_killed_call_is_continued(tmp_path):
    path, whole = tmp_path / "killed.zarr", tmp_path / "whole.zarr"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
    try:
        end = time.monotonic() + 60
        while not (path / "parts" / "part-2").exists() and time.monotonic() < end:
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (path / "parts" / "_SUCCESS").exists()
    parts = sorted((path / "parts").glob("part-*"))
    assert 3 <= len(parts) < 30
    # The part that was written then may be cut off.
    cut = path / "image" / "c" / "29" / "0" / "0"
    cut.parent.mkdir(parents=True, exist_ok=True)
    cut.write_bytes(b"cut off")
    first = path / "image" / "c" / "0" / "0" / "0"
    written = first.stat().st_mtime_ns
    options = {"rows_per_part": 20, **SMALL}
    simulate_stamps(path, 600, 0, **options)
    assert first.stat().st_mtime_ns == written
    simulate_stamps(whole, 600, 0, **options)
    found, wanted = contents_of(path), contents_of(whole)
    # A file of the record may have been written only in part.
    assert {n: c for n, c in found.items() if not n.endswith(".tmp")} == wanted
    # A complete store is opened as it is.
    (path / "image" / "c" / "3" / "0" / "0").unlink()
    simulate_stamps(path, 600, 0, **options)
    assert not (path / "image" / "c" / "3" / "0" / "0").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"random_state": 1}, r"random_state was 0 and is 1\.$"),
        ({"n_samples": 6}, "n_samples was 5 and is 6"),
        ({"rows_per_part": 2}, "rows_per_part was 5 and is 2"),
        ({"psf_fwhm": (0.5, 0.9)}, r"psf_fwhm was 0.7 and is {'tuple': \[0.5, 0.9\]}"),
        ({"flux": [1.0, 2, 3, 4, 6]}, "flux was .*'sha256'"),
        ({"sky_level": scipy.stats.uniform(1, 3)}, "sky_level was .*quantiles"),
    ],
)
def test_other_arguments_are_refused(tmp_path, changed, message):
    path = tmp_path / "stamps.zarr"
    given = {"n_samples": 5, "random_state": 0, "rows_per_part": 5, **SMALL}
    given |= {"flux": [1.0, 2, 3, 4, 5], "sky_level": scipy.stats.uniform(1, 2)}
    with pytest.warns(UserWarning, match="5 stamps in each chunk"):
        simulate_stamps(path, **given)
    before = contents_of(path)
    if changed.get("n_samples"):
        changed["flux"] = [1.0, 2, 3, 4, 5, 6]
    with pytest.raises(FileExistsError, match=message):
        simulate_stamps(path, **(given | changed))
    assert contents_of(path) == before


def test_another_version_is_refused(tmp_path, monkeypatch):
    simulate_stamps(tmp_path / "a.zarr", 5, 0, **SMALL)
    monkeypatch.setattr("sklcae.survey._simulate.__version__", "0.0")
    with pytest.raises(FileExistsError, match=r"version of sklcae was .* is '0.0'"):
        simulate_stamps(tmp_path / "a.zarr", 5, 0, **SMALL)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "mine").write_text("precious")
    with pytest.raises(FileExistsError, match="has other files"):
        simulate_stamps(tmp_path / "a.zarr", 5, 0, **SMALL)
    assert contents_of(tmp_path / "a.zarr") == {"mine": b"precious"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "'n_samples' parameter of simulate_stamps"),
        ({"random_state": None}, ValueError, "'random_state' parameter of simulate_st"),
        ({"rows_per_part": 150}, ValueError, "must be 'auto', at most 100.*Got 150"),
        ({"rows_per_part": "few"}, ValueError, "must be 'auto', at most 100.*'few'"),
        ({"fluxx": 1.0}, TypeError, "parameters of make_galaxies.*Got 'fluxx'"),
        ({"n_jobs": 2}, TypeError, "Got 'n_jobs'"),
        ({"flux": -1.0}, ValueError, "'flux' parameter of simulate_stamps must"),
        ({"gain": "much"}, ValueError, "'gain' parameter of"),
        ({"client": "scheduler:1"}, TypeError, "client must be a distributed.Client"),
        ({"path": "stamps"}, ValueError, "a name that ends in .zarr. Got 'stamps'"),
    ],
)
def test_wrong_arguments_make_no_folder(tmp_path, monkeypatch, given, error, message):
    monkeypatch.chdir(tmp_path)
    right = {"path": "stamps.zarr", "n_samples": 5, "random_state": 0, **SMALL}
    with pytest.raises(error, match=message):
        simulate_stamps(**(right | given))
    assert not list(tmp_path.iterdir())


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"simulate_stamps needs zarr.*\[survey\]"):
        simulate_stamps(tmp_path / "a.zarr", 5, 0, **SMALL)


def test_an_opened_store_reads_targets_anew(tmp_path):
    simulate_stamps(tmp_path / "a.zarr", 5, 0, **SMALL)
    stamps = open_stamps(tmp_path / "a.zarr", target=None)
    assert stamps.target is None
    assert stamps.target_names is None


def test_two_calls_at_once_are_refused(tmp_path):
    path = tmp_path / "stamps.zarr"
    (path / "parts").mkdir(parents=True)
    with (
        FileLock(path / "parts" / "_lock"),
        pytest.raises(RuntimeError, match="a store that no other run writes into"),
    ):
        simulate_stamps(path, 5, 0, **SMALL)
    # The file of the lock is no reason to refuse the folder.
    assert len(simulate_stamps(path, 5, 0, **SMALL)) == 5


def _parts_of_store(path, n_samples, rows):
    """Return the record of a store, and its parts."""
    record, plan, _, rows = check_simulation(path, n_samples, 0, rows, SMALL)
    return record, list(_parts_of(plan, rows, range(-(-n_samples // rows))))


def test_a_late_task_leaves_a_part_that_is_done(tmp_path):
    path = tmp_path / "stamps.zarr"
    simulate_stamps(path, 20, 0, rows_per_part=10, **SMALL)
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    record, parts = _parts_of_store(path, 20, 10)
    assert _make_part(record, parts[1]) == 10
    after = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
    assert after == before


def test_shards_are_whole_or_missing(tmp_path, monkeypatch):
    path = tmp_path / "stamps.zarr"
    stamps = simulate_stamps(path, 20, 0, rows_per_part=10, **SMALL)
    wanted = stamps[:]
    shard = path / "image" / "c" / "1" / "0" / "0"
    content = shard.read_bytes()
    (path / "parts" / "part-1").unlink()
    record, parts = _parts_of_store(path, 20, 10)

    class Killed(BaseException):
        pass

    # Zarr moves its own files so, too.
    move = Path.replace

    def replace(self, target):
        if Path(target) == shard:
            raise Killed
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(Killed):
            _make_part(record, parts[1])
    # The older shard is as it was, and the part is not done.
    assert shard.read_bytes() == content
    assert not record.has_part(1)
    np.testing.assert_array_equal(open_stamps(path)[:], wanted)


def test_left_over_folders_are_removed(tmp_path):
    path = tmp_path / "stamps.zarr"
    simulate_stamps(path, 20, 0, rows_per_part=10, **SMALL)
    (path / "parts" / "_SUCCESS").unlink()
    (path / "parts" / "part-0").unlink()
    left_over = path / "parts" / f"{_simulate.UNFINISHED}killed"
    left_over.mkdir()
    (left_over / "zarr.json").write_text("{")
    simulate_stamps(path, 20, 0, rows_per_part=10, **SMALL)
    assert not left_over.exists()
