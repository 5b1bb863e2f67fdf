"""The secrets of a source reach its server, and neither artifact nor line of the steps that read it."""

import base64
from pathlib import Path
from urllib.parse import quote

import pytest

from offers.errors import SourceError
from offers.settings import Settings
from offers.steps import data
from tests.support.http_double import FileServer
from tests.support.small import LARGE, contract

CANARIES = ("c4nary/p@ss", "c4nary+sig=")


@pytest.mark.parametrize("status", [200, 403])
def test_no_artifact_or_line_of_the_data_steps_holds_the_secrets(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    monkeypatch.setenv("CANARY_PASSWORD", CANARIES[0])
    secrets, home, said = tmp_path / "secrets", tmp_path / "home", list[str]()
    secrets.mkdir()
    (secrets / "sig").write_text(CANARIES[1] + "\n")
    with FileServer(content=LARGE, status=status) as server:
        uri = server.url.replace("//", "//me:${CANARY_PASSWORD}@") + f"?sig=${{file:{secrets}/sig}}"
        text = "\n" + contract(uri=uri).model_dump_json()
        try:
            data.ingest(text, "", home / "raw", Settings(home=home), said.append)
            data.validate(text, home / "raw", home / "typed", home / "page.html", said.append)
        except SourceError as error:
            assert status == 403
            said.append(str(error))
        assert server.seen[0]["Authorization"] == "Basic " + base64.b64encode(f"me:{CANARIES[0]}".encode()).decode()
    texts = {str(path): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    texts |= {"said": " ".join(said).encode(), "log": caplog.text.encode()}
    assert len(texts) >= (7 if status == 200 else 3)
    forms = [form.encode() for canary in CANARIES for form in (canary, quote(canary, safe=""))]
    assert [(where, form) for where, content in texts.items() for form in forms if form in content] == []
