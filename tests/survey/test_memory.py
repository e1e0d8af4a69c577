"""Workers of Dask keep freed memory."""

import ctypes

from sklcae.survey._memory import KEPT, keep_memory


class Library:
    def __init__(self):
        self.calls = []

    def mallopt(self, option, value):
        self.calls.append((option, value))


def test_workers_keep_memory_and_other_processes_are_left_alone(monkeypatch):
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    keep_memory()
    assert library.calls == []
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    keep_memory()
    assert library.calls[0] == (-1, KEPT)
    assert len(library.calls) == 2


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    keep_memory()
