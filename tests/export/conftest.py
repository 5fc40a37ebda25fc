"""Models to convert, made once."""

from pathlib import Path

import pytest

from tests.export.models import make_base


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("export") / "base")
