"""What pages of a cluster find: scored customers in a bucket, and the token that the ranker asks for."""

from pathlib import Path

import pandas as pd
import pytest

from cli.score import score
from offers.errors import ServiceError
from offers.governance import release as releases
from offers.settings import PagesSettings, Settings
from serving.app import campaign, kept, place
from tests.support.http_double import FileServer
from tests.support.warranties import WARRANTIES


def test_scored_customers_of_a_bucket_are_found_with_the_campaigns_beside_them(
    tmp_path: Path, shop_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, home = tmp_path / "bucket", tmp_path / "home"
    release = releases.make(home / "releases", shop_bundle, WARRANTIES)
    customers = pd.read_parquet(shop_bundle / "reference.parquet").head(300)
    customers.assign(customer_id=range(300)).to_parquet(tmp_path / "customers.parquet")
    where = bucket / "campaigns" / "scored-2026-12-01.delta"
    catalogue = str(release.path / "catalogue.yaml")
    score(str(tmp_path / "customers.parquet"), str(where), str(shop_bundle), catalogue, pairs=True)
    (bucket / "campaigns" / "week.yaml").write_text(
        "name: week\ncapacity: [{name: calls, where: {channel: phone}, contacts: 20}]\n"
    )
    (bucket / "campaigns" / "notes.yaml").write_text("name: notes\n")
    settings = Settings(home=home)
    found = kept.scored_in(str(bucket), settings)
    assert list(found) == [str(where)]
    table = found[str(where)]
    assert [name for name, _ in table.campaigns] == ["week.yaml"]
    assert kept.catalogue_of(table, settings)[0].name == "warranties"
    monkeypatch.setenv("OFFERS_HOME", str(home))
    made = campaign.planned(table, campaign.version(table.where), dict(table.campaigns)["week.yaml"])
    # The second offer is the one that takes a call.
    assert made.plan.by_offer(3)[1] == 20


def test_the_token_is_read_at_each_question_and_a_ranker_that_wants_another_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    monkeypatch.setenv("OFFERS_RANKER_TOKEN_FILE", str(token))
    assert place.credentials() == {}
    for word in ("first", "renewed"):
        token.write_text(f"{word}\n")
        assert place.credentials() == {"authorization": f"Bearer {word}"}
    with FileServer(status=401) as ranker:
        pages = PagesSettings(ranker=ranker.url.removesuffix("/small.csv"), token_file=token)
        with pytest.raises(ServiceError, match="asks its callers for a token"):
            place.running(Settings(home=tmp_path, pages=pages))
        assert ranker.seen[-1]["authorization"] == "Bearer renewed"
