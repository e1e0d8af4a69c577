"""The file format: what goes in comes out, and whatever is wrong is refused."""

import os
import resource
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from sklcae._storage import archive as _archive
from sklcae._storage.archive import read_archive, write_archive
from sklcae.exceptions import ModelFileError
from tests.effort import repeats
from tests.forging import (
    assemble,
    forge,
    layout,
    memory_below,
    read,
    same_array,
    same_content,
    signed,
    take_apart,
    to_json,
)
from tests.fuzzing import damaged

MANIFEST = {"kind": "test", "values": [1, 2.5, None, True, "é", {"a": {}}], "e": []}
TENSORS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
    "double": np.array([1e-300, -0.0, 1e300]),
    "number": np.array(-5),
    "bytes": np.array([0, 255, 7], np.uint8),
    "mask": np.array([[True], [False]]),
    "none": np.zeros((0, 4), np.float32),
    "ß/名": np.ones(1),
}
OTHER = {"x": np.full((5, 5), 3.0, np.float32), "mask": np.array([True])}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "file.sklcae"


@pytest.fixture(scope="module")
def shared_path(tmp_path_factory):
    return tmp_path_factory.mktemp("archive") / "file.sklcae"


def leftovers(path):
    return [p for p in path.parent.iterdir() if p.suffix == ".tmp"]


# Round trips --------------------------------------------------------------------


def test_content_comes_back_to_the_last_bit(path):
    write_archive(path, MANIFEST, TENSORS)
    assert same_content(read(path), (MANIFEST, TENSORS))
    assert leftovers(path) == []


def test_a_file_made_by_hand_from_the_description_is_read(path):
    path.write_bytes(forge(MANIFEST, TENSORS))
    assert same_content(read(path), (MANIFEST, TENSORS))


def test_the_file_is_a_plain_safetensors_file(path):
    write_archive(path, MANIFEST, TENSORS)
    with safe_open(path, framework="np") as file:
        assert list(file.metadata()) == ["manifest"]
        for name, array in TENSORS.items():
            assert same_array(file.get_tensor(name), array)


def test_without_arrays(path):
    write_archive(path, {}, {})
    assert read(path) == ({}, {})


def test_the_same_content_makes_the_same_file(path):
    write_archive(path, MANIFEST, TENSORS)
    first = path.read_bytes()
    write_archive(path, MANIFEST, dict(reversed(TENSORS.items())))
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::-2],
        np.arange(3, dtype=">f4"),
        np.broadcast_to(np.float64(2), (2, 3)),
    ],
    ids=["transposed", "reversed", "big-endian", "broadcast"],
)
def test_any_memory_layout(path, array):
    write_archive(path, {}, {"a": array})
    _, tensors = read(path)
    np.testing.assert_array_equal(tensors["a"], array)
    assert tensors["a"].dtype == array.dtype.newbyteorder("=")


def test_arrays_can_be_written_to(path):
    write_archive(path, {}, TENSORS)
    assert all(array.flags.writeable for array in read(path)[1].values())


@pytest.mark.parametrize("make", [str, os.fspath, lambda path: path])
def test_any_kind_of_path(path, make):
    write_archive(make(path), MANIFEST, {})
    assert read(make(path)) == (MANIFEST, {})


# What is not written ------------------------------------------------------------


@pytest.mark.parametrize(
    ("manifest", "tensors", "error", "message"),
    [
        ({"format": 1}, {}, ValueError, "must not have the keys"),
        ({"sha256": 1}, {}, ValueError, "must not have the keys"),
        ({"a": float("nan")}, {}, ValueError, "not JSON compliant"),
        ({"a": {1, 2}}, {}, TypeError, "not JSON serializable"),
        ({}, {"a": np.array([np.nan])}, ValueError, "'a' must have finite values"),
        ({}, {"a": np.zeros(2, np.float16)}, ValueError, "'a' must be of one of.*16"),
        ({}, {"a": np.array([None])}, ValueError, "'a' must be of one of"),
        ({}, {"a": np.zeros((1,) * 17)}, ValueError, "could not be read again"),
        ({"a": "x" * 2**24}, {}, ValueError, "could not be read again.*header"),
        ({"a": [[]] * 2**17}, {}, ValueError, "could not be read again.*brackets"),
    ],
)
def test_what_could_not_be_read_is_not_written(path, manifest, tensors, error, message):
    path.write_bytes(b"old")
    with pytest.raises(error, match=message):
        write_archive(path, manifest, tensors)
    assert path.read_bytes() == b"old"
    assert leftovers(path) == []


