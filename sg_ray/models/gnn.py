"""The graph family: typed message passing over program graphs."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from sg_ray.features.spec import FeatureSpec, GraphSpec
from sg_ray.models.family import Classifier, Inputs, NeuralConfig, NeuralFamily
from sg_ray.models.gnn_network import GraphClassifier
from sg_ray.models.graph_split import GraphSplit


class GnnConfig(NeuralConfig):
    """Hyperparameters of the graph family."""

    learning_rate: float = Field(default=5e-4, gt=0, le=10)
    """As of every neural family. Graph networks train at higher rates than transformers."""
    graphs: GraphSpec = GraphSpec()
    """What the graphs hold."""
    layer: Literal["gated", "relational"] = "relational"
    """``relational``: R-GCN with residuals; ``gated``: GGNN, a GRU update, about twice the time."""
    hidden_dim: int = Field(default=64, ge=4, le=4096)
    """Width of a node's vector. Wider takes more time and memory."""
    num_layers: int = Field(default=4, ge=1, le=64)
    """Rounds of messages: how many edges apart two nodes may be to hear of each other."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Share of a node's vector that is left out at random in training. Raise it if the model
    learns the train split by heart."""


class Gnn(NeuralFamily[GnnConfig]):
    """Graph networks over the ``graphs`` features."""

    name: ClassVar[str] = "gnn"
    Config = GnnConfig
    stacks: ClassVar[bool] = True
    lr_range: ClassVar[tuple[float, float]] = (1e-5, 1e-1)

    def feature_specs(self, config: GnnConfig) -> Sequence[FeatureSpec]:
        """Return the program graphs."""
        return (config.graphs,)

    def split_data(self, config: GnnConfig, inputs: Inputs, split: str) -> GraphSplit:
        """Return one split's graphs."""
        kind = inputs.features.kinds[config.graphs.key]
        labels = inputs.features.labels[split]
        return GraphSplit(labels, kind.splits[split], kind.meta["num_edge_types"])

    def build(self, config: GnnConfig, inputs: Inputs) -> Classifier:
        """Return a new model, sized by the features' vocabularies."""
        meta = inputs.features.kinds[config.graphs.key].meta
        return GraphClassifier(
            layer=config.layer,
            num_node_kinds=meta["num_node_kinds"],
            vocab_size=meta["vocab_size"],
            num_relations=2 * meta["num_edge_types"],
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            dropout=config.dropout,
        )
