"""The results as a table in Markdown, and what they come to in sentences."""

from collections.abc import Callable, Mapping
from typing import Any

Figures = Mapping[str, Any]
MIB = 2**20


def make_table(results: Figures) -> str:
    """Rows of what was measured, a column for each way; below it how much was heard and learned."""
    ways, against = results["ways"], results["against_stock"]
    lines = ["| | " + " | ".join(way["label"] for way in ways.values()) + " |", "|---" * (len(ways) + 1) + "|"]
    for label, cell in ROWS:
        cells = [cell(way, against.get(name)) for name, way in ways.items()]
        if any(cells):
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *sentences(results)]) + "\n"


def with_ratio(text: str, ratio: float | None) -> str:
    return text if ratio is None else f"{text} ({ratio:.2f}×)"


def rated(key: str, form: str) -> Callable[[Figures, Figures | None], str]:
    """The median over the rounds; for ours how many times the stock recipe's, least to most."""

    def cell(way: Figures, against: Figures | None) -> str:
        text = format(way[key]["median"], form)
        if against is None:
            return text
        ratio = against[key]
        return f"{text} (**{ratio['median']:.2f}×**, {ratio['least']:.2f} to {ratio['most']:.2f})"

    return cell


def share(key: str) -> Callable[[Figures, Figures | None], str]:
    def cell(way: Figures, against: Figures | None) -> str:
        value = way[key]
        return f"{value['median']:.1%} ({value['least']:.1%} to {value['most']:.1%})"

    return cell


def bytes_of(key: str, ratio: str | None) -> Callable[[Figures, Figures | None], str]:
    def cell(way: Figures, against: Figures | None) -> str:
        if not way[key]:
            return ""
        return with_ratio(f"{way[key] / MIB:,.1f} MiB", against[ratio] if against and ratio else None)

    return cell


def first_update(way: Figures, against: Figures | None) -> str:
    text = f"{way['first_update_after_seconds']:.1f} s"
    return text if against is None else f"{text} ({against['first_update_sooner']:.1f}× sooner)"


def losses(at: str) -> Callable[[Figures, Figures | None], str]:
    """Held-out loss where as much was heard as by the stock recipe, or as long trained."""

    def cell(way: Figures, against: Figures | None) -> str:
        point = against[at]["ours"] if against else way["points"][-1]
        return f"{point['held_out_loss']:.4f} ({point['audio_hours']:.3f} h heard in {point['train_seconds']:.0f} s)"

    return cell


def error_rate(way: Figures, against: Figures | None) -> str:
    return "" if way["wer"] is None else f"{way['wer']:.1%}"


ROWS: list[tuple[str, Callable[[Figures, Figures | None], str]]] = [
    ("audio hours per hour", rated("audio_hours_per_hour", ".1f")),
    ("clips/s", rated("clips_per_second", ".2f")),
    ("first update after", first_update),
    ("features or audit", lambda way, against: f"{way['data_prepared_in_seconds']:.1f} s"),
    ("windows an update", lambda way, against: str(way["windows_an_update"])),
    ("peak memory", bytes_of("peak_bytes", "peak_memory")),
    ("its loading processes", bytes_of("loading_bytes", None)),
    ("peak GPU memory", bytes_of("peak_gpu_bytes", "peak_gpu_memory")),
    ("disk", bytes_of("disk_bytes", "disk")),
    ("model FLOPs utilization", share("flops_utilization")),
    ("waiting for data", share("data_wait_share")),
    ("held-out loss, equal audio", losses("equal_audio")),
    ("held-out loss, equal wall time", losses("equal_wall_time")),
    ("WER at the end", error_rate),
]


def sentences(results: Figures) -> list[str]:
    """What was measured, on what."""
    material, machine, settings = results["material"], results["machine"], results["settings"]
    speech = "synthetic" if settings["data"] == "None" else settings["data"].rstrip("/").rpartition("/")[2]
    ceilings = results["ceilings"]
    lines = [
        f"{speech}: {material['training_clips']:,} clips, mean {material['mean_clip_seconds']:.1f} s; Whisper"
        f" {settings['model_size']} ({material['parameters'] / 1e6:.1f} M parameters, random weights),"
        f" {results['precision']}, {settings['batch_clips']} clips an update; {settings['rounds']} rounds of"
        f" {settings['updates'] // settings['rounds']} updates. Medians; ratios by round, least to most.",
        f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores, torch {machine['torch']}: a matrix"
        f" product reaches {ceilings['matmul_tflops']:.3f} TFLOP/s, a copy {ceilings['copy_gb_per_second']:.1f} GB/s.",
    ]
    if capped := results.get("capped"):
        last = capped["slices"][-1]
        cap = f"a cap of {capped['cap_gib']:g} GiB" if capped["cap_gib"] else "no cap, for want of a GPU"
        held = last["peak_gpu_bytes"] or last["peak_bytes"]
        lines.append(
            f"Profile {capped['profile']} under {cap}: {capped['audio_hours_per_hour']:.1f} audio hours per hour,"
            f" {held / MIB:,.1f} MiB at most on the device, {last['peak_bytes'] / MIB:,.1f} MiB of RAM."
        )
    return lines
