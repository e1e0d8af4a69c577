"""Targets of stamps, from arrays and columns of the file."""

import pickle

import h5py
import numpy as np
import pytest
import zarr
from astropy.table import Table

from sklcae.survey import open_stamps

N, SHAPE = 9, (10, 10)
FLUX, RADIUS = np.linspace(1, 2, N), np.linspace(3, 4, N)


def write_table(folder):
    table = Table({"image": np.ones((N, *SHAPE)), "flux": FLUX, "radius": RADIUS})
    table.write(folder / "table.fits")
    return folder / "table.fits"


def write_hdf5(folder):
    with h5py.File(folder / "stamps.h5", "w") as file:
        file["image"] = np.ones((N, *SHAPE))
        file["flux"], file["radius"] = FLUX, RADIUS
        file["target"] = np.column_stack([FLUX, RADIUS])
        file["target"].attrs["target_names"] = ["flux", "radius"]
    return folder / "stamps.h5"


def write_zarr(folder):
    group = zarr.open_group(folder / "stamps.zarr", mode="w")
    group.create_array("image", data=np.ones((N, *SHAPE)), chunks=(9, *SHAPE))
    group.create_array("flux", data=FLUX)
    group.create_array("radius", data=RADIUS)
    names = {"target_names": ["flux", "radius"]}
    values = np.column_stack([FLUX, RADIUS])
    group.create_array("target", data=values, attributes=names)
    return folder / "stamps.zarr"


@pytest.mark.parametrize("write", [write_table, write_hdf5, write_zarr])
def test_named_arrays_become_columns(write, tmp_path):
    path = write(tmp_path)
    with open_stamps(path, target=["radius", "flux"]) as stamps:
        np.testing.assert_array_equal(stamps.target, np.column_stack([RADIUS, FLUX]))
        assert stamps.target_names == ["radius", "flux"]
        again = pickle.loads(pickle.dumps(stamps))
        np.testing.assert_array_equal(again.target, stamps.target)
        again.close()
    with open_stamps(path, target="flux") as stamps:
        np.testing.assert_array_equal(stamps.target, FLUX)
        assert stamps.target_names == ["flux"]


@pytest.mark.parametrize("write", [write_hdf5, write_zarr])
def test_an_array_of_the_usual_name_is_found(write, tmp_path):
    with open_stamps(write(tmp_path)) as stamps:
        np.testing.assert_array_equal(stamps.target, np.column_stack([FLUX, RADIUS]))
        assert stamps.target_names == ["flux", "radius"]


def test_files_without_targets(tmp_path):
    with open_stamps(write_table(tmp_path)) as stamps:
        assert stamps.target is None
        assert stamps.target_names is None


def test_other_uses_of_the_name_are_no_targets(tmp_path):
    names = np.array([f"T{i}" for i in range(N)])
    Table({"image": np.ones((N, *SHAPE)), "target": names}).write(tmp_path / "t.fits")
    with open_stamps(tmp_path / "t.fits") as stamps:
        assert stamps.target is None
    with pytest.raises(ValueError, match=r"target must be numbers .* type <U2"):
        open_stamps(tmp_path / "t.fits", target="target")


def test_wrong_targets(tmp_path):
    path = write_zarr(tmp_path)
    with pytest.raises(ValueError, match=r"must be the name of an array.*'size'"):
        open_stamps(path, target=["flux", "size"])
    with pytest.raises(
        ValueError, match=r"target must be numbers of the shape \(n,\).*\(9, 2\)"
    ):
        open_stamps(path, target=["flux", "target"])
    with pytest.raises(
        ValueError, match=r"\(n, n_targets\), with n=9. Got \(9, 10, 10"
    ):
        open_stamps(path, target="image")
