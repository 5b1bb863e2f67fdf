import hashlib
import hmac
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offers.decisions.pseudonym import Pseudonyms
from offers.errors import StorageError

KEY = bytes(range(32))


@given(st.text(max_size=200))
def test_a_pseudonym_is_the_hmac_of_the_id(customer_id: str) -> None:
    content = customer_id.encode("utf-8", "surrogatepass")
    assert Pseudonyms(KEY).of(customer_id) == hmac.new(KEY, content, hashlib.sha256).hexdigest()


@pytest.mark.parametrize("text", ["", KEY.hex()[:-2], "no key at all", KEY.hex() + "\n" + KEY[::-1].hex() + "\n"])
def test_a_file_that_holds_no_key_or_two_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    with pytest.raises(StorageError, match="expected a key of 64 hexadecimal digits"):
        Pseudonyms.read(path)


def test_a_key_is_made_once_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "home" / "key"
    made = Pseudonyms.at(path)
    assert path.stat().st_mode & 0o077 == 0
    assert Pseudonyms.at(path) == Pseudonyms.read(path) == made
    assert made.key_id != Pseudonyms(KEY).key_id
    assert made.key.hex() not in repr(made)
