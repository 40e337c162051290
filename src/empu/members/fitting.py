"""Fit the members beside the language model, with scikit-learn. Only tuning needs this module."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from empu.errors import MissingDependencyError
from empu.members.embeddings import EmbeddingMember, TextEncoder
from empu.members.member import EMBEDDINGS, TFIDF, FloatArray, LinearLayer
from empu.members.tfidf import CHARACTER_NGRAMS, WORD_NGRAMS, TfidfFeatures, TfidfMember

IntArray = npt.NDArray[np.int64]

FOLDS = 5
SVM_C, SVM_SCALE = 1.0, 6.0
"""Regularisation of the linear SVM, and the factor that makes its scores log-probabilities of about the right scale."""
EMBEDDING_C = 0.01
"""Inverse regularisation of the logistic regression on standardised vectors."""
MAX_WEIGHTS = 20_000_000
"""Weights of the TF-IDF member. With more terms times labels, the rarest terms are left out."""
MAX_ROWS, MAX_ROWS_TIMES_LABELS = 30_000, 8_000_000
"""Size of a fit. With more rows, every n-th row is used."""
ABSENT_LOG_PROBABILITY = -14.0
"""Log-probability of a label without a row in the training part of a fold."""

RECIPE = {
    "version": 1,
    "tfidf": {"words": WORD_NGRAMS, "characters": CHARACTER_NGRAMS, "C": SVM_C, "scale": SVM_SCALE},
    "embeddings": {"C": EMBEDDING_C},
    "folds": FOLDS,
    "max_weights": MAX_WEIGHTS,
    "max_rows": MAX_ROWS,
    "max_rows_times_labels": MAX_ROWS_TIMES_LABELS,
}
"""What determines the members besides the rows and the encoder; a part of the identity of a run."""


def rows_to_fit(num_rows: int, num_labels: int) -> range:
    """Return the indices of the rows that members are fitted on: all, or every n-th of very many."""
    limit = max(1, min(MAX_ROWS, MAX_ROWS_TIMES_LABELS // num_labels))
    return range(0, num_rows, max(1, -(-num_rows // limit)))


def fit_tfidf(texts: Sequence[str], targets: IntArray, num_labels: int, *, seed: int = 0) -> TfidfMember:
    """Fit a one-against-rest linear SVM on TF-IDF features. ``targets``: (texts,) indices of labels.

    Raises :class:`MissingDependencyError` without scikit-learn.
    """
    require_sklearn()
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    max_features = max(1000, MAX_WEIGHTS // num_labels // 2)
    words = TfidfVectorizer(ngram_range=WORD_NGRAMS, sublinear_tf=True, max_features=max_features)
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=CHARACTER_NGRAMS, sublinear_tf=True, max_features=max_features
    )
    has_words = any(map(words.build_analyzer(), texts))  # words of two characters or more
    vectorizers = [words, characters] if has_words else [characters]
    matrix = hstack([vectorizer.fit_transform(texts) for vectorizer in vectorizers], format="csr")
    svm = LinearSVC(C=SVM_C, random_state=seed)
    svm.fit(matrix, targets)
    layer = _layer(SVM_SCALE * svm.coef_, SVM_SCALE * svm.intercept_, svm.classes_, num_labels)
    terms = [[str(term) for term in vectorizer.get_feature_names_out()] for vectorizer in vectorizers]
    idf = np.concatenate([vectorizer.idf_ for vectorizer in vectorizers]).astype(np.float32)
    return TfidfMember(TfidfFeatures(terms[0] if has_words else [], terms[-1], idf), layer)


def fit_embeddings(
    vectors: npt.NDArray[np.float32], targets: IntArray, num_labels: int, encoder: TextEncoder
) -> EmbeddingMember:
    """Fit multinomial logistic regression on standardised vectors (texts, width) of ``encoder``.

    The standardisation becomes a part of the weights. Raises :class:`MissingDependencyError` without scikit-learn.
    """
    require_sklearn()
    from sklearn.linear_model import LogisticRegression

    wide = vectors.astype(np.float64)
    mean, deviation = wide.mean(axis=0), np.maximum(wide.std(axis=0), 1e-9)
    regression = LogisticRegression(C=EMBEDDING_C, max_iter=1000)
    regression.fit((wide - mean) / deviation, targets)
    weight = regression.coef_ / deviation
    return EmbeddingMember(
        encoder, _layer(weight, regression.intercept_ - weight @ mean, regression.classes_, num_labels)
    )


def cross_validate(
    names: Sequence[str],
    texts: Sequence[str],
    vectors: npt.NDArray[np.float32] | None,
    targets: IntArray,
    num_labels: int,
    encoder: TextEncoder | None,
    *,
    seed: int = 0,
) -> tuple[dict[str, FloatArray], npt.NDArray[np.bool_]]:
    """Return member -> out-of-fold log-probabilities (texts, labels), and which texts can be judged by them.

    A text cannot if the training part of its fold has no row of its label.
    """
    fold_of_row = stratified_folds(targets, seed=seed)
    tables = {name: np.full((len(texts), num_labels), ABSENT_LOG_PROBABILITY) for name in names}
    usable = np.zeros(len(texts), dtype=np.bool_)
    for fold in range(FOLDS):
        fitted, held_out = np.flatnonzero(fold_of_row != fold), np.flatnonzero(fold_of_row == fold)
        if not len(held_out) or len(np.unique(targets[fitted])) < 2:
            continue
        usable[held_out] = np.isin(targets[held_out], targets[fitted])
        if TFIDF in names:
            member = fit_tfidf([texts[int(i)] for i in fitted], targets[fitted], num_labels, seed=seed)
            tables[TFIDF][held_out] = member.log_probabilities([texts[int(i)] for i in held_out])
        if EMBEDDINGS in names:
            assert vectors is not None
            assert encoder is not None
            embedding_member = fit_embeddings(vectors[fitted], targets[fitted], num_labels, encoder)
            tables[EMBEDDINGS][held_out] = embedding_member.of_vectors(vectors[held_out])
    return tables, usable


def stratified_folds(targets: IntArray, *, seed: int = 0) -> IntArray:
    """(rows,): the fold of each row. The rows of a label are spread evenly, in an order that the seed shuffles."""
    order = np.random.default_rng(seed).permutation(len(targets))
    by_label = order[np.argsort(targets[order], kind="stable")]
    folds = np.zeros(len(targets), dtype=np.int64)
    folds[by_label] = np.arange(len(targets)) % FOLDS
    return folds


def in_batches(
    encode: Callable[[Sequence[str]], npt.NDArray[np.float32]],
    texts: Sequence[str],
    on_rows: Callable[[int], None] = lambda count: None,
    size: int = 64,
) -> npt.NDArray[np.float32]:
    """Encode texts in parts, and call ``on_rows`` after each."""
    parts = []
    for start in range(0, len(texts), size):
        parts.append(encode(texts[start : start + size]))
        on_rows(len(parts[-1]))
    return np.concatenate(parts)


def require_sklearn() -> None:
    """Raise :class:`MissingDependencyError` if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Linear classifiers need scikit-learn, which is not installed; install it with: pip install 'empu[tune]'."
        ) from error


def _layer(
    coefficients: npt.NDArray[np.float64], intercepts: npt.NDArray[np.float64], classes: IntArray, num_labels: int
) -> LinearLayer:
    """Return the layer over all labels. Two classes have one row of coefficients in scikit-learn."""
    if len(classes) == 2 and len(coefficients) == 1:
        coefficients = np.stack([-coefficients[0], coefficients[0]]) / 2
        intercepts = np.array([-intercepts[0], intercepts[0]]) / 2
    weight = np.zeros((coefficients.shape[1], num_labels), dtype=np.float32)
    bias = np.full(num_labels, ABSENT_LOG_PROBABILITY, dtype=np.float32)
    weight[:, classes] = coefficients.T
    bias[classes] = intercepts
    return LinearLayer(weight, bias)
