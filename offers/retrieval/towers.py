"""Trains the two towers: networks whose vectors' product is high where a user would look at a product.

JAX and optax are imported where they are used, as only the training needs them.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offers.contract.market import Market
from offers.contract.retrieval import Retrieval
from offers.data.online import OnlineUsers
from offers.errors import BundleError
from offers.retrieval.dense import Dense, Floats, fit_dense
from offers.retrieval.products import Products
from offers.retrieval.tower_file import SHRINKAGE, Layers, tower_file
from offers.retrieval.user_tower import Tower, Towers
from offers.retrieval.views import Views

USER_LAYERS, PRODUCT_LAYERS = (128, 64), (64,)
BATCH = 2048
FULL = 5000
"""Products up to which the softmax is over all of them; beyond, over those of the batch."""

DECAY = 1e-4
WITHOUT_ID = 0.1
"""Share of products whose own vector is left out of a step, so that the columns alone tell of a new product."""

VIEWED = 0.1
"""Standard deviation of the first vectors of viewed products."""

SAMPLE = 100_000
"""Rows from which the scales of numbers are taken."""

LOOKS = 20.0
"""Views with the mean of all products that are added to a product's own, to tell how often it is looked at."""

_SECONDS_PER_DAY = 86_400
_Tree = Any


@dataclass(frozen=True, eq=False)
class TowerTraining:
    """The training of a market's towers.

    The probability that a view is of a product j is a softmax of u'v_j + b_j + log l_j over the products that were
    there. The vector u is the user tower's. Its inputs are the user's columns, and of the newest views the sum of a
    vector for each product, divided by their number plus SHRINKAGE. The vector v_j is the product tower's, of the
    product's columns, plus a vector of the product's own, and b_j comes about in the same way. l_j is how often j was
    looked at for the places where it stood, which is known, and is not part of the affinity u'v_j + b_j. Beyond FULL
    products the softmax is over those of the batch, from whose logits their log-frequency is taken (Yi et al. 2019).

    Parameters
    ----------
    views : in time order
    seed : determines the towers on a machine
    """

    market: Market
    products: Products
    views: Views
    seed: int

    def fit(self) -> Towers:
        """Train, and write the towers as ONNX files.

        Raises
        ------
        BundleError
            JAX or optax is not installed
        """
        weights = self._train()
        viewed = np.asarray(weights["viewed"], np.float32) if self._history else None
        user = Tower(tower_file(self._users, _layers(weights["user"]), viewed, self._history))
        product = Tower(tower_file(self._product_scales, _layers(weights["product"])))
        return Towers(user, product, self.product_vectors(weights))

    def product_vectors(self, weights: _Tree) -> Floats:
        """Compute the vectors of products, whose last component is b_j; shape (n_products, dimensions + 1)."""
        return np.asarray(_apply(weights["product"], self._product_inputs) + weights["own"], np.float32)

    @property
    def _history(self) -> int:
        return self.market.retrieval.viewed

    @cached_property
    def _users(self) -> Dense:
        rows = self.views.rows
        step = max(1, len(rows) // SAMPLE)
        return fit_dense(OnlineUsers(self.market).encoder, np.asarray(rows[::step]))

    @cached_property
    def _product_inputs(self) -> Floats:
        return self._product_scales(self.products.matrix)

    @cached_property
    def _product_scales(self) -> Dense:
        return fit_dense(self.products.encoder, self.products.matrix)

    @cached_property
    def _log_looks(self) -> Floats:
        """The logarithm of how often each product is looked at where it stands, shape (n_products,).

        A look at position p has the probability p^-bias. Among the views of a product, the mean of p^bias is the
        inverse of its mean probability of being looked at.
        """
        return log_looks(self.views, self.market.interactions.position_bias, len(self.products.ids))

    def _train(self) -> _Tree:
        try:
            import jax
            import optax
        except ImportError:
            raise BundleError(
                "towers need jax and optax, which are not installed: run make setup, or pip install 'offers[market]',"
                " or let the market have retrieval: {method: none}"
            ) from None
        settings, number = self.market.retrieval, len(self.products.ids)
        steps = max(1, settings.epochs * len(self.views) // BATCH)
        schedule = optax.cosine_decay_schedule(settings.learning_rate, steps)
        optimiser = optax.adamw(schedule, weight_decay=DECAY)
        weights = self._first(settings, number)
        state = optimiser.init(weights)
        loss = self._loss_of_batch if number > FULL else self._loss

        @jax.jit
        def step(weights: _Tree, state: _Tree, batch: tuple[Any, ...], key: Any) -> tuple[_Tree, _Tree]:
            gradient = jax.grad(loss)(weights, batch, key)
            updates, state = optimiser.update(gradient, state, weights)
            return optax.apply_updates(weights, updates), state

        rng, key = np.random.default_rng(self.seed), jax.random.key(self.seed)
        order = np.empty(0, np.int64)
        for count in range(steps):
            if len(order) < min(BATCH, len(self.views)):
                order = rng.permutation(len(self.views))
            places, order = np.sort(order[:BATCH]), order[BATCH:]
            weights, state = step(weights, state, self._batch(places), jax.random.fold_in(key, count))
        return jax.device_get(weights)

    def _first(self, settings: Retrieval, number: int) -> _Tree:
        rng, size = np.random.default_rng([self.seed, 1]), settings.dimensions
        return {
            "user": _random_layers(rng, (self._users.width + (size if self._history else 0), *USER_LAYERS, size)),
            "product": _random_layers(rng, (self._product_inputs.shape[1], *PRODUCT_LAYERS, size + 1)),
            "own": np.zeros((number, size + 1), np.float32),
            "viewed": (VIEWED * rng.standard_normal((number, size))).astype(np.float32),
        }

    def _batch(self, places: NDArray[np.int64]) -> tuple[Any, ...]:
        views = self.views
        days = ((views.moment[places] - self._start) / 1e6 / _SECONDS_PER_DAY).astype(np.float32)
        users = self._users(np.asarray(views.rows[places])), views[places].viewed(self._history)
        return users, np.asarray(views.product[places]), days

    @property
    def _start(self) -> np.int64:
        return np.int64(self.views.moment[0])

    @cached_property
    def _launched(self) -> Floats:
        """The day of each product's launch after the first view."""
        days = (self.products.launched.astype(np.int64) - self._start) / 1e6 / _SECONDS_PER_DAY
        return np.asarray(days, np.float32)

    def _loss(self, weights: _Tree, batch: tuple[Any, ...], key: Any) -> Any:
        import jax
        import jax.numpy as jnp

        users, chosen, days = batch
        own = weights["own"] * jax.random.bernoulli(key, 1 - WITHOUT_ID, (len(self.products.ids), 1))
        vectors = _apply(weights["product"], self._product_inputs) + own
        logits = _vectors(weights, users) @ vectors[:, :-1].T + vectors[:, -1] + self._log_looks
        # A product that is viewed was there, whatever its row says.
        rows = jnp.arange(len(chosen))
        right = logits[rows, chosen]
        logits = jnp.where(self._launched <= days[:, None], logits, -jnp.inf).at[rows, chosen].set(right)
        return (jax.nn.logsumexp(logits, axis=1) - right).mean()

    def _loss_of_batch(self, weights: _Tree, batch: tuple[Any, ...], key: Any) -> Any:
        import jax
        import jax.numpy as jnp

        users, chosen, days = batch
        own = weights["own"][chosen] * jax.random.bernoulli(key, 1 - WITHOUT_ID, (len(chosen), 1))
        vectors = _apply(weights["product"], jnp.asarray(self._product_inputs)[chosen]) + own
        offset = jnp.asarray(self._log_looks - self._log_frequency)[chosen]
        logits = _vectors(weights, users) @ vectors[:, :-1].T + vectors[:, -1] + offset
        right = jnp.diagonal(logits)
        # The same product stands in a row only once: where it was viewed.
        others = (chosen[:, None] != chosen) & (jnp.asarray(self._launched)[chosen] <= days[:, None])
        logits = jnp.where(others | jnp.eye(len(chosen), dtype=bool), logits, -jnp.inf)
        return (jax.nn.logsumexp(logits, axis=1) - right).mean()

    @cached_property
    def _log_frequency(self) -> Floats:
        counts = np.bincount(self.views.product, minlength=len(self.products.ids))
        return np.asarray(np.log((counts + 1) / (counts.sum() + len(counts))), np.float32)


def log_looks(views: Views, bias: float, products: int) -> Floats:
    """Estimate the logarithm of each product's probability of being looked at, shape (products,).

    Parameters
    ----------
    bias : a user looks at position p with the probability p^-bias

    Examples
    --------
    A product that always stands at position 4 is looked at by half of all users, where the bias is 0.5.
    """
    inverse = views.position.astype(np.float64) ** bias
    sums = np.bincount(views.product, inverse, minlength=products)
    counts = np.bincount(views.product, minlength=products)
    means = (sums + LOOKS * inverse.mean()) / (counts + LOOKS)
    return np.asarray(-np.log(means), np.float32)


def _random_layers(rng: np.random.Generator, sizes: tuple[int, ...]) -> _Tree:
    """Draw weights as He et al. (2015) do, those of the last layer smaller."""
    layers = []
    for place, (before, after) in enumerate(pairwise(sizes)):
        scale = np.sqrt(2 / before) * (0.3 if place == len(sizes) - 2 else 1.0)
        layers.append(((scale * rng.standard_normal((before, after))).astype(np.float32), np.zeros(after, np.float32)))
    return layers


def _apply(layers: _Tree, inputs: Any) -> Any:
    """Apply layers, with ReLU between them; to arrays of NumPy or of JAX."""
    for place, (weights, bias) in enumerate(layers):
        inputs = inputs @ weights + bias
        if place < len(layers) - 1:
            inputs = inputs * (inputs > 0)
    return inputs


def _vectors(weights: _Tree, users: tuple[Any, Any]) -> Any:
    """Compute the vectors of users from the inputs of their columns, and the places of the products they viewed."""
    import jax.numpy as jnp

    inputs, viewed = users
    if not viewed.shape[1]:
        return _apply(weights["user"], inputs)
    there = (viewed >= 0)[:, :, None]
    summed = (weights["viewed"][viewed] * there).sum(axis=1)
    return _apply(weights["user"], jnp.concatenate([inputs, summed / (there.sum(axis=1) + SHRINKAGE)], axis=1))


def _layers(tree: _Tree) -> Layers:
    return [(np.asarray(weights), np.asarray(bias)) for weights, bias in tree]
