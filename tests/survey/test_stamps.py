"""Stamps in files, each written by the library of its format."""

import pickle
import sys

import h5py
import numpy as np
import pytest
import zarr
from astropy.io import fits
from astropy.table import Table

from sklcae import ProfileFitRegressor, stack_planes
from sklcae._fixed_psf import gaussian_psf
from sklcae.survey import open_stamps
from tests.profiles import FWHM, NOISE, draw_truth, images_of, with_noise

SHAPE = (21, 24)
N = 30
IDS = np.arange(N) * 7 + 100


@pytest.fixture(scope="module")
def parts():
    """Arrays of stamps; some pixels have no weight."""
    truth = draw_truth(N, 1, SHAPE, flux=(4_000.0, 30_000.0))
    rng = np.random.default_rng(0)
    image = with_noise(images_of(truth, SHAPE), 1).astype(np.float32)
    weight = rng.uniform(0.5, 1.0, image.shape).astype(np.float32) / NOISE**2
    weight[:, 3, 5] = 0
    widths = np.linspace(0.8, 1.2, N) * FWHM
    psf = np.concatenate([gaussian_psf(w, (1, *SHAPE))[:, 0] for w in widths])
    return {"image": image, "weight": weight, "psf": psf.astype(np.float32)}


@pytest.fixture(scope="module")
def expected(parts):
    with np.errstate(divide="ignore"):
        variance = 1 / parts["weight"].astype(np.float64)
    return stack_planes(parts["image"], variance, parts["psf"])


def write_cubes(parts, folder, suffix=".fits"):
    hdus = [fits.PrimaryHDU()]
    for name, array in parts.items():
        hdus.append(fits.ImageHDU(array, name=name.upper()))
    hdus[1].header["BUNIT"] = "adu"
    fits.HDUList(hdus).writeto(folder / f"cubes{suffix}")
    return folder / f"cubes{suffix}"


def write_gzipped(parts, folder):
    return write_cubes(parts, folder, ".fits.gz")


def write_compressed(parts, folder):
    hdus = [fits.PrimaryHDU()]
    for name, array in parts.items():
        kwargs = {"compression_type": "GZIP_2", "quantize_level": 0}
        hdus.append(fits.CompImageHDU(array, name=name.upper(), **kwargs))
    hdus[1].header["BUNIT"] = "adu"
    fits.HDUList(hdus).writeto(folder / "cubes.fits.fz")
    return folder / "cubes.fits.fz"


def write_extensions(parts, folder):
    hdus = [fits.PrimaryHDU()]
    for row in range(N):
        for name, array in parts.items():
            header = fits.Header({"BUNIT": "adu"})
            hdu = fits.ImageHDU(array[row], header, name=name.upper(), ver=row + 1)
            hdus.append(hdu)
    fits.HDUList(hdus).writeto(folder / "extensions.fits")
    return folder / "extensions.fits"


def write_table(parts, folder):
    table = Table({"OBJECT_ID": IDS, **parts})
    table["image"].unit = "adu"
    table.write(folder / "table.fits")
    return folder / "table.fits"


def write_hdf5(parts, folder):
    with h5py.File(folder / "stamps.h5", "w") as file:
        for name, array in parts.items():
            file.create_dataset(name, data=array, chunks=(10, *SHAPE))
        file["image"].attrs["unit"] = "adu"
        file["object_id"] = IDS
    return folder / "stamps.h5"


def write_zarr(parts, folder):
    group = zarr.open_group(folder / "stamps.zarr", mode="w")
    for name, array in {**parts, "object_id": IDS}.items():
        group.create_array(name, data=array, chunks=(10, *array.shape[1:]))
    group["image"].attrs["unit"] = "adu"
    return folder / "stamps.zarr"


WITH_IDS = (write_table, write_hdf5, write_zarr)
WRITERS = (*WITH_IDS, write_cubes, write_gzipped, write_compressed, write_extensions)


