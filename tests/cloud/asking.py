"""What the tests of the commands share: one launch, the request it makes, and how a refusal looks."""

from typing import Any

from tests.cloud.conftest import HF_TOKEN, IMAGE
from tests.cloud.vast_server import KEY, VastServer, make_offer
from tests.conftest import RunCli

LAUNCH = ("vast", "launch", "demo", "--offer", "7", "--image", IMAGE)


def created_by_launch(vast: VastServer, run_cli: RunCli, *more: str) -> dict[str, Any]:
    """The recorded request that creates an instance, for `launch demo`: its `env` and `onstart` are what runs there."""
    vast.offers = [make_offer(7)]
    result = run_cli(*LAUNCH, "--yes", *more)
    assert result.exit_code == 0, result.output
    return vast.created()


def refused(result: Any, *words: str) -> None:
    """Asserts exit status 2, one message with `words`, and no secret in it."""
    assert result.exit_code == 2, result.output
    messages = [line for line in result.output.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, result.output
    for word in words:
        assert word in messages[0]
    assert KEY not in result.output
    assert HF_TOKEN not in result.output
    assert "Traceback" not in result.output
