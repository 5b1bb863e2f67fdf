from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from scipy.optimize import linprog

from offers.batch.allocation import allocate
from offers.batch.campaign import Constraints, load
from offers.batch.exposure import Segments
from offers.batch.left_out import left_out
from offers.batch.levers import priced, write_catalogue
from offers.batch.prices import price
from offers.contract import contract as contracts
from offers.contract.contract import Contract
from offers.errors import CampaignError
from offers.policy import catalogue as catalogues
from offers.policy.arbitration import Policy
from offers.policy.decided import SHOWN
from offers.simulation.world import World
from tests.support.warranties import WARRANTIES

CATALOGUE = catalogues.load("bank-marketing", contracts.load("bank-marketing"))
OFFERS, PROTECTED = CATALOGUE.offers, ("age",)

WEEK = """\
name: autumn
per_customer: {per_customer}
budget: 500
capacity:
  - {{name: mobile-monday, where: {{contact: cellular, day_of_week: mon}}, contacts: 20}}
  - {{name: mobile-tuesday, where: {{contact: cellular, day_of_week: tue}}, contacts: 60}}
  - {{name: fixed-line, where: {{contact: telephone}}, contacts: 80}}
minimum:
  - {{family: 6-months, contacts: 40}}
  - {{family: 24-months, contacts: 30}}
"""


