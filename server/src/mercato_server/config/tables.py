"""The tables of the settings file: one model, one caller, one row of the access table."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from mercato_plugin.spec import MAX_VERSION
from mercato_server.config.sources import listed_gates
from mercato_server.contract import gates
from mercato_server.contract.labels import EXPECTED, LABEL, is_label
from mercato_server.contract.words import shown

ANY = "*"
_METHOD = re.compile(r"[\w.]+/\w+")

OneOrMany = Annotated[
    tuple[str, ...],
    BeforeValidator(
        lambda given: (given,) if isinstance(given, str) else given, json_schema_input_type=str | tuple[str, ...]
    ),
]

Version = Annotated[int, Field(strict=True, ge=1, le=MAX_VERSION)]
ProviderName = Literal["auto", "cpu", "cuda", "tensorrt"]


class AccessRule(BaseModel):
    """One row of the access table: `[[access]]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    principal: str = Field(min_length=1, description="Name in the caller's certificate: a SAN.")
    methods: OneOrMany = Field(
        description='Methods it may call, such as "mercato.v1.PredictionService/Predict"; "*" stands for all.'
    )
    models: OneOrMany = Field(description='Models it may use; "*" stands for all.')

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        for name in methods:
            if name != ANY and not _METHOD.fullmatch(name):
                raise ValueError(f'got {name!r}, expected "*" or package.Service/Method without a leading slash')
        return methods


class ModelSettings(BaseModel):
    """Overrides of one model: `[models."pricing.linear"]`. What is not given is as it is for every model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: dict[str, Version] = Field(
        {},
        description="Movable names for versions, such as stable = 1.",
        json_schema_extra={"propertyNames": {"pattern": f"^{LABEL.pattern}$"}},
    )
    versions: tuple[Version, ...] | None = Field(
        None,
        min_length=1,
        description="Model folders that are served; not given = the highest, and those that `labels` mean.",
    )
    gate: Annotated[tuple[str, ...] | None, BeforeValidator(listed_gates)] = Field(
        None, description='What metrics must reach before a label may mean a version, such as ["f1>=0.8"].'
    )
    provider: ProviderName | None = Field(None, description="Execution provider of this model.")
    threads: int | None = Field(None, ge=0, description="Cores that one run of this model may use.")
    batch_rows: int | None = Field(
        None, ge=1, description="Most rows of joined requests; at most what the plugin declares."
    )
    batch_cost: int | None = Field(
        None, ge=1, description="Most weight of joined requests; at most what the plugin declares, if it does."
    )
    max_requests: int | None = Field(None, ge=1, description="Requests in flight before callers are refused.")
    max_request_bytes: int | None = Field(
        None, ge=1024, description="Bytes of requests in flight before callers are refused."
    )
    default_deadline: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Seconds granted to a caller that sets no deadline."
    )
    default_priority: int | None = Field(
        None, ge=1, le=9, description="Priority of a request that sets none: 1 is the most urgent, 9 the least."
    )
    latency_target: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds that a request is to take: bounds batches under load, and lets them wait to grow.",
    )
    cache_bytes: int | None = Field(
        None, ge=1024, description="Bytes of answers kept by row, for rows that are asked for again."
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _check_labels(cls, labels: Any) -> Any:
        # Before the values, whose errors would have an unchecked label in the name of their place.
        for label in labels if isinstance(labels, Mapping) else ():
            if not is_label(str(label)):
                raise ValueError(f"got {shown(str(label))}, expected {EXPECTED}")
        return labels

    @field_validator("gate")
    @classmethod
    def _check_gate(cls, gate: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for text in gate or ():
            gates.parse_own(text)
        return gate


class CallerSettings(BaseModel):
    """What one caller gets beside others: `[callers."orders.shop"]`; `[callers."*"]` is everybody who is not named.

    A caller is known by the first name in its certificate, without certificates by its address.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight: float = Field(
        1.0, ge=0.001, le=1000, description="Its share of a busy model, beside callers of the same priority."
    )
    max_requests: int | None = Field(
        None, ge=1, description="Its requests in flight, of all models, before it is refused; not given = any number."
    )