# What is refused ----------------------------------------------------------------

ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
ONE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
GOOD = {"__metadata__": {"manifest": to_json(signed({}, ONE))}, "a": ENTRY}
DATA = ONE["a"].tobytes()
SIGNED = to_json(signed({}, {}))
TWO = {"a": np.zeros(2), "b": np.ones(2)}


def with_entry(**changes):
    return assemble({**GOOD, "a": {**ENTRY, **changes}}, DATA)


def with_manifest(text):
    return forge(text, {})


def with_tensors(**tensors):
    return forge({}, tensors)


def two_with(a, b, size=32):
    entries, data = layout(TWO)
    for name, offsets in (("a", a), ("b", b)):
        entries[name]["data_offsets"] = offsets
    manifest = to_json(signed({}, TWO))
    header = {"__metadata__": {"manifest": manifest}, **entries}
    return assemble(header, (data + bytes(64))[:size])


def deep(n):
    return "[" * n + "]" * n


REFUSED = {
    "empty": (b"", "too short"),
    "too short": (b"\1\0\0\0\0\0\0", "too short"),
    "no header": (bytes(8), "header is not valid JSON"),
    "header beyond the file": (assemble(GOOD, b"", 2000), "more than the file"),
    "header far too large": (assemble(GOOD, DATA, 2**63), "more than 16777216"),
    "header above the cap": (assemble(b" " * (2**24 + 1), b""), "more than 16777216"),
    "not UTF-8": (assemble(b'{"\xff":1}', b""), "not UTF-8"),
    "UTF-16": (assemble("{}".encode("utf-16"), b""), "not UTF-8"),
    "UTF-16 without mark": (assemble("{}".encode("utf-16-le"), b""), "not valid JSON"),
    "byte order mark": (assemble(b"\xef\xbb\xbf{}", b""), "not valid JSON"),
    "no JSON": (assemble("{", b""), "header is not valid JSON"),
    "text behind the JSON": (assemble(to_json(GOOD) + "{}", DATA), "not valid JSON"),
    "no object": (assemble("[]", b""), "header is not a JSON object"),
    "surrogate": (
        assemble(
            {**GOOD, "\ud800": {**ENTRY, "shape": [0], "data_offsets": [24, 24]}}, DATA
        ),
        "does not match its hash",
    ),
    "pickle": (b"\x80\x04\x95" + bytes(100), "header would have"),
    "zip": (b"PK\3\4" + bytes(100), "header would have"),
    "duplicate in the header": (
        assemble(to_json(GOOD)[:-1] + ',"a":1}', DATA),
        "header is not valid JSON: the key 'a' is there twice",
    ),
    "duplicate deep in the header": (
        assemble(to_json(GOOD).replace("[0,24]", '[0,24],"dtype":"F32"'), DATA),
        "the key 'dtype' is there twice",
    ),
    "duplicate, written otherwise": (
        assemble(to_json(GOOD)[:-1] + ',"\\u0061":1}', DATA),
        "the key 'a' is there twice",
    ),
    "duplicate metadata": (
        assemble(to_json(GOOD)[:-1] + ',"__metadata__":{}}', DATA),
        "the key '__metadata__' is there twice",
    ),
    "duplicate in the manifest": (
        with_manifest(SIGNED[:-1] + ',"format":"sklcae"}'),
        "manifest is not valid JSON: the key 'format' is there twice",
    ),
    "duplicate deep in the manifest": (
        with_manifest(SIGNED[:-1] + ',"x":[{"y":{"z":1,"z":1}}]}'),
        "the key 'z' is there twice",
    ),
    "NaN in the header": (
        assemble(to_json(GOOD)[:-1] + ',"b":NaN}', DATA),
        "header.*NaN is not a number of JSON",
    ),
    "NaN in the manifest": (
        with_manifest(SIGNED[:-1] + ',"x":NaN}'),
        "manifest.*NaN is not a number of JSON",
    ),
    "infinity": (with_manifest(SIGNED[:-1] + ',"x":-Infinity}'), "Infinity is not a"),
    "overflow": (with_manifest(SIGNED[:-1] + ',"x":1e999}'), "1e999.* is too large"),
    "long integer": (with_manifest(SIGNED[:-1] + f',"x":{"9" * 5000}}}'), "not valid"),
    "deep header": (assemble('{"a":' + deep(60000) + "}", b""), "nested too deep"),
    "deep manifest": (
        with_manifest(SIGNED[:-1] + f',"x":{deep(60000)}}}'),
        "nested too deep",
    ),
    "brackets": (assemble("{" + "[" * 2**17, b""), "header has more than 131072"),
    "hidden brackets": (
        assemble(
            to_json({"__metadata__": {"manifest": "#"}}).replace(
                "#", "\\u005b" * (2**17 + 1)
            ),
            b"",
        ),
        "manifest has more than 131072 brackets",
    ),
    "no metadata": (assemble({"a": ENTRY}, DATA), "must have metadata"),
    "more metadata": (
        assemble({**GOOD, "__metadata__": {**GOOD["__metadata__"], "x": "y"}}, DATA),
        "metadata with nothing but 'manifest'",
    ),
    "other metadata": (
        assemble({**GOOD, "__metadata__": {"format": "pt"}}, DATA),
        "metadata with nothing but 'manifest'",
    ),
    "metadata no object": (assemble({**GOOD, "__metadata__": []}, DATA), "metadata"),
    "manifest no text": (
        assemble({**GOOD, "__metadata__": {"manifest": {}}}, DATA),
        "manifest is not a text",
    ),
    "manifest no JSON": (with_manifest("pickle"), "manifest is not valid JSON"),
    "manifest no object": (with_manifest("[]"), "manifest is not a JSON object"),
    "no format": (with_manifest("{}"), "format must be 'sklcae'"),
    "other format": (with_manifest(to_json({"format": "pt"})), "must be 'sklcae'"),
    "no version": (with_manifest(to_json({"format": "sklcae"})), "version None"),
    "newer version": (
        with_manifest(SIGNED.replace('version":1', 'version":2')),
        "format version 2, and this version of sklcae reads version 1",
    ),
    "version of float": (
        with_manifest(SIGNED.replace('version":1', 'version":1.0')),
        "format version 1.0",
    ),
    "version of bool": (
        with_manifest(SIGNED.replace('version":1', 'version":true')),
        "format version True",
    ),
    "no hash": (
        with_manifest(to_json({"format": "sklcae", "format_version": 1})),
        "does not match its hash",
    ),
    "wrong hash": (
        with_manifest(to_json({**signed({}, {}), "sha256": "0" * 64})),
        "does not match its hash",
    ),
    "hash of bytes changed": (assemble(GOOD, b"\1" + DATA[1:]), "does not match"),
    "hash of manifest changed": (
        with_manifest(to_json({**signed({"a": 1}, {}), "a": 2})),
        "does not match its hash",
    ),
    "hash of order changed": (
        with_manifest(to_json(dict(reversed(signed({"a": 1}, {}).items())))),
        "does not match its hash",
    ),
    "hash of names changed": (
        assemble({"__metadata__": GOOD["__metadata__"], "b": ENTRY}, DATA),
        "does not match its hash",
    ),
    "hash of shapes changed": (with_entry(shape=[3, 2]), "does not match its hash"),
    "hash of types changed": (
        with_entry(dtype="I64", shape=[3]),
        "does not match its hash",
    ),
    "array no object": (assemble({**GOOD, "a": []}, DATA), "not described properly"),
    "array with more": (with_entry(link="/etc"), "not described properly"),
    "array with less": (
        assemble({**GOOD, "a": {"dtype": "F32", "shape": []}}, DATA),
        "not described properly",
    ),
    "unknown type": (with_entry(dtype="F33"), "'F33', which is none of"),
    "type of safetensors, not ours": (
        with_tensors(a=np.zeros(2, np.float16)),
        "'F16', which is none of",
    ),
    "type no text": (with_entry(dtype=["F32"]), "which is none of"),
    "shape no list": (with_entry(shape=6), "no valid shape"),
    "shape negative": (with_entry(shape=[-2, -3]), "no valid shape"),
    "shape of float": (with_entry(shape=[2.0, 3]), "no valid shape"),
    "shape of bool": (with_entry(shape=[True, 6]), "no valid shape"),
    "shape of text": (with_entry(shape=["2", 3]), "no valid shape"),
    "shape too large": (with_entry(shape=[2**62, 2**62]), "no valid shape"),
    "shape empty and too large": (
        with_entry(shape=[0, 2**62], data_offsets=[0, 0]),
        "no valid shape",
    ),
    "shape too long": (with_entry(shape=[2, 3] + [1] * 15), "no valid shape"),
    "shape overflowing": (with_entry(shape=[2**32, 2**32, 6]), "no valid shape"),
    "size and shape": (with_entry(shape=[2, 4]), r"the offsets \[0, 32\] for"),
    "offsets no list": (with_entry(data_offsets="0,24"), "must have the offsets"),
    "offsets of none": (with_entry(data_offsets=[]), "must have the offsets"),
    "offsets of one": (with_entry(data_offsets=[24]), "must have the offsets"),
    "offsets of three": (with_entry(data_offsets=[0, 24, 24]), "must have the offsets"),
    "offsets negative": (with_entry(data_offsets=[-24, 0]), "must have the offsets"),
    "offsets of float": (with_entry(data_offsets=[0, 24.5]), "must have the offsets"),
    "offsets reversed": (with_entry(data_offsets=[24, 0]), "must have the offsets"),
    "bytes cut off": (assemble(GOOD, DATA[:-1]), "have 24 bytes.*has 23"),
    "bytes added": (assemble(GOOD, DATA + b"\0"), "have 24 bytes.*has 25"),
    "arrays overlap": (two_with([0, 16], [8, 24], 24), r"'b' .*offsets \[16, 32\]"),
    "arrays twice": (two_with([0, 16], [0, 16], 16), r"'b' .*offsets \[16, 32\]"),
    "hole between": (two_with([0, 16], [24, 40], 40), r"'b' .*offsets \[16, 32\]"),
    "hole before": (two_with([8, 24], [24, 40], 40), r"'a' .*offsets \[0, 16\]"),
    "other order": (two_with([16, 32], [0, 16]), r"'a' .*offsets \[0, 16\]"),
    "array beyond the file": (two_with([0, 16], [16, 32], 24), "32 bytes.*has 24"),
    "bytes without arrays": (forge({}, {}) + b"\0", "have 0 bytes.*has 1"),
    "NaN": (with_tensors(a=np.array([1, np.nan])), "'a' has values.*not finite"),
    "infinite": (with_tensors(a=np.array(-np.inf, np.float32)), "not finite"),
    "bool of 2": (
        with_tensors(a=np.array([1, 2], np.uint8).view(bool)),
        "'a' is not of bool values",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(path, name):
    data, message = REFUSED[name]
    path.write_bytes(data)
    with (
        memory_below(400_000 + 20 * len(data)),
        pytest.raises(ModelFileError, match=message) as caught,
    ):
        read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500 + len(str(path))


def test_what_the_refused_files_are_made_from_is_read(path):
    for data in (
        assemble(GOOD, DATA),
        with_manifest(SIGNED),
        two_with([0, 16], [16, 32]),
    ):
        path.write_bytes(data)
        read(path)


@pytest.mark.parametrize("length", [0, 1, 2**15, 2**24, 2**31, 2**40, 2**64 - 1])
def test_no_length_of_the_header_takes_memory(path, length):
    path.write_bytes(assemble(GOOD, DATA, length))
    with memory_below(200_000), pytest.raises(ModelFileError):
        read(path)


@pytest.mark.parametrize(
    "filling",
    ["0,", "1.5,", "999,", '"aa",', "null,", '"\U0001f52d",'],
    ids=["digit", "float", "integer", "text", "null", "wide"],
)
def test_memory_is_bounded_by_the_size_of_a_crafted_header(path, filling):
    text = f'{{"a":[{filling * (2**20 // len(filling))}0]}}'
    data = assemble(text, b"")
    path.write_bytes(data)
    with memory_below(20 * len(data)), pytest.raises(ModelFileError, match="metadata"):
        read(path)


def test_memory_for_large_arrays_is_little_more_than_the_file(path):
    tensors = {"a": np.ones((1000, 1000)), "b": np.ones((1000, 500))}
    write_archive(path, {}, tensors)
    with memory_below(1.3 * path.stat().st_size):
        read(path)


def test_content_is_checked_before_the_arrays_are_read(path):
    """A sparse file takes no room on the disk, whatever its length."""
    shape = 2**12, 2**22
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 2**36]}
    path.write_bytes(assemble({**GOOD, "a": entry}, b""))
    os.truncate(path, path.stat().st_size + 2**36)
    seen = []

    def check(manifest, arrays):
        seen.append((manifest, arrays["a"].shape, arrays["a"].dtype))
        raise ModelFileError("it is not wanted")

    with memory_below(100_000), pytest.raises(ModelFileError, match="not wanted"):
        read_archive(path, check)
    assert seen == [({}, shape, np.float32)]