def scores_of(n_customers: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    propensity = generator.beta(1, 8, n_customers)[:, None] * generator.uniform(0.7, 1.3, (n_customers, len(OFFERS)))
    scores = propensity * [offer.value * offer.weight for offer in OFFERS] - [offer.cost for offer in OFFERS]
    scores[(scores < 0) | (generator.random(scores.shape) < 0.1)] = -np.inf
    return scores.astype(np.float32)


def check(scores: np.ndarray, constraints: Constraints, customer: np.ndarray, offer: np.ndarray) -> None:
    contacts = np.bincount(offer, minlength=scores.shape[1])
    assert (constraints.usage @ contacts <= constraints.limit + 1e-9).all()
    assert np.bincount(customer).max() <= constraints.per_customer
    assert len(set(zip(customer.tolist(), offer.tolist(), strict=True))) == len(customer)
    assert np.isfinite(scores[customer, offer]).all()


@pytest.mark.parametrize("per_customer", [1, 2])
@pytest.mark.parametrize("seed", [0, 1])
def test_plan_is_near_what_highs_finds_and_breaks_nothing(per_customer: int, seed: int) -> None:
    scores = scores_of(2000, seed)
    _, constraints = load(WEEK.format(per_customer=per_customer), OFFERS, PROTECTED)
    best, plan = (allocate(scores, constraints, exact) for exact in (True, False))
    for one in (best, plan):
        check(scores, constraints, one.customer, one.offer)
        assert one.value == pytest.approx(float(scores[one.customer, one.offer].astype(float).sum()))
        assert one.value <= one.pricing.bound * (1 + 1e-9)
    assert plan.value >= best.value * 0.999


def test_a_large_campaign_is_close_to_its_bound() -> None:
    scores = scores_of(150_000)
    _, constraints = load(WEEK.format(per_customer=1).replace("budget: 500", "budget: 20000"), OFFERS, PROTECTED)
    plan = allocate(scores, constraints)
    check(scores, constraints, plan.customer, plan.offer)
    assert plan.pricing.bound * 0.995 <= plan.value <= plan.pricing.bound * (1 + 1e-9)


def test_bound_and_prices_are_those_of_the_linear_programme() -> None:
    scores = scores_of(200)
    _, constraints = load("name: x\nbudget: 60\n", OFFERS, PROTECTED)
    customer, offer = np.nonzero(np.isfinite(scores))
    each = (customer == np.arange(200)[:, None]).astype(float)
    rows, limits = np.vstack([constraints.usage[:, offer], each]), np.append(constraints.limit, np.ones(200))
    answer = linprog(-scores[customer, offer].astype(float), rows, limits, bounds=(0, 1), method="highs")
    pricing = price(scores, constraints)
    assert pricing.bound == pytest.approx(-answer.fun, rel=1e-4)
    assert pricing.prices[0] == pytest.approx(-answer.ineqlin.marginals[0], rel=0.05)


@pytest.mark.parametrize("per_customer", [1, 2])
def test_who_has_had_contacts_before_gets_so_many_fewer(per_customer: int) -> None:
    scores, most = scores_of(2000, 5), np.random.default_rng(5).integers(0, per_customer + 1, 2000).astype(np.uint8)
    _, constraints = load(WEEK.format(per_customer=per_customer), OFFERS, PROTECTED)
    free = allocate(scores, constraints, exact=False)
    assert (np.bincount(free.customer, minlength=2000) > most).any()
    best, plan = (allocate(scores, constraints, exact, most) for exact in (True, False))
    for one in (best, plan):
        check(scores, constraints, one.customer, one.offer)
        assert (np.bincount(one.customer, minlength=2000) <= most).all()
        assert one.value <= one.pricing.bound * (1 + 1e-9)
    assert plan.value >= best.value * 0.999
    groups = left_out(scores, constraints, plan, most)
    reachable = np.isfinite(scores).any(axis=1) & (most > 0)
    assert sum(group.customers for group in groups) == reachable.sum() - len(np.unique(plan.customer))


def test_without_limits_everybody_gets_the_best_offer() -> None:
    scores = scores_of(3000)
    plan = allocate(scores, load("name: free\n", OFFERS, PROTECTED)[1])
    best = scores.max(axis=1)
    assert plan.value == pytest.approx(float(best[np.isfinite(best)].astype(float).sum()))


def test_minimums_that_cannot_hold_are_named_with_the_smallest_relaxation() -> None:
    text = "name: x\ncapacity:\n  - {name: all-mobile, where: {contact: cellular}, contacts: 30}\n"
    text += (
        "  - {name: fixed, where: {contact: telephone}, contacts: 0}\nminimum:\n  - {family: 6-months, contacts: 50}\n"
    )
    with pytest.raises(CampaignError, match="lowers minimum of 6-months by 20 contacts"):
        allocate(scores_of(2000), load(text, OFFERS, PROTECTED)[1])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "name: x\ncapacity:\n  - {name: a, where: {contact: cellular}, contacts: -1}\n",
            "line 3: .*expected at least 0, got -1",
        ),
        (
            "name: x\ncapacity:\n  - {name: a, where: {contact: pigeon}, contacts: 1}\n",
            "cellular, telephone, got 'pigeon'",
        ),
        ("name: x\ncapacity:\n  - {name: a, where: {channel: mail}, contacts: 1}\n", "no offer sets it, got 'mail'"),
        ("name: x\nminimum:\n  - {family: gold, contacts: 1}\n", "expected one of .*, got 'gold'"),
        ("name: x\nbudget: -5\n", "budget: expected at least 0"),
        (
            "name: x\nexposure:\n  - {column: income, group: low, share: 0.1}\n",
            "line 3: .*expected one of the protected columns age, got 'income'",
        ),
    ],
)
def test_a_campaign_that_makes_no_sense_is_refused_by_line(text: str, complaint: str) -> None:
    with pytest.raises(CampaignError, match=complaint):
        load(text, OFFERS, PROTECTED)


def test_prices_as_levers_keep_the_ranker_near_the_capacity(tmp_path: Path) -> None:
    contract, limits = contracts.load("bank-marketing"), {"cellular": 300, "telephone": 200}
    rows = [f"  - {{name: {name}, where: {{contact: {name}}}, contacts: {most}}}" for name, most in limits.items()]
    constraints = load("\n".join(["name: x", "capacity:", *rows]), OFFERS, PROTECTED)[1]
    policy, customers = Policy(CATALOGUE.unlimited(), contract), World(contract).sample(4000).frame
    standing = policy.pairing.stand(customers)
    generator = np.random.default_rng(0)
    propensity = generator.beta(1, 8, 4000)[:, None] * generator.uniform(0.7, 1.3, standing.eligible.shape)
    propensity[~standing.eligible] = np.nan
    decided = policy.decide(standing, propensity)
    scores = np.where(standing.eligible & (decided.fate == SHOWN), decided.score, -np.inf)
    plan = allocate(scores[:, [policy.offers.index(offer) for offer in OFFERS]], constraints, exact=False)
    catalogue = tmp_path / "priced.yaml"
    write_catalogue(priced(CATALOGUE, constraints, plan.pricing.prices), catalogue)
    ranker = Policy(catalogues.load(str(catalogue), contract), contract)
    assert ranker.catalogue.version != CATALOGUE.version
    for before, after in ((policy, False), (ranker, True)):
        first = before.decide(before.pairing.stand(customers), propensity, 1)
        used = Counter(before.offers[place].attributes["contact"] for place in first.offer.tolist())
        assert all(abs(used[name] - most) <= 0.05 * most for name, most in limits.items()) == after