@pytest.mark.parametrize("write", WRITERS)
def test_stamps_are_those_of_stack_planes(write, parts, expected, tmp_path):
    with open_stamps(write(parts, tmp_path)) as stamps:
        assert stamps.shape == expected.shape == (len(stamps), *expected.shape[1:])
        assert stamps.planes == ("image", "variance", "psf")
        assert stamps.unit == "adu"
        assert stamps.dtype == stamps[:2].dtype == np.float32
        np.testing.assert_array_equal(
            stamps.ids, IDS if write in WITH_IDS else range(N)
        )
        for rows in (slice(None), slice(3, 9), slice(20, 2, -4), [4, 1], -1, slice(0)):
            np.testing.assert_array_equal(stamps[rows], expected[rows])
        np.testing.assert_array_equal(np.asarray(stamps), expected)
        again = pickle.loads(pickle.dumps(stamps))
        np.testing.assert_array_equal(again[5:7], expected[5:7])
        again.close()
        assert "with the planes" in repr(stamps)


@pytest.mark.parametrize("write", [write_cubes, write_hdf5, write_zarr])
def test_stamps_are_measured(write, parts, expected, tmp_path):
    model = ProfileFitRegressor(planes=("image", "variance", "psf"), allow_nan=True)
    model.fit(expected)
    with open_stamps(write(parts, tmp_path)) as stamps:
        np.testing.assert_array_equal(model.predict(stamps), model.predict(expected))


def test_files_beside_a_numpy_file(parts, expected, tmp_path):
    for name, array in parts.items():
        np.save(tmp_path / f"{name}.npy", array)
    path = tmp_path / "image.npy"
    stamps = open_stamps(path, inverse_variance="weight.npy", psf="psf.npy")
    np.testing.assert_array_equal(stamps[:], expected)
    alone = open_stamps(path)
    assert alone.planes == ("image",)
    np.testing.assert_array_equal(alone[:][:, 0], parts["image"])


