"""offers model, key and audit, as they are typed: from a bundle to a champion, back, and what the ledger proves."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.runs import ShopRun
from tests.support.s3_double import S3Double
from tests.support.warranties import WARRANTIES

Offers = Callable[..., tuple[int, str, str]]
ME = "local"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "warranties.yaml"
    path.write_text(WARRANTIES)
    return path


@pytest.fixture
def dearer(tmp_path: Path) -> Path:
    path = tmp_path / "dearer.yaml"
    assert "value: 30" in WARRANTIES
    path.write_text(WARRANTIES.replace("value: 30", "value: 31", 1))
    return path


@pytest.fixture
def done(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call the command, which has to succeed; what it printed."""
    monkeypatch.setenv("LOGNAME", ME)

    def call(*arguments: object) -> str:
        code, out, err = offers(*arguments)
        assert code == 0, err
        return out

    return call


@pytest.fixture
def in_bucket(s3: S3Double, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The objects of the bucket that keeps the ledger."""
    monkeypatch.setenv("OFFERS_LEDGER", "s3://bank")
    monkeypatch.setenv("OFFERS_S3_ENDPOINT", s3.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "me")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    return s3.buckets["bank"]


@pytest.fixture
def people(done: Callable[..., str]) -> None:
    """Keys of two who approve, beside the one who trains, added by the admin."""
    for name in ("ann", "bob"):
        public = next(line.split()[1] for line in done("key", "new", name).splitlines() if line.startswith("public"))
        if name == "ann":
            done("key", "list")
        done("key", "add", public, "--name", name, "--role", "approver")


@pytest.mark.usefixtures("people")
def test_a_bundle_becomes_champion_and_a_catalogue_is_rolled_back(
    offers: Offers, done: Callable[..., str], shop_run: ShopRun, catalogue: Path, dearer: Path
) -> None:
    first = done("model", "add", shop_run.bundle, "--catalogue", catalogue).strip()
    second = done("model", "add", shop_run.bundle, "--catalogue", dearer).strip()
    assert first != second
    assert done("model", "add", shop_run.bundle, "--catalogue", catalogue).strip() == first
    kinds = [json.loads(line)["act"]["kind"] for line in done("audit", "log").splitlines()]
    assert kinds[-3:] == ["release made", "catalogue changed", "release made"]
    code, _, err = offers("model", "promote", first)
    assert (code, err) == (2, f"offers: release {first} can't be promoted: it is approved by 0 of 2 people\n")
    code, _, err = offers("model", "approve", first)
    assert (code, err) == (2, f"offers: {ME} has made release {first}, and another has to judge it\n")
    for release in (first, second):
        done("model", "approve", release, "--key", "ann", "--condition", "not for those below 21")
        assert "2 of 2 approvals; it is approved" in done("model", "approve", release, "--key", "bob")
    assert ": promoted; no service runs here" in done("model", "promote", first)
    assert ": promoted; no service runs here" in done("model", "promote", second)
    listed = done("model", "list")
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [[first, "former"], [second, "champion"]]
    assert "offer full: value" in done("model", "diff", first, second)
    assert ": rolled back; no service" in done("model", "rollback", "-c", "shop", "--reason", "too dear")
    assert [line.split()[1] for line in done("model", "list").splitlines()[1:]] == ["champion", "withdrawn"]
    shown = done("model", "show", second)
    assert "ann: approved" in shown
    assert "rolled back" in shown
    assert "entries hold; the head is" in done("audit", "verify", "--head", done("audit", "head").strip())


def test_a_release_whose_bytes_changed_is_neither_approved_nor_promoted(
    offers: Offers, done: Callable[..., str], people: None, shop_run: ShopRun, catalogue: Path, tmp_path: Path
) -> None:
    release = done("model", "add", shop_run.bundle, "--catalogue", catalogue).strip()
    done("model", "approve", release, "--key", "ann")
    changed = tmp_path / "home" / "releases" / release / "catalogue.yaml"
    changed.write_text(changed.read_text() + "\n")
    for command in (("approve", release, "--key", "bob"), ("promote", release)):
        code, _, err = offers("model", *command)
        assert code == 2
        assert "catalogue.yaml was changed, added or removed" in err


def test_a_promotion_in_a_bucket_is_begun_once_and_left_to_the_cluster(
    offers: Offers,
    done: Callable[..., str],
    in_bucket: dict[str, bytes],
    people: None,
    shop_run: ShopRun,
    catalogue: Path,
    tmp_path: Path,
) -> None:
    release = done("model", "add", shop_run.bundle, "--catalogue", catalogue).strip()
    for name in ("ann", "bob"):
        done("model", "approve", release, "--key", name)
    # Another machine has no copy of the release, so what the bucket holds is verified.
    shutil.rmtree(tmp_path / "home" / "releases")
    stored = next(key for key in in_bucket if key.endswith(f"{release}/catalogue.yaml"))
    content, entries = in_bucket[stored], len(done("audit", "log").splitlines())
    in_bucket[stored] = content + b"\n"
    code, _, err = offers("model", "promote", release)
    assert (code, "catalogue.yaml was changed, added or removed" in err) == (2, True)
    assert len(done("audit", "log").splitlines()) == entries
    in_bucket[stored] = content
    shutil.rmtree(tmp_path / "home" / "releases")
    said = done("model", "promote", release)
    assert said == f"entry {entries}: promoting; 'offers deploy' rolls it out on the cluster, and ends this\n"
    code, _, err = offers("model", "promote", release)
    assert (code, ME in err) == (2, True)
    assert f"ledger/{entries:09d}.json" in in_bucket
    assert f"ledger/{entries + 1:09d}.json" not in in_bucket


@pytest.mark.usefixtures("people")
def test_what_is_wrong_is_told_in_a_sentence(
    offers: Offers, done: Callable[..., str], shop_run: ShopRun, catalogue: Path, tmp_path: Path
) -> None:
    release = done("model", "add", shop_run.bundle, "--catalogue", catalogue).strip()
    foreign = tmp_path / "foreign.yaml"
    foreign.write_text(WARRANTIES.replace("contract: shop", "contract: other"))
    (tmp_path / "broken.pem").write_text("no key")
    for arguments, sentence in (
        (("model", "promote", "shop-release-none"), "release 'shop-release-none': there is no such release"),
        (("model", "add", shop_run.bundle, "--catalogue", foreign), "it is for 'other', and the contract in use"),
        (("model", "approve", release, "--key", "eve"), "--key 'eve': expected the file of a private key"),
        (("model", "approve", release, "--key", tmp_path / "broken.pem"), "expected a private Ed25519 key in PEM"),
        (("model", "rollback", "-c", "shop", "--reason", "x"), "there is no former champion to return to"),
        (("model", "promote", release, "--key", "ann"), "ann has no role operator"),
        (("key", "new", "ann"), "ann.pem"),
        (("key", "new", "Not A Name"), "expected a file named after the key's owner"),
        (("key", "add", "abc", "--name", "eve", "--role", "approver"), "expected 32 bytes in base64"),
        (("key", "withdraw", "abc", "--reason", "x"), "there is no such key"),
        (("audit", "verify", "--head", "abc"), "expected a number, ':' and 64 hex digits"),
    ):
        code, _, err = offers(*arguments)
        assert code == 2, arguments
        assert sentence in err
        assert err.count("\n") == 1


@pytest.mark.usefixtures("people")
def test_tampering_ends_with_3_and_names_the_entry(
    offers: Offers, done: Callable[..., str], shop_run: ShopRun, catalogue: Path, tmp_path: Path
) -> None:
    done("model", "add", shop_run.bundle, "--catalogue", catalogue)
    head = tmp_path / "head.txt"
    head.write_text(done("audit", "head"))
    ledger = tmp_path / "home" / "ledger"
    entry = ledger / "000000002.json"
    whole = entry.read_bytes()
    entry.write_bytes(whole.replace(b"bob", b"eve"))
    code, out, _ = offers("audit", "verify", "--head", head)
    assert code == 3
    assert out.startswith("entry 2: it was changed after it was signed\n")
    code, _, err = offers("model", "list")
    assert code == 2
    assert "entry 2: it was changed after it was signed; 'offers audit verify' tells more" in err
    entry.write_bytes(whole)
    sorted(ledger.iterdir())[-1].unlink()
    assert offers("audit", "verify")[0] == 0
    code, out, _ = offers("audit", "verify", "--head", head)
    assert code == 3
    assert "the end was cut" in out


@pytest.mark.usefixtures("people")
def test_the_card_tells_what_training_knew_and_what_people_decided(
    done: Callable[..., str], shop_run: ShopRun, catalogue: Path, tmp_path: Path
) -> None:
    release = done("model", "add", shop_run.bundle, "--catalogue", catalogue).strip()
    directory = tmp_path / "cards"
    done("model", "card", release, "--directory", directory)
    page = directory / f"{release}.md"
    assert "No approval is in force." in page.read_text()
    done("model", "approve", release, "--key", "ann", "--condition", "not by <phone> | mail")
    written = done("model", "card", release, "--directory", directory).split()
    assert written == [str(directory / f"{release}.{ending}") for ending in ("md", "html")]
    for path in written:
        assert "entries hold; the head is" in done("audit", "verify", "--head", path)
    card, html = (Path(path).read_text() for path in written)
    assert "- status: candidate" in card
    assert "- owner: not stated in the contract" in card
    assert r"not by \<phone> \| mail" in card
    assert "not by &lt;phone&gt; | mail" in html
    trained = (shop_run.bundle / "model-card.md").read_text()
    assert card.endswith(trained)
    for text in ("Release card, contract shop", release, "ann", "SR 26-2: effective challenge", "Fairness of exposure"):
        assert text in html
    assert 'http-equiv="Content-Security-Policy"' in html
    for tag in ("<script", "<img", "<link", "src="):
        assert tag not in html


def test_an_empty_ledger_is_told(offers: Offers, done: Callable[..., str]) -> None:
    code, _, err = offers("audit", "head")
    assert (code, err) == (2, "offers: the ledger is empty, and has no head\n")
    assert "0 entries hold; the head is none" in done("audit", "verify")
    assert done("audit", "log") == ""
