"""Hugging Face encoders from a folder or the hub: the weights are the ones that the files hold.

What config.json describes and what the weights file holds need not fit each other; the library
fills the gaps with random numbers and says so in a log. Here a gap is refused by name.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sg_ray.errors import InputError
from sg_ray.features.pretrained_files import (
    architecture_folder,
    encoder_folder,
    quiet_hugging_face,
    weight_files,
)

_TABLES = re.compile(
    r"(position_ids|token_type_ids|inv_freq|masked_bias|causal_mask|(attn|attention)\.bias)$"
)
"""Constants that older versions of the library saved beside the weights."""

_PRECISIONS = frozenset(["F64", "F32", "F16", "BF16", "float64", "float32", "float16", "bfloat16"])
"""Names of what weights are stored as, in safetensors and in pickled files."""


def load_encoder(name: str) -> Any:
    """Return the encoder that ``name`` holds, with float32 weights; of an encoder-decoder its half.

    Raises InputError if files are missing or damaged, need code of their own, or if the weights
    are not those of the encoder that config.json describes.
    """
    folder = encoder_folder(name)
    settings = _settings(name, folder)
    try:
        with quiet_hugging_face():
            model, report = _class_of(settings).from_pretrained(
                folder,
                config=settings,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # to tell all of them
            )
    except MemoryError:
        raise
    except Exception as error:  # whatever a folder of anybody's making leads the library to
        raise _not_loaded(name, error) from error
    encoder = _encoder_of(model)
    _check_weights(name, model, encoder, report)
    _check_precision(name, folder, model)
    return encoder


def encoder_without_weights(name: str) -> Any:
    """Return the encoder that ``name``/config.json describes, with random weights."""
    settings = _settings(name, architecture_folder(name))
    try:
        with quiet_hugging_face():
            model = _class_of(settings).from_config(settings, trust_remote_code=False)
    except Exception as error:  # as above
        raise _not_loaded(name, error) from error
    return _encoder_of(model.float())


def save_architecture(name: str, folder: Path) -> None:
    """Write the config.json from which ``encoder_without_weights`` builds ``name`` again."""
    _settings(name, architecture_folder(name)).save_pretrained(folder)


def is_causal(encoder: Any) -> bool:
    """Return True for a decoder, in which a token sees only those before it."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MASKED_LM_MAPPING,
    )

    settings = encoder.config
    if getattr(settings, "is_encoder_decoder", False):
        return False  # an encoder-decoder's encoder
    kind = type(settings)
    is_for_text = kind in MODEL_FOR_CAUSAL_LM_MAPPING and kind not in MODEL_FOR_MASKED_LM_MAPPING
    return bool(getattr(settings, "is_decoder", False)) or is_for_text


def max_positions(encoder: Any) -> int | None:
    """Return how many tokens ``encoder`` can place; None if its configuration has no limit."""
    names = ("max_position_embeddings", "max_encoder_position_embeddings")
    found = (getattr(encoder.config, name, None) for name in names)
    limit: int | None = next((n for n in found if isinstance(n, int) and n > 0), None)
    return None if limit is None else limit - first_position(encoder)


def first_position(encoder: Any) -> int:
    """Return the number of the first position: RoBERTa's tables count from padding_idx + 1."""
    positions = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
    padding_idx = getattr(positions, "padding_idx", None)
    return 0 if padding_idx is None else int(padding_idx) + 1


def num_embeddings(encoder: Any) -> int:
    """Return how many token ids ``encoder`` has an embedding for."""
    return int(encoder.get_input_embeddings().weight.shape[0])


def _settings(name: str, folder: Path) -> Any:
    from transformers import AutoConfig

    try:
        with quiet_hugging_face():
            settings = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # whatever a folder of anybody's making leads the library to
        raise _not_loaded(name, error) from error
    if getattr(settings, "quantization_config", None) is not None:
        raise InputError(
            f"pretrained: {name!r} holds quantised weights, which cannot be trained. Give the "
            "encoder in full precision."
        )
    if getattr(settings, "transformers_weights", None) is not None:
        raise InputError(
            f"pretrained: {name!r} has its weights in a file of another name, by "
            "transformers_weights in config.json. Name that file model.safetensors and remove the "
            "setting."
        )
    settings.use_cache, settings.return_dict = False, True
    if getattr(settings, "attention_type", None) == "block_sparse":
        # BigBird turns to full attention for good once it meets a short batch: what it says of a
        # function would depend on what came before.
        settings.attention_type = "original_full"
    return settings


def _class_of(settings: Any) -> Any:
    """Return what loads the model: of T5 and its kin the encoder alone, which has a class."""
    from transformers import AutoModel, AutoModelForTextEncoding
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    text_encoder = MODEL_FOR_TEXT_ENCODING_MAPPING.get(type(settings), None)
    is_half = text_encoder is not None and text_encoder.__name__.endswith("EncoderModel")
    return AutoModelForTextEncoding if is_half else AutoModel


