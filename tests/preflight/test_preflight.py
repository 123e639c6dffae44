"""``sg-ray preflight``: what passes, what each broken condition prints, what is left: nothing."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
import torch
from preflight_runs import DATA_CHECKS, ROOT, STEP_CHECKS, Preflight, run_alone

from sg_ray.cli import main
from sg_ray.cluster.ray_check import RayReport
from sg_ray.config import load_experiment
from sg_ray.data.codexglue import HUB_NAME
from sg_ray.data.sources import DataConfig, load_data, write_jsonl
from sg_ray.host.processes import descendants
from sg_ray.models.family import Batch, Classifier
from sg_ray.models.gnn import Gnn
from sg_ray.preflight import software
from sg_ray.preflight.checks import check_clean_up
from sg_ray.preflight.context import Context, temporary_folder
from sg_ray.preflight.machine import disk_needs


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files of processes that are started, and of nobody else."""
    folder = Path(tempfile.mkdtemp(prefix="pre-"))  # Ray's sockets need a short path
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def check_that_nothing_is_left(temporary: Path) -> None:
    assert [path.name for path in temporary.iterdir()] == ["ray"]
    assert list((temporary / "ray").iterdir()) == []


@pytest.mark.slow
def test_the_default_experiment_passes_and_nothing_is_left(
    preflight: Preflight, temporary: Path
) -> None:
    shutil.copy(ROOT / "experiments" / "quick.yaml", preflight.path)
    shutil.copytree(ROOT / "search_spaces", preflight.folder.parent / "search_spaces")
    processes_before = descendants()

    printed = run_alone(preflight.folder, "data.num_samples=200")

    assert printed.exit_code == 0, printed.text
    assert printed.status.pop("seeds") == "ok"
    assert set(printed.status.values()) == {"ok"}
    assert printed.text.encode("cp1252") == printed.text.encode("ascii")
    assert {path.name for path in preflight.folder.iterdir()} == {"experiment.yaml"}
    assert descendants() == processes_before
    check_that_nothing_is_left(temporary)


