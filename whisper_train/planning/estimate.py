"""Memory of a training, by part: on each card, or in RAM where a processor trains."""

from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from whisper_train.planning.bases import Dimensions
from whisper_train.planning.setup import FP32, Setup
from whisper_train.planning.states import Moment, States, plain_states, zero2_states
from whisper_train.planning.trace import Traced, trace_step
from whisper_train.resident import resident_bytes

# What CUDA's context, NCCL, the libraries' workspaces and the allocator's gaps take of a card beside tensors.
# Assumed: no GPU of ours has measured it yet.
CARD_OVERHEAD = 800_000_000
CARD_HOST_BYTES = 2_000_000_000  # of RAM that CUDA's libraries take of a rank; assumed, too
WORKER_BYTES = 250_000_000  # of a process that loads data, beside what it shares with its rank
SHALLOW = 2  # layers; deeper models are traced at two depths, see trace
DEEP = 12  # up to so many are traced as they are


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Bytes at the fullest moment of one rank, on its card or in RAM; `host` is RAM of the whole host."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    buffers: int
    process: int  # on a processor the program itself; on a card CUDA
    host: int
    moment: str  # when it is fullest

    @property
    def total(self) -> int:
        return sum((self.weights, self.gradients, self.optimizer, self.activations, self.buffers, self.process))

    @property
    def tensors(self) -> int:
        """What torch.cuda.max_memory_allocated counts."""
        return self.total - self.process


def estimate(setup: Setup, done: dict[Any, Traced] | None = None) -> tuple[Memory, Traced]:
    """The memory of a training, and what was traced for it; `done` remembers traces among setups of the same job."""
    own_process()
    traced = trace(setup, done)
    ranks, zero = setup.layout.ranks, setup.deepspeed is not None
    if zero:
        states = zero2_states(
            traced,
            setup.optimizer,
            setup.deepspeed or {},
            held=setup.held,
            ranks=ranks,
            accumulation=setup.layout.accumulation,
            card=setup.card,
        )
    else:
        states = plain_states(traced, setup.optimizer, ranks=ranks, card=setup.card)
    return add_up(setup, traced, states), traced


def add_up(setup: Setup, traced: Traced, states: States) -> Memory:
    """The fullest of the moments of a step; on a processor with the program itself."""

    def beside(moment: Moment) -> int:
        return moment.gradients + moment.buffers + (traced.activations if moment.with_activations else 0)

    fullest = max(states.moments, key=beside)
    memory = Memory(
        weights=states.weights,
        optimizer=states.optimizer,
        gradients=fullest.gradients,
        buffers=fullest.buffers,
        activations=traced.activations if fullest.with_activations else 0,
        process=CARD_OVERHEAD if setup.card else own_process(),
        host=0,
        moment=fullest.name,
    )
    return replace(memory, host=host_bytes(setup, traced, states, memory))


def host_bytes(setup: Setup, traced: Traced, states: States, memory: Memory) -> int:
    """RAM of the host: its ranks, their loading processes, and what DeepSpeed keeps there.

    Every rank reads the base in float32 before its card takes it, which is over when the states are made.
    """
    here = setup.layout.ranks_per_host
    workers = here * setup.job.machine.dataloader_num_workers * WORKER_BYTES
    if not setup.card:
        return here * (memory.total + states.host) + workers
    loading = FP32 * traced.parameters
    return here * (own_process() + CARD_HOST_BYTES + max(loading, states.host)) + workers


@cache
def own_process() -> int:
    """Resident bytes of this process, which has loaded what a rank loads; first asked before there are tensors."""
    return resident_bytes()


def trace(setup: Setup, done: dict[Any, Traced] | None = None) -> Traced:
    """What a micro-step of `setup` holds, once for all setups in `done` that differ in their states alone."""
    if done is None:
        return trace_model(setup)
    job, layout = setup.job, setup.layout
    checkpointed = [job.machine.gradient_checkpointing, job.training.get("gradient_checkpointing")]
    checkpointed.append(job.training.get("activation_checkpointing"))
    key = (
        repr(job.model),
        repr(job.quantization),
        *checkpointed,
        layout.per_device,
        layout.accumulation > 1,
        setup.deepspeed is not None,
    )
    if key not in done:
        done[key] = trace_model(setup)
    return done[key]


def trace_model(setup: Setup) -> Traced:
    """What a micro-step of `setup` holds; deep models are followed from shallow ones of the same width.

    Layers of a kind are alike, so bytes grow with their number on a straight line, and three short traces give it.
    Where the job names layers by number, to freeze them or to keep them float, they are not, and the whole model is
    traced.
    """
    whole = setup.dimensions
    quantization = setup.job.quantization
    named = [*setup.job.model.freeze, *(quantization.keep_float if quantization else [])]
    numbered = any("layers" in part for part in named)
    if numbered or whole.encoder_layers <= DEEP:
        return trace_whole(setup)
    encoder, decoder = SHALLOW, min(SHALLOW, whole.decoder_layers)
    first = trace_depth(setup, encoder, decoder)
    result = add_layers(first, trace_depth(setup, 2 * encoder, decoder), (whole.encoder_layers - encoder) / encoder)
    if whole.decoder_layers > decoder:
        more = trace_depth(setup, encoder, 2 * decoder)
        result = add_layers(result, more, (whole.decoder_layers - decoder) / decoder, since=first)
    return result


def add_layers(to: Traced, deeper: Traced, times: float, since: Traced | None = None) -> Traced:
    """`to` with the difference between `deeper` and `since` added `times`."""
    before = asdict(since or to)
    grown = {
        name: round(value + times * (asdict(deeper)[name] - before[name]))
        for name, value in asdict(to).items()
        if name != "largest"
    }
    return replace(to, **grown)


def trace_depth(setup: Setup, encoder_layers: int, decoder_layers: int) -> Traced:
    shallow = replace(setup.dimensions, encoder_layers=encoder_layers, decoder_layers=decoder_layers)
    return trace_whole(replace(setup, dimensions=shallow))


def trace_whole(setup: Setup) -> Traced:
    return trace_step(
        make_config(setup.dimensions),
        make_extractor(setup.dimensions),
        setup.job,
        setup.layout,
        precision=setup.precision,
        zero=setup.deepspeed is not None,
        seconds=setup.seconds,
        tokens=setup.tokens,
    )


def make_config(dimensions: Dimensions) -> Any:
    from transformers import WhisperConfig

    inner = dimensions.feed_forward or 4 * dimensions.width
    return WhisperConfig(
        vocab_size=dimensions.vocabulary,
        num_mel_bins=dimensions.mel_bins,
        d_model=dimensions.width,
        encoder_layers=dimensions.encoder_layers,
        decoder_layers=dimensions.decoder_layers,
        encoder_attention_heads=dimensions.heads,
        decoder_attention_heads=dimensions.heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        max_source_positions=dimensions.positions,
        max_target_positions=dimensions.tokens,
        **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"), 0),
    )


def make_extractor(dimensions: Dimensions) -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(
        feature_size=dimensions.mel_bins,
        hop_length=dimensions.hop,
        chunk_length=round(dimensions.window_seconds),
    )
