"""The JSON Schema of mercato.toml, as editors read it."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from mercato_server.config import Settings

# What editors' TOML extensions understand; newer drafts gain nothing here.
_DRAFT = "http://json-schema.org/draft-07/schema#"


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: what is not given is left out."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        return {name: value for name, value in found.items() if not (name == "default" and value is None)}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def settings_schema() -> dict[str, Any]:
    """Every setting with type, bounds, default and description; unknown keys are refused."""
    schema = Settings.model_json_schema(ref_template="#/definitions/{model}", schema_generator=_TomlSchema)
    definitions = schema.pop("$defs")
    described = {"$schema": _DRAFT, **schema, "title": "mercato.toml", "definitions": definitions}
    described["description"] = "Settings of the Mercato server."
    return described
