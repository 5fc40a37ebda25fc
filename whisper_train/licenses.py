"""The licences the hub knows by an identifier (huggingface/hub-docs, repositories-licenses.md)."""

from difflib import get_close_matches

OTHER = "other"  # a licence without an identifier; its text lies beside the model as LICENSE
LICENSES: tuple[str, ...] = ("apache-2.0", "mit", "openrail", "bigscience-openrail-m", "creativeml-openrail-m")
LICENSES += ("bigscience-bloom-rail-1.0", "bigcode-openrail-m", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd")
LICENSES += ("bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "c-uda", "cc", "cc0-1.0", "cc-by-2.0", "cc-by-2.5")
LICENSES += ("cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0")
LICENSES += ("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0")
LICENSES += ("cc-by-nc-sa-4.0", "cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "wtfpl", "ecl-2.0")
LICENSES += ("epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "agpl-3.0", "gfdl", "gpl", "gpl-2.0")
LICENSES += ("gpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "isc", "lppl-1.3c", "ms-pl", "mpl-2.0", "odc-by", "odbl")
LICENSES += ("openrail++", "osl-3.0", "postgresql", "ofl-1.1", "ncsa", "unlicense", "zlib", "pddl", "lgpl-lr")


def find_license(value: str) -> str:
    """The identifier for `value`, whatever its capitals; ValueError with the nearest one when there is none."""
    identifier = value.strip().lower()
    if identifier in (*LICENSES, OTHER):
        return identifier
    near = get_close_matches(identifier, LICENSES, n=1, cutoff=0.5)
    raise ValueError(
        f"{value}: not a licence that the hub has an identifier for{f'; did you mean {near[0]}?' if near else ''};"
        f" for a licence without one write {OTHER}, and put its text beside the model as LICENSE"
    )