@pytest.mark.slow
def test_a_signal_leaves_nothing_either(preflight: Preflight, temporary: Path) -> None:
    command = [sys.executable, "-m", "sg_ray", "preflight", "experiment.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, cwd=preflight.folder, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("ray  " in line for line in process.stdout)  # Ray has been and gone
        process.terminate()
        process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    check_that_nothing_is_left(temporary)


def test_every_family_trains_for_a_step(preflight: Preflight) -> None:
    printed = preflight(only=(*STEP_CHECKS, "disk"))
    assert printed.exit_code == 0, printed.text
    assert set(printed.status.values()) == {"ok"}
    assert "8 rows" in printed.detail["train transformer"]
    assert list(preflight.folder.iterdir()) == [preflight.path]


def test_models_have_the_size_of_the_sweep(preflight: Preflight) -> None:
    """Eight functions fill few of the 400 tokens; the sweep's tokenizer fills them all."""
    experiment = load_experiment(preflight.path)
    with temporary_folder() as folder:
        step = Context(experiment, folder).step("transformer")
        assert step.source.folder.is_relative_to(folder)
    embeddings = 400 * 16
    assert embeddings < step.num_weights < 2 * embeddings


def test_too_little_memory_is_a_warning_that_says_what_to_set(preflight: Preflight) -> None:
    forward = Classifier.forward

    def narrow(self: Classifier, batch: Batch) -> torch.Tensor:
        if len(batch["offsets"]) > 5:  # more than 4 sequences
            raise torch.OutOfMemoryError
        return forward(self, batch)

    preflight.patch.setattr(Classifier, "forward", narrow)
    printed = preflight(only=("data", "train transformer"))
    assert printed.exit_code == 0
    assert printed.status["train transformer"] == "warn"
    assert "set max_units_per_micro_batch" in printed.detail["train transformer"]


def test_an_unexpected_error_stops_only_what_needs_it(preflight: Preflight) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("caf\u00e9\nis closed \u4e2d")

    preflight.patch.setattr(Gnn, "build", broken)
    printed = preflight(only=(*STEP_CHECKS, "disk"))
    assert printed.exit_code == 1
    assert printed.status["train gnn"] == "FAIL"
    assert "RuntimeError: caf\\xe9 is closed \\u4e2d" in printed.detail["train gnn"]
    assert printed.status["train transformer"] == "ok"
    assert printed.status["train fusion"] == "skip"
    assert printed.status["disk"] == "skip"
    assert "needs train gnn" in printed.detail["train fusion"]
    printed.text.encode("cp1252")


def test_a_broken_experiment_file_is_an_input_error(preflight: Preflight) -> None:
    assert preflight("replicate.seeds=[1,1]").exit_code == 2


def test_missing_data_skips_what_needs_it(preflight: Preflight) -> None:
    printed = preflight("data.path=nowhere", only=(*STEP_CHECKS, "devices"))
    assert printed.exit_code == 1
    assert printed.status["data"] == "FAIL"
    assert "nowhere does not exist" in printed.detail["data"]
    assert printed.status["devices"] == "ok"
    assert printed.status["train lexical"] == "skip"


def test_data_without_a_value_for_the_objective_fails(preflight: Preflight) -> None:
    splits = load_data(DataConfig(num_samples=40)).splits
    write_jsonl(preflight.folder / "d" / "train.jsonl", splits["train"])
    positive = [sample for sample in splits["valid"] if sample.label]
    write_jsonl(preflight.folder / "d" / "valid.jsonl", positive)
    printed = preflight("data.path=d", only=("data",))
    assert printed.exit_code == 1
    assert "val_roc_auc has no value" in printed.detail["data"]


def test_notes_about_the_data_are_warnings(preflight: Preflight) -> None:
    splits = load_data(DataConfig(num_samples=40)).splits
    write_jsonl(preflight.folder / "d" / "train.jsonl", [*splits["train"], splits["train"][0]])
    write_jsonl(preflight.folder / "d" / "valid.jsonl", splits["valid"])
    printed = preflight("data.path=d", only=("data",))
    assert printed.exit_code == 0
    assert printed.status["data"] == "warn"
    assert "train 33 rows (52% vulnerable)" in printed.detail["data"]
    assert "1 rows repeat an earlier row" in printed.detail["data"]


def test_codexglue_that_is_not_here_and_cannot_be_had_fails(preflight: Preflight) -> None:
    printed = preflight("data.source=codexglue", only=STEP_CHECKS)
    assert printed.exit_code == 1
    assert printed.status["data"] == "FAIL"
    assert "set data.path=DIR" in printed.detail["data"]
    assert printed.status["train gnn"] == "skip"


def test_codexglue_that_would_be_downloaded_is_not_downloaded(preflight: Preflight) -> None:
    asked = []
    preflight.patch.setattr(
        "huggingface_hub.HfApi.repo_info", lambda _self, name, **_: asked.append(name)
    )
    printed = preflight("data.source=codexglue", only=STEP_CHECKS)
    assert printed.exit_code == 0
    assert printed.status["data"] == "warn"
    assert printed.status["train gnn"] == "skip"
    assert asked == [HUB_NAME]


def test_codexglue_that_was_downloaded_is_read(preflight: Preflight) -> None:
    for split, samples in load_data(DataConfig(num_samples=40)).splits.items():
        write_jsonl(preflight.folder / ".cache" / "codexglue" / f"{split}.jsonl.xz", samples)
    printed = preflight("data.source=codexglue", only=("data",))
    assert printed.status["data"] == "ok"
    assert "train 32 rows" in printed.detail["data"]


PRETRAINED = "models={transformer: {config: {pretrained: %s}}}"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "the folder ./nowhere does not exist"),
        ("empty", "empty lacks config.json and model.safetensors"),
        ("nobody/nothing", "hf download nobody/nothing --local-dir DIR"),
    ],
)
def test_missing_weights_stop_only_what_needs_them(
    preflight: Preflight, name: str, message: str
) -> None:
    (preflight.folder / "empty").mkdir()
    printed = preflight(PRETRAINED % name, only=(*STEP_CHECKS, *DATA_CHECKS))
    assert printed.exit_code == 1
    assert printed.status["pretrained"] == "FAIL"
    assert message in printed.detail["pretrained"]
    assert printed.status["train transformer"] == "skip"
    assert printed.status["train gnn"] == "ok"


