"""The record of how often views of one product, or at one place, lead to later events."""

from offers.record import Record


class Rates(Record):
    """One product or place.

    Attributes
    ----------
    name : the product's id, or the place from 1 on
    views : the number of first events
    rates : the number of each later event over that of views: of a click the click-through rate, of the last one the
        conversion
    """

    name: str
    views: int
    rates: dict[str, float]
