"""The small tree of maps and metadata that all tests of stored maps start from."""

import pytest
from helpers.stored import write_tree


@pytest.fixture
def tree(tmp_path):
    write_tree(tmp_path)
    return tmp_path