def write_encoder(folder: Path, tokenizer: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    config = RobertaConfig(
        vocab_size=50265, hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        intermediate_size=8, max_position_embeddings=514,
    )  # fmt: skip
    shutil.copytree(tokenizer, folder)
    RobertaModel(config, add_pooling_layer=False).save_pretrained(folder)


def test_a_pretrained_folder_is_loaded_and_trained(
    preflight: Preflight, roberta_tokenizer_dir: Path
) -> None:
    write_encoder(preflight.folder / "base", roberta_tokenizer_dir)
    only = ("data", "pretrained", "train transformer")
    printed = preflight(PRETRAINED % "base", only=only)
    assert set(printed.status.values()) == {"ok"}, printed.text
    assert "files are here: base" in printed.detail["pretrained"]


@pytest.fixture
def hub(preflight: Preflight, roberta_tokenizer_dir: Path) -> str:
    """A hub with CodeXGLUE and an encoder, whose name it is, and an empty cache beside it."""
    from huggingface_hub import constants

    encoder, cache = preflight.folder / "of-the-hub", preflight.folder / "hub-cache"
    write_encoder(encoder, roberta_tokenizer_dir)
    rows = {
        {"valid": "validation"}.get(split, split): [
            {"func": one.source, "target": bool(one.label)} for one in samples
        ]
        for split, samples in load_data(DataConfig(num_samples=40)).splits.items()
    }

    def give(name: str, allow_patterns: list[str]) -> str:
        place = cache / f"models--{name.replace('/', '--')}"
        for file in encoder.iterdir():
            if any(file.match(pattern) for pattern in allow_patterns):
                (place / "snapshots" / "0").mkdir(parents=True, exist_ok=True)
                shutil.copy(file, place / "snapshots" / "0")
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / "main").write_text("0")
        return str(place / "snapshots" / "0")

    preflight.patch.setattr(constants, "HF_HUB_CACHE", str(cache))
    preflight.patch.setattr("huggingface_hub.snapshot_download", give)
    preflight.patch.setattr("sg_ray.data.codexglue._download", lambda: rows)
    return "some/encoder"


def test_what_was_downloaded_is_there_when_the_hub_is_not(preflight: Preflight, hub: str) -> None:
    only = ("data", "pretrained", "train transformer")
    settings = ("data.source=codexglue", PRETRAINED % hub)
    printed = preflight(*settings, "--download", only=only)
    assert (printed.exit_code, printed.text[:11]) == (0, "downloading")
    for name in ("huggingface_hub.snapshot_download", "sg_ray.data.codexglue._download"):
        preflight.patch.delattr(name)
    printed = preflight(*settings, only=only)
    assert set(printed.status.values()) == {"ok"}, printed.text


