"""Exploration: draws the first offer with exact probabilities, by a hash, so that the draw can be repeated."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from offers.errors import PolicyError
from offers.yaml_file import Problem, Section, refuse


class Exploration(Section):
    """How the first place is filled: by the best score, or by a draw.

    `softmax` draws with probabilities proportional to exp(score / temperature), with the temperature in EUR.
    `epsilon` draws among all candidates with probability epsilon, else takes the best. `salt` makes the draws of
    policies differ.
    """

    kind: Literal["none", "softmax", "epsilon"] = "none"
    temperature: Annotated[float, Field(ge=0.01, le=1e9, strict=True)] | None = None
    epsilon: Annotated[float, Field(gt=0, le=1, strict=True)] | None = None
    salt: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse(self._problems())
        return self

    def _problems(self) -> Iterator[Problem]:
        for key, kind in (("temperature", "softmax"), ("epsilon", "epsilon")):
            if self.kind == kind and getattr(self, key) is None:
                yield ("kind",), f"{kind} needs '{key}'"
            if self.kind != kind and getattr(self, key) is not None:
                yield (key,), f"'{key}' belongs to {kind}; this exploration is {self.kind}"

    def probabilities(self, score: np.ndarray) -> np.ndarray:
        """Compute the probability that each candidate is put first.

        Parameters
        ----------
        score : ndarray, shape (n_customers, n_offers), EUR; -inf where an offer is no candidate

        Returns
        -------
        ndarray, shape (n_customers, n_offers)
            each row sums to 1, or to 0 where there is no candidate
        """
        candidates = np.isfinite(score)
        if self.temperature is not None:
            distance = np.where(candidates, score, 0) - score.max(axis=1, keepdims=True)
            return _shares(np.exp(np.where(candidates, distance, -np.inf) / self.temperature))
        best = candidates & (np.arange(score.shape[1]) == score.argmax(axis=1)[:, None])
        epsilon = self.epsilon or 0.0
        return np.asarray((1 - epsilon) * best + epsilon * _shares(candidates.astype(np.float64)))

    def draw(self, probabilities: np.ndarray, keys: Sequence[str] | None) -> np.ndarray:
        """Draw each customer's first place; the same salt, key and probabilities give the same draw.

        Returns
        -------
        ndarray, shape (n_customers,)
            columns of `probabilities`; meaningless for rows that hold zeros only

        Raises
        ------
        PolicyError
            the policy draws, and there is not exactly one key for each customer
        """
        if self.kind == "none":
            return np.asarray(probabilities.argmax(axis=1))
        if keys is None or len(keys) != len(probabilities):
            count = "none" if keys is None else len(keys)
            raise PolicyError(f"keys: expected a decision key for each of {len(probabilities)} customers, got {count}")
        cumulative = probabilities.cumsum(axis=1)
        point = np.array([uniform(self.salt, key) for key in keys])[:, None] * cumulative[:, -1:]
        return np.asarray(np.minimum((cumulative <= point).sum(axis=1), probabilities.shape[1] - 1))


def uniform(salt: str, key: str) -> float:
    """Derive a number in [0, 1) from salt and key: the first 53 bits of the SHA-256 of 'salt NUL key'."""
    digest = hashlib.sha256(f"{salt}\0{key}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) * 2.0**-53


def _shares(weights: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(weights, total, out=np.zeros_like(weights), where=total > 0))
