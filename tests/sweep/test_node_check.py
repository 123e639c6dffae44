"""What a node of a cluster is asked before it trains, and what becomes of one that may not."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray import cloudpickle

from sg_ray.cluster.losses import places_in
from sg_ray.cluster.nodes import node_check, node_question
from sg_ray.cluster.nodes.node_answer import MODULES, NodeAnswer, faults, notes
from sg_ray.cluster.nodes.node_check import Node, NodeCheck
from sg_ray.cluster.nodes.premises import Premises
from sg_ray.code_version import code_version
from sg_ray.config import Resources
from sg_ray.errors import InfrastructureError, InputError
from sg_ray.sweep_folder import SweepFolder

FOLDER = Path("/shared/outputs/quick")
HERE = NodeAnswer(
    host="head",
    python="3.11.2",
    ray="2.60.0",
    package="/opt/sg-ray/sg_ray",
    code_version="aaaaaaaaaaaa",
    own_versions={"mine.lstm:Lstm": "1"},
    code_trouble="",
    missing=[],
    torch="2.13.0+cu130",
    cuda="13.0",
    read_trouble="",
    write_trouble="",
)
NODE = "w1 (10.0.0.2)"


def told(**differing: Any) -> str:
    return " ".join(faults(NODE, replace(HERE, **differing), HERE, FOLDER))


def test_a_node_that_is_like_the_drivers_may_train() -> None:
    assert told() == ""
    assert notes(HERE, HERE) == []


@pytest.mark.parametrize(
    ("differing", "said"),
    [
        (
            {"package": "", "code_version": "", "code_trouble": "ModuleNotFoundError: sg_ray"},
            "sg_ray is not installed on w1 (10.0.0.2) (ModuleNotFoundError: sg_ray). Install there",
        ),
        (
            {"code_version": "bbbbbbbbbbbb", "package": "/home/me/sg_ray"},
            "w1 (10.0.0.2) has other code: version bbbbbbbbbbbb of sg_ray in /home/me/sg_ray, here "
            "aaaaaaaaaaaa. Install there what is installed here (/opt/sg-ray/sg_ray).",
        ),
        (
            {"code_version": "", "code_trouble": "ModuleNotFoundError: sg_ray.code_version"},
            "has other code: version ModuleNotFoundError: sg_ray.code_version of sg_ray in",
        ),
        ({"own_versions": {"mine.lstm:Lstm": "2"}}, "has other code: mine.lstm:Lstm is another"),
        ({"own_versions": {"mine.lstm:Lstm": ""}}, "lacks code of your own: mine.lstm:Lstm."),
        (
            {"own_versions": {}, "code_trouble": "InputError: it is written otherwise"},
            "lacks code of your own (InputError: it is written otherwise)",
        ),
        ({"missing": ["safetensors"]}, "lacks packages that trials import: safetensors."),
        ({"torch": "2.12.1+cu130"}, "has other code: torch 2.12.1, here 2.13.0."),
        ({"ray": "2.59.0"}, "has other code: Ray 2.59.0, here 2.60.0."),
        (
            {"read_trouble": "it is another folder there"},
            "output_dir is not shared: w1 (10.0.0.2) cannot read /shared/outputs/quick (it is "
            "another folder there). Mount it there, or set output_dir to a folder that all nodes",
        ),
        (
            {"write_trouble": "Permission denied"},
            "output_dir is not shared: w1 (10.0.0.2) cannot write to /shared/outputs/quick "
            "(Permission denied). Let the user of Ray's processes there write to it, or set",
        ),
    ],
)
def test_what_keeps_a_node_from_training_is_said_with_its_name(
    differing: dict[str, Any], said: str
) -> None:
    assert said in told(**differing)


def test_everything_that_is_wrong_with_a_node_is_said_at_once() -> None:
    text = told(code_version="bbbbbbbbbbbb", torch="2.12.1", read_trouble="there is no such folder")
    assert text.count("w1 (10.0.0.2)") == 3


def test_another_cuda_build_of_the_same_torch_is_noted_and_no_more() -> None:
    there = replace(HERE, torch="2.13.0+cpu", cuda="")
    assert faults(NODE, there, HERE, FOLDER) == []
    assert notes(there, HERE) == [
        "torch for CPUs there, torch for CUDA 13.0 here; its last bits may differ."
    ]


def ask(folder: Path, token: str = "seen", own_code: tuple[str, ...] = ()) -> NodeAnswer:
    places = str(folder / token), "seen", str(folder / f"{token}-here")
    return NodeAnswer(**node_question.answer(*places, MODULES, own_code))


def test_the_question_is_answered_here_as_on_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(node_question, "_PATIENCE_S", 0.3)
    (tmp_path / "seen").write_text("seen")
    found = ask(tmp_path)
    assert (found.code_version, found.code_trouble) == (code_version(), "")
    assert (found.torch, found.cuda) == (torch.__version__, torch.version.cuda or "")
    assert found.missing == []
    assert (found.read_trouble, found.write_trouble) == ("", "")
    assert (tmp_path / "seen-here").read_text() == "seen"


def test_a_folder_that_is_not_the_drivers_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_question, "_PATIENCE_S", 0.3)
    assert ask(tmp_path).read_trouble == "it is another folder there"
    assert ask(tmp_path / "nowhere").read_trouble == "there is no such folder"
    (tmp_path / "seen").write_text("of another driver")
    assert ask(tmp_path).read_trouble == "it holds other files there"
    assert [path.name for path in tmp_path.iterdir()] == ["seen"]


def test_own_code_that_a_node_lacks_has_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_question, "_PATIENCE_S", 0.0)
    own = ("nobody.x:Y", "json.decoder:JSONDecoder")
    versions = ask(tmp_path, own_code=own).own_versions
    assert versions["nobody.x:Y"] == ""
    assert len(versions["json.decoder:JSONDecoder"]) == 12


@pytest.mark.parametrize("has_folder", [False, True])
def test_the_question_travels_without_the_package(tmp_path: Path, *, has_folder: bool) -> None:
    """Unpickling must import nothing of ours: the node may not have it, or an empty folder."""
    with node_check._by_value():
        pickled = cloudpickle.dumps(node_question.answer)
    (tmp_path / "seen").write_text("seen")
    if has_folder:
        (tmp_path / "sg_ray").mkdir()
    places = ", ".join(repr(str(tmp_path / name)) for name in ("seen", "mark"))
    token, _, mark = places.partition(", ")
    packages = str(Path(cloudpickle.__file__).parents[2])
    script = (
        f"import json, pickle, sys; sys.path.append({packages!r}); "
        f"answer = pickle.loads({pickled!r}); "
        f"print(json.dumps(answer({token}, 'seen', {mark}, ['json'], [])))"
    )
    said = subprocess.run(
        [sys.executable, "-S", "-c", script],  # without what an editable installation adds
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    found = NodeAnswer(**json.loads(said.stdout))
    assert (found.package, found.read_trouble, found.write_trouble) == ("", "", "")
    assert found.code_trouble == "ModuleNotFoundError: No module named 'sg_ray'"


def test_a_process_that_must_not_train_says_so_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_question, "_PATIENCE_S", 0.3)
    Premises().require_here()
    (tmp_path / "word").write_text("word")
    Premises(token=tmp_path / "word").require_here()
    with pytest.raises(InfrastructureError, match=r"output_dir is not shared: .* cannot read"):
        Premises(token=tmp_path / "other").require_here()
    with pytest.raises(InfrastructureError, match=r"has other code: version .* planned with bbbb"):
        Premises(code_version="bbbb").require_here()


def test_a_node_is_held_in_portions_so_that_all_that_is_free_is_taken() -> None:
    for total in (1, 2, 3, 7, 64, 96):
        portions = list(node_check._portions(total))
        assert sum(portions) == total
        for num_free in range(total + 1):
            taken = 0
            for portion in portions:  # in Ray's order: what fits is taken
                taken += portion if taken + portion <= num_free else 0
            assert taken == num_free
    assert list(node_check._portions(0)) == []


def checked(avoided: dict[str, Node], usable: dict[str, Node], folder: Path) -> NodeCheck:
    check = NodeCheck(SweepFolder(folder), [], lambda *_: None)
    check._nodes = {**avoided, **usable}
    check._seen = dict(check._nodes)
    check._avoided = {node_id: f"{node.name} has other code." for node_id, node in avoided.items()}
    return check


def node(name: str, cpus: float, gpus: float = 0) -> dict[str, Node]:
    return {name: Node(name, name, "10.0.0.1", {"CPU": cpus, "GPU": gpus})}


def test_without_a_node_that_fits_a_trial_nothing_begins(tmp_path: Path) -> None:
    small, large = node("small", 2), node("large", 8, 1)
    gnn = {"gnn": Resources(cpus=1)}
    checked(large, small, tmp_path)._require_room(gnn)
    on_gpu = {"gnn": Resources(cpus=1, gpus=1)}
    with pytest.raises(InputError, match=r"no node is left that a gnn trial may run on\. large"):
        checked(large, small, tmp_path)._require_room(on_gpu)
    checked({}, small, tmp_path)._require_room(on_gpu)  # nodes may come
    group = {"gnn": Resources(cpus=1, num_workers=4)}
    with pytest.raises(InputError, match="has other code"):
        checked(large, small, tmp_path)._require_room(group)
    elastic = {"gnn": Resources(cpus=1, num_workers=4, min_workers=2)}
    checked(large, small, tmp_path)._require_room(elastic)
    head = {"head": Node("head", "head", "10.0.0.1", {"CPU": 0, "node:__internal_head__": 1})}
    checked(head, large, tmp_path)._require_room(gnn)
    with pytest.raises(InputError, match=r"head .* has other code"):  # its workers are led there
        checked(head, large, tmp_path)._require_room(group)
    many = {name: one for n in range(5) for name, one in node(f"n{n}", 2).items()}
    with pytest.raises(InputError, match="And 2 nodes more; the sweep's journal names each"):
        checked(many, {}, tmp_path)._require_room(gnn)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("class_name: TrialActor\n\tpid: 7\n\tip: 10.0.0.2\nThe actor is dead", "10.0.0.2"),
        ("ray::TrialActor.__init__() (pid=7, ip=10.0.0.2, actor_id=1)", "10.0.0.2"),
        ("Memory on the node (IP: 10.0.0.2, ID: bdaa662c) was 22.36GB", "10.0.0.2"),
        ("\tip: fd00::2\n", "fd00::2"),
        ("because its node has died. Node Id: 4966655107fe\n", "4966655107fe"),
    ],
)
def test_the_node_of_a_lost_process_is_found_in_rays_words(text: str, place: str) -> None:
    assert places_in(text) == {place}


def test_where_something_was_lost_is_named_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = checked({}, {**node("w1", 2), "w2": Node("w2", "w2", "10.0.0.9", {})}, tmp_path)
    doubted: list[str] = []
    monkeypatch.setattr(check, "_ask", lambda node: doubted.append(node.id))
    monkeypatch.setattr(check, "_hold", lambda node: None)
    assert check.lost_on("its process (ip=10.0.0.9) died") == "w2 (10.0.0.9)"
    assert check.lost_on("its process (ip=10.0.0.7) died") is None
    assert check.lost_on("nobody knows where") is None
    assert doubted == ["w2"]
    del check._nodes["w1"]  # it is gone: it has a name all the same
    assert check.lost_on("its node has died. Node Id: w1 Node Id: abc ip: 10.0.0.1") is not None
    assert doubted == ["w2"]


def test_a_node_alone_need_not_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = checked({}, node("w1", 2), tmp_path)
    monkeypatch.setattr(alone, "_ask", lambda node: None)
    monkeypatch.setattr(alone, "_hold", lambda node: None)
    assert alone.lost_on("ip: 10.0.0.1") is None