def test_arrays_of_ones_stand_for_those_that_are_not_read(path):
    write_archive(path, MANIFEST, TENSORS)
    ones = {name: np.ones_like(array) for name, array in TENSORS.items()}

    def check(manifest, arrays):
        assert same_content((manifest, arrays), (MANIFEST, ones))

    assert same_content(read_archive(path, check), (MANIFEST, TENSORS))


# Files that are none ------------------------------------------------------------


def test_missing_file(path):
    with pytest.raises(FileNotFoundError):
        read(path)


def test_forbidden_file(path, monkeypatch):
    write_archive(path, {}, {})

    def forbid(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", forbid)
    with pytest.raises(PermissionError):
        read(path)


def test_folder(tmp_path):
    with pytest.raises(ModelFileError, match="not a regular file"):
        read(tmp_path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_device(device):
    with pytest.raises(ModelFileError, match="not a regular file"):
        read(device)


def test_pipe_does_not_block(path):
    os.mkfifo(path)
    with pytest.raises(ModelFileError, match="not a regular file"):
        read(path)


def test_pipe_that_takes_the_place_of_the_file_does_not_block(path, monkeypatch):
    write_archive(path, {}, {})
    regular = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: regular)
    with pytest.raises(ModelFileError, match="not a regular file"):
        read(path)


@pytest.mark.parametrize("change", [lambda d: d + b"\0", lambda d: d[:-1]])
def test_file_that_changes_while_it_is_read(path, monkeypatch, change):
    write_archive(path, {}, {"a": np.zeros(100_000)})
    check_header = _archive._check_header

    def change_file_and_check(*args):
        path.write_bytes(change(path.read_bytes()))
        return check_header(*args)

    monkeypatch.setattr(_archive, "_check_header", change_file_and_check)
    with pytest.raises(ModelFileError, match="changed while it was read"):
        read(path)


def test_the_file_is_opened_once(path, monkeypatch):
    write_archive(path, MANIFEST, TENSORS)
    opened, open_file = [], os.open

    def count(*args, **kwargs):
        opened.append(args)
        return open_file(*args, **kwargs)

    monkeypatch.setattr(os, "open", count)
    read(path)
    assert len(opened) == 1


def test_a_link_is_followed(path):
    link = path.with_name("link")
    link.symlink_to(path)
    write_archive(link, {"n": 1}, {})
    assert link.is_symlink()
    assert read(path) == read(link) == ({"n": 1}, {})


# Writing ------------------------------------------------------------------------


def test_a_new_file_has_the_usual_permissions(path):
    old = os.umask(0o027)
    try:
        write_archive(path, {}, {})
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_replaced_file_keeps_its_permissions(path):
    path.touch()
    path.chmod(0o604)
    write_archive(path, {}, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_a_replaced_file_keeps_its_owner_where_the_system_lets(path, monkeypatch):
    calls = []

    def chown(*args):
        calls.append(args[1:])
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", chown)
    write_archive(path, {}, {})
    assert calls == []
    owner, group = path.stat().st_uid, path.stat().st_gid
    write_archive(path, {"n": 1}, {})
    assert calls == [(-1, group), (owner, -1)]
    assert read(path) == ({"n": 1}, {})


needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs another user"
)


@needs_root
def test_a_file_of_another_user_stays_one(path):
    path.touch(0o600)
    os.chown(path, 1234, 5678)
    write_archive(path, {}, {})
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (1234, 5678)
    assert stat.S_IMODE(status.st_mode) == 0o600


@contextmanager
def no_rights():
    """Be a user without rights, who may yet write in a folder that is given."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        try:
            if is_root:
                os.seteuid(65534)
            yield Path(folder)
        finally:
            if is_root:
                os.seteuid(0)


def test_a_file_that_may_not_be_written_to_is_refused_as_open_does():
    with no_rights() as folder:
        path = folder / "file"
        write_archive(path, {"n": 1}, {})
        path.chmod(0o444)
        with pytest.raises(PermissionError) as expected:
            path.open("wb")
        with pytest.raises(PermissionError) as caught:
            write_archive(path, {"n": 2}, {})
        assert caught.value.errno == expected.value.errno
        assert str(caught.value) == str(expected.value)
        assert read(path) == ({"n": 1}, {})
        assert leftovers(path) == []


@needs_root
def test_a_file_of_another_user_is_refused_as_open_does():
    with no_rights() as folder:
        path = folder / "file"
        os.seteuid(0)
        write_archive(path, {"n": 1}, {})
        os.seteuid(65534)
        with pytest.raises(PermissionError):
            write_archive(path, {"n": 2}, {})
        assert read(path) == ({"n": 1}, {})


def test_a_hard_link_keeps_the_old_content(path):
    write_archive(path, {"n": 1}, {})
    link = path.with_name("link")
    os.link(path, link)
    write_archive(path, {"n": 2}, {})
    assert read(link) == ({"n": 1}, {})
    assert read(path) == ({"n": 2}, {})


def test_no_folder_to_write_in(path):
    folder = path.parent / "nothere"
    with pytest.raises(FileNotFoundError, match=f"{folder}'$"):
        write_archive(folder / "file", {}, {})


def test_a_folder_is_not_replaced(tmp_path):
    with pytest.raises(IsADirectoryError):
        write_archive(tmp_path, {}, {})


def test_a_pipe_is_not_replaced(path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        write_archive(path, {}, {})
    assert stat.S_ISFIFO(path.stat().st_mode)


def fail(error):
    def function(*args, **kwargs):
        raise error

    return function


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()]
)
def test_failed_writing_leaves_the_old_file(path, monkeypatch, step, error):
    write_archive(path, MANIFEST, TENSORS)
    before = path.read_bytes()
    monkeypatch.setattr(os, step, fail(error))
    with pytest.raises(type(error)):
        write_archive(path, {}, OTHER)
    assert path.read_bytes() == before
    assert leftovers(path) == []


def test_failed_writing_makes_no_file(path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fail(OSError(5, "Input/output error")))
    with pytest.raises(OSError, match="Input/output"):
        write_archive(path, {}, OTHER)
    assert list(path.parent.iterdir()) == []


def test_the_folder_is_synchronised_after_the_renaming(path, monkeypatch):
    steps, fsync, replace = [], os.fsync, os.replace

    def note_fsync(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        steps.append(kind)
        fsync(descriptor)

    def note_replace(*args):
        steps.append("replace")
        replace(*args)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", note_replace)
    write_archive(path, {}, {})
    assert steps == ["file", "replace", "folder"]


@contextmanager
def file_size_limited(size):
    """Make writing fail as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 100, 4096, 50_000])
