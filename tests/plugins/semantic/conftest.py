"""The encoder of the weights package, built once for all tests."""

import pytest
from tests.plugins.semantic.encoders import Served, serve

from mercato_semantic import EncoderSettings


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> Served:
    return serve(tmp_path_factory.mktemp("minilm"), EncoderSettings())
