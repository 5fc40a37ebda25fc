"""A learning rate a layer: the higher, the faster (Howard and Ruder 2018, arXiv:1801.06146; Clark et al. 2020,
arXiv:2003.10555)."""

from typing import Any

from whisper_train.model_parts import layers_below_top, part_of


def split_by_layer(optimizer: Any, model: Any, layer_decay: float) -> None:
    """Splits the groups of a new `optimizer`: each layer learns at `layer_decay` times the rate of the one above.

    The highest layer that is trained keeps the optimizer's own rate and comes first: it is the rate that is logged.
    Schedules multiply the rate of every group alike.
    """
    depths = {
        id(parameter): layers_below_top(part_of(name), model.config)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    top = min(depths.values())
    groups = []
    for depth in sorted(set(depths.values())):
        for group in optimizer.param_groups:
            if members := [parameter for parameter in group["params"] if depths[id(parameter)] == depth]:
                groups.append({**group, "params": members, "lr": group["lr"] * layer_decay ** (depth - top)})
    assert sum(len(group["params"]) for group in groups) == len(depths), "a weight is in no group, or in several"
    optimizer.param_groups[:] = groups