def test_full_disk_leaves_the_old_file(path, size):
    write_archive(path, MANIFEST, TENSORS)
    before = path.read_bytes()
    large = {"a": np.zeros(10_000)}
    with file_size_limited(size), pytest.raises(OSError, match="File too large"):
        write_archive(path, {}, large)
    assert path.read_bytes() == before
    assert leftovers(path) == []


# Damage -------------------------------------------------------------------------


def check_damage_is_found(data, path, whole):
    path.write_bytes(data)
    with memory_below(400_000 + 20 * len(data)):
        try:
            content = read(path)
        except ModelFileError:
            return
    assert same_content(content, whole)


FILES = {name: forge(MANIFEST, tensors) for name, tensors in
         (("whole", TENSORS), ("other", OTHER))}  # fmt: skip


@settings(max_examples=200)
@given(data=damaged(FILES["whole"], FILES["other"]))
def test_damage_is_found(shared_path, data):
    check_damage_is_found(data, shared_path, (MANIFEST, TENSORS))


@pytest.mark.slow
@settings(max_examples=repeats(3000))
@given(data=damaged(FILES["whole"], FILES["other"]))
def test_damage_is_found_in_many_files(shared_path, data):
    check_damage_is_found(data, shared_path, (MANIFEST, TENSORS))


def test_every_byte_counts(path):
    whole = forge({}, ONE)
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(ModelFileError):
            read(path)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 40),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "F32", "F64", "BOOL", "F16", "a", "__metadata__"]),
    st.lists(st.integers(0, 30), max_size=3),
    st.just({}),
)


@st.composite
def changed_headers(draw):
    """Draw a file with a header that is JSON, but not the right one."""
    header, _, data = take_apart(FILES["whole"])
    names = [name for name in header if name != "__metadata__"]
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names))
        key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "new", None]))
        if key is None:
            header[name] = draw(JUNK)
        elif isinstance(header[name], dict):
            header[name] = {**header[name], key: draw(JUNK)}
    return assemble(header, data)


@settings(max_examples=200)
@given(data=changed_headers())
def test_wrong_headers_are_refused(shared_path, data):
    check_damage_is_found(data, shared_path, (MANIFEST, TENSORS))


@pytest.mark.slow
@settings(max_examples=repeats(2000))
@given(data=changed_headers())
def test_many_wrong_headers_are_refused(shared_path, data):
    check_damage_is_found(data, shared_path, (MANIFEST, TENSORS))