def in_segments(scores: np.ndarray, segment: np.ndarray, count: int) -> np.ndarray:
    """The scores as they are read where a campaign has floors of exposure."""
    wide = np.full((len(scores), count, len(OFFERS)), -np.inf, np.float32)
    wide[np.arange(len(scores)), segment] = scores
    return wide.reshape(len(scores), -1)


def test_protected_groups_get_their_floor_of_exposure() -> None:
    scores = scores_of(2000, seed=3)
    groups = np.random.default_rng(3).choice(["<30", "30 to <60", ">=60"], 2000, p=[0.3, 0.5, 0.2])
    scores[groups == ">=60"] -= 8
    scores[scores < 0] = -np.inf
    floor = 'exposure:\n  - {column: age, group: ">=60", share: 0.06}\n'
    campaign, base = load(WEEK.format(per_customer=1) + floor, OFFERS, PROTECTED)
    segments = Segments(campaign.exposure)
    segment = segments.of([groups])
    sizes = np.bincount(segment, minlength=len(segments))
    assert len(segments) == 2
    constraints, wide = segments.constraints(base, sizes), in_segments(scores, segment, 2)
    free = allocate(scores, base, exact=False)
    best, plan = (allocate(wide, constraints, exact) for exact in (True, False))
    floored = int(np.ceil(0.06 * (groups == ">=60").sum()))
    assert (groups[free.customer] == ">=60").sum() < floored
    for one in (best, plan):
        check(wide, constraints, one.customer, one.offer)
        assert (groups[one.customer] == ">=60").sum() >= floored
        assert one.by_offer(len(OFFERS)).sum() == len(one.customer)
    assert plan.value >= best.value * 0.999
    with pytest.raises(CampaignError, match="expected customers in group '>=60' of age, got none"):
        segments.constraints(base, np.array([0, 2000]))


def test_the_command_keeps_a_floor_of_exposure(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, shop_contract: Contract, shop_yaml: str
) -> None:
    paths = [tmp_path / name for name in ("warranties.yaml", "shop.yaml", "campaign.yaml", "plan.parquet")]
    paths[0].write_text(WARRANTIES.replace("weight: 2}", "weight: 2, justification: Warranties are for the content.}"))
    paths[1].write_text(shop_yaml.replace("nullable: true", "nullable: true, bands: [2, 4], protected: true"))
    catalogue = catalogues.load(str(paths[0]), shop_contract)
    rating = np.array([">=4", "<2"] * 100)
    rows = {
        "customer": [f"c{n}" for n in range(200)],
        "rank": pa.array([1] * 200, pa.int16()),
        "offer": ["full"] * 200,
        "score": np.where(rating == ">=4", 9.0, 2.0),
        "catalogue": [f"{catalogue.name}-{catalogue.version}"] * 200,
    }
    (tmp_path / "scored").mkdir()
    part = tmp_path / "scored" / "part-000001.parquet"
    limits = "name: x\ncapacity:\n  - {name: phone, where: {channel: phone}, contacts: 50}\n"
    paths[2].write_text(limits + "exposure:\n  - {column: rating, group: '<2', share: 0.2}\n")
    asked = (tmp_path / "scored", paths[2], paths[3], "--catalogue", paths[0], "--contract", paths[1])
    parquet.write_table(pa.table(rows), part)
    code, _, complaint = offers("campaign", *asked)
    assert (code, "with --groups" in complaint) == (2, True)
    parquet.write_table(pa.table(rows | {"group_rating": rating}), part)
    code, said, _ = offers("campaign", *asked)
    assert code == 0
    assert "exposure of rating <2: 20 of at least 20 contacts; the last one costs 7.00 EUR" in said
    plan = parquet.read_table(paths[3]).to_pandas()
    assert (len(plan), int(plan["customer"].str[1:].astype(int).mod(2).sum())) == (50, 20)
    assert set(plan["offer"]) == {"full"}


