"""What each section of the page says."""

import re
import shutil
from pathlib import Path

import pytest
from page_parser import Page, check
from sample_sweep import BASE_MS, MINUTE_MS, OBJECTIVE, SEEDS, make_record, write_sample_sweep
from sample_verdict import COMMAND, write_sample_verdict

from sg_ray.commands import runnable
from sg_ray.files import short_hash, write_json
from sg_ray.records.origin import Commit, Origin
from sg_ray.records.record import write_record
from sg_ray.records.winner_scores import set_test_aside
from sg_ray.report.page.content import read_sweep
from sg_ray.report.page.html import build_report
from sg_ray.report.page.sections import cost_section as cost
from sg_ray.report.page.sections import origin_section as origin
from sg_ray.report.page.sections import race_section as race
from sg_ray.report.page.sections import seeds_section as seeds
from sg_ray.report.page.sections import verdict_section as verdict
from sg_ray.report.page.sections import winner_section as winner
from sg_ray.sweep_folder import SweepFolder
from sg_ray.verdict.model import Verdict


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    write_sample_sweep(folder)
    write_sample_verdict(folder)
    return folder


@pytest.fixture(scope="module")
def page(folder) -> Page:
    return check(build_report(SweepFolder(folder)).read_text(encoding="utf-8"))


def rewritten(folder: Path, tmp_path: Path, **changes: object) -> Verdict:
    """A verdict like the sample's but for ``changes`` of its first comparison."""
    made = Verdict.model_validate_json((folder / "verdict.json").read_text())
    question = made.questions[0]
    first = question.comparisons[0].model_copy(update=changes)
    asked = question.model_copy(update={"comparisons": [first]})
    write_sample_sweep(tmp_path)
    changed = made.model_copy(update={"questions": [asked]})
    write_json(tmp_path / "verdict.json", changed)
    return changed


def test_every_comparison_has_its_sentence_numbers_and_outcome(folder, page):
    section = page.section("verdict")
    made = read_sweep(SweepFolder(folder)).verdict
    comparisons = [one for question in made.questions for one in question.comparisons]
    assert {one.outcome for one in comparisons} == {"a", "undecided"}
    for one in comparisons:
        assert one.sentence in section
        assert f"<b>{one.difference:+.4f}".replace("-", "\u2212") in section
    assert section.count(">decided<") == sum(one.outcome == "a" for one in comparisons)
    assert section.count('class="strip forest"') == len(comparisons)
    assert all(question.answer in section for question in made.questions)


def test_what_would_decide_it_is_told_with_the_command(page):
    section = page.section("verdict")
    assert "About 6 more seeds, 14 min 24 s of training" in section
    command = f'<pre class="command">{runnable(COMMAND)}</pre>'
    assert section.count(command) == 2  # once a question, as it runs here


def test_with_one_seed_the_number_of_more_is_the_least_as_the_sentence_has_it(folder, tmp_path):
    open_one = {"outcome": "undecided", "more_seeds": 5, "command": COMMAND}
    rewritten(folder, tmp_path, seeds=(1,), **open_one)
    section = Page(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")).section(
        "verdict"
    )
    assert "At least 5 more seeds" in section
    assert "About" not in section


def test_no_seeds_are_counted_for_what_gets_none(folder, tmp_path):
    """As for a pair of which the race gave one up."""
    rewritten(folder, tmp_path, outcome="undecided", more_seeds=5, command=None)
    section = Page(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")).section(
        "verdict"
    )
    assert "more seeds" not in section
    assert "No reasonable number" not in section


def test_no_number_of_seeds_is_no_promise(folder, tmp_path):
    rewritten(
        folder, tmp_path, outcome="undecided", more_seeds=None, more_trial_hours=None, command=None
    )
    section = Page(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")).section(
        "verdict"
    )
    assert "No reasonable number of seeds would decide it" in section
    assert "To get closer" not in section


