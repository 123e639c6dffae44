"""Every command of the pages is executed, in one folder as a reader's, small enough for a test.

``STEPS`` says how. A command without a step fails, and so does a step without its command.
"""

import re

import pytest
from readme_walk import (
    PAGES,
    ROOT,
    Step,
    Walk,
    as_subprocess,
    asking_slurm,
    cleaning,
    cloning,
    commands_in,
    configuring_pip,
    formatting,
    in_git_checkout,
    in_process,
    installing,
    joining_this_ray,
    make_checkout,
    naming_what_is_there,
    packing,
    photographing,
    python_in,
    rehearsed,
    serving,
    submitting,
    understood_by_ray,
    with_own_home,
)

SIZE = (
    "data.num_samples=240"
    " models.transformer.config.num_layers=1 models.transformer.config.hidden_dim=16"
    " models.transformer.config.num_heads=2 models.transformer.config.max_tokens=64"
    " models.transformer.config.tokens.vocab_size=400 models.transformer.config.epochs=2"
    " models.gnn.config.num_layers=1 models.gnn.config.hidden_dim=16"
    " models.gnn.config.graphs.vocab_size=400 models.gnn.config.epochs=2"
    " models.fusion.config.epochs=1"
)
ONE_SEED = "replicate.seeds=[42] replicate.max_seeds=null replicate.variance_seeds=0"
SWEEP = f"{SIZE} lr_range.num_steps=10 search.num_trials=1 replicate.top_k=1 {ONE_SEED}"
GNN_SWEEP = f"{SWEEP} families=[gnn] lr_range.enabled=false"

OWN = "sg-ray new family bilstm"
OWN_SWEEP = 'sg-ray sweep "families=[gnn, ./bilstm.py:BiLstm]" name=with-bilstm'
OWN_TEST = ".venv/bin/python -m pytest test_bilstm.py"
OWN_SIZE = "models.bilstm.config.hidden_dim=32 models.bilstm.config.epochs=1"
NEW_FAMILY = "sg-ray new family NAME [--dir DIR]"
PICTURES = "python docs/make_pictures.py"
SUBMIT = "sg-ray slurm experiments/prod.yaml --time 04:00:00 --gpus 4 --cpus 16 --mem 128G --submit"
CLONE = "git clone ADDRESS sg-ray"
INLINE = "--executor inline"
"""For sweeps of which the commands are the point; others run as they are printed, by Tune."""

RUN_A_SWEEP = "python experiments/sweep.py [EXPERIMENT.yaml] [key=value ...]"
WRITE_DATA = "sg-ray data synthetic --num-samples N [--out DIR]"
EXTEND = "sg-ray extend NAME seeds=[...] search.num_trials=N"
CHECKS = (
    "sg-ray preflight [EXPERIMENT.yaml] [key=value ...]",
    "sg-ray preflight [EXPERIMENT.yaml]",
)
TRAIN_GNN = "sg-ray train gnn --find-lr --seed 7 --output-dir outputs/my-gnn"
TRAIN_FUSION = "sg-ray train fusion --seed 42 branches_from=outputs/train"
TRAIN_BRANCHES = ("sg-ray train transformer --seed 42", "sg-ray train gnn --seed 42")
SERVER = ".venv/bin/sg-ray ui outputs/quick"
CHOSEN_SERVER = "sg-ray ui [SWEEP] [--port N]"