def test_earlier_plans_count_by_the_period_of_the_campaign(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, shop_contract: Contract, shop_yaml: str
) -> None:
    (tmp_path / "warranties.yaml").write_text(WARRANTIES)
    (tmp_path / "shop.yaml").write_text(shop_yaml)
    catalogue = catalogues.load(str(tmp_path / "warranties.yaml"), shop_contract)
    rows = {
        "customer": [f"c{n}" for n in range(200)],
        "rank": pa.array([1] * 200, pa.int16()),
        "offer": ["full"] * 200,
        "score": np.arange(200, 0, -1.0),
        "catalogue": [f"{catalogue.name}-{catalogue.version}"] * 200,
    }
    (tmp_path / "scored").mkdir()
    parquet.write_table(pa.table(rows), tmp_path / "scored" / "part-000001.parquet")
    where = "--catalogue", tmp_path / "warranties.yaml", "--contract", tmp_path / "shop.yaml"
    file, first = tmp_path / "campaign.yaml", tmp_path / "first.parquet"
    limits = "name: x\ncapacity:\n  - {name: phone, where: {channel: phone}, contacts: 50}\n"
    period = "period: {contacts: 1, days: 7}\n"

    def planned(text: str, plan: Path, *more: object) -> tuple[int, str]:
        file.write_text(text)
        code, _, complaint = offers("campaign", tmp_path / "scored", file, plan, *where, *more)
        return code, complaint

    def customers(plan: Path) -> list[int]:
        return sorted(int(name[1:]) for name in parquet.read_table(plan)["customer"].to_pylist())

    assert planned(f"{limits}{period}date: 2026-11-30\n", first) == (0, "")
    assert customers(first) == list(range(50))
    second, page, earlier = tmp_path / "second.parquet", tmp_path / "page.html", ("--earlier", first)
    assert planned(f"{limits}{period}date: 2026-12-06\n", second, *earlier, "--page", page) == (0, "")
    assert customers(second) == list(range(50, 100))
    assert "50 customers had 1 contacts or more in the 7 days" in page.read_text()
    assert {str(day) for day in parquet.read_table(second)["date"].to_pylist()} == {"2026-12-06"}
    assert planned(f"{limits}{period}date: 2026-12-07\n", second, *earlier) == (0, "")
    assert customers(second) == list(range(50))
    for text, plan, words in (
        (f"{limits}{period}", first, "period: expected key date beside it"),
        (f"{limits}date: 2026-12-07\n", first, "expected key period, by which earlier plans count"),
        (
            f"{limits}{period}date: 2026-12-07\n",
            tmp_path / "scored" / "part-000001.parquet",
            "columns customer and date",
        ),
        (f"{limits}{period}date: 2026-12-07\n", tmp_path / "absent.parquet", "there is no such file"),
        (f"{limits}{period}date: soon\n", first, "date: expected a day such as 2026-12-31, got 'soon'"),
    ):
        code, complaint = planned(text, second, "--earlier", plan)
        assert (code, words in complaint, len(complaint.splitlines())) == (2, True, 1)


def test_a_floor_that_cannot_hold_is_named_with_the_smallest_relaxation() -> None:
    campaign, base = load('name: x\nexposure:\n  - {column: age, group: ">=60", share: 1.0}\n', OFFERS, PROTECTED)
    scores = scores_of(100)
    scores[:3] = -np.inf
    constraints = Segments(campaign.exposure).constraints(base, np.array([100, 0]))
    with pytest.raises(CampaignError, match=r"lowers exposure of age >=60 by \d+ contacts"):
        allocate(in_segments(scores, np.zeros(100, int), 2), constraints)


