"""Calibrators: monotone functions from the trees' log-odds to calibrated ones."""

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from offers.errors import BundleError


class Calibrator(ABC):
    """Turns the trees' log-odds into propensities; its subclasses are the methods."""

    @abstractmethod
    def log_odds(self, margin: np.ndarray) -> np.ndarray:
        """Calibrate the trees' log-odds, of any shape, float64."""

    @abstractmethod
    def __str__(self) -> str: ...

    def __call__(self, margin: np.ndarray) -> np.ndarray:
        """Turn log-odds, shape (n,), into propensities in (0, 1), float64."""
        return np.asarray(expit(self.log_odds(margin)))

    def contributions(self, parts: np.ndarray) -> np.ndarray:
        """Rescale contributions to the trees' margin into contributions to the calibrated one.

        Each feature's part is multiplied by the slope of the line between the bias and the row's margin. This is the
        rescale rule of Shrikumar et al. (2017). For Platt scaling it is the slope.

        Parameters
        ----------
        parts : ndarray, shape (n_rows, n_features + 1), in log-odds; the last column is the bias

        Returns
        -------
        ndarray, shape (n_rows, n_features + 1), float64; a row sums to its calibrated margin
        """
        parts = parts.astype(np.float64)
        margin, bias = parts.sum(axis=1), parts[:, -1]
        base, distance = self.log_odds(bias), margin - bias
        rise = self.log_odds(margin) - base
        slope = np.divide(rise, distance, out=np.zeros_like(rise), where=np.abs(distance) > 1e-9)
        return np.column_stack([parts[:, :-1] * slope[:, None], base])

    def to_json(self) -> str:
        return json.dumps({"method": type(self).__name__.lower(), **_fields(self)}, indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> "Calibrator":
        """Read what `to_json` wrote.

        Raises
        ------
        BundleError
            the text is something else, names an unknown method, or has numbers that the method can't have
        """
        try:
            content = json.loads(text)
            method = _METHODS[content.pop("method")]
            return method(**{name: _number(value) for name, value in content.items()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"the calibrator is not one that this version writes: {error!r}") from None


@dataclass(frozen=True)
class Platt(Calibrator):
    """Platt scaling: P = 1 / (1 + exp(-(slope * margin + intercept))), after Platt (1999).

    `Platt()` leaves margins unchanged. A bundle without calibration has it, so that older versions can read it.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def log_odds(self, margin: np.ndarray) -> np.ndarray:
        return self.slope * margin.astype(np.float64) + self.intercept

    def __str__(self) -> str:
        return "none" if self == Platt() else f"platt, slope {self.slope:.3f}, intercept {self.intercept:+.3f}"


@dataclass(frozen=True)
class Beta(Calibrator):
    """Beta calibration: log-odds a ln p - b ln(1 - p) + c of the trees' propensity p, after Kull et al. (2017).

    It can be steeper on one side than on the other. `a` and `b` are at least 0, so that it keeps the order of rows.
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __post_init__(self) -> None:
        if min(self.a, self.b) < 0:
            raise ValueError(f"expected a and b of at least 0, got {self.a} and {self.b}")

    def log_odds(self, margin: np.ndarray) -> np.ndarray:
        margin = margin.astype(np.float64)
        return np.asarray(self.b * np.logaddexp(0, margin) - self.a * np.logaddexp(0, -margin) + self.c)

    def __str__(self) -> str:
        return f"beta, a {self.a:.3f}, b {self.b:.3f}, c {self.c:+.3f}"


@dataclass(frozen=True)
class Isotonic(Calibrator):
    """Isotonic calibration, after Zadrozny and Elkan (2002): log-odds between knots are interpolated.

    `margins` rise strictly, and `values`, the calibrated log-odds at the knots, do not fall.
    """

    margins: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.margins or len(self.margins) != len(self.values):
            raise ValueError(f"expected as many values as margins, got {len(self.values)} and {len(self.margins)}")
        if min(np.diff(self.margins), default=1.0) <= 0 or min(np.diff(self.values), default=0.0) < 0:
            raise ValueError("expected margins that rise and values that do not fall")

    def log_odds(self, margin: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(margin.astype(np.float64), self.margins, self.values))

    def __str__(self) -> str:
        return f"isotonic, {len(self.margins)} knots"


_METHODS: dict[str, type[Platt | Beta | Isotonic]] = {"platt": Platt, "beta": Beta, "isotonic": Isotonic}


def _fields(calibrator: Calibrator) -> dict[str, Any]:
    assert isinstance(calibrator, Platt | Beta | Isotonic)
    return asdict(calibrator)


def _number(value: Any) -> Any:
    """Turn a number, or a list of numbers, of JSON into finite floats."""
    if isinstance(value, list):
        return tuple(map(_number, value))
    if not np.isfinite(number := float(value)):
        raise ValueError(f"expected a finite number, got {value}")
    return number