PROD = "experiments/sweep.py experiments/prod_a100.yaml"
_RAY = ".venv/bin/ray"
ON_A_CLUSTER = (
    {
        f"{_RAY} up cluster.yaml": "",
        f"{_RAY} exec --tmux cluster.yaml 'cd sg-ray && python experiments/sweep.py'": "",
        f"{_RAY} rsync-down cluster.yaml sg-ray/outputs/ outputs/": "",
        f"{_RAY} down cluster.yaml": "",
    },
    {
        f"{_RAY} up cluster.yaml": "",
        f"{_RAY} exec --tmux cluster.yaml 'cd sg-ray && python {PROD} "
        "max_concurrent_trials=AT_ONCE'": "(?s)^machines: cluster at .*max_concurrent_trials: ",
        f"{_RAY} attach --tmux cluster.yaml": "",
        f"{_RAY} attach -p 5000 cluster.yaml": "5000",
        f"{_RAY} rsync-down cluster.yaml sg-ray/outputs/ outputs/": "",
        f"{_RAY} down cluster.yaml": "",
    },
)
"""By whether the machines are a cloud's: what is done with a cluster, and what that prints."""
JOB = (
    f"{_RAY} job submit --address http://localhost:8265 --no-wait -- "
    f"python {PROD} max_concurrent_trials=8"
)
JOBS = f"{_RAY} job {{}} --address http://localhost:8265"
PACK = (
    "tar -czf sg-ray.tar.gz --exclude=__pycache__ sg_ray experiments search_spaces pyproject.toml "
    "constraints.txt README.md LICENSE"
)

PACK_FOR_GPU = "python experiments/benchmarks/gpu.py --pack features.npz"
GPU_TESTS = '.venv/bin/python -m pytest -m "gpu and not ray" tests'
ONE_GPU_ROW = "--device cpu --rows gnn"

QUICK = {"[EXPERIMENT.yaml]": "experiments/quick.yaml"}
QUICK_SWEEP = {**QUICK, "[key=value ...]": SWEEP}
RANKED = r"(?s)rank +name.*\n1 "

