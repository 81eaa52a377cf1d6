"""Fitting reviews.sentiment with scikit-learn: the lexicon, its weights, and scikit-learn's own answers to keep."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from mercato_reviews.analyzer import LONGEST, WORDS
from mercato_reviews.explanation import Array, strongest
from mercato_reviews.lexicon import MOST_TERMS, Lexicon
from mercato_reviews.sentiment import DIGITS
from mercato_training import TrainingError

ITERATIONS = 1000


@dataclass(frozen=True)
class Regression:
    """A fitted vectorizer and classifier."""

    vectorizer: TfidfVectorizer
    classifier: LogisticRegression

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the classifier's probabilities."""
        return tuple(map(str, self.classifier.classes_))

    def lexicon(self, languages: tuple[str, ...]) -> Lexicon:
        """What serving must know."""
        terms = tuple(map(str, self.vectorizer.get_feature_names_out()))
        return Lexicon(self.labels, str(self.vectorizer.analyzer), terms, languages)

    def tensors(self) -> dict[str, torch.Tensor]:
        """`idf`, `coefficients` of shape (terms, labels) and `intercepts`, float64."""
        rows, intercepts = self._weights()
        weights = {"idf": self.vectorizer.idf_, "coefficients": rows.T, "intercepts": intercepts}
        return {name: torch.tensor(np.ascontiguousarray(value, np.float64)) for name, value in weights.items()}

    def probabilities(self, texts: Sequence[str]) -> Array:
        """Of shape (texts, labels)."""
        found: Array = self.classifier.predict_proba(self.vectorizer.transform(texts))
        return found

    def predicted(self, texts: Sequence[str]) -> Array:
        """The most probable label of each text."""
        found: Array = self.classifier.predict(self.vectorizer.transform(texts))
        return found

    def answers(self, texts: Sequence[str]) -> dict[str, Any]:
        """The answer to the texts, in the form in which the model gives it, from scikit-learn's own numbers."""
        rows, intercepts = self._weights()
        probabilities = self.probabilities(texts)
        numbers = np.searchsorted(self.classifier.classes_, self.predicted(texts))
        terms = [self._known(text) for text in texts]
        lengths = np.array([len(known) for known in terms], np.int64)
        contributions = np.zeros((len(texts), max(1, int(lengths.max(initial=0)))))
        matrix = self.vectorizer.transform(texts)
        for row, known in enumerate(terms):
            own = matrix[[row]].toarray()[0] * rows[numbers[row]]
            contributions[row, : len(known)] = own[list(known.values())]
        found = strongest(contributions, lengths, DIGITS)
        words = [
            [[*known][c] if c >= 0 else "" for c in columns]
            for known, columns in zip(terms, found.columns, strict=True)
        ]
        return {
            "label": [self.labels[number] for number in numbers],
            "probability": probabilities.max(axis=1),
            "probabilities": probabilities,
            "words": words,
            "weights": found.weights,
            "rest": found.rest,
            "bias": intercepts[numbers],
            "logit": contributions.sum(axis=1) + intercepts[numbers],
        }

    def fits(self, text: str) -> bool:
        """Whether serving takes the text as a whole."""
        return len(self._known(text)) <= MOST_TERMS

    def _known(self, text: str) -> Mapping[str, int]:
        """The text's known terms and their columns, in the order of their first places."""
        columns = self.vectorizer.vocabulary_
        return {term: columns[term] for term in self.vectorizer.build_analyzer()(text) if term in columns}

    def _weights(self) -> tuple[Array, Array]:
        """One row of coefficients and one intercept per label; two labels have one logit, and its negative."""
        rows, intercepts = self.classifier.coef_, self.classifier.intercept_
        if len(self.labels) == 2:
            return np.concatenate([-rows, rows]), np.concatenate([-intercepts, intercepts])
        return rows, intercepts


def fitted(
    texts: Sequence[str], labels: Sequence[str], *, analyzer: str, max_features: int, min_df: int, c: float
) -> Regression:
    """TF-IDF over words or characters and a logistic regression. Raises TrainingError where there is nothing to fit."""
    vectorizer = TfidfVectorizer(
        analyzer=analyzer,
        ngram_range=(1, LONGEST[analyzer]),
        token_pattern=WORDS,
        max_features=max_features,
        min_df=min_df,
    )
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError:
        raise TrainingError(
            f"reviews.sentiment: no term stands in {min_df} of {len(texts)} texts; bring more data or lower min_df"
        ) from None
    classifier = LogisticRegression(C=c, max_iter=ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            classifier.fit(matrix, np.asarray(labels, object).astype(str))
        except ConvergenceWarning:
            text = f"reviews.sentiment: the fit has not converged after {ITERATIONS} iterations with c = {c}; lower c"
            raise TrainingError(text) from None
    return Regression(vectorizer, classifier)
