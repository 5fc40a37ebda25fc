"""Stops the Vast.ai instance that this runs in. Standard library only: `python -m whisper_train.cloud.stop_self`.

Vast.ai gives every instance CONTAINER_ID and CONTAINER_API_KEY, a key for itself alone
(https://docs.vast.ai/guides/instances/docker-environment). A stopped instance costs its disk and can be fetched from.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence

WAITS = (5.0, 15.0, 30.0, 60.0)  # seconds between attempts; an instance that goes on costs more than a few requests
FINAL = (400, 401, 403, 404)  # a second attempt gets the same answer
WAY_OUT = "the instance goes on and costs money: stop or destroy it (make vast-destroy, or the console of Vast.ai)"


def stop(environment: Mapping[str, str], waits: Sequence[float] = WAITS) -> str | None:
    """Asks Vast.ai to stop this instance, again after each of `waits` (seconds); why not, or None when it is done."""
    instance, key = environment.get("CONTAINER_ID"), environment.get("CONTAINER_API_KEY")
    if not instance or not key:
        missing = "CONTAINER_API_KEY" if instance else "CONTAINER_ID"
        return f"{missing} is not set; Vast.ai sets it inside an instance"
    server = (environment.get("VAST_URL") or "https://console.vast.ai").rstrip("/")
    request = urllib.request.Request(
        f"{server}/api/v0/instances/{instance}/",
        data=json.dumps({"state": "stopped"}).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        method="PUT",
    )
    problem = ""
    for wait in (*waits, None):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                told = json.load(answer)
                if told.get("success", True):
                    return None
                problem = str(told.get("msg") or "Vast.ai says no")
        except urllib.error.HTTPError as error:
            problem = f"Vast.ai answers {error.code} {error.reason}"
            if error.code in FINAL:
                break
        except (OSError, ValueError, AttributeError) as error:
            problem = f"{server}: {getattr(error, 'reason', error)}"
        if wait is not None:
            time.sleep(wait)
    return problem.replace(key, "***")


def main() -> int:
    problem = stop(os.environ)
    if problem:
        print(f"error: this instance cannot stop itself: {problem}; {WAY_OUT}", file=sys.stderr)
        return 1
    print("the job has ended: Vast.ai stops this instance; its disk is kept, and paid for, until make vast-destroy")
    return 0


if __name__ == "__main__":
    sys.exit(main())
