"""Small models of every family, trained as a sweep trains them and exported as it exports them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from sg_ray.configuration import Configuration
from sg_ray.data.samples import DataSet
from sg_ray.data.sources import DataConfig, load_data
from sg_ray.export import export_model
from sg_ray.features.build import prepare_features, store_dir
from sg_ray.features.packed import Features
from sg_ray.features.spec import FeatureSpec
from sg_ray.models.families import FAMILIES
from sg_ray.records.record import record_of
from sg_ray.training.loop import EpochResult
from sg_ray.trial.context import TrialContext
from sg_ray.trial.run import run_trial, score_test
from sg_ray.trial.spec import BranchSource, TrialSpec

CPU = torch.device("cpu")
NEURAL = {"epochs": 2, "learning_rate": 5e-3, "precision": "fp32"}
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "lexical": {"min_df": 1},
    "transformer": {
        **NEURAL,
        "tokens": {"vocab_size": 400},
        "num_layers": 1,
        "hidden_dim": 16,
        "num_heads": 2,
        "max_tokens": 64,
    },
    "gnn": {**NEURAL, "hidden_dim": 16, "num_layers": 1, "graphs": {"vocab_size": 400}},
    "fusion": NEURAL,
    "fusion-fine-tuned": {**NEURAL, "mode": "fine_tune"},
}


@dataclass(frozen=True)
class Workshop:
    """One data set and a folder; trains, exports, and says what the training itself predicted."""

    folder: Path

    @cached_property
    def data(self) -> DataSet:
        return load_data(DataConfig(num_samples=160))

    def sources(self, split: str) -> list[str]:
        return [sample.source for sample in self.data.splits[split]]

    def train(
        self,
        family: str,
        config: Mapping[str, Any],
        branches: Mapping[str, TrialSpec] | None = None,
    ) -> tuple[TrialSpec, EpochResult]:
        """Return the trial and its best epoch."""
        parts = branches or {}
        spec = TrialSpec(
            configuration=Configuration.of(
                family, family, FAMILIES[family].Config.model_validate(config)
            ),
            seed=7,
            objective="val_roc_auc",
            data_fingerprint=self.data.fingerprint,
            code_version="test",
            branches={name: self._source(part) for name, part in parts.items()},
        )
        epochs = run_trial(spec, self.context(spec), self._trained(spec))
        return spec, [epoch for epoch in epochs if epoch.is_best][-1]

    def export(self, spec: TrialSpec, result: EpochResult, folder: Path) -> Path:
        epoch = {"epoch": result.epoch, **result.metrics}
        record = record_of(
            spec, "search", [epoch], status="completed", started_at_ms=0, environment={},
            failure=None,
        )  # fmt: skip
        folder.parent.mkdir(parents=True, exist_ok=True)
        export_model(record, spec.branches, self._trained(spec), self.folder / "cache", folder)
        return folder

    def test_scores(self, spec: TrialSpec) -> dict[str, float]:
        return score_test(spec, self.context(spec), self._trained(spec))

    def context(self, spec: TrialSpec) -> TrialContext:
        return TrialContext(self._features(spec), self.folder / "cache", CPU)

    def _features(self, spec: TrialSpec) -> Features:
        return prepare_features(self.data, self._specs(spec), self.folder / "cache")

    def _specs(self, spec: TrialSpec) -> list[FeatureSpec]:
        parts = [spec.configuration, *(source.configuration for source in spec.branches.values())]
        return [
            wanted
            for part in parts
            for wanted in FAMILIES[part.family].feature_specs(
                FAMILIES[part.family].Config.model_validate(part.values)
            )
        ]

    def _store(self, spec: FeatureSpec) -> Path:
        return store_dir(self.folder / "cache", self.data.fingerprint, spec)

    def _trained(self, spec: TrialSpec) -> Path:
        return self.folder / "trials" / spec.trial_key

    def _source(self, spec: TrialSpec) -> BranchSource:
        return BranchSource(
            trial_key=spec.trial_key,
            configuration=spec.configuration,
            config_hash=spec.config_hash,
            folder=self._trained(spec),
        )


def save_pretrained_encoder(folder: Path, workshop: Workshop) -> None:
    """Write a small Hugging Face encoder with its tokenizer, as a user would download one."""
    from transformers import RobertaConfig, RobertaModel

    from sg_ray.features.spec import TokenSpec
    from sg_ray.features.tokens import TokenFeaturiser

    tokenizer = TokenFeaturiser.fit(TokenSpec(vocab_size=300), workshop.sources("train"))
    folder.mkdir()
    tokenizer.save(folder)
    settings = RobertaConfig(
        vocab_size=tokenizer.meta["vocab_size"],
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=66,
    )
    torch.manual_seed(0)
    RobertaModel(settings).save_pretrained(folder)
