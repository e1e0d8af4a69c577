"""scikit-learn's own checks, none of them expected to fail."""

from sklearn.utils.estimator_checks import parametrize_with_checks

from sklcae import ConditionalAutoencoderRegressor


@parametrize_with_checks([ConditionalAutoencoderRegressor()])
def test_scikit_learn_checks(estimator, check):
    check(estimator)
