"""What a plugin author imports: the model interface, its specification types and the one hook."""

from mercato_plugin.batch import Batch, Graphs, Ragged
from mercato_plugin.context import BuildContext, LoadContext, SpecContext
from mercato_plugin.errors import InvalidInput, SpecError
from mercato_plugin.fields import BATCH, Axis, Field, Image, Label, Tensor, Text
from mercato_plugin.hooks import API_VERSION, GROUP, hookimpl
from mercato_plugin.model import Built, Example, Model
from mercato_plugin.parameters import Bool, Choice, Float, Int, Parameter, Str
from mercato_plugin.settings import Secret, setting
from mercato_plugin.spec import BatchPolicy, GraphSpec, ModelSpec, TopK

__all__ = [
    "API_VERSION",
    "BATCH",
    "GROUP",
    "Axis",
    "Batch",
    "BatchPolicy",
    "Bool",
    "BuildContext",
    "Built",
    "Choice",
    "Example",
    "Field",
    "Float",
    "GraphSpec",
    "Graphs",
    "Image",
    "Int",
    "InvalidInput",
    "Label",
    "LoadContext",
    "Model",
    "ModelSpec",
    "Parameter",
    "Ragged",
    "Secret",
    "SpecContext",
    "SpecError",
    "Str",
    "Tensor",
    "Text",
    "TopK",
    "hookimpl",
    "setting",
]
