"""What a plugin author imports: the model interface, its specification types and the one hook."""

from mercato_plugin.batch import Batch, Graphs, Ragged
from mercato_plugin.context import BuildContext, LoadContext, SpecContext
from mercato_plugin.errors import FolderError, InvalidInput, SpecError
from mercato_plugin.examples import read_examples, write_examples
from mercato_plugin.fields import BATCH, Axis, Field, Image, Label, Tensor, Text
from mercato_plugin.folder import ModelFolder, folder_versions, publish_folder, read_folder, staged_folder
from mercato_plugin.hooks import API_VERSION, GROUP, hookimpl
from mercato_plugin.masking import masked
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
    "FolderError",
    "GraphSpec",
    "Graphs",
    "Image",
    "Int",
    "InvalidInput",
    "Label",
    "LoadContext",
    "Model",
    "ModelFolder",
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
    "folder_versions",
    "hookimpl",
    "masked",
    "publish_folder",
    "read_examples",
    "read_folder",
    "setting",
    "staged_folder",
    "write_examples",
]
