"""FLEET.toml: what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector import gpus
from collector import study as studies
from collector.bundle.door import clean_study
from collector.errors import UsageFault
from collector.fleet import study as fleets
from collector.fleet.limits import until
from collector.fleet.start import check_prices
from collector.fleet.study import FleetRun
from collector.prepare import narrowed

GOOD = """
id = "h200-vs-l4"
title = "Where does it pay?"
[[runs]]
gpu = "h200"
study = "h200-shape"
boxes = 2
until_precise = "3%"
side_by_side = true
stress = true
[[runs]]
gpu = "l4"
ray_type = "L4"
[runs.price]
usd_per_hour = 0.8
source = "the bill"
date = "2026-11-21"
"""


def test_a_fleet_names_profiles_studies_and_boxes(tmp_path: Path) -> None:
    (tmp_path / "FLEET.toml").write_text(GOOD)
    fleet, (first, second) = fleets.load(tmp_path / "FLEET.toml")
    assert (fleet.id, first.run.boxes, second.run.boxes) == ("h200-vs-l4", 2, 1)
    assert (first.profile.name, first.study.id) == ("h200", "h200-shape")
    assert second.study.id == studies.load("l4").id  # the profile's own
    assert second.study.price is not None
    assert second.study.price.usd_per_hour == 0.8
    assert (first.run.precision, first.run.side_by_side, first.run.stress) == (0.03, True, True)
    assert (second.run.precision, second.run.side_by_side, second.run.stress) == (None, False, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('boxes = 2', 'boxs = 2'), "unknown key `runs[0].boxs`; did you mean `boxes`?"),
        (('boxes = 2', 'boxes = 0'), "key `runs[0].boxes`: expected `int` >= 1"),
        (('boxes = 2', 'boxes = "two"'), "key `runs[0].boxes`: expected `int`, got `str`"),
        (('gpu = "h200"', ''), "key `runs[0].gpu` is missing"),
        (('id = "h200-vs-l4"', 'id = "../up"'), "key `id`: expected `str` matching regex"),
        (('source = "the bill"', ''), "key `runs[1].price.source` is missing"),
        (('title =', 'title'), "is not valid TOML"),
        (('until_precise = "3%"', 'until_precise = 3'), "key `runs[0].until_precise`: expected `str`, got `int`"),
        (('side_by_side = true', 'side_by_side = 2'), "key `runs[0].side_by_side`: expected `bool`, got `int`"),
        (('stress = true', 'stres = true'), "unknown key `runs[0].stres`; did you mean `stress`?"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_key(change: tuple[str, str], said: str) -> None:
    with pytest.raises(UsageFault) as e:
        fleets.loads(GOOD.replace(*change), "FLEET.toml")
    assert str(e.value).startswith("FLEET.toml")
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('gpu = "h200"', 'gpu = "h20"'), "no GPU profile named h20; did you mean h200?"),
        (('"h200-shape"', '"h200-shap"'), "no study named h200-shap and no such file; did you mean h200-shape?"),
        (('"3%"', '"3"'), 'F.toml: runs[0]: until_precise = "3" is no share; for example until_precise = "3%"'),
        (('gpu = "h200"\nstudy = "h200-shape"', 'gpu = "cpu"'), "side_by_side needs GPUs, cpu has none; leave it out"),
        (('gpu = "l4"', 'gpu = "h200"\nstudy = "h200-shape"'), "h200 measures h200-shape already; raise its `boxes`"),
    ],
)  # fmt: skip
def test_names_that_stand_for_nothing(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageFault) as e:
        fleets.asked(fleets.loads(GOOD.replace(*change)), "F.toml", tmp_path)
    assert said in str(e.value)


def demo(**changes: str) -> str:
    text = studies.dumps(studies.load("demo"))
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def test_a_study_lies_beside_the_fleet(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(demo().replace('id = "demo"', 'id = "mine"'))
    (tmp_path / "F.toml").write_text('id = "f"\ntitle = "t"\n[[runs]]\ngpu = "demo"\nstudy = "mine.toml"\n')
    _, (only,) = fleets.load(tmp_path / "F.toml")
    assert only.study.id == "mine"


def test_an_endpoint_is_on_no_box(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        demo().replace('name = "replay"', 'name = "endpoint"\nurl = "http://x"', 1).replace('url = ""', "")
    )
    (tmp_path / "F.toml").write_text('id = "f"\ntitle = "t"\n[[runs]]\ngpu = "demo"\nstudy = "mine.toml"\n')
    with pytest.raises(UsageFault, match="measures an endpoint, which is on no box"):
        fleets.load(tmp_path / "F.toml")


def test_a_secret_is_an_environment_variable_and_comes_back_from_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    study = studies.load("demo")
    study.engine.env["HF_TOKEN"] = "hf_" + "a" * 34
    study.variants[0].args.append("--api-key=sk-" + "b" * 40)
    with pytest.raises(UsageFault, match="an argument in study demo looks like a secret"):
        fleets._no_secret_arguments(study, "FLEET.toml")
    study.variants[0].args.clear()
    fleets._no_secret_arguments(study, "FLEET.toml")
    written = clean_study(study)
    assert "hf_" not in studies.dumps(written)
    with pytest.raises(UsageFault, match="HF_TOKEN of engine was taken out as a secret; set HF_TOKEN"):
        fleets.with_secrets(written, "study-1.toml")
    monkeypatch.setenv("HF_TOKEN", "given")
    assert fleets.with_secrets(written, "study-1.toml").engine.env["HF_TOKEN"] == "given"


def test_what_stands_side_by_side_has_one_value_of_each_secret() -> None:
    study, profile = studies.load("demo"), gpus.get("demo")
    study.engine.env["HF_TOKEN"] = "hf_" + "a" * 34
    together = FleetRun(gpu="demo", side_by_side=True)
    fleets._possible(together, profile, study, "F.toml")
    study.variants[1].env["HF_TOKEN"] = "hf_" + "b" * 34
    fleets._possible(FleetRun(gpu="demo"), profile, study, "F.toml")  # one after the other, each has its own
    with pytest.raises(UsageFault, match="side by side have different values of the secret HF_TOKEN") as e:
        fleets._possible(together, profile, study, "F.toml")
    assert "hf_" not in str(e.value)


def test_a_baseline_alone_has_no_ratio_to_be_precise_about() -> None:
    alone = narrowed(studies.load("demo"), ("bf16",))
    with pytest.raises(UsageFault, match="study demo has the baseline alone: no ratio; leave out until_precise"):
        fleets._possible(FleetRun(gpu="demo", until_precise="3%"), gpus.get("demo"), alone, "F.toml")


def test_narrowed_keeps_the_order_and_drops_a_control_that_is_gone() -> None:
    study = studies.load("demo")
    study.control = "awq"
    kept = narrowed(study, ("fp8", "bf16"))
    assert [v.name for v in kept.variants] == ["bf16", "fp8"]
    assert kept.control == ""
    assert studies.loads(studies.dumps(kept)).baseline == "bf16"


def test_until() -> None:
    import datetime

    now = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.UTC)
    assert until("90m", now) - now == datetime.timedelta(minutes=90)
    assert until("1.5d", now) - now == datetime.timedelta(hours=36)
    assert until("2026-11-21T15:00+02:00", now) - now == datetime.timedelta(hours=1)
    for text, said in (("soon", "is no time"), ("2026-11-21T11:00+00:00", "has passed")):
        with pytest.raises(UsageFault, match=said):
            until(text, now)


def test_dollars_need_a_price(tmp_path: Path) -> None:
    from tests.fleet.test_schedule import planned

    index, _ = planned(price=None)
    check_prices(index, None)
    with pytest.raises(UsageFault, match=r"--max-usd needs a price per hour, run 1 \(demo demo\) has none"):
        check_prices(index, 5.0)
