import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from offers.errors import PolicyError
from offers.experiments.assignment import positions
from offers.experiments.comparison import mismatch
from offers.experiments.experiment import OUTSIDE, Experiment, conflict, load

ARM = {"name": "dearer", "share": 0.1, "catalogue": "dearer.yaml"}


def experiment(*arms: dict[str, Any], **more: Any) -> Experiment:
    return Experiment.model_validate({"name": "e", "arms": [ARM | arm for arm in arms]} | more)


def pseudonyms(number: int) -> list[str]:
    return [f"{k:064x}" for k in range(number)]


def test_a_million_customers_are_assigned_at_once_in_the_shares_that_are_asked_for() -> None:
    everybody = pseudonyms(1_000_000)
    one = experiment({}, {"name": "b", "start": 0.5, "share": 0.3})
    started = time.process_time()
    arm = one.assign(everybody)
    assert time.process_time() - started < 2
    for place, share in ((0, 0.1), (1, 0.3), (-1, 0.6)):
        assert abs((arm == place).mean() - share) < 0.002
    assert (one.assign(everybody[:1000]) == arm[:1000]).all()


def test_nobody_moves_between_arms_when_a_share_grows() -> None:
    everybody = pseudonyms(20_000)
    before = experiment({}, {"name": "b", "start": 0.5, "share": 0.3}).assign(everybody)
    after = experiment({"share": 0.4}, {"name": "b", "start": 0.5, "share": 0.3}).assign(everybody)
    assert (after[before != -1] == before[before != -1]).all()
    assert set(after[before != after]) == {0}


def test_layers_share_out_customers_and_experiments_do_not_depend_on_each_other() -> None:
    everybody = pseudonyms(20_000)
    first = experiment({}, layer=(0, 0.25)).assign(everybody)
    second = experiment({}, name="f", layer=(0.25, 1)).assign(everybody)
    assert ((first == OUTSIDE) != (second == OUTSIDE)).all()
    assert abs((first != OUTSIDE).mean() - 0.25) < 0.02


def test_p_values_of_two_hundred_pairs_of_experiments_are_uniform() -> None:
    everybody = pseudonyms(2000)
    halves = np.array([positions(f"salt {k}", everybody) < 0.5 for k in range(400)])
    one, other = halves[:200], halves[200:]
    n = len(everybody)
    both, ones, others = (one & other).sum(axis=1), one.sum(axis=1), other.sum(axis=1)
    expected = ones * others / n
    chi2 = (both - expected) ** 2 * n**3 / (ones * (n - ones) * others * (n - others))
    assert stats.kstest(stats.chi2.sf(chi2, 1), "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"arms": [ARM | {"share": 1.1}]}, "expected at most 1, got 1.1"),
        ({"arms": [ARM | {"start": 0.95}]}, "expected 1 at most where the last arm ends, got 1.05"),
        ({"arms": [ARM, ARM | {"name": "b", "start": 0.05}]}, "'dearer' and 'b' share customers"),
        ({"arms": [ARM, ARM | {"start": 0.5}]}, "expected each name once"),
        ({"arms": [ARM | {"name": "control"}]}, "'control' is the arm of those"),
        ({"arms": [{"name": "a", "share": 0.1}]}, "expected a catalogue, or a model of its own"),
        ({"arms": [ARM | {"predictor": "127.0.0.1:1"}]}, "'predictor', 'bundle' and 'directory' together"),
        ({"arms": [ARM], "layer": [0.5, 0.5]}, r"expected a part such as \[0, 0.5\]"),
        ({"arms": [ARM], "since": 1}, "unknown key 'since'"),
    ],
)
def test_an_experiment_that_can_not_be_is_refused(tmp_path: Path, fields: dict[str, Any], sentence: str) -> None:
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump({"name": "e"} | fields))
    with pytest.raises(PolicyError, match=sentence):
        load(str(file))


def test_paths_of_a_file_are_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "e.yaml"
    file.write_text("name: e\narms: [{name: a, share: 0.5, catalogue: dearer.yaml}]\n")
    one = load(str(file))
    assert one.arms[0].catalogue == tmp_path / "dearer.yaml"
    assert one.shares == {"control": 0.5, "a": 0.5}


def test_experiments_with_common_customers_conflict() -> None:
    first, second = experiment({}, layer=(0, 0.5)), experiment({}, name="f", layer=(0.4, 1))
    assert "'e' and 'f' share customers" in conflict([first, second])
    assert "'e' stands twice" in conflict([first, experiment({}, layer=(0.5, 1))])
    assert conflict([first, experiment({}, name="f", layer=(0.5, 1))]) == ""


def test_customers_of_a_shadow_stay_where_they_are() -> None:
    everybody = pseudonyms(2000)
    plain, layer = experiment({"share": 0.5}), (0.0, 0.5)
    one = experiment({"share": 0.5}, {"name": "b", "share": 1.0, "shadow": True}, layer=layer)
    part = one.assign(everybody) != OUTSIDE
    assert (one.assign(everybody)[part] == plain.assign(everybody)[part]).all()
    assert one.shadowed(everybody)["b"].tolist() == np.flatnonzero(part).tolist()
    assert plain.shadowed(everybody) == {}


def test_a_share_that_grew_is_no_mismatch_and_lost_customers_are_one() -> None:
    crowd = pseudonyms(20_000)
    small, grown = (
        Experiment.model_validate({"name": "e", "arms": [{"name": "a", "share": share, "catalogue": "a.yaml"}]})
        for share in (0.1, 0.5)
    )
    before, after = small.assign(crowd[:12_000]), grown.assign(crowd[8_000:])
    logged = [*before.tolist(), *after[4_000:].tolist()]
    assert mismatch([logged.count(-1), logged.count(0)], list(grown.shares.values())) < 1e-9
    assert mismatch(list(grown.members(crowd).values()), list(grown.shares.values())) > 0.001
    whole = grown.assign(crowd)
    kept = [one for place, one in enumerate(crowd) if whole[place] == -1 or place % 10]
    assert mismatch(list(grown.members(kept).values()), list(grown.shares.values())) < 0.001
