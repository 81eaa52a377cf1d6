"""The document has the rows about files, media and plugins as they are."""

import pytest
from tests.docs.pages import read, sections
from tests.server.bad.files_page import SECTIONS, section


@pytest.mark.parametrize("name", SECTIONS)
def test_the_document_has_the_rows_as_they_are(name: str) -> None:
    assert section(name) in sections(read("docs/reference/bad-input.md"))[name]
