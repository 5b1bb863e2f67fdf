"""The ledger: what it takes, in which order, from whom, and what it tells when it was changed."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from offers.errors import LedgerError, StorageError
from offers.governance.access import head_now, member_key, open_ledger
from offers.governance.chain import signed
from offers.governance.entries import GateJudged, KeyAdded, KeyWithdrawn, digest_of
from offers.governance.keys import new_key
from offers.governance.ledger import Ledger, enrol, key_of, stored_head
from offers.settings import Settings
from offers.store.directory import DirectoryStore
from tests.support.ledgers import NOON, Bank, Clock, key_added, signer


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(DirectoryStore(tmp_path))


def gate(bundle: str = "shop-0123456789abcdef") -> GateJudged:
    return GateJudged(contract="shop", bundle=bundle, passed=True, evidence={})


def test_an_empty_ledger_has_no_head(tmp_path: Path) -> None:
    ledger = Ledger(DirectoryStore(tmp_path))
    assert ledger.head is None
    assert ledger.entries() == []


def test_the_end_is_read_without_the_rest(bank: Bank, tmp_path: Path) -> None:
    assert stored_head(bank.store) == bank.ledger.head
    assert head_now(Settings(home=tmp_path)) == str(bank.ledger.head)
    assert head_now(Settings(home=tmp_path / "nowhere")) == ""
    assert head_now(Settings(ledger="ftp://nowhere")) == ""


def test_a_member_never_begins_a_ledger(tmp_path: Path) -> None:
    new_key(tmp_path / "key.pem")
    settings = Settings(home=tmp_path, ledger=str(tmp_path / "store"), key=tmp_path / "key.pem")
    ledger, me = open_ledger(settings), member_key(settings)
    with pytest.raises(LedgerError, match="expected the first entry to add the key that signs it"):
        ledger.write(me, lambda state: gate())
    assert ledger.head is None


def test_the_first_to_come_is_the_admin_and_nobody_after(tmp_path: Path) -> None:
    ledger = Ledger(DirectoryStore(tmp_path))
    enrol(ledger, signer("root"), ("admin", "trainer"))
    enrol(ledger, signer("late"), ("admin",))
    assert [entry.act for entry in ledger.entries()] == [key_added("root", "admin", "trainer")]


def test_the_first_entry_adds_the_key_that_signs_it(tmp_path: Path) -> None:
    ledger = Ledger(DirectoryStore(tmp_path))
    for name, act in (("root", gate()), ("root", key_added("ann")), ("ann", key_added("ann"))):
        with pytest.raises(LedgerError, match="expected the first entry to add the key that signs it"):
            ledger.write(signer(name), lambda state, act=act: act)  # type: ignore[misc]
    assert ledger.head is None


def test_an_entry_names_the_one_before_and_another_reader_finds_the_same(bank: Bank) -> None:
    entry = bank.write("trainer", gate())
    other = Ledger(bank.store)
    assert other.entries() == bank.ledger.entries()
    assert other.entries()[-1] == entry
    assert other.head == bank.ledger.head
    assert entry.number == 5
    assert entry.before == digest_of(bank.store.read_bytes(key_of(4)))


def test_what_was_read_once_is_not_read_again(bank: Bank, tmp_path: Path) -> None:
    reader = Ledger(bank.store)
    first = reader.entries()
    (tmp_path / key_of(0)).write_bytes(b"changed since")
    bank.write("trainer", gate())
    assert reader.entries()[:-1] == first


@pytest.mark.parametrize(
    ("name", "act", "sentence"),
    [
        ("ann", gate(), "ann has no role trainer, which 'gate' asks for; it has approver"),
        ("trainer", key_added("eve", "admin"), "trainer has no role admin"),
        ("eve", gate(), "key [0-9a-f]{16} is unknown here; an admin adds it"),
        ("root", key_added("ann"), "key [0-9a-f]{16} was added before"),
        ("root", key_added("eve", "admin").model_copy(update={"name": "ann"}), "ann has a key already"),
        ("root", key_added("eve", "admin").model_copy(update={"key": "0" * 16}), "is not the one whose bytes"),
        ("root", KeyWithdrawn(key="0" * 16, reason="lost"), "key 0{16} is unknown, or withdrawn already"),
        ("root", KeyWithdrawn(key=signer("root").public.id, reason="lost"), "is the last admin's; add another first"),
    ],
)
def test_who_may_not_is_told(bank: Bank, name: str, act: GateJudged | KeyAdded | KeyWithdrawn, sentence: str) -> None:
    before = bank.ledger.head
    with pytest.raises(LedgerError, match=sentence):
        bank.write(name, act)
    assert Ledger(bank.store).head == before


def test_a_withdrawn_key_signs_no_more_and_what_it_signed_stays(bank: Bank) -> None:
    bank.write("trainer", gate())
    bank.write("root", KeyWithdrawn(key=signer("trainer").public.id, reason="left the bank"))
    with pytest.raises(LedgerError, match="of trainer was withdrawn by entry 6"):
        bank.write("trainer", gate())
    assert len(Ledger(bank.store).entries()) == 7


def test_a_clock_that_runs_backwards_is_refused(bank: Bank) -> None:
    bank.write("trainer", gate())
    bank.clock.moment -= timedelta(seconds=30)
    bank.write("trainer", gate())
    bank.clock.moment = NOON - timedelta(hours=1)
    with pytest.raises(LedgerError, match=r"clock says 2026-03-01 11:00:01, but entry 6 .*: set the clock"):
        bank.write("trainer", gate())
    moments = [entry.at for entry in Ledger(bank.store).entries()]
    assert moments == sorted(moments)


def test_writers_at_once_lose_nothing(bank: Bank) -> None:
    def write(writer: int) -> None:
        ledger = Ledger(bank.store, Clock())
        for act in [gate(f"shop-{writer}-{number}") for number in range(10)]:
            ledger.write(signer("trainer"), lambda state, act=act: act)  # type: ignore[misc]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    bundles = [entry.act.bundle for entry in Ledger(bank.store).entries() if isinstance(entry.act, GateJudged)]
    assert sorted(bundles) == [f"shop-{writer}-{number}" for writer in range(4) for number in range(10)]


def test_the_loser_of_a_race_decides_again(bank: Bank) -> None:
    asked = []

    def decide(state: object) -> GateJudged:
        asked.append(state)
        if len(asked) == 1:
            Ledger(bank.store, bank.clock).write(signer("trainer"), lambda state: gate("shop-first"))
        return gate("shop-second")

    bank.ledger.write(signer("trainer"), decide)
    assert len(asked) == 2
    assert [entry.act.bundle for entry in bank.ledger.entries()[-2:]] == ["shop-first", "shop-second"]  # type: ignore[union-attr]


def test_a_changed_entry_stops_reader_and_writer(bank: Bank, tmp_path: Path) -> None:
    path = tmp_path / key_of(3)
    path.write_bytes(path.read_bytes().replace(b'"ann"', b'"eve"').replace(b'"bob"', b'"eve"'))
    ledger = Ledger(bank.store, bank.clock)
    for use in (ledger.entries, lambda: ledger.write(signer("trainer"), lambda state: gate())):
        with pytest.raises(LedgerError, match=r"000000003\.json: entry 3: it was changed after it was signed"):
            use()
    path.unlink()
    with pytest.raises(LedgerError, match="entry 3: it is missing"):
        ledger.entries()


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"number":5}\n', b"\xff", b"[" * 100_000, b"null\n", b"1e999\n"]
)
def test_foreign_bytes_are_named(bank: Bank, tmp_path: Path, content: bytes) -> None:
    (tmp_path / key_of(5)).write_bytes(content)
    with pytest.raises(LedgerError, match="entry 5: it was changed"):
        Ledger(bank.store).entries()


def test_an_entry_in_another_form_is_named(bank: Bank, tmp_path: Path) -> None:
    """The same fields with other spaces: the signature would hold, the chain would not."""
    fields = json.loads((tmp_path / key_of(4)).read_bytes())
    (tmp_path / key_of(4)).write_text(json.dumps(fields))
    with pytest.raises(LedgerError, match="entry 4: it was changed: expected the ledger's own form"):
        Ledger(bank.store).entries()


def test_a_process_killed_while_it_writes_leaves_a_whole_ledger(bank: Bank, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from offers.store.directory import DirectoryStore\n"
        "from offers.governance.entries import GateJudged\n"
        "from offers.governance.ledger import Ledger\n"
        "from tests.support.ledgers import signer\n"
        "ledger = Ledger(DirectoryStore(Path(sys.argv[1])))\n"
        "act = GateJudged(contract='shop', bundle='shop-1', passed=True, evidence={})\n"
        "while True:\n"
        "    print(ledger.write(signer('trainer'), lambda state: act).number, flush=True)\n"
    )
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": "."}
        ) as process:
            assert process.stdout is not None
            last = [int(process.stdout.readline()) for _ in range(3)][-1]
            process.kill()
            told = [last, *map(int, process.stdout.read().split())]
        assert [entry.number for entry in Ledger(bank.store).entries()][: told[-1] + 1] == list(range(told[-1] + 1))


def test_a_store_that_fails_loses_nothing(bank: Bank, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a directory is expected")
    with pytest.raises(StorageError):
        Ledger(DirectoryStore(blocked)).write(signer("root"), lambda state: key_added("root"))
    assert len(bank.ledger.entries()) == 5


def test_bytes_of_an_entry_are_the_same_for_the_same_act() -> None:
    content = [signed(0, "0" * 64, key_added("root"), signer("root"), NOON.isoformat()) for _ in range(2)]
    assert content[0] == content[1]
