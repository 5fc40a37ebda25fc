"""Templates to pages."""

from functools import cache
from typing import Any

from jinja2 import ChainableUndefined, Environment, PackageLoader

from whisper_train.report import averaging, charts, figures, formats

FILTERS = (
    formats.count,
    formats.decimal,
    formats.duration,
    formats.hours,
    formats.interval,
    formats.moment,
    formats.measure,
    formats.percent,
    formats.point_interval,
    formats.points,
    formats.probability,
    formats.short,
)


@cache
def make_environment() -> Environment:
    """Escapes everything; a key that is missing, at any depth, is no error: the filters make a dash of it."""
    environment = Environment(
        loader=PackageLoader("whisper_train.report", ""),
        autoescape=True,
        undefined=ChainableUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.globals |= {
        "draw_interval": figures.draw_interval,
        "highest_rate": figures.highest_rate,
        "key": charts.key,
        "list_averages": averaging.list_averages,
        "models_of": figures.models_of,
        "normalizers_of": figures.normalizers_of,
    }
    return environment


def render(template: str, **values: Any) -> str:
    """The page as text that can be written as UTF-8 and holds no character that HTML forbids."""
    page = make_environment().get_template(template).render(**values)
    return formats.UNPRINTABLE.sub("\ufffd", page)
