"""Lists every installed package with its version and licence; exit status 1 where a package says none."""

import sys
from collections import Counter
from importlib.metadata import PackageMetadata, distributions

LONGEST = 60  # characters; some packages put the whole text of their licence there
CLASSIFIER = "License :: "
# Packages whose metadata say nothing; read from their own files, with where.
READ_BY_HAND = {"espeakng-loader": "GPL-3.0-or-later (of eSpeak NG, which it holds; its own code names none)"}


def licence_of(package: PackageMetadata) -> str:
    """The licence that a package's metadata name: as an SPDX expression, by its classifiers, or in words."""
    if expression := package.get("License-Expression"):
        return expression
    named = [one.split(" :: ")[-1] for one in package.get_all("Classifier") or [] if one.startswith(CLASSIFIER)]
    named = [one for one in named if one != "OSI Approved"]
    if named:
        return " and ".join(named)
    text = package.get("License") or ""
    if "Permission is hereby granted, free of charge" in text:
        return "MIT"
    words = text.strip().splitlines()
    return words[0][:LONGEST] if words and words[0] != "UNKNOWN" else READ_BY_HAND.get(package["Name"].lower(), "")


def main() -> int:
    found = {one.metadata["Name"].lower(): one.metadata for one in distributions() if one.metadata["Name"]}
    rows = [(name, found[name]["Version"], licence_of(found[name])) for name in sorted(found)]
    for name, version, licence in rows:
        print(f"{name:32} {version:20} {licence or '(none named)'}")
    silent = [name for name, _, licence in rows if not licence]
    print(f"{len(rows)} packages, {len(Counter(licence for _, _, licence in rows))} licences")
    if silent:
        print(
            f"error: licences: {', '.join(silent)}: no licence named; read its files and add it here", file=sys.stderr
        )
    return bool(silent)


if __name__ == "__main__":
    sys.exit(main())