def _encoder_of(model: Any) -> Any:
    """Return the part that reads: all but a decoder and a pooler.

    The readout does not use them; parameters without a gradient stop distributed training.
    """
    is_whole = type(model).__name__.endswith("EncoderModel")
    is_pair = getattr(model.config, "is_encoder_decoder", False) and not is_whole
    encoder = model.get_encoder() if is_pair else model
    if getattr(encoder, "pooler", None) is not None:
        encoder.pooler = nn.Identity()  # not None: not all of them ask whether they have one
    return encoder


def _not_loaded(name: str, error: Exception) -> InputError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return InputError(
        f"pretrained: {name!r} could not be loaded ({reason}). Give a folder with config.json "
        "and weights, or a hub name that is in the local cache or can be downloaded, "
        "or leave pretrained out to train from scratch."
    )


def _check_weights(name: str, model: Any, encoder: Any, report: Mapping[str, Any]) -> None:
    own = {id(tensor) for _, tensor in _tensors(encoder)}
    names: dict[int, str] = {}
    for key, tensor in _tensors(model):
        if id(tensor) in own:
            names.setdefault(id(tensor), key)
    wanted = list(names.values())
    kind = type(model).__name__
    unexpected = sorted(report["unexpected_keys"])
    missing = [key for key in wanted if key in report["missing_keys"]]
    if missing:
        raise InputError(
            f"pretrained: {name!r} lacks {len(missing)} of {len(wanted)} weights of a {kind} "
            f"(first: {missing[0]}){_instead(unexpected)}. They would be drawn at random. Give a "
            "folder whose weights belong to its config.json."
        )
    shapes = {key: (there, here) for key, there, here in report["mismatched_keys"]}
    other_shape = [key for key in wanted if key in shapes]
    if other_shape:
        there, here = (list(shape) for shape in shapes[other_shape[0]])
        raise InputError(
            f"pretrained: {name!r} holds {len(other_shape)} of {len(wanted)} weights of a {kind} "
            f"in another shape than its config.json says (first: {other_shape[0]} is {there}, not "
            f"{here}). Give a folder whose weights belong to its config.json."
        )
    strays = _strays(unexpected, wanted, model.base_model_prefix)
    if strays:
        raise InputError(
            f"pretrained: {name!r} holds {len(strays)} weights that a {kind} by its config.json "
            f"has no place for (first: {strays[0]}). They would be left out. Give a folder whose "
            "weights belong to its config.json."
        )
    broken = [key for key, tensor in _tensors(encoder) if not bool(tensor.isfinite().all())]
    if broken:
        raise InputError(
            f"pretrained: {name!r} holds {len(broken)} of {len(wanted)} weights that are not "
            f"finite (first: {broken[0]}). Fetch its files again."
        )


def _check_precision(name: str, folder: Path, model: Any) -> None:
    """Refuse weights that were turned into float32 but are numbers of another kind."""
    prefix = f"{model.base_model_prefix}."
    floating = {key for key, tensor in _tensors(model) if tensor.is_floating_point()}
    for key, dtype in _stored_dtypes(weight_files(folder)):
        if dtype not in _PRECISIONS and (key in floating or key.removeprefix(prefix) in floating):
            raise InputError(
                f"pretrained: {name!r} holds weights as {dtype} (first: {key}), which mean nothing "
                "without the scale that they were quantised by. Give the encoder in full precision."
            )


def _stored_dtypes(files: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the name of each tensor in files of weights, and of its type."""
    for file in files:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as content:
                for key in content.keys():  # noqa: SIM118 - it is no mapping
                    yield key, content.get_slice(key).get_dtype()
        elif file.suffix == ".bin":
            content = torch.load(file, map_location="meta", weights_only=True)
            for key, tensor in content.items():
                yield key, str(tensor.dtype).removeprefix("torch.")


def _tensors(module: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters, and buffers that are saved, a shared one under each of its names."""
    saved = module.state_dict(keep_vars=True)
    named = chain(
        module.named_parameters(remove_duplicate=False),
        module.named_buffers(remove_duplicate=False),
    )
    return ((name, tensor) for name, tensor in named if name in saved)


def _instead(unexpected: Sequence[str]) -> str:
    """Say what the file holds in place of missing weights."""
    if not unexpected:
        return ""
    wrapped = all(key.startswith("module.") for key in unexpected)
    hint = ", as DataParallel saves them: save model.module instead" if wrapped else ""
    return f"; it holds {len(unexpected)} of other names (first: {unexpected[0]}{hint})"


def _strays(unexpected: Sequence[str], wanted: Sequence[str], prefix: str) -> list[str]:
    """Return the unexpected weights that belong to the encoder: not those of heads and poolers."""
    roots = {key.split(".")[0] for key in wanted}
    without_prefix = {key: key.removeprefix(f"{prefix}.") for key in unexpected}
    return [
        key
        for key, short in without_prefix.items()
        if short.split(".")[0] in roots and not _TABLES.search(short)
    ]
