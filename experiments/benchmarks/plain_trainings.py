"""What most people would write instead: CodeXGLUE's recipe, and PyTorch Geometric's R-GCN.

Both train on the same samples as ours. The recipe pads every function to the full length and steps
as CodeXGLUE's ``run.py`` does (AdamW, clipping at 1, linear schedule, the loss read in each step);
its encoder is Hugging Face's own classifier, with the attention that the library picks. The graph
network has our depth and width, its batches come from PyG's ``DataLoader``.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sg_ray.features.packed import FeatureKind, Ragged

Step = Callable[[], None]


def recipe_step(
    kind: FeatureKind,
    labels: NDArray[np.int8],
    encoder_settings: dict[str, int],
    max_tokens: int,
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Step:
    """Return a step of CodeXGLUE's recipe over the functions of ``kind``, round and round."""
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaForSequenceClassification

    pad_id = int(kind.meta["pad_id"])
    torch.manual_seed(0)
    settings = RobertaConfig(
        vocab_size=kind.meta["vocab_size"],
        max_position_embeddings=max_tokens + pad_id + 1,
        pad_token_id=pad_id,
        num_labels=1,
        **encoder_settings,
    )
    model = RobertaForSequenceClassification(settings).to(device).train()
    ids = torch.from_numpy(padded_ids(kind, max_tokens))
    targets = torch.from_numpy(labels.astype(np.float32))
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-5, eps=1e-8)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: max(0.0, 1 - step / 1e6))
    batches = _round_and_round(len(ids), batch_size)

    def step() -> None:
        rows = next(batches)
        own_ids, own_targets = ids[rows].to(device), targets[rows].to(device)
        mixed = dtype != torch.float32
        with torch.autocast(device.type, dtype=dtype) if mixed else nullcontext():
            logits = model(input_ids=own_ids, attention_mask=own_ids.ne(pad_id)).logits
        loss = binary_cross_entropy_with_logits(logits.float().squeeze(-1), own_targets)
        _update(loss, model, optimiser)
        schedule.step()

    return step


def pyg_step(
    arrays: dict[str, Ragged],
    labels: NDArray[np.int8],
    meta: dict[str, int],
    hidden_dim: int,
    num_layers: int,
    batch_size: int,
    device: torch.device,
) -> Step:
    """Return a step of a PyG R-GCN over these graphs. Raises ImportError without PyG."""
    from torch_geometric.loader import DataLoader

    torch.manual_seed(0)
    num_relations = 2 * meta["num_edge_types"]
    model = _pyg_network(meta, num_relations, hidden_dim, num_layers).to(device).train()
    graphs = [_pyg_graph(arrays, labels, meta["num_edge_types"], at) for at in range(len(labels))]
    loader = DataLoader(graphs, batch_size=batch_size, shuffle=True, drop_last=True)
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-4)

    def batches() -> Iterator[object]:
        while True:
            yield from loader

    each = batches()

    def step() -> None:
        batch = next(each).to(device)  # type: ignore[attr-defined]
        loss = binary_cross_entropy_with_logits(model(batch), batch.y)
        _update(loss, model, optimiser)

    return step


def _update(loss: Tensor, model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    loss.item()


def padded_ids(kind: FeatureKind, max_tokens: int) -> NDArray[np.int64]:
    """Return the train split's ids with special tokens, all of one length, [n, max_tokens]."""
    ids, meta = kind.splits["train"]["ids"], kind.meta
    padded = np.full((len(ids), max_tokens), meta["pad_id"], dtype=np.int64)
    for row in range(len(ids)):
        own = ids[row][: max_tokens - 2]
        padded[row, : len(own) + 2] = [meta["bos_id"], *own, meta["eos_id"]]
    return padded


def _round_and_round(num_samples: int, batch_size: int) -> Iterator[Tensor]:
    while True:
        order = torch.randperm(num_samples)
        yield from order[: num_samples // batch_size * batch_size].split(batch_size)


def _pyg_graph(
    arrays: dict[str, Ragged], labels: NDArray[np.int8], num_edge_types: int, at: int
) -> object:
    from torch_geometric.data import Data

    edges = torch.from_numpy(arrays["edges"][at].astype(np.int64))
    types = torch.from_numpy(arrays["edge_type"][at].astype(np.int64))
    return Data(
        kind=torch.from_numpy(arrays["node_kind"][at].astype(np.int64)),
        token=torch.from_numpy(arrays["node_token"][at].astype(np.int64)),
        edge_index=torch.cat([edges, edges.flip(1)]).T.contiguous(),
        edge_type=torch.cat([types, types + num_edge_types]),
        y=torch.tensor([float(labels[at])]),
        num_nodes=len(arrays["node_kind"][at]),
    )


def _pyg_network(
    meta: dict[str, int], num_relations: int, hidden_dim: int, num_layers: int
) -> nn.Module:
    from torch_geometric.nn import AttentionalAggregation, RGCNConv

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.kind = nn.Embedding(meta["num_node_kinds"], hidden_dim)
            self.token = nn.Embedding(meta["vocab_size"], hidden_dim)
            self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim) for _ in range(num_layers))
            self.layers = nn.ModuleList(
                RGCNConv(hidden_dim, hidden_dim, num_relations) for _ in range(num_layers)
            )
            self.dropout = nn.Dropout(0.1)
            gate, value = (nn.Linear(hidden_dim, hidden_dim) for _ in range(2))
            self.readout = AttentionalAggregation(gate_nn=gate, nn=value)
            self.head = nn.Linear(hidden_dim, 1)

        def forward(self, batch: object) -> Tensor:
            x = self.kind(batch.kind) + self.token(batch.token)  # type: ignore[attr-defined]
            for norm, layer in zip(self.norms, self.layers, strict=True):
                messages = layer(norm(x), batch.edge_index, batch.edge_type)  # type: ignore[attr-defined]
                x = x + self.dropout(messages.relu())
            pooled = self.readout(x, batch.batch)  # type: ignore[attr-defined]
            logits: Tensor = self.head(pooled.relu()).squeeze(-1)
            return logits

    return Network()
