"""YAML as job files may hold it: plain values, no key twice, and nothing that grows, hangs or builds objects."""

from typing import Any

import yaml

from whisper_train.printable import UNPRINTABLE

MAX_CHARACTERS = 2**20  # of one file; the longest job of ours has 5,000
MAX_DEPTH = 40  # collections within collections
MAX_VALUES = 100_000  # with what every alias stands for counted each time it is used
MAX_DIGITS = 40  # of a number
INTEGER_LIMIT = 2**63  # what torch, Arrow and numpy hold
PLAIN_TAGS = ("null", "bool", "int", "float", "timestamp", "str", "seq", "map")  # no objects, sets or bytes


def load_yaml(text: str) -> Any:
    """What the YAML `text` holds; raises yaml.YAMLError for anything that is not plain, small and unambiguous."""
    if len(text) > MAX_CHARACTERS:
        raise yaml.YAMLError(f"has more than {MAX_CHARACTERS:,} characters")
    try:
        return yaml.load(text, Loader=StrictLoader)
    except (ValueError, RecursionError) as error:
        raise yaml.YAMLError((str(error).splitlines() or [type(error).__name__])[0]) from error


class StrictLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, aliases that explode, and what is no plain value."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.values = [0]  # within each collection that is being read, the outermost first
        self.within: dict[int, int] = {}  # values within a node that is complete, by its id

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Counts what is read, so that aliases of aliases end before anything is built of them."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        mark: Any = event.start_mark
        if len(self.values) > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=f"is nested deeper than {MAX_DEPTH}", problem_mark=mark)
        self.values.append(0)
        node = super().compose_node(parent, index)
        inside = self.values.pop()
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.within:
                problem = f"alias {event.anchor!r} stands within what it names"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        else:
            self.within[id(node)] = inside + 1
        self.values[-1] += self.within[id(node)]
        if self.values[-1] > MAX_VALUES:
            problem = f"holds more than {MAX_VALUES:,} values, those behind aliases counted"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """As the library does, except that a value which its tag does not allow is told with its line."""
        try:
            value = super().construct_object(node, deep=deep)
        except (KeyError, AttributeError, ValueError, TypeError, OverflowError) as error:
            reason = str(error) if isinstance(error, ValueError) else f"is no {node.tag.rpartition(':')[2]}"
            raise yaml.MarkedYAMLError(problem=reason, problem_mark=node.start_mark) from error
        if isinstance(value, int) and not -INTEGER_LIMIT <= value < INTEGER_LIMIT:
            raise yaml.MarkedYAMLError(problem="a number has more than 64 bits", problem_mark=node.start_mark)
        return value


def construct_mapping(loader: StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is not text", problem_mark=key_node.start_mark)
        if key in seen:
            raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def construct_text(loader: StrictLoader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if found := UNPRINTABLE.search(text):
        problem = f"text holds the control character {found[0]!r}"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return text


def construct_number(loader: StrictLoader, node: yaml.ScalarNode) -> int | float:
    if len(node.value) > MAX_DIGITS:  # by the base of 60, too, such a one takes seconds to read
        problem = f"a number has {len(node.value):,} characters"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    construct = SAFE[node.tag]
    number: int | float = construct(loader, node)
    return number


SAFE: dict[str | None, Any] = {
    f"tag:yaml.org,2002:{name}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{name}"] for name in PLAIN_TAGS
}
OURS: dict[str | None, Any] = {
    None: yaml.SafeLoader.yaml_constructors[None],  # of any other tag: says that it is not known
    "tag:yaml.org,2002:map": construct_mapping,
    "tag:yaml.org,2002:str": construct_text,
    "tag:yaml.org,2002:int": construct_number,
    "tag:yaml.org,2002:float": construct_number,
}
StrictLoader.yaml_constructors = {**SAFE, **OURS}
