"""Settings that cannot be meant: one line says where they were given, and what to do."""

from pathlib import Path

import pytest

from sg_ray.cli import main
from sg_ray.config import load_experiment
from sg_ray.errors import InputError
from sg_ray.host.cache_lock import LOCK_NAME
from sg_ray.records.folder_format import write_format
from sg_ray.setting_types import MAX_SEEDS

E_YAML = """name: e
data: {num_samples: 240}
families: [gnn]
lr_range: {enabled: false}
tracking: {enabled: false}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("e.yaml").write_text(E_YAML)
    return tmp_path


def contents() -> dict[Path, bytes]:
    """Every file here, but for the empty one that says that a cache is in use."""
    files = (path for path in Path().rglob("*") if path.is_file() and path.name != LOCK_NAME)
    return {path: path.read_bytes() for path in files}


def refusal(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that is refused, and leaves nothing behind; return its only line."""
    before = contents()
    assert main(arguments) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert line.count("\n") == 1
    assert contents() == before
    return line.removeprefix("error: ").rstrip("\n")


OVERRIDES = {
    # an empty or unset variable, and YAML's null, where a place is wanted
    "data.path=": "'data.path=': no folder given",
    "data.path=~": "'data.path=~': data.path: no folder given",
    "data.path=null": "'data.path=null': data.path: no folder given",
    'data.path=""': "data.path: no folder given",
    "data.path=' '": "data.path: no folder given",
    "data.train_file=": "'data.train_file=': no file given",
    "output_dir=": "'output_dir=': no folder given",
    "cache_dir=~": "cache_dir: no folder given",
    "lr_range.cache_dir=": "'lr_range.cache_dir=': no folder given",
    "branches_from=": "'branches_from=': no folder given",
    "models.transformer.config.pretrained=": "'models.transformer.config.pretrained=': no value",
    "models.gnn.space=": "'models.gnn.space=': no value given",
    "name=": "'name=': no value given",
    "replicate.max_seeds=": "no value given (null says that there is none)",
    "tracking.uri=": "'tracking.uri=': no value given",
    # addresses
    "output_dir=s3://bucket/x": "addresses such as s3:// are not supported; give a folder",
    "data.path=gs://bucket/x": "addresses such as s3:// are not supported; give a folder",
    "data.train_file=https://a/b.jsonl": "not supported; give a file",
    "branches_from=file:///x": "addresses such as s3:// are not supported",
    "models.transformer.config.pretrained=s3://x": "give a hub name or folder",
    # what no path can be
    f"output_dir={'a' * 256}": "output_dir: too long a name: at most 255 bytes between two slashes",
    "cache_dir=" + "\u00e9" * 128: "cache_dir: too long a name",
    f"data.path={'a/' * 3000}": "data.path: too long a name: at most 255 bytes between two slashes",
    r'output_dir="\ud800"': "output_dir: a folder's name is text, not halves of characters",
    r'data.path="a\0b"': "data.path: a folder has no NUL in its name",
    "data.path=~nobody/x": "data.path: ~nobody/x does not exist",
    "data.train_file=~nobody/x": "train_file and valid_file belong together",
    # text of which YAML keeps a part
    "output_dir=run ": "YAML reads 'run': blanks around it, line breaks and such are lost",
    "output_dir=a\nb": "YAML reads 'a b'",
    "data.path=&x foo": """quote it: data.path='"&x foo"'""",
    "output_dir=a\x07": r"a control character or half of one (U+0007)",
    # text that YAML reads as something else
    "name=123": """name: Input should be a valid string (got 123); quote it: name='"123"'""",
    "name=017": """(got 17); quote it: name='"017"'""",
    "name=true": """quote it: name='"true"'""",
    "output_dir=2024": """quote it: output_dir='"2024"'""",
    "data.path=/data/run #3": """quote it: data.path='"/data/run #3"'""",
    "data.path=[run]/": """quote it: data.path='"[run]/"'""",
    "data.path=a: b/c": """quote it: data.path='"a: b/c"'""",
    "output_dir=- x": """quote it: output_dir='"- x"'""",
    "name={x}": """quote it: name='"{x}"'""",
    "replicate.seeds=[1,2": "not valid YAML: expected ',' or ']'",
    # names that there are not
    "objective=val_x": "'objective=val_x': objective: unknown metric 'val_x'. Use one of: val_loss",
    "families=[gn]": "'families=[gn]': families: unknown family 'gn'. Known: lexical, transformer",
    "models.gn.config.epochs=3": "models.gn: unknown family 'gn'. Known: lexical, transformer",
    "models.gnn.space=.": "models.gnn.space: . is no file (search spaces are looked for",
    # types
    "replicate.seeds=[]": "replicate.seeds: Input should hold at least one value",
    "models=[gnn]": "models: Input should be a section with settings of its own",
    "resources.cpus=1e-320": "resources.cpus: Input should be greater than or equal to 0.0001",
    "resources.gpus=1e-5": "gpus must be 0 or at least 0.0001",
    "replicate.seeds=[1.5]": "replicate.seeds.0: Input should be a valid integer (got 1.5)",
    "replicate.seeds=[true]": "Input should be a valid integer (got True)",
    "replicate.seeds=[-1]": "greater than or equal to 0 (got -1)",
    "replicate.seeds=[4294967296]": "less than 4294967296 (got 4294967296)",
    "search.seed=4294967296": "search.seed: Input should be less than 4294967296",
    "data.seed=-1": "data.seed: Input should be greater than or equal to 0",
    "data.num_samples=1E5": "valid integer (got 100000.0); write it without a point or an exponent",
    "data.num_samples='240'": "Input should be a valid integer (got '240')",
    "data.remove_leaks=yes": "Input should be true or false (got 'yes')",
    "data.remove_leaks=1": "Input should be true or false (got 1)",
    "models.gnn.config.dropout=true": "Input should be a valid number (got True)",
    "models.gnn.config.learning_rate='1e-3'": "Input should be a valid number (got '1e-3')",
    "models.gnn.config.learning_rate=.nan": "Input should be a finite number (got nan)",
    "models.gnn.config.weight_decay=.inf": "Input should be a finite number (got inf)",
    "models.gnn.space.dropout={uniform: [0, .inf]}": "Input should be a finite number",
    "models.gnn.space.epochs={choice: [5, 7.0]}": "7.0 is not a legal value",
    "models.gnn.space.dropout={choice: [0.1, 1e-1]}": "none of them twice",
    "models.gnn.space.dropout={uniform: [0.1]}": "uniform: Input should be [low, high] (got [0.1])",
    "models.gnn.space.epochs={int_uniform: [1, 2, 3]}": "int_uniform: Input should be [low, high]",
    # a search would come upon them, hours later
    "models.transformer.space={hidden_dim: {int_uniform: [64, 128]}}": (
        "space.hidden_dim: 65 is not a legal value (hidden_dim 65 must be a multiple of num_heads 4"
    ),
    "models.transformer.space={hidden_dim: {int_uniform: [64, 4096]}}": "65 is not a legal value",
    "models.transformer.space={hidden_dim: {choice: [128, 72]}, num_heads: {choice: [4, 8, 16]}}": (
        "models.transformer.space.num_heads: 16 beside hidden_dim 72 is not a legal value"
    ),
    "models.transformer.space={pretrained: {choice: [null, org/name]}}": (
        "the family has no hyperparameter 'pretrained' to search over"
    ),
    "models.lexical.space={min_df: {choice: [1, 2]}}": (
        "models.lexical.space: lexical is not searched; leave it out"
    ),
    # typos that would fill the memory
    "search.num_trials=1000000000": "less than or equal to 100000",
    "models.gnn.config.epochs=1000000000": "less than or equal to 100000",
    "lr_range.num_steps=1000000000": "less than or equal to 100000",
    "lr_range.num_seeds=1000000000": "at most 1,000 seeds",
    "replicate.variance_seeds=1000000000": "at most 1,000 seeds",
    "resources.num_workers=1000000000": "less than or equal to 100000",
    "max_failures=1000000000": "less than or equal to 1000",
    f"search.seed={'9' * 5000}": "a number of 5,000 characters",
    f"{'a.' * 3000}a=1": "no setting lies that deep",
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_case_20_24_b17_b23_an_override_is_refused_in_one_line(
    override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert OVERRIDES[override] in refusal("sweep", "e.yaml", override, "--dry-run", capsys=capsys)


@pytest.mark.parametrize("value", ["", "~", "null", '""'])
def test_case_20_a_file_gives_no_folder(value: str) -> None:
    path = Path("p.yaml")
    path.write_text(f"name: e\ndata:\n  path: {value}\n")
    with pytest.raises(InputError, match=r"^p\.yaml:3: data\.path: no folder given$"):
        load_experiment(path)


@pytest.mark.parametrize(
    ("place", "override", "refused"),
    [
        ("path: d", "data.source=synthetic", True),
        ("path: d", "data.source=codexglue", True),
        ("path: d", "data.source=path", False),
        ("train_file: a, valid_file: b", "data.path=d", True),
        ("train_file: a, valid_file: b", "data.source=path", True),
        ("train_file: a, valid_file: b", "data.source=files", False),
        ("source: codexglue", "data.path=d", False),
    ],
)
def test_data_of_the_command_line_are_never_left_out_in_silence(
    place: str, override: str, refused: bool
) -> None:
    Path("p.yaml").write_text(f"name: e\ndata: {{{place}}}\n")
    if not refused:
        load_experiment(Path("p.yaml"), [override])
        return
    with pytest.raises(InputError, match=r"\(p\.yaml:2\) wins over it\. .* 'data={"):
        load_experiment(Path("p.yaml"), [override])


def test_null_is_a_value_where_it_says_something() -> None:
    path = Path("p.yaml")
    path.write_text("name: e\nreplicate: {max_seeds: ~, race_alpha: null}\n")
    assert load_experiment(path).replicate.race_alpha is None
    given = ["replicate.max_seeds=null", "models.transformer.config.pretrained=null"]
    assert load_experiment(path, given).replicate.max_seeds is None


@pytest.mark.parametrize("number", [MAX_SEEDS + 1, 1025, 10**9])
def test_case_21_more_seeds_than_anybody_means_are_refused(
    number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    override = f"replicate.max_seeds={number}"
    assert "at most 1,000 seeds" in refusal("sweep", "e.yaml", override, "--dry-run", capsys=capsys)


def test_case_21_a_list_of_seeds_is_no_longer_than_that(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = ",".join(map(str, range(1, 1101)))
    given = f"replicate.seeds=[{seeds}]"
    assert "at most 1,000 seeds" in refusal("sweep", "e.yaml", given, "--dry-run", capsys=capsys)


def test_case_21_as_many_seeds_as_are_allowed_have_a_plan(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seeds = ",".join(map(str, range(MAX_SEEDS)))
    assert main(["sweep", "e.yaml", f"replicate.seeds=[{seeds}]", "--dry-run"]) == 0
    assert "smallest p that they can reach" in capsys.readouterr().out


def test_case_24_a_search_space_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("space.yaml").write_text(f"{E_YAML}models: {{gnn: {{space: nosuch.yaml}}}}\n")
    told = refusal("sweep", "space.yaml", "--dry-run", capsys=capsys)
    assert told.startswith("space.yaml:6: models.gnn.space: nosuch.yaml does not exist (")
    assert "beside the experiment" in told


def test_case_24_a_file_is_told_how_to_quote() -> None:
    Path("n.yaml").write_text("data: {num_samples: 240}\nname: 123\n")
    with pytest.raises(InputError, match=r'n\.yaml:2: name: .* \(got 123\); quote it: name: "123"'):
        load_experiment(Path("n.yaml"))


def test_case_27_train_and_other_families_do_not_go_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = refusal(
        "train", "gnn", "e.yaml", "families=[transformer]", "--epochs", "1", capsys=capsys
    )
    assert line.startswith("train gnn and families=[transformer] do not go together")


@pytest.mark.parametrize("flags", [("--output-dir", "new"), ("--find-lr",), ("--force-find-lr",)])
def test_a_flag_that_a_resumed_training_would_pass_over_is_refused(
    flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").mkdir()
    Path("run/last.pt").touch()
    Path("run/experiment.yaml").write_text(E_YAML)
    line = refusal("train", "gnn", "--resume", "run", *flags, capsys=capsys)
    assert line.startswith(f"--resume run and {' '.join(flags)} do not go together: ")


ARGUMENTS = {
    ("train", "gnn", "e.yaml", "--seed", "-1"): "--seed -1: Input should be greater than",
    ("train", "gnn", "e.yaml", "--seed", "4294967296"): "--seed 4294967296: ",
    ("train", "gnn", "e.yaml", "--epochs", "0"): "--epochs 0: models.gnn.config.epochs: ",
    ("train", "gnn", "e.yaml", "--lr", "nan"): "--lr nan: models.gnn.config.learning_rate: ",
    ("train", "gnn", "e.yaml", "--seed", "1_0"): "--seed 1_0: Input should be a whole number",
    ("train", "gnn", "e.yaml", "--epochs", ""): "--epochs: no value given",
    ("train", "gnn", "e.yaml", "--epochs", "1e3"): "write it without a point or an exponent",
    ("train", "gnn", "e.yaml", "--lr", "1_0e-3"): "Input should be a valid number (got '1_0e-3')",
    ("train", "gnn", "e.yaml", "--output-dir", ""): "--output-dir: no folder given",
    ("train", "gnn", "e.yaml", "--output-dir", "s3://b/x"): "addresses such as s3://",
    ("train", "gnn", "--config", ""): "--config: no file given",
    ("train", "gnn", "--resume", ""): "--resume: no file given",
    ("train", "gnn", "e.yaml", "--train-data", "/run #3/x.jsonl", "--val-data", "y"): (
        "data.train_file: /run #3/x.jsonl does not exist"
    ),
    ("train", "gnn", "e.yaml", "--train-data", "a", "--val-data", "b", "data.path=d"): (
        "'data.path=d': data.train_file (--train-data a) wins over it"
    ),
    ("sweep", "--resume", ""): "--resume: no value given",
    ("sweep", "e.yaml", "--address", ""): "--address: no value given",
    ("sweep", ""): "no experiment file given",
    ("sweep", "runs/lr=1/e.yaml"): "runs/lr=1/e.yaml: no such file",
    ("extend", "", "seeds=[1]"): "name: no value given",
    ("report", ""): "folders: no folder given",
    ("report", "x" * 256): "too long a name",
    ("report", "x", "--csv", "."): "--csv .: is a folder; name a file in it",
    ("track", "sync", "a\0b"): "folder a\\x00b: a folder has no NUL in its name",
    ("reproduce", ""): "record: no value given",
    ("track", "sync", ""): "folder: no folder given",
    ("graphs", "--data", "", "--out", "g"): "--data: no folder given",
    ("data", "synthetic", "--num-samples", "40", "--out", ""): "--out: no folder given",
    ("data", "synthetic", "--num-samples", "40", "--seed", "-1"): "--seed -1: ",
    ("data", "sample", "--num", "40", "--seed", "4294967296"): "--seed 4294967296: ",
    ("data", "sample", "--num", "4_0"): "--num 4_0: Input should be a whole number",
    ("graphs", "--data", "x", "--out", "e.yaml"): "e.yaml cannot be written (Not a directory)",
    ("graphs", "--data", "x", "--out", "g", "--max-samples", "1" + "0" * 10): (
        "--max-samples 10000000000: Input should be less than or equal to 1000000000"
    ),
    ("data", "synthetic", "--num-samples", "40", "--out", "e.yaml"): "--out: ",
    ("data", "sample", "--num", "40", "--out", "e.yaml/x"): "cannot be written (Not a directory)",
    ("train", "gnn", "e.yaml", "--output-dir", "e.yaml"): "--output-dir: ",
    ("train", "gnn", "e.yaml", "output_dir=e.yaml"): "output_dir: ",
    ("train", "gnn", "e.yaml", "--find-lr", "lr_range.cache_dir=e.yaml"): "lr_range.cache_dir: ",
    ("train", "lexical", "e.yaml", "--find-lr"): "--find-lr: lexical has no learning rate",
    ("train", "gnn", "e.yaml", "cache_dir=e.yaml"): "cache_dir: ",
    (
        "sweep",
        "e.yaml",
        "tracking.enabled=true",
        "tracking.uri=s3://bucket",
    ): "not a database or server",
    (
        "sweep",
        "e.yaml",
        "tracking.enabled=true",
        "tracking.uri=http://",
    ): "not a database or server",
    (
        "sweep",
        "e.yaml",
        "tracking.enabled=true",
        "tracking.uri=http://127.0.0.1:99999",
    ): "not a database or server",
    (
        "sweep",
        "e.yaml",
        "tracking.enabled=true",
        "tracking.uri=http://[::1",
    ): "not a database or server",
    ("sweep", "e.yaml", "data.num_samples", "=", "240"): "key=value, without blanks",
    ("sweep", "e.yaml", "--resume", "e"): "takes its experiment from its folder, not e.yaml",
}


@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_b17_b23_an_argument_is_refused_in_one_line(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ARGUMENTS[arguments] in refusal(*arguments, capsys=capsys)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("seeds=[1,2", "not valid YAML"),
        ("seeds=[1.5]", "seeds.0: Input should be a valid integer (got 1.5)"),
        ("seeds=[[1]]", "seeds.0: Input should be a valid integer (got [1])"),
        ("seeds=[-1]", "greater than or equal to 0"),
        ("seeds=7", "seeds are a list"),
        ("seeds=", "seeds are a list"),
        (f"seeds={list(range(100, 1100))}", "at most 1,000 seeds"),
    ],
)
def test_b23_seeds_that_extend_cannot_add(
    given: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = load_experiment(Path("e.yaml"))
    write_format(experiment.folder)
    Path("outputs/e/sweep.yaml").write_text(E_YAML)
    assert reason in refusal("extend", "e", given, "--dry-run", capsys=capsys)


FILES = {
    b"name: e\ncache_dir: d\xe9j\n": "f.yaml:2: byte 0xe9 is not UTF-8. Save the file as UTF-8.",
    "name: e\n".encode("utf-16"): "f.yaml:1: byte 0xff is not UTF-8",
    b"name: e\n\ncache_dir: a\x07b\n": "f.yaml:3: not valid YAML: a control character",
    b"name: e\nmodels:\n  gn: {}\n": "f.yaml:3: models.gn: unknown family 'gn'. Known: lexical",
    b"name: e\nobjective: val_x\n": "f.yaml:2: objective: unknown metric 'val_x'",
    b"name: e\nx: "
    + b"[" * 100: "f.yaml:2: not valid YAML: maximum depth of data structure exceeded",
}


@pytest.mark.parametrize("content", FILES)
def test_case_24_what_is_wrong_in_a_file_is_told_with_its_line(
    content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("f.yaml").write_bytes(content)
    line = refusal("sweep", "f.yaml", "--dry-run", capsys=capsys)
    assert FILES[content] in line
    assert "max_depth" not in line


def test_a_file_of_wrong_keys_is_told_in_few_lines() -> None:
    Path("k.yaml").write_text("name: e\n" + "".join(f"key{n}: 1\n" for n in range(300)))
    with pytest.raises(InputError, match=r"and 280 more$") as caught:
        load_experiment(Path("k.yaml"))
    assert str(caught.value).count("\n") == 20


def test_a_home_that_nobody_knows_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", unknown)
    with pytest.raises(InputError, match=r"output_dir: there is no home folder .* set HOME"):
        load_experiment(Path("e.yaml"), ["output_dir=~/x"])