STEPS = {
    # Data
    WRITE_DATA: Step(
        in_process,
        {"N": "240", "[--out DIR]": "--out synthetic"},
        leaves="synthetic/train.jsonl",
    ),
    "sg-ray data check DIR": Step(
        in_process, {"DIR": "synthetic"}, after=(WRITE_DATA,), prints="train 192, valid 24, test 24"
    ),
    "sg-ray data sample --num N [--seed S] [--out DIR] [DIR]": Step(
        in_process,
        {"N": "60", "[--seed S]": "--seed 3", "[--out DIR] [DIR]": "--out some synthetic"},
        after=(WRITE_DATA,),
        prints=r"some/train\.jsonl: 48 samples",
        leaves="some/test.jsonl",
    ),
    "sg-ray data sample --num 100 DIR": Step(
        in_process,
        {"DIR": "synthetic"},
        after=(WRITE_DATA,),
        prints=r"sample/train\.jsonl: 80 samples",
        leaves="sample/valid.jsonl",
    ),
    "sg-ray graphs --data DIR --out DIR [--max-samples N] [--format packed|pt]": Step(
        in_process,
        {
            "--data DIR --out DIR": "--data synthetic --out packed-graphs",
            "[--max-samples N]": "--max-samples 8",
            "[--format packed|pt]": "--format packed",
        },
        after=(WRITE_DATA,),
        prints="valid: 8 graphs",
        leaves="packed-graphs/**/meta.json",
    ),
    "sg-ray graphs --data DIR --out DIR --format pt --max-samples N": Step(
        in_process,
        {"--data DIR --out DIR": "--data synthetic --out graph-files", "N": "8"},
        after=(WRITE_DATA,),
        prints="valid: 8 graphs",
        leaves="graph-files/**/*.pt",
    ),
    # Sweeps
    RUN_A_SWEEP: Step(
        in_process, QUICK_SWEEP, prints=RANKED, leaves="outputs/quick/best/fusion/best_model.pt"
    ),
    "... --dry-run": Step(
        in_process,
        {"...": "python experiments/sweep.py"},
        "name=planned",
        prints="the smallest p that they can reach",
    ),
    "... --resume NAME": Step(
        in_process,
        {"...": "python experiments/sweep.py", "NAME": "quick"},
        after=(RUN_A_SWEEP,),
        prints=RANKED,
    ),
    "... --anew": Step(
        in_process,
        {"...": "python experiments/sweep.py"},
        "--resume quick",
        after=(RUN_A_SWEEP,),
        prints=RANKED,
    ),
    "python experiments/sweep.py --resume quick": Step(
        in_process, after=(RUN_A_SWEEP,), prints=RANKED
    ),
    "... --executor inline": Step(
        in_process,
        {"...": "python experiments/sweep.py"},
        f"name=inline {GNN_SWEEP}",
        prints=RANKED,
    ),
    "... --address auto": Step(
        joining_this_ray,
        {"...": "python experiments/sweep.py"},
        f"name=joined {GNN_SWEEP}",
        prints=RANKED,
        leaves="outputs/joined/best/gnn",
    ),
    "sg-ray sweep": Step(in_process, extra=SWEEP, after=(RUN_A_SWEEP,), prints=RANKED),
    "sg-ray sweep ...": Step(
        in_process, {"...": f"name=other {GNN_SWEEP}"}, prints=RANKED, leaves="outputs/other/best"
    ),
    "python experiments/sweep.py data.source=path data.path=DIR name=mine": Step(
        in_process,
        {"DIR": "synthetic"},
        f"{GNN_SWEEP} {INLINE}",
        after=(WRITE_DATA,),
        prints=RANKED,
        leaves="outputs/mine/test.json",
    ),
    "python experiments/sweep.py experiments/prod.yaml": Step(
        in_process,
        extra="data.path=synthetic --dry-run",
        after=(WRITE_DATA,),
        prints="microsoft/codebert-base",
    ),
    EXTEND: Step(
        in_process,
        {"NAME": "other", "[...]": "[1,2]", "=N": "=2"},
        INLINE,
        after=("sg-ray sweep ...",),
        prints="gnn.* +[0-9a-f]{8} +3 +0 ",  # seeds 42, 1 and 2, none failed
    ),
    "sg-ray extend quick seeds=[1,2]": Step(
        in_process, {"quick": "other"}, after=(EXTEND,), prints=RANKED
    ),
    "sg-ray extend quick search.num_trials=12 replicate.top_k=3": Step(
        in_process,
        {"quick": "other"},
        f"search.num_trials=2 replicate.top_k=2 {INLINE}",
        after=(EXTEND,),
        prints=r"(?s)\n\d +gnn .*\n\d +gnn ",
    ),
    "sg-ray extend quick replicate.max_seeds=18": Step(
        in_process,
        {"quick": "other", "=18": "=4"},
        INLINE,
        after=(EXTEND,),
        prints="gnn.* +[0-9a-f]{8} +4 +0 ",
    ),
    "sg-ray status": Step(in_process, after=(RUN_A_SWEEP,), prints="outputs/quick +complete +"),
    "sg-ray clean --dry-run": Step(in_process, after=(RUN_A_SWEEP,), prints="would be deleted"),
    "sg-ray status [DIR]": Step(
        in_process,
        {"[DIR]": "outputs"},
        after=(RUN_A_SWEEP,),
        prints="outputs/quick +complete +",
    ),
    "sg-ray clean [SWEEP...] [--dry-run]": Step(
        in_process,
        {"[SWEEP...]": "quick", "[--dry-run]": "--dry-run"},
        after=(RUN_A_SWEEP,),
        prints="would be deleted",
    ),
    "sg-ray track sync outputs/quick": Step(
        in_process, after=(RUN_A_SWEEP,), prints="events mirrored to"
    ),
    "sg-ray track sync": Step(
        in_process, extra="outputs/quick", after=(RUN_A_SWEEP,), prints="events mirrored to"
    ),
    "sg-ray track sync FOLDER": Step(
        in_process,
        {"FOLDER": "outputs/quick"},
        after=(RUN_A_SWEEP,),
        prints=r"events mirrored to sqlite:///mlflow\.db",
    ),
    "sg-ray report FOLDER... [--csv FILE] [--html FILE] [--metric CODE]": Step(
        in_process,
        {
            "FOLDER...": "outputs/quick outputs/other",
            "[--csv FILE]": "--csv means.csv",
            "[--html FILE]": "--html both.html",
            "[--metric CODE]": "",
        },
        after=(RUN_A_SWEEP, "sg-ray sweep ..."),
        prints="fusion(?s:.*)both.html",
        leaves="both.html",
    ),
    "sg-ray report outputs/quick": Step(in_process, after=(RUN_A_SWEEP,), prints="^fusion "),
    PICTURES: Step(photographing, after=(RUN_A_SWEEP,), leaves="docs/pictures/mlflow.png"),
    "sg-ray predict outputs/quick FILE.c": Step(
        in_process,
        {"FILE": "double_free"},
        after=(RUN_A_SWEEP,),
        prints=r"double_free\.c:1",
    ),
    "sg-ray predict MODEL FILE... [--family CODE]": Step(
        in_process,
        {"MODEL": "outputs/quick", "FILE...": "synthetic/test.jsonl", "[--family CODE]": ""},
        after=(RUN_A_SWEEP, WRITE_DATA),
        prints=r"synthetic/test\.jsonl:24",
    ),
    "sg-ray report FOLDER": Step(
        in_process, {"FOLDER": "outputs"}, after=(RUN_A_SWEEP,), prints="transformer"
    ),
    CHECKS[0]: Step(
        as_subprocess,
        {"sg-ray": "python -m sg_ray", **QUICK, "[key=value ...]": f"name=checked {SIZE}"},
        prints="checked: .* 0 FAIL",
    ),
    CHECKS[1]: Step(
        as_subprocess,
        {"sg-ray": "python -m sg_ray", **QUICK},
        f"name=checked {SIZE}",
        prints="checked: .* 0 FAIL",
    ),
    # Single trainings
    "sg-ray train FAMILY [EXPERIMENT.yaml] [key=value ...]": Step(
        in_process,
        {**QUICK, "FAMILY": "lexical", "[key=value ...]": SIZE},
        prints="best epoch 1",
    ),
    "sg-ray train": Step(
        in_process, extra=f"lexical output_dir=outputs/floor {SIZE}", prints="best epoch 1"
    ),
    "sg-ray train gnn --quick-test": Step(in_process, prints="text: 400 functions"),
    "sg-ray train gnn --quick-test --epochs 1": Step(in_process, prints="best epoch 1"),
    TRAIN_GNN: Step(
        in_process,
        extra=f"lr_range.num_steps=10 {SIZE}",
        prints="Suggested LR|No learning rate suggested",
        leaves="outputs/my-gnn/lr_range/gnn.png",
    ),
    "sg-ray train gnn --resume outputs/my-gnn/last.pt": Step(
        in_process, after=(TRAIN_GNN,), prints="gnn-[0-9a-f]+-seed7 on c"
    ),
    "sg-ray report outputs/my-gnn": Step(in_process, after=(TRAIN_GNN,), prints="gnn"),
    "sg-ray reproduce outputs/my-gnn": Step(in_process, after=(TRAIN_GNN,), prints="seed 7"),
    "sg-ray predict outputs/my-gnn FILE.c": Step(
        in_process,
        {"FILE": "double_free"},
        after=(TRAIN_GNN,),
        prints=r"double_free\.c:1",
    ),
    "sg-ray reproduce RECORD [key=value ...]": Step(
        in_process,
        {"RECORD": "outputs/train/fusion-*/records/*.json", "[key=value ...]": "cache_dir=anew"},
        after=(TRAIN_FUSION,),
        prints="^fusion .* seed 42",
    ),
    "sg-ray reproduce RECORD": Step(
        in_process, {"RECORD": "outputs/quick/records/*.json"}, after=(RUN_A_SWEEP,), prints="seed"
    ),
    "sg-ray train transformer --seed 42": Step(in_process, extra=SIZE, prints="best epoch"),
    "sg-ray train gnn --seed 42": Step(in_process, extra=SIZE, prints="best epoch"),
    TRAIN_FUSION: Step(
        in_process,
        {},
        SIZE,
        after=TRAIN_BRANCHES,
        prints="fusion-[0-9a-f]+-seed42 on c",
    ),
    "sg-ray train transformer": Step(
        in_process, extra=f"output_dir=outputs/single {SIZE}", prints="best epoch"
    ),
    # MLflow
    SERVER: Step(serving, after=(RUN_A_SWEEP,), prints="quick"),
    CHOSEN_SERVER: Step(
        serving,
        {"sg-ray": ".venv/bin/sg-ray", "[SWEEP]": "quick", "[--port N]": ""},
        after=(RUN_A_SWEEP,),
        prints="quick",
    ),
    # The environment and the project's own checks
    "make sweep": Step(
        as_subprocess,
        extra=f'ARGS="name=made {GNN_SWEEP}"',
        prints=RANKED,
        leaves="outputs/made/report.html",
    ),
    'make sweep PIP_ARGS="--extra-index-url ADDRESS"': Step(
        rehearsed,
        {"ADDRESS": "https://wheels.example/cpu"},
        prints=r"pip install .*--extra-index-url https://wheels\.example/cpu.* 'torch==",
    ),
    "pip install .": Step(installing, prints=r"Would install sg-ray-\d"),
    "pip config set global.extra-index-url ADDRESS": Step(
        configuring_pip,
        {"ADDRESS": "https://wheels.example/cpu"},
        prints=r"global\.extra-index-url='https://wheels\.example/cpu'",
    ),
    "make test": Step(rehearsed, prints='pytest -m "not slow"'),  # it is what runs this
    "make test-all": Step(rehearsed, prints='(?s)-m "not slow".*-m "slow and not alone"'),
    "make lint": Step(rehearsed, prints="(?s)ruff check.*ruff format --check.*mypy.*lint-imports"),
    "make format": Step(formatting),
    "make install": Step(rehearsed, prints=r"pip install .*-e \."),
    'make test ARGS="tests/scan -x"': Step(
        rehearsed, {"ARGS": "ARGS"}, prints="-m pytest .* tests/scan -x"
    ),
    "make test JOBS=0": Step(rehearsed, {"JOBS": "JOBS"}, prints="-m pytest .* -n 0"),
    "make test-slow": Step(rehearsed, prints='(?s)-m "slow and not alone".*-m "slow and alone"'),
    "make coverage": Step(rehearsed, prints="-m pytest .*--cov"),
    "make docs": Step(rehearsed, prints="(?s)settings_table.*mkdocs build --strict"),
    "make wheel": Step(rehearsed, prints="pip wheel"),
    "make cluster-test ONLY=signals": Step(
        rehearsed, {"ONLY": "ONLY"}, prints=r"run_labs\.py signals"
    ),
    "make cluster-test": Step(rehearsed, prints=r"tests/cluster/run_labs\.py"),
    "make chaos": Step(rehearsed, prints=r"tests/sweep/chaos\.py"),
    "make bench": Step(rehearsed, prints=r"experiments/benchmarks/suite\.py"),
    'make bench ONLY="gnn-cpu features"': Step(
        rehearsed, {"ONLY": "ONLY"}, prints=r"suite\.py +--only gnn-cpu features"
    ),
    "make bench ARGS=gpu": Step(rehearsed, {"ARGS": "ARGS"}, prints=r"suite\.py gpu"),
    PACK_FOR_GPU: Step(as_subprocess, extra="--tiny", prints="MiB", leaves="features.npz"),
    "python experiments/benchmarks/gpu.py --features features.npz": Step(
        as_subprocess, extra=f"--tiny {ONE_GPU_ROW}", after=(PACK_FOR_GPU,), prints="PyG RGCNConv"
    ),
    "python experiments/benchmarks/gpu.py --tiny --device cpu": Step(
        as_subprocess, extra=ONE_GPU_ROW, prints="PyG RGCNConv"
    ),
    GPU_TESTS: Step(
        as_subprocess, {"tests": str(ROOT / "tests" / "models")}, prints="(passed|skipped)"
    ),
    "make lock": Step(rehearsed, prints=r"(?s)pip install .*--report.*mv .*constraints\.txt"),
    "make help": Step(as_subprocess, prints="make sweep"),
    "make clean": Step(cleaning),
    ".venv/bin/pre-commit install": Step(in_git_checkout, leaves=".git/hooks/pre-commit"),
    "python -m sg_ray": Step(as_subprocess, extra="--version", prints=r"sg-ray \d"),
    # Clusters: what is done with machines is done in tests/cluster/labs/
    "make aws": Step(rehearsed, prints=r"pip install .*-e '\.\[aws\]'"),
    "make gcp": Step(rehearsed, prints=r"pip install .*-e '\.\[gcp\]'"),
    ".venv/bin/ray get-auth-token --generate": Step(with_own_home, leaves="home/.ray/auth_token"),
    **{
        command.replace("cluster.yaml", file).replace("AT_ONCE", at_once): Step(
            understood_by_ray, prints=prints
        )
        for file, at_once in (
            ("cluster.yaml", "8"),
            ("clusters/gcp.yaml", "4"),
            ("clusters/own-machines.yaml", ""),
        )
        for command, prints in ON_A_CLUSTER[at_once != ""].items()
    },
    ".venv/bin/ray attach cluster.yaml": Step(understood_by_ray),
    ".venv/bin/ray dashboard cluster.yaml": Step(understood_by_ray, prints="8265"),
    JOB: Step(understood_by_ray, prints="(?s)^machines: cluster at .*max_concurrent_trials: 8"),
    JOBS.format("list"): Step(understood_by_ray, prints="8265"),
    **dict.fromkeys(
        (f"{JOBS.format('logs')} --follow JOB", f"{JOBS.format('stop')} JOB"),
        Step(understood_by_ray, {"JOB": "raysubmit_1"}, prints="raysubmit_1"),
    ),
    **dict.fromkeys(
        (
            f"{_RAY} rsync-up cluster.yaml DIR/ sg-ray/mydata/",
            f"{_RAY} rsync-up cluster.yaml DIR/ sg-ray/outputs/encoder/",
            f"{_RAY} rsync-up clusters/own-machines.yaml DIR/ sg-ray/mydata/",
        ),
        Step(understood_by_ray, {"DIR/": "synthetic/"}, prints="'source': 'synthetic/'"),
    ),
    f"python {PROD} max_concurrent_trials=8": Step(
        in_process,
        extra="resources.gpus=0 resources.cpus=1 --dry-run",
        prints="microsoft/codebert-base",
    ),
    "sg-ray track sync outputs/prod_a100": Step(
        in_process, {"prod_a100": "quick"}, after=(RUN_A_SWEEP,), prints="events mirrored to"
    ),
    "python experiments/sweep.py": Step(in_process, extra=f"name=plain {GNN_SWEEP}", prints=RANKED),
    PACK: Step(packing, {"README": "README", "LICENSE": "LICENSE"}),
    **dict.fromkeys(
        (
            "kubectl create configmap sg-ray-code --from-file=sg-ray.tar.gz",
            "kubectl get storageclass",
            "kubectl apply -f clusters/kuberay-files.yaml",
            "kubectl get pvc,pods",
            "kubectl apply -f clusters/kuberay.yaml",
            "kubectl get pods --watch",
            "kubectl logs --follow --selector=ray.io/node-type=head --container=install",
            "kubectl logs --follow job/sg-ray",
            "kubectl get pods --selector=ray.io/node-type=head",
            "kubectl get rayjob sg-ray --output=jsonpath={.status.jobId}",
            "kubectl cp sg-ray-files:/shared/sg-ray/outputs outputs",
            "kubectl delete rayjob sg-ray",
            "kubectl delete configmap sg-ray-code",
            "kubectl delete pod sg-ray-files",
            "kubectl delete pvc sg-ray",
        ),
        Step(naming_what_is_there),
    ),
    "kubectl cp DIR sg-ray-files:/shared/sg-ray/mydata": Step(
        naming_what_is_there, {"DIR": "synthetic"}
    ),
    "kubectl exec HEAD-POD --container=ray-head -- "
    "ray job stop --address http://localhost:8265 JOB": Step(
        naming_what_is_there, {"HEAD-POD": "sg-ray-head", "JOB": "raysubmit_1"}
    ),
    # SLURM
    CLONE: Step(cloning, {"ADDRESS": "origin-of-sg-ray"}, leaves="sg-ray/Makefile"),
    "make -C sg-ray install TORCH=cuda": Step(
        rehearsed, {"-C": "-C", "TORCH": "TORCH"}, after=(CLONE,), prints=r"pip install .*'torch==="
    ),
    "sg-ray preflight experiments/prod.yaml --download": Step(
        as_subprocess,
        {"sg-ray": "python -m sg_ray", "prod": "quick"},
        f"name=checked {SIZE}",
        prints="checked: .* 0 FAIL",
    ),
    "sg-ray slurm [EXPERIMENT.yaml] [key=value ...] [--nodes N] [--time T] [--submit]": Step(
        in_process,
        {
            **{"[EXPERIMENT.yaml]": "experiments/prod.yaml", "[key=value ...]": "name=queued"},
            **{"[--nodes N]": "--nodes 2", "[--time T]": "--time 60", "[--submit]": ""},
        },
        prints=r"outputs/queued\.sbatch",
        leaves="outputs/queued.sbatch",
    ),
    "sg-ray slurm": Step(in_process, prints=r"outputs/quick\.sbatch"),
    SUBMIT: Step(
        submitting, {"128G": "128G"}, prints="Submitted batch job 7", leaves="outputs/prod.sbatch"
    ),
    "sbatch outputs/prod.sbatch": Step(asking_slurm, after=(SUBMIT,), prints="Usage: sbatch"),
    "sbatch outputs/prod.sbatch --anew": Step(
        asking_slurm, after=(SUBMIT,), prints="Usage: sbatch"
    ),
    "squeue --user=$USER": Step(asking_slurm, {"$USER": "me"}, prints="Usage: squeue"),
    "scancel JOB": Step(asking_slurm, {"JOB": "7"}, prints="Usage: scancel"),
    "scancel --batch --signal=USR1 JOB": Step(
        asking_slurm, {"USR1 JOB": "USR1 7"}, prints="Usage: scancel"
    ),
    "scontrol requeue JOB": Step(asking_slurm, {"JOB": "7"}, prints="requeue"),
    "sg-ray track sync outputs/prod": Step(
        in_process, {"prod": "quick"}, after=(RUN_A_SWEEP,), prints="events mirrored to"
    ),
    # A family of one's own
    "sg-ray new family bilstm": Step(in_process, leaves="test_bilstm.py"),
    OWN_TEST: Step(as_subprocess, {".venv/bin/python": "python"}, after=(OWN,), prints="2 passed"),
    "sg-ray train ./bilstm.py:BiLstm --quick-test": Step(
        in_process, after=(OWN,), prints="best epoch 1"
    ),
    OWN_SWEEP: Step(
        in_process,
        {"[gnn": "[gnn"},  # a list, no placeholder
        f"{OWN_SIZE} {SWEEP} lr_range.enabled=false {INLINE}",
        after=(OWN,),
        prints=r"bilstm +[0-9a-f]{8} +1 +0 ",
    ),
    "sg-ray sweep --resume with-bilstm": Step(
        in_process, extra=INLINE, after=(OWN_SWEEP,), prints=r"bilstm +[0-9a-f]{8} +1 +0 "
    ),
    "sg-ray predict outputs/with-bilstm FILE.c --family ./bilstm.py:BiLstm": Step(
        in_process, {"FILE": "double_free"}, after=(OWN_SWEEP,), prints=r"double_free\.c:1"
    ),
    NEW_FAMILY: Step(
        in_process,
        {"NAME": "tree_lstm", "[--dir DIR]": "--dir own"},
        leaves="own/test_tree_lstm.py",
    ),
}
SLOW = {
    *("make sweep", "... --address auto", SERVER, CHOSEN_SERVER, PICTURES, OWN_TEST, GPU_TESTS),
    "python experiments/benchmarks/gpu.py --features features.npz",
    "python experiments/benchmarks/gpu.py --tiny --device cpu",
    *CHECKS,
}
"""Each starts Python, and Ray or a server, anew."""


