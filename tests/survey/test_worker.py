"""Workers of Dask keep freed memory, and read Zarr with one thread."""

import ctypes

import pytest
import zarr

from sklcae.survey._worker import KEPT, ZARR_THREADS, settle_worker


class Library:
    def __init__(self):
        self.calls = []

    def mallopt(self, option, value):
        self.calls.append((option, value))


@pytest.fixture
def library(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    with zarr.config.set({ZARR_THREADS: None}):
        yield library


def test_workers_keep_memory_and_read_with_one_thread(library):
    settle_worker()
    assert library.calls[0] == (-1, KEPT)
    assert len(library.calls) == 2
    assert zarr.config.get(ZARR_THREADS) == 1


def test_other_processes_are_left_alone(library, monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_")
    settle_worker()
    assert library.calls == []
    assert zarr.config.get(ZARR_THREADS) is None


def test_a_number_of_threads_that_is_set_stays(library):
    with zarr.config.set({ZARR_THREADS: 3}):
        settle_worker()
        assert zarr.config.get(ZARR_THREADS) == 3


def test_other_c_libraries_are_left_alone(library, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    settle_worker()