def test_what_cannot_be_downloaded_ends_it(
    preflight: Preflight, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("data.source=codexglue", "--download")
    assert main(["preflight", str(preflight.path), *settings]) == 2
    assert "could not be downloaded" in capsys.readouterr().err


def test_gpus_that_are_not_there_fail(preflight: Preflight) -> None:
    preflight.patch.setattr(torch.cuda, "device_count", lambda: 0)
    preflight.patch.setattr(torch.cuda, "is_available", lambda: False)
    printed = preflight("resources.gpus=1", only=("devices",))
    assert printed.exit_code == 1
    assert re.search(r"a transformer trial .*takes 1 GPU", printed.detail["devices"])


def test_a_number_format_that_the_device_lacks_fails(preflight: Preflight) -> None:
    printed = preflight("models.gnn.config.precision=fp16", only=("devices",))
    assert printed.exit_code == 1
    assert "fp16 needs a CUDA device" in printed.detail["devices"]


_Usage = namedtuple("_Usage", ["total", "used", "free"])


@pytest.mark.parametrize(("share", "status"), [(0.9, "FAIL"), (1.5, "warn"), (2.5, "ok")])
def test_free_space_is_held_against_the_need(
    preflight: Preflight, share: float, status: str
) -> None:
    with temporary_folder() as folder:
        needs = disk_needs(Context(load_experiment(preflight.path), folder))
        need = sum(need.num_bytes for need in needs)
    free = int(share * need)
    preflight.patch.setattr(shutil, "disk_usage", lambda _: _Usage(10 * need, 0, free))
    printed = preflight(only=(*STEP_CHECKS, "disk"))
    assert printed.status["disk"] == status
    assert printed.exit_code == (status == "FAIL")


def test_packages_missing_or_of_another_version_are_named(preflight: Preflight) -> None:
    wanted = ["torch==1.0", "sg-ray-nonesuch", "numpy", 'pytest; extra == "dev"']
    preflight.patch.setattr(software, "requires", lambda _: wanted)
    printed = preflight(only=("packages",))
    assert printed.exit_code == 1
    assert f"torch is {torch.__version__}, wanted ==1.0" in printed.detail["packages"]
    assert "sg-ray-nonesuch is not installed" in printed.detail["packages"]
    assert "numpy" not in printed.detail["packages"]


def test_the_packages_that_are_required_can_be_imported_by_their_modules(
    preflight: Preflight,
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    preflight.patch.setattr(software, "requires", lambda _: project["dependencies"])
    printed = preflight(only=("packages",))
    assert (printed.status["packages"], printed.exit_code) == ("ok", 0)


def test_what_extras_need_is_looked_for(preflight: Preflight) -> None:
    wanted = {"sg-ray": ["numpy[dash]"], "numpy": ['sg-ray-nonesuch>=2; extra == "dash"', "gone"]}
    preflight.patch.setattr(software, "requires", wanted.get)
    detail = preflight(only=("packages",)).detail["packages"]
    assert "sg-ray-nonesuch is not installed" in detail
    assert "gone" not in detail


@pytest.mark.parametrize(
    ("num_workers", "error", "is_only_ray", "status"),
    [
        (1, None, True, "ok"),
        (1, "refused", False, "warn"),
        (2, None, True, "ok"),
        (2, None, False, "warn"),
        (2, "refused", False, "FAIL"),
    ],
)
def test_a_silent_state_service_fails_worker_groups_only(
    preflight: Preflight, num_workers: int, error: str | None, is_only_ray: bool, status: str
) -> None:
    report = RayReport({"CPU": 2}, 1.0, 1.0, error, is_only_ray, None, frozenset())
    preflight.patch.setattr(software, "check_ray", lambda *_, **__: report)
    printed = preflight(f"resources.num_workers={num_workers}", only=("ray",))
    assert printed.status["ray"] == status
    assert printed.exit_code == (status == "FAIL")


def test_a_trial_that_ray_has_no_room_for_fails(preflight: Preflight) -> None:
    report = RayReport({"CPU": 0.5}, 1.0, 1.0, None, True, None, frozenset())
    preflight.patch.setattr(software, "check_ray", lambda *_, **__: report)
    printed = preflight(only=("ray",))
    assert printed.status["ray"] == "FAIL"
    assert "there are 0.5" in printed.detail["ray"]


def test_the_store_is_checked_unless_it_is_turned_off(preflight: Preflight) -> None:
    (preflight.folder / "occupied").write_text("a file where a folder is wanted")
    uri = "tracking.uri=sqlite:///occupied/mlflow.db"
    printed = preflight(uri, only=("mlflow",))
    assert printed.exit_code == 1
    assert "occupied cannot be written" in printed.detail["mlflow"]
    assert preflight(uri, "tracking.enabled=false", only=("mlflow",)).exit_code == 0


@pytest.mark.parametrize("setting", ["output_dir", "cache_dir"])
def test_a_folder_that_cannot_be_written_fails(preflight: Preflight, setting: str) -> None:
    (preflight.folder / "occupied").write_text("a file where a folder is wanted")
    printed = preflight(f"{setting}=occupied/below", only=("sweep folder",))
    assert printed.exit_code == 1
    assert f"{setting}: " in printed.detail["sweep folder"]
    assert "occupied cannot be written" in printed.detail["sweep folder"]


def test_a_folder_begun_with_other_settings_fails(preflight: Preflight) -> None:
    from sg_ray.records.begin import begin

    begin(load_experiment(preflight.path))
    printed = preflight(only=("sweep folder",))
    assert printed.status["sweep folder"] == "ok"
    assert "would go on" in printed.detail["sweep folder"]
    printed = preflight("search.num_trials=3", only=("sweep folder",))
    assert printed.exit_code == 1
    assert "--resume tiny" in printed.detail["sweep folder"]


def test_few_seeds_are_a_warning(preflight: Preflight) -> None:
    few = preflight(only=("seeds",))
    assert few.status["seeds"] == "warn"
    assert "can reach is 1 for two configurations" in few.detail["seeds"]
    assert "takes at least 7 for two configurations" in few.detail["seeds"]
    enough = preflight("replicate.seeds=[1,2,3,4,5,6,7,8,9]", only=("seeds",))
    assert enough.status["seeds"] == "ok"
    assert preflight("replicate.max_seeds=9", only=("seeds",)).status["seeds"] == "ok"


def test_given_branches_are_read_and_built_on(preflight: Preflight) -> None:
    one_seed = "replicate.seeds=[42]"
    for family in ("transformer", "gnn"):
        assert main(["train", family, str(preflight.path), f"models.{family}.config.epochs=1"]) == 0
    given = ("families=[fusion]", "branches_from=outputs/train")
    only = ("data", "branches", "train fusion")
    printed = preflight(one_seed, *given, only=only)
    assert set(printed.status.values()) == {"ok"}, printed.text
    assert "1 x transformer, 1 x gnn" in printed.detail["branches"]
    printed = preflight(*given, only=only)
    assert printed.exit_code == 1
    assert "has transformer for 1 of the seeds 42, 7" in printed.detail["branches"]
    assert printed.status["train fusion"] == "skip"


def test_what_is_left_is_named(preflight: Preflight) -> None:
    context = Context(load_experiment(preflight.path), preflight.folder)
    finding = check_clean_up(preflight.folder, context, descendants())
    assert finding.status == "FAIL"
    assert str(preflight.folder) in finding.detail


def test_temporary_files_are_taken_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    before = tempfile.gettempdir(), dict(os.environ)
    with temporary_folder() as folder:
        handle, name = tempfile.mkstemp()
        os.close(handle)
        assert Path(name).parent == folder
        assert os.environ["TMPDIR"] == str(folder)
        assert os.environ["RAY_TMPDIR"] == str(tmp_path)
        os.environ["LIBRARY_CACHE"] = f"{folder}/cache"
    assert not folder.exists()
    assert before == (tempfile.gettempdir(), dict(os.environ))


def test_a_cluster_that_the_environment_names_is_asked_instead(
    preflight: Preflight, ray_session: None
) -> None:
    """What fits nowhere here may fit there, and what fits nowhere there fails."""
    del ray_session
    place = ray.get_runtime_context().gcs_address
    preflight.patch.setenv("RAY_ADDRESS", place)
    told = preflight(only=("devices", "ray"))
    assert (told.status["devices"], told.status["ray"]) == ("ok", "ok")
    assert f"at once on the cluster at {place} (1 machine" in told.detail["ray"]
    told = preflight("resources.cpus=64", only=("devices", "ray"))
    assert (told.status["devices"], told.status["ray"]) == ("ok", "FAIL")
    preflight.patch.setattr(ray, "is_initialized", lambda: False)
    preflight.patch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "RAY_ADDRESS=127.0.0.1:9: no Ray" in preflight(only=("ray",)).detail["ray"]