def test_one_psf_and_one_variance_for_all(parts, tmp_path):
    psf = gaussian_psf(FWHM, (1, 15, 15))[0, 0]
    hdus = [
        fits.PrimaryHDU(parts["image"].astype(">f8")),
        fits.ImageHDU(np.full(SHAPE, 4.0), name="VARIANCE"),
        fits.ImageHDU(psf, name="PSF"),
        fits.ImageHDU(np.eye(*SHAPE).astype(np.uint8), name="MASK"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "one.fits")
    wanted = stack_planes(parts["image"], 4.0, psf, mask=np.eye(*SHAPE))
    with open_stamps(tmp_path / "one.fits") as stamps:
        np.testing.assert_allclose(stamps[:], wanted, rtol=1e-6)


def test_the_images_are_the_cube_without_another_use(parts, expected, tmp_path):
    hdus = [fits.PrimaryHDU(parts["image"])]
    hdus += [fits.ImageHDU(parts[name], name=name) for name in ("weight", "psf")]
    fits.HDUList(hdus).writeto(tmp_path / "primary.fits")
    with open_stamps(tmp_path / "primary.fits") as stamps:
        np.testing.assert_array_equal(stamps[:], expected)


def test_multimodal_universe(parts, tmp_path):
    bands = np.stack([parts["image"], 2 * parts["image"]], axis=1)
    good = np.ones(bands.shape, bool)
    good[:, 1, 4, 4] = False
    fwhm, scale = np.tile([0.7, 0.9], (N, 1)), np.full((N, 2), 0.2)
    with h5py.File(tmp_path / "001.hdf5", "w") as file:
        file["image_array"], file["image_mask"] = bands, good
        file["image_ivar"] = np.full(bands.shape, 0.25)
        file["image_psf_fwhm"], file["image_scale"] = fwhm, scale
        file["object_id"] = np.array([f"id{i}" for i in range(N)], dtype="S8")
    with open_stamps(tmp_path / "001.hdf5") as stamps:
        assert stamps.shape == (N, 6, *SHAPE)
        psf = np.concatenate([gaussian_psf(w / 0.2, (1, *SHAPE)) for w in (0.7, 0.9)])
        wanted = stack_planes(bands, 4.0, np.tile(psf[:, 0], (N, 1, 1, 1)), mask=~good)
        np.testing.assert_allclose(stamps[:], wanted, rtol=1e-5)
        assert stamps.ids[3] == b"id3"
    with open_stamps(tmp_path / "001.hdf5", mask_is_good=False, psf_fwhm=None) as bad:
        assert bad.planes == ("image", "variance")
        assert np.isnan(bad[0][:2]).sum() == good[0].sum()


def test_scaled_integers(tmp_path):
    counts = np.arange(5 * 6 * 6, dtype=np.uint16).reshape(5, 6, 6)
    fits.PrimaryHDU(counts).writeto(tmp_path / "counts.fits")
    with open_stamps(tmp_path / "counts.fits") as stamps:
        np.testing.assert_array_equal(stamps[:][:, 0], counts)


def test_slow_chunks(parts, tmp_path):
    image = parts["image"]
    array = zarr.create_array(
        tmp_path / "slow.zarr", shape=image.shape, chunks=(1, *SHAPE), dtype="f4"
    )
    array[:] = image
    with pytest.warns(UserWarning, match="1 stamps in each chunk, which is slow"):
        stamps = open_stamps(tmp_path / "slow.zarr")
    np.testing.assert_array_equal(stamps[:][:, 0], image)


def test_wrong_stamps_have_their_rows(parts, tmp_path):
    psf = parts["psf"].copy()
    psf[17] = 0
    path = write_hdf5({**parts, "psf": psf}, tmp_path)
    with open_stamps(path) as stamps:
        with pytest.raises(ValueError, match="first in row 7") as error:
            stamps[10:20]
        assert error.value.__notes__[0].startswith("Rows are counted from row 10 of")


def test_wrong_files(parts, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path must be a file.*nothing.npy"):
        open_stamps(tmp_path / "nothing.npy")
    (tmp_path / "stamps.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match=r"ends in one of .npy, .fits"):
        open_stamps(tmp_path / "stamps.txt")
    for end in ("npy", "fits", "h5"):
        (tmp_path / f"broken.{end}").write_bytes(b"nothing of use")
        with pytest.raises(ValueError, match=rf"broken.{end}', which cannot be read"):
            open_stamps(tmp_path / f"broken.{end}")
    path = write_hdf5(parts, tmp_path)
    with pytest.raises(ValueError, match=r"psf must be the name .* \['image', 'obj"):
        open_stamps(path, psf="seeing")
    with pytest.raises(ValueError, match=r"id must have the shape .* for 'image'"):
        open_stamps(path, id="image")
    with pytest.raises(ValueError, match=r"image must have the shape .*Got \(30,\)"):
        open_stamps(path, image="object_id")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"], file["b"] = parts["image"], parts["image"]
        file["image_psf_fwhm"] = np.ones(N)
    with pytest.raises(ValueError, match=r"image must be the name .*'a': \(30, 21"):
        open_stamps(tmp_path / "other.h5")
    with pytest.raises(ValueError, match="pixel_scale must be a number"):
        open_stamps(tmp_path / "other.h5", image="a")
    hdus = [fits.PrimaryHDU()]
    hdus += [fits.ImageHDU(np.zeros((4, k)), name="SCI") for k in (4, 5)]
    fits.HDUList(hdus).writeto(tmp_path / "mixed.fits")
    with pytest.raises(ValueError, match=r"'SCI' have different shapes"):
        open_stamps(tmp_path / "mixed.fits")


def test_a_missing_library_names_the_extra(parts, tmp_path, monkeypatch):
    path = write_hdf5(parts, tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"open_stamps needs h5py.*sklcae\[survey\]"):
        open_stamps(path)
