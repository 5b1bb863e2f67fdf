"""Secrets of a source: refused where they stand in full, read where a connection opens, hidden in what is said."""

from pathlib import Path

import pytest

from offers.contract import contract as contracts
from offers.contract.secret import literal_secret, opened
from offers.errors import ContractError, SourceError

CASE = Path(__file__).parents[1] / "data" / "cases" / "contract-with-password.yaml"


@pytest.mark.parametrize(
    ("uri", "secret"),
    [
        ("postgresql://reader:tiger@warehouse/bank", "a password"),
        ("postgresql+pg8000://reader:${PASSWORD}!@warehouse/bank", "a password"),
        ("http://me:p/w@bank.example/rows.csv", None),
        ("http://me:pw@bank.example/rows.csv", "a password"),
        ("https://bank.example/rows.csv?X-Amz-Signature=abc", "a secret, 'X-Amz-Signature'"),
        ("https://bank.example/rows.csv?api_key=abc", "a secret, 'api_key'"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dtiger", "a secret, 'odbc_connect'"),
        ("s3://KEY:SECRET@bucket/rows.csv", "a password"),
        ("postgresql://reader:${PASSWORD}@warehouse/bank", None),
        ("https://bank.example/rows.csv?sig=${file:/run/secrets/sig}&page=2", None),
        ("${WAREHOUSE}", None),
        ("https://bank.example:8443/a@b/rows.csv?region=north", None),
        ("sqlite:///bank.db", None),
        ("data/rows: a@b.csv", None),
    ],
)
def test_a_secret_in_full_is_known(uri: str, secret: str | None) -> None:
    assert literal_secret(uri) == secret


def test_a_contract_with_a_password_is_refused_without_repeating_it() -> None:
    with pytest.raises(ContractError, match=r"line 3: source\.uri: it holds a password, .*\$\{NAME\}") as refused:
        contracts.load(str(CASE))
    assert "S3cretPw" not in str(refused.value)
    assert "T0kenInQuery" not in str(refused.value)


def test_references_are_read_and_encoded_and_hidden(tmp_path: Path) -> None:
    (tmp_path / "sig").write_text("a/b=\n")
    uri = f"postgresql://reader:${{PASSWORD}}@warehouse/bank?sig=${{file:{tmp_path}/sig}}"
    source = opened(uri, {"PASSWORD": "p@ss word"})
    assert source.uri == "postgresql://reader:p%40ss%20word@warehouse/bank?sig=a%2Fb%3D"
    assert "p%40ss" not in repr(source)
    with pytest.raises(SourceError, match=r"^no \*\*\* nor \*\*\* here$"), source.errors():
        raise SourceError("no p@ss word nor p%40ss%20word here")
    whole = opened("${WAREHOUSE}", {"WAREHOUSE": "sqlite:///a b.db"})
    assert whole.uri == "sqlite:///a b.db"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("${ABSENT}", r"source \$\{ABSENT\}: this environment variable is not set"),
        ("${file:/absent/secret}", "expected a file of text at /absent/secret"),
        ("${not a name}", "expected the name of an environment variable, or file:PATH"),
    ],
)
def test_what_a_reference_lacks_is_named(uri: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        opened(uri, {})