def test_who_is_left_out_is_counted_by_the_limit_that_keeps_them_out() -> None:
    scores = scores_of(3000)
    constraints = load(WEEK.format(per_customer=1), OFFERS, PROTECTED)[1]
    plan = allocate(scores, constraints, exact=False)
    groups = left_out(scores, constraints, plan, np.ones(3000))
    had_an_offer = int(np.isfinite(scores).any(axis=1).sum())
    assert sum(group.customers for group in groups) == had_an_offer - len(np.unique(plan.customer))
    assert constraints.names[groups[0].limit or 0] == "budget"
    earning = sum(group.customers * group.earning for group in groups)
    without = np.delete(scores, np.unique(plan.customer), axis=0).max(axis=1)
    assert earning == pytest.approx(float(without[np.isfinite(without)].astype(float).sum()), rel=1e-5)


def test_the_command_plans_from_a_scored_table(
    offers: Callable[..., tuple[int, str, str]], tmp_path: Path, shop_bundle: Path, shop_contract: Contract
) -> None:
    catalogue, contract = tmp_path / "warranties.yaml", shop_bundle / "contract.yaml"
    catalogue.write_text(WARRANTIES)
    customers = tmp_path / "customers.csv"
    rows = [f"c{n};{100 + 3 * n};5;north;1;4,5" for n in range(300)]
    customers.write_text("\n".join(["customer_id;spending;visits;region;member;rating", *rows]) + "\n")
    asked = ("--bundle", shop_bundle, "--catalogue", catalogue, "--pairs", "--rows", 70)
    assert offers("score", customers, tmp_path / "scored", *asked)[0] == 0
    campaign, plan = tmp_path / "campaign.yaml", tmp_path / "plan.parquet"
    campaign.write_text("name: x\ncapacity:\n  - {name: phone, where: {channel: phone}, contacts: 10}\n")
    where = ("--catalogue", catalogue, "--contract", contract)
    files = ("--page", tmp_path / "plan.html", "--levers", tmp_path / "priced.yaml")
    code, said, _ = offers("campaign", tmp_path / "scored", campaign, plan, *where, *files)
    assert code == 0
    assert "Who is left out, and why" in (tmp_path / "plan.html").read_text()
    assert "one more contact is worth" in (tmp_path / "plan.html").read_text()
    costs = {offer.id: offer.cost for offer in catalogues.load(str(tmp_path / "priced.yaml"), shop_contract).offers}
    assert costs["full"] > 4
    assert costs["basic"] == 1
    assert "phone: 10 of 10 contacts used; one more contact is worth" in said
    table = parquet.read_table(plan).to_pandas()
    assert (table["offer"] == "full").sum() == 10
    assert table["customer"].is_unique
    assert offers("score", customers, tmp_path / "scored.delta", *asked)[0] == 0
    for number in (2, 5):
        part = (tmp_path / "scored" / f"part-{number:06}.parquet").rename(tmp_path / "part")
        code, _, complaint = offers("campaign", tmp_path / "scored", campaign, plan, *where)
        assert (code, f"expected part {number} of a complete table, found none" in complaint) == (2, True)
        part.rename(tmp_path / "scored" / f"part-{number:06}.parquet")
    (tmp_path / "scored" / "complete-1-of-1").unlink()
    code, _, complaint = offers("campaign", tmp_path / "scored", campaign, plan, *where)
    assert (code, "expected a complete scored table, but the run" in complaint) == (2, True)
    assert offers("campaign", tmp_path / "scored.delta", campaign, tmp_path / "second.parquet", *where)[0] == 0
    second = parquet.read_table(tmp_path / "second.parquet").to_pandas()
    assert set(second.itertuples(index=False)) == set(table.itertuples(index=False))
    code, _, complaint = offers("campaign", tmp_path / "absent.delta", campaign, plan, *where)
    assert (code, "absent.delta: expected a Delta table, found none" in complaint) == (2, True)
    campaign.write_text("name: x\ncapacity:\n  - {name: phone, where: {channel: fax}, contacts: 10}\n")
    assert offers("campaign", tmp_path / "scored", campaign, plan, *where)[0] == 2
    assert len(parquet.read_table(plan)) == len(table)
