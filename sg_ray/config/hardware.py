"""What a machine's hardware suggests for ``auto``: batch sizes, micro-batches and CPUs.

Transformer micro-batches are sized for CodeBERT-base (12 layers, 768 wide, 125 M parameters) in
bf16 or fp16, on sequences of 400 to 512 tokens:

- STATE_GB: weights, gradients and AdamW's two moments in float32 take 16 bytes a parameter, 2 GB;
  doubled for half-precision copies, the buckets of several workers, and the CUDA context
- MB_PER_TOKEN: autograd keeps 44 bytes x 768 x 12 layers and the embeddings, 0.42 MB (counted on
  the saved tensors, with a fused attention kernel); the rest is a layer's gradients on their way
- USABLE: a fifth stays free for fragmentation and evaluation

A graph network 256 wide with 8 gated layers keeps 0.11 MB a node, hence NODES_PER_TOKEN.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from sg_ray.host.cpus import num_cpus
from sg_ray.training.precision import FormatName, resolve_precision

USABLE = 0.8
STATE_GB = 4.0
MB_PER_TOKEN = 0.5
NODES_PER_TOKEN = 4
MIN_TOKENS = 1024
"""Two or three long functions: the least that is worth a forward pass."""
CPU_TOKENS = 4096
"""On a CPU larger micro-batches only take memory: CodeBERT-base keeps 2.5 GB for these."""

_UNITS = {"transformer": "tokens", "gnn": "nodes", "fusion": "tokens"}

_WITHOUT_BF16 = re.compile(r"\b(Tesla|Quadro|TITAN|GTX|RTX 20\d\d|[KMPVT]\d+\w*)\b")
"""GPUs before Ampere, by name."""


@dataclass(frozen=True)
class Budget:
    """How a family's batches are made: samples a step, and units (tokens, nodes) at once."""

    batch_size: int
    max_units_per_micro_batch: int


@dataclass(frozen=True)
class Profile:
    """What one trial should take on a kind of hardware."""

    device_name: str
    precision: FormatName
    """What ``precision: auto`` comes to."""
    cpus: int
    budgets: Mapping[str, Budget]

    def budget(self, family: str) -> Budget:
        """Return a family's budget; the transformer's, the most cautious, for one not known."""
        return self.budgets.get(family, self.budgets["transformer"])


@dataclass(frozen=True)
class _Row:
    """GPUs of at least ``min_memory_gb``. Batches grow only where the GPU would idle otherwise."""

    min_memory_gb: float
    batch_size: int
    cpus: int


_ROWS = (
    _Row(120, batch_size=64, cpus=8),  # H200
    _Row(75, batch_size=64, cpus=8),  # A100-80, H100
    _Row(38, batch_size=64, cpus=8),  # A100-40, L40S, A6000
    _Row(22, batch_size=32, cpus=4),  # L4, A10, RTX 4090, V100-32
    _Row(14, batch_size=32, cpus=4),  # T4, V100-16
    _Row(7, batch_size=32, cpus=2),  # RTX 2080, RTX 3070
    _Row(0, batch_size=32, cpus=2),
)


def profile_of(device_name: str | None, memory_gb: float | None) -> Profile:
    """Return the profile of a GPU, or of a CPU if ``device_name`` is None.

    ``memory_gb`` (10^9 bytes) decides, so that a MIG slice or a share of a GPU gets what fits it;
    unknown memory counts as the least. The name tells whether there is bf16.
    """
    if device_name is None:
        # Trials side by side use cores better than threads inside one.
        return Profile("CPU", "fp32", 1, _budgets(32, CPU_TOKENS))
    row = next(row for row in _ROWS if row.min_memory_gb <= (memory_gb or 0))
    return Profile(
        device_name=device_name.removeprefix("NVIDIA "),
        precision="fp16" if _WITHOUT_BF16.search(device_name) else "bf16",
        cpus=row.cpus,
        budgets=_budgets(row.batch_size, _tokens_that_fit(row.min_memory_gb)),
    )


def this_machine(gpus_per_trial: float = 1) -> Profile:
    """Return the profile of what a trial gets here: its share of the smallest GPU, or CPUs."""
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if num_gpus == 0 or gpus_per_trial == 0:
        return profile_of(None, None)
    gpus = map(torch.cuda.get_device_properties, range(num_gpus))
    smallest = min(gpus, key=lambda gpu: gpu.total_memory)
    share = min(1.0, gpus_per_trial)
    profile = profile_of(smallest.name, smallest.total_memory / 1e9 * share)
    return replace(
        profile,
        precision=resolve_precision("auto", torch.device("cuda")).name,
        cpus=cpus_beside(profile.cpus, num_cpus=num_cpus(), num_trials=num_gpus / share),
    )


def cpus_beside(wanted: int, *, num_cpus: int, num_trials: float) -> int:
    """Return the CPUs of a trial, at most ``wanted``, so that ``num_trials`` find room at once."""
    return max(1, min(wanted, int(num_cpus / num_trials)))


def describe(profile: Profile, families: Iterable[str]) -> str:
    """Return one line for the user: the hardware, and what ``auto`` means on it for families."""
    batches = "".join(f"{_batches_of(name, profile.budget(name))}; " for name in families)
    return (
        f"hardware: {profile.device_name}: {profile.precision}; auto: {batches}"
        f"{_counted(profile.cpus, 'CPU')} a trial"
    )


def _batches_of(family: str, budget: Budget) -> str:
    at_once = f"{budget.max_units_per_micro_batch:,} {_UNITS.get(family, 'units')} at once"
    return f"{family} batch {budget.batch_size}, {at_once}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _tokens_that_fit(memory_gb: float) -> int:
    """Return the largest power of two, at least MIN_TOKENS, that a micro-batch may hold."""
    free_mb = 1000 * (USABLE * memory_gb - STATE_GB)
    num_tokens = max(MIN_TOKENS, int(free_mb / MB_PER_TOKEN))
    return 1 << (num_tokens.bit_length() - 1)


def _budgets(batch_size: int, tokens: int) -> Mapping[str, Budget]:
    """Fusion may fine-tune both branches, so its units count as tokens; its frozen head is small.

    128 samples are the head's own default: more hardware does not change how it learns best.
    """
    return {
        "transformer": Budget(batch_size, tokens),
        "gnn": Budget(batch_size, NODES_PER_TOKEN * tokens),
        "fusion": Budget(128, tokens),
    }
