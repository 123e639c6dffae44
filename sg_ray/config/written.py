"""Settings as plain values, so that what is written of them reads back to equal ones."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


def plain_settings(settings: BaseModel) -> dict[str, Any]:
    """Return plain values of all settings but those that are None when they are left out.

    A file of the user's may not say null for what would then be left out: see MaybeFolder.
    """
    fields = type(settings).model_fields
    whole = settings.model_dump(mode="json")
    return {
        name: _plain(value, whole[name])
        for name, value in settings
        if value is not None or fields[name].default is not None
    }


def _plain(value: Any, dumped: Any) -> Any:
    if isinstance(value, BaseModel):
        return plain_settings(value)
    if isinstance(value, Mapping):
        return {name: _plain(item, dumped[name]) for name, item in value.items()}
    return dumped
