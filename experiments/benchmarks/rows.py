"""The rows of the benchmark suite: what is compared with what, and where it is measured."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Row:
    """One line of the suite's table.

    ``measure`` is ``module:function`` of this folder; see ``figures`` for what it returns.
    ``budget_s`` is what it should take on two idle cores (a row of the GPU: on one GPU).
    """

    name: str
    what: str
    baseline: str
    goal: str
    measure: str
    budget_s: int
    device: Literal["cpu", "gpu"] = "cpu"


ROWS = (
    Row(
        "default-sweep",
        "the default sweep after installation, nothing cached",
        "today",
        "<= 200 s, the same kind of verdict, first line of results <= 45 s",
        "default_sweep:measure",
        570,
    ),
    Row(
        "transformer-cpu",
        "transformer training on the CPU: a small model from scratch, 400 tokens",
        "today; the recipe with fixed padding",
        ">= 1.5x today, >= 6x the recipe",
        "transformer_step:measure",
        60,
    ),
    Row(
        "gnn-cpu",
        "graph network training on the CPU",
        "today; PyG DataLoader + RGCNConv",
        ">= 1.5x today, >= 10x PyG",
        "graph_step:measure",
        60,
    ),
    Row(
        "stacked-seeds",
        "8 seeds of graph network and fusion head as one stacked model, on two cores",
        "eight solo runs, two at a time",
        "<= 0.8 of the time, else off",
        "stacked_seeds:measure",
        60,
    ),
    Row(
        "trial-overhead",
        "what a tiny trial costs beside its training, checkpoints and MLflow on",
        "Tuner + nested TorchTrainer + MLflow callback; plain Tune; today",
        "<= 0.12 s",
        "trial_overhead:measure",
        90,
    ),
    Row(
        "first-step",
        "from the command to the first training step, warm caches",
        "a plain script that does the same",
        ">= 3x",
        "first_step:measure",
        160,
    ),
    Row(
        "features",
        "program graphs and tokens of Devign's functions, whole command",
        "today; tree-sitter's parse alone; tokenizers.encode_batch alone",
        ">= 2x today, <= 2.5x the parse, tokens >= 0.9 of encode_batch",
        "feature_rates:measure",
        120,
    ),
    Row(
        "frozen-fusion",
        "a fusion trial whose branches are frozen",
        "embeddings anew every epoch",
        ">= 20x",
        "frozen_fusion:measure",
        60,
    ),
    Row(
        "shared-memory",
        "memory of concurrent trials over one data set",
        "a private copy in each",
        "the data's share grows <= 5 % from 1 to 4 trials",
        "shared_memory:measure",
        30,
    ),
    Row(
        "many-trials",
        "time and memory a trial, late in a long sweep",
        "early in it",
        "within 10 %",
        "many_trials:measure",
        60,
    ),
    Row(
        "one-worker",
        "a step under TorchTrainer with one worker",
        "a step without workers",
        "<= 3 % more",
        "worker_step:measure",
        30,
    ),
    Row(
        "codebert-gpu",
        "CodeBERT-size training, 400 tokens, on a GPU",
        "CodeXGLUE's recipe in fp32; bf16, both padded; a bf16 matmul",
        ">= 10x and >= 2.2x; >= 34 % of the matmul's rate; GPU busy >= 90 %",
        "gpu_rows:measure_codebert",
        120,
        "gpu",
    ),
    Row(
        "gnn-gpu",
        "graph network (hidden 128, batch 32) on a GPU",
        "today; PyG DataLoader + RGCNConv",
        ">= 5x each; GPU busy >= 60 %",
        "gpu_rows:measure_gnn",
        90,
        "gpu",
    ),
    Row(
        "stacked-seeds-gpu",
        "8 seeds of graph network and fusion head as one stacked model, on a GPU",
        "one seed; eight processes that share the GPU",
        "<= 3x one, >= 2x faster than eight processes",
        "gpu_rows:measure_seeds",
        120,
        "gpu",
    ),
    Row(
        "default-sweep-gpu",
        "the default sweep on one GPU",
        "the same on its machine's CPUs",
        ">= 3x",
        "default_sweep:measure_gpu",
        600,
        "gpu",
    ),
)