@pytest.fixture(scope="module")
def walk(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return Walk(make_checkout(tmp_path_factory.mktemp("checkout")), STEPS)


def test_every_command_has_a_step_and_every_step_its_command() -> None:
    commands = set().union(*(commands_in(page.read_text(encoding="utf-8")) for page in PAGES))
    assert commands - set(STEPS) == set(), "say in STEPS how to execute these"
    assert set(STEPS) - commands == set(), "on no page any more: take these out of STEPS"


@pytest.mark.parametrize("page", ["README.md", "docs/mlflow.md", "docs/python-api.md"])
def test_python(walk: Walk, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after another, as in a notebook."""
    walk.follow(RUN_A_SWEEP)
    monkeypatch.chdir(walk.folder)
    names: dict[str, object] = {}
    blocks = python_in((ROOT / page).read_text(encoding="utf-8"))
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)


@pytest.mark.parametrize(
    "command",
    [pytest.param(text, marks=[pytest.mark.slow] if text in SLOW else []) for text in STEPS],
)
def test_command(walk: Walk, command: str) -> None:
    printed = walk.follow(command)
    step = STEPS[command]
    assert re.search(step.prints, printed, re.MULTILINE), printed
    assert next(walk.folder.glob(step.leaves), None) is not None, step.leaves


def test_the_commands_in_the_cluster_file_are_those_of_its_page() -> None:
    head, _, _ = (ROOT / "cluster.yaml").read_text(encoding="utf-8").partition("\n\n")
    lines = [line.removeprefix("#").strip() for line in head.splitlines()]
    shown = [re.split(r"\s+#\s", line)[0] for line in lines if line.startswith((".venv", "make"))]
    assert len(shown) == 6
    assert set(shown) <= commands_in((ROOT / "docs/aws.md").read_text(encoding="utf-8"))


EXAMPLES = {
    "`sg-ray train gnn`": {"sg-ray train gnn"},
    "`make` and `python` and `outputs/NAME:KEY`": set(),
    "wrapped `sg-ray report\nFOLDER` here": {"sg-ray report FOLDER"},
    "| `... --resume NAME` | `a\\|b c` |": {"... --resume NAME"},
    "```\nmake sweep   # a comment\nray.log   no command\n```": {"make sweep"},
    "```\nfile.py   as `python -m sg_ray`\n```\nafter `make test`": {
        "python -m sg_ray",
        "make test",
    },
    "`.venv/bin/mlflow ui`": {".venv/bin/mlflow ui"},
}


@pytest.mark.parametrize("markdown", EXAMPLES)
def test_commands_are_found(markdown: str) -> None:
    assert commands_in(markdown) == EXAMPLES[markdown]


@pytest.mark.parametrize(
    ("command", "fill"),
    [
        ("sg-ray report FOLDER", {}),
        ("sg-ray data sample --num N", {}),
        ("sg-ray sweep ...", {}),
        ("sg-ray report DIR [--csv FILE]", {"DIR": "d", "FILE": "f"}),
        ("sg-ray report DIR", {"DIR": "d", "FILE": "f"}),
    ],
)
def test_a_step_must_fill_in_every_placeholder_and_no_other(command: str, fill: dict) -> None:
    with pytest.raises(ValueError, match=r"is not in|nothing is filled in"):
        Step(in_process, fill).line(command)
