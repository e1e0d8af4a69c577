"""The callbacks of scikit-learn itself, ``sklearn.callback``."""

import pytest
from sklearn.model_selection import GridSearchCV

from tests.blobs import assert_same_model, make_blobs_of_light, quick

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn before 1.9")


@pytest.fixture(scope="module")
def blobs():
    return make_blobs_of_light(96)


class Recorder:
    """Record what it is called with, and stop after an epoch."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls = []
        self.scores = []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context, *, X, y):
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.calls.append(f"end {context.task_name}")
        self.scores.append(fitted_estimator.score(X, y))
        self.metadata = metadata
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


def test_fit_and_its_epochs_are_reported(blobs):
    recorder = Recorder()
    model = quick(max_epochs=2).set_callbacks(recorder).fit(*blobs)
    epoch = ["begin epoch", "end epoch"]
    expected = ["setup", "begin fit", *epoch, *epoch, "end fit", "teardown"]
    assert recorder.calls == expected
    assert recorder.scores[1] == recorder.scores[2] == model.score(*blobs)
    assert recorder.scores[0] == quick(max_epochs=1).fit(*blobs).score(*blobs)
    assert recorder.metadata == {}


def test_callbacks_have_no_part_in_the_result(blobs):
    model = quick().set_callbacks(Recorder()).fit(*blobs)
    assert_same_model(model, quick().fit(*blobs))


def test_callback_stops_the_fit(blobs):
    model = quick(max_epochs=9).set_callbacks(Recorder(stop_after=2)).fit(*blobs)
    assert_same_model(model, quick(max_epochs=2).fit(*blobs))


def test_sample_weight_is_reported(blobs):
    recorder, weights = Recorder(), [1.0] * 95 + [2.0]
    quick().set_callbacks(recorder).fit(*blobs, sample_weight=weights)
    assert recorder.metadata == {"sample_weight": weights}


def test_groups_are_reported(blobs):
    recorder, groups = Recorder(), [0, 1] * 48
    quick(gamma=1.0).set_callbacks(recorder).fit(*blobs, groups=groups)
    assert recorder.metadata == {"groups": groups}


class UsedEpochs(Recorder):
    """Use the model of each epoch for all that a model is for."""

    def on_fit_task_end(self, estimator, context, *, X, y, metadata, fitted_estimator):
        self.scores.append(fitted_estimator.score_samples(X))
        assert len(fitted_estimator.generate(y, random_state=0)) == len(y)


def test_the_model_of_an_epoch_is_whole(blobs):
    recorder = UsedEpochs()
    model = quick(max_epochs=2).set_callbacks(recorder).fit(*blobs)
    assert_same_model(model, quick(max_epochs=2).fit(*blobs))
    first = quick(max_epochs=1).fit(*blobs)
    for scores, expected in zip(recorder.scores, (first, model, model), strict=True):
        assert (scores == expected.score_samples(blobs[0])).all()


def test_callbacks_are_torn_down_after_an_error(blobs):
    recorder = Recorder()
    with pytest.raises(ValueError, match="diverged"):
        quick(lr=1e30).set_callbacks(recorder).fit(*blobs)
    assert recorder.calls[-1] == "teardown"


def test_scoring_monitor_in_a_grid_search(blobs):
    monitor = callback.ScoringMonitor(scoring="r2")
    model = quick().set_callbacks(monitor)
    GridSearchCV(model, {"alpha": [0.5, 1.0]}, cv=2, refit=False).fit(*blobs)
    logs = monitor.get_logs(select="all")
    scores = [row for log in logs for row in log.data if row["task_name"] == "epoch"]
    assert len(scores) == 2 * 2 * 3
    assert all("r2" in row for row in scores)


@pytest.mark.parametrize("searched", [False, True])
def test_progress_bar_counts_the_epochs(blobs, searched, capsys):
    pytest.importorskip("rich")
    model = quick(max_epochs=2)
    if searched:
        model = GridSearchCV(model, {"alpha": [1.0]}, cv=2)
    model.set_callbacks(callback.ProgressBar()).fit(*blobs)
    assert "ConditionalAutoencoderRegressor" in capsys.readouterr().out
