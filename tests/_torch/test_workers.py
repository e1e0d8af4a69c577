import gc
import multiprocessing
import random
import signal
import threading
import time

import numpy as np
import pytest
import torch

from sklcae._torch import Architecture, Batch, build_net, workers
from sklcae._torch.workers import on_one_thread, single_threads, usual_modes


def forking(test):
    """Mark a test that forks this process, which has threads."""
    methods = multiprocessing.get_all_start_methods()
    skip = pytest.mark.skipif("fork" not in methods, reason="needs os.fork")
    ignore = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    return skip(ignore(test))


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert number_in_new_thread() == torch.get_num_threads() == 3
    torch.set_num_threads(before)


def number_in_new_thread():
    numbers = []
    thread = threading.Thread(target=lambda: numbers.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return numbers[0]


def run_in_fork(function):
    """Run a function in a forked process, and fail if it raises or hangs."""
    process = multiprocessing.get_context("fork").Process(target=function)
    process.start()
    process.join(60)
    hangs = process.is_alive()
    process.kill()
    assert not hangs
    assert process.exitcode == 0


def workers_alive():
    """Other tests may have left threads of joblib and tqdm."""
    return [one for one in threading.enumerate() if one.name == "sklcae"]


def test_parts_are_done_by_threads_of_one_thread_each():
    meeting = threading.Barrier(3, timeout=10)

    def look(part):
        meeting.wait()
        return part, torch.get_num_threads(), threading.get_ident()

    with single_threads("cpu") as executor:
        parts, numbers, threads = zip(*executor(look, [0, 1, 2]), strict=True)
    assert parts == (0, 1, 2)
    assert numbers == (1, 1, 1)
    assert len({*threads, threading.get_ident()}) == 4
    assert not workers_alive()


def test_without_threads_parts_are_done_by_the_caller():
    torch.set_num_threads(1)
    with single_threads("cpu") as executor:
        (thread,) = executor(lambda part: threading.get_ident(), [0])
    assert thread == threading.get_ident()
    torch.set_num_threads(3)


def test_first_failing_part_decides_the_error_and_ends_the_work():
    done = []

    def fail(part):
        if part in (2, 3):
            # The later one fails first.
            time.sleep(0.2 if part == 2 else 0.05)
            raise ValueError(f"part {part}")
        time.sleep(0.01)
        done.append(part)

    with single_threads("cpu") as executor:
        with pytest.raises(ValueError, match="part 2"):
            executor(fail, range(1000))
        assert executor(str, [0, 1]) == ["0", "1"]
    assert len(done) < 100


@pytest.mark.parametrize("n_started", [0, 1, 2])
def test_too_few_threads_are_an_error(monkeypatch, n_started):
    start, count = workers.threading.Thread.start, iter(range(100))

    def start_some(thread):
        if next(count) >= n_started:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(workers.threading.Thread, "start", start_some)
    with pytest.raises(RuntimeError, match="can't start"), single_threads("cpu"):
        pass
    monkeypatch.undo()
    assert not workers_alive()


def test_no_first_thread_is_an_error(monkeypatch):
    def fail(*args):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(workers._thread, "start_new_thread", fail)
    with pytest.raises(RuntimeError, match="can't start"), single_threads("cpu"):
        pass


def modes():
    return (
        torch.is_inference_mode_enabled(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.zeros(()).device.type,
    )


def test_usual_modes_are_entered_and_left():
    with torch.device("meta"), torch.no_grad(), torch.autocast("cpu"):
        with torch.inference_mode():
            with usual_modes("cpu"):
                assert modes() == (False, True, False, "cpu")
            assert modes() == (True, False, True, "meta")
        with usual_modes("cpu"):
            assert modes() == (False, True, False, "cpu")
        assert modes() == (False, False, True, "meta")


def test_function_on_one_thread_returns_raises_and_has_no_modes():
    @on_one_thread
    def run(value):
        if value is None:
            raise KeyError("no value")
        return value, torch.get_num_threads(), modes()

    with torch.device("meta"), torch.inference_mode(), torch.autocast("cpu"):
        assert run(value=5) == (5, 1, (False, True, False, "cpu"))
    with pytest.raises(KeyError, match="no value"):
        run(None)


@forking
def test_interrupts_leave_no_thread_and_the_number_of_threads():
    def interrupt(*args):
        raise KeyboardInterrupt

    def work(seconds):
        signal.setitimer(signal.ITIMER_REAL, seconds)
        while True:
            with single_threads("cpu") as executor:
                executor(str, [0, 1, 2])

    def interrupt_often():
        # An interrupt within a callback of the garbage collector would be lost.
        gc.disable()
        signal.signal(signal.SIGALRM, interrupt)
        times = random.Random(0)
        for _ in range(100):
            with pytest.raises(KeyboardInterrupt):
                work(times.uniform(1e-4, 5e-3))
            assert number_in_new_thread() == torch.get_num_threads() == 3
        time.sleep(0.1)
        assert threading.active_count() == 1

    run_in_fork(interrupt_often)


def large_net(**kwargs):
    """Return a net with weights that several threads would copy together."""
    architecture = Architecture((1, 64, 64), 2, 16)
    return build_net("paper", architecture, batch_size=2, verbose=0, **kwargs)


@forking
def test_forked_process_takes_weights_encodes_and_trains():
    """In the parent process, and nowhere else, threads of PyTorch wait for work."""
    torch.ones(10**6).add_(1)
    images = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    batch = Batch(images, np.zeros((2, 2), np.float32))
    net = large_net(seed=0).fit_batches(batch, n_epochs=1)
    expected = net.encode(images)

    def work():
        unpickled = large_net(seed=1).set_weights(net.get_weights())
        np.testing.assert_array_equal(unpickled.encode(images), expected)
        trained = large_net(seed=0).fit_batches(batch, n_epochs=1)
        np.testing.assert_array_equal(trained.encode(images), expected)
        state = trained.get_training_state()
        more = large_net(seed=0, module=net.module_)
        more.fit_batches(batch, n_epochs=2, state=state)
        assert torch.get_num_threads() == 3

    run_in_fork(work)
