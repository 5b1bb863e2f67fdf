import numpy as np

from offers.batch.contacts import Contacts


def test_bits_say_what_a_matrix_of_truths_says() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.random((70_000, 11)) < 0.1
    contacts = Contacts(matrix.shape[1], np.full(70_000, 20))
    contacts.add(*np.nonzero(matrix))
    for customer, offer in zip(generator.integers(0, 70_000, 500), generator.integers(0, 11, 500), strict=True):
        pair = int(customer), int(offer)
        assert (pair in contacts) == matrix[pair]
        matrix[pair] = not matrix[pair]
        (contacts.add_one if matrix[pair] else contacts.remove)(*pair)
    assert (contacts.block(65_000, 3000) == matrix[65_000:68_000]).all()
    assert (contacts.free == 20 - matrix.sum(axis=1)).all()
    assert (contacts.pairs() == np.argwhere(matrix)).all()