def test_a_comparison_without_common_seeds_is_shown(folder, tmp_path):
    rewritten(
        folder, tmp_path, seeds=(), difference=None, interval=None, outcome="undecided",
        probability_better=None, p_permutation=None, mcnemar_p=None,
        minimum_detectable_difference=None,
    )  # fmt: skip
    page = check(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8"))
    assert "difference not known" in page.source


def test_the_words_are_explained(page):
    section = page.section("verdict")
    assert "below 5%" in section
    assert "seed 42" in section


def test_strips_tell_the_seed_of_the_search_from_fresh_ones(folder):
    sweep = read_sweep(SweepFolder(folder))
    group = seeds.section(sweep).content.groups[0]
    for line in group.lines:
        num_searched = line.drawing.count('class="searched"')
        num_fresh = line.drawing.count('class="fresh"')
        assert num_searched == (0 if line.row.is_floor else 1)
        assert num_searched + num_fresh == len(line.row.seeds)
        assert 'class="band"' in line.drawing
        assert 'class="floor-line"' in line.drawing


def test_means_in_strips_are_those_of_the_fresh_seeds(tmp_path):
    for seed, value in ((42, 0.9), (7, 0.6), (8, 0.7)):
        stage = "search" if seed == 42 else "replicate"
        write_record(
            SweepFolder(tmp_path),
            make_record("gnn", {}, seed, stage=stage, metrics={OBJECTIVE: value}),
        )
    (group,) = seeds.section(read_sweep(SweepFolder(tmp_path))).content.groups
    assert "<title>mean 0.6500</title>" in group.lines[0].drawing


def test_models_far_above_the_floor_are_shown_closer_too(tmp_path):
    write_record(
        SweepFolder(tmp_path),
        make_record("lexical", {}, 42, stage="floor", metrics={OBJECTIVE: 0.6}),
    )
    for seed, value in ((42, 0.95), (7, 0.96)):
        write_record(
            SweepFolder(tmp_path), make_record("gnn", {}, seed, metrics={OBJECTIVE: value})
        )
    wide, close = seeds.section(read_sweep(SweepFolder(tmp_path))).content.groups
    assert len(wide.lines) == 2
    assert [line.row.model for line in close.lines] == ["gnn"]
    assert "floor-line" not in close.lines[0].drawing


def test_the_race_shows_running_means_of_fresh_seeds_and_who_was_dropped(folder, page):
    content = race.section(read_sweep(SweepFolder(folder))).content
    assert {figure.title for figure in content.figures} == {"transformer", "gnn", "fusion"}
    (dropped,) = content.dropped
    figure = next(figure for figure in content.figures if figure.title == dropped.model)
    assert figure.drawing.count('class="cross"') == 1
    assert f"{short_hash(dropped.config_hash)}, dropped after 2" in figure.drawing
    section = page.section("race")
    names = map(short_hash, (dropped.config_hash, dropped.against))
    for text in (*names, "31.4", "10.0", "\u22120.0312"):
        assert text in section


def test_after_an_extension_the_test_split_was_not_read_once(folder, page, tmp_path):
    assert "read once, for it alone" in page.section("test")
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "test.json").write_bytes((folder / "test.json").read_bytes())
    set_test_aside(SweepFolder(tmp_path))
    (tmp_path / "test.json").write_bytes((folder / "test.json").read_bytes())
    section = Page(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")).section("test")
    assert "read before for who won then (1 time: " in section
    assert "once" not in section


def test_the_winner_is_scored_on_both_splits(folder, page):
    content = winner.on_test(read_sweep(SweepFolder(folder))).content
    by_metric = {line.metric: line for line in content.metrics}
    assert by_metric["f1"].test == 0.732
    assert by_metric["f1"].gap == pytest.approx(content.row.means["val_f1"] - 0.732)
    assert "validation flattered it by 0.0221" in page.section("test")


def test_the_scores_on_test_say_of_how_many_seeds_they_are_and_if_the_floor_is_above(
    folder, page, tmp_path
):
    section = page.section("test")
    assert section.count("3 seeds") == 2
    assert "the floor is ranked above it" not in section
    write_sample_sweep(tmp_path)
    for seed in SEEDS:
        better = make_record("lexical", {"ngram_max": 3}, seed, stage="floor", penalty=-0.3)
        write_record(SweepFolder(tmp_path), better)
    page = Page(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8"))
    assert "the floor is ranked above it" in page.section("test")


def test_decisions_are_shown_once_a_family(page):
    section = page.section("decisions")
    assert section.count('class="confusion"') == section.count('class="chart square"') == 4
    for text in ("171.4", "71%", "calibration error 0.0470", "8.3 % of functions"):
        assert text in section


def test_cost_is_added_up_by_model_and_stage(folder):
    sweep = read_sweep(SweepFolder(folder))
    content = cost.section(sweep).content
    assert content.total_s == pytest.approx(sweep.train_time_s)
    assert sum(content.stage_s(stage) for stage in content.stages) == pytest.approx(content.total_s)
    assert content.gpu_s == 0
    gnn = next(one for one in content.models if one.model == "gnn")
    assert gnn.by_stage_s["search"] == pytest.approx((4 * 5 + 2 * 2) * 60)
    assert gnn.timeline.count("<rect") == gnn.num_trials == 10


def test_gpu_hours_count_the_gpus_that_a_trial_took(tmp_path):
    (tmp_path / "sweep.yaml").write_text(
        "resources: {gpus: 1, num_workers: 2}\nmodels: {gnn: {resources: {gpus: 0.25}}}\n"
    )
    cuda = {"device": "cuda"}
    for model, environment in (("gnn", cuda), ("fusion", cuda), ("lexical", {"device": "cpu"})):
        write_record(
            SweepFolder(tmp_path),
            make_record(model, {}, 1, environment=environment, train_time_s=3600),
        )
    content = cost.section(read_sweep(SweepFolder(tmp_path))).content
    by_model = {one.model: one.gpu_s / 3600 for one in content.models}
    assert by_model == {"gnn": 0.25, "fusion": 2.0, "lexical": 0.0}
    assert "2.25 GPU-hours" in build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("span_ms", "unit"), [(30_000, "s"), (30 * MINUTE_MS, "min"), (300 * MINUTE_MS, "h")]
)
def test_the_timeline_has_a_fitting_unit(tmp_path, span_ms, unit):
    times = {"started_at_ms": BASE_MS, "finished_at_ms": BASE_MS + span_ms}
    write_record(SweepFolder(tmp_path), make_record("gnn", {}, 1, **times))
    assert f" {unit}</text>" in cost.section(read_sweep(SweepFolder(tmp_path))).content.axis


def test_without_it_an_equal_command_is_shown(folder):
    content = origin.section(read_sweep(SweepFolder(folder))).content
    assert not content.is_recorded
    assert content.commands == ["sg-ray sweep outputs/demo/sweep.yaml name=demo-again"]


def test_the_commands_of_all_starts_and_the_commits_are_told(tmp_path):
    code, project = (
        Commit(commit="0a1b2c3", is_dirty=True),
        Commit(commit="4d5e6f7", is_dirty=False),
    )
    for seed, command in ((1, "sg-ray sweep 'a #1.yaml'"), (2, "sg-ray extend <a>")):
        origin_of_seed = Origin(command=command, code=code, project=project)
        record = make_record("gnn", {}, seed, origin=origin_of_seed, finished_at_ms=BASE_MS + seed)
        write_record(SweepFolder(tmp_path), record)
    content = origin.section(read_sweep(SweepFolder(tmp_path))).content
    assert content.is_recorded
    assert content.commands == ["sg-ray sweep 'a #1.yaml'", "sg-ray extend <a>"]
    facts = dict(content.facts)
    assert facts["commit of sg-ray"].startswith("0a1b2c3, changed")
    assert facts["commit of the project"] == "4d5e6f7"
    page = check(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8"))
    assert "extend &lt;a&gt;" in page.text or "extend <a>" in page.text


def test_versions_and_hardware_are_told(tmp_path):
    for seed, torch in ((1, "2.12"), (2, "2.13")):
        environment = {"torch": torch, "cuda": None, "code_version": "of the process"}
        write_record(SweepFolder(tmp_path), make_record("gnn", {}, seed, environment=environment))
    facts = dict(origin.section(read_sweep(SweepFolder(tmp_path))).content.facts)
    assert facts["torch"] == "2.12, 2.13"
    assert "cuda" not in facts
    assert facts["code version"] != "of the process", "told as the record counts"


def test_seeds_that_the_race_added_are_counted(tmp_path):
    write_sample_sweep(tmp_path)
    sweep = read_sweep(SweepFolder(tmp_path))
    best = sweep.winner
    write_record(
        SweepFolder(tmp_path),
        make_record(best.model, best.configuration.values, 1, stage="replicate"),
    )
    after = read_sweep(SweepFolder(tmp_path))
    row = next(row for row in after.rows if row.config_hash == best.config_hash)
    assert set(row.seeds) == {*SEEDS, 1}


def test_the_lead_is_the_winners_over_the_floor(folder):
    sweep = read_sweep(SweepFolder(folder))
    means = [row.means[OBJECTIVE] for row in (sweep.winner, sweep.floor)]
    assert verdict.lead(sweep) == pytest.approx(means[0] - means[1])


def test_expected_best_is_drawn_against_trials_and_hours(page):
    section = page.section("expected")
    labels = re.findall(r'aria-label="(Expected best[^"]*)"', section)
    assert len(labels) == 2
    assert "fusion 0.7600 at 1, 0.8044 at 9" in labels[0]
    assert "fusion 0.7600 at 0.05, 0.8044 at 0.45" in labels[1]


def test_trials_that_vary_one_stream_cost_and_count_for_nothing_else(tmp_path):
    write_sample_sweep(tmp_path)
    before = read_sweep(SweepFolder(tmp_path))
    top = before.winner
    original = before.trials_of(top)[0]
    for number, stream in enumerate(("init", "order")):
        write_record(
            SweepFolder(tmp_path),
            original.model_copy(
                update={
                    "stage": "variance",
                    "streams": {stream: 9},
                    "trial_key": f"varied-{stream}",
                    "metrics": {**original.metrics, OBJECTIVE: 0.99},
                    "history": [],
                    "finished_at_ms": original.finished_at_ms + 1 + number,
                }
            ),
        )
    after = read_sweep(SweepFolder(tmp_path))
    assert after.rows == before.rows
    assert after.seeds_of(top, OBJECTIVE) == before.seeds_of(top, OBJECTIVE)
    assert after.train_time_s == before.train_time_s + 2 * original.train_time_s
    page = check(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8"))
    assert "variance" in page.section("cost")
    assert f"seed {original.seed}, init 9" in page.section("cost")
    (tmp_path / "report.html").unlink()
    for stream in ("init", "order"):
        (tmp_path / "records" / f"varied-{stream}.json").unlink()
    plain = check(build_report(SweepFolder(tmp_path)).read_text(encoding="utf-8"))
    for name in ("seeds", "leaderboard", "curves"):
        assert page.section(name) == plain.section(name)
