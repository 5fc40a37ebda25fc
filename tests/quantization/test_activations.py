"""Inputs are rounded as the runtimes do, which are asked themselves where they are installed."""

from typing import Any

import numpy as np
import pytest
import torch

from whisper_train.quantization.activations import Activation, InputRounding, round_input

WINDOW, ROW = Activation(kind="window-uint8"), Activation(kind="row-int8")
BLOCK = Activation(kind="block-int8", block=16)


def make_values(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) + 0.3


def run_node(
    operator: str, values: np.ndarray, weights: dict[str, np.ndarray], outputs: int, domain: str = "", **attributes: Any
) -> Any:
    """What ONNX Runtime makes of `values` in one node whose other inputs are `weights`."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    helper, kinds = onnx.helper, onnx.TensorProto
    names = [f"y{number}" for number in range(outputs)]
    node = helper.make_node(operator, ["x", *weights], names, domain=domain, **attributes)
    ins = [helper.make_tensor_value_info("x", kinds.FLOAT, values.shape)]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    outs = [helper.make_empty_tensor_value_info(name) for name in names]
    versions = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(
        helper.make_graph([node], "one", ins, outs, constants), opset_imports=versions, ir_version=10
    )
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": values})


@pytest.mark.parametrize("shift", [0.0, 5.0, -5.0])
def test_a_window_is_rounded_as_dynamic_quantize_linear_does(shift: float) -> None:
    values = make_values(1, 40, 24) + shift
    codes, scale, zero = run_node("DynamicQuantizeLinear", values.numpy(), {}, 3)
    expected = (codes.astype(np.float32) - np.float32(zero)) * scale
    np.testing.assert_allclose(round_input(values, WINDOW).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_windows_do_not_depend_on_each_other() -> None:
    """Else the device batch would change what is learned."""
    values = make_values(3, 10, 8) * torch.tensor([1.0, 10.0, 0.1])[:, None, None]
    alone = torch.cat([round_input(values[number : number + 1], WINDOW) for number in range(3)])
    assert torch.equal(round_input(values, WINDOW), alone)


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("size", [16, 128])
def test_blocks_are_rounded_as_matmulnbits_does(rows: int, size: int) -> None:
    """A matrix of ones on the diagonal hands the rounded input through; what lies between two steps may go either
    way."""
    values, width = make_values(rows, 256), 256
    packed = np.full((width, width // size, size), 128, np.uint8)
    packed[np.arange(width), np.arange(width) // size, np.arange(width) % size] = 255
    weights: dict[str, Any] = {"w": packed, "s": np.full((width, width // size), 1 / 127, np.float32)}
    how = {"K": width, "N": width, "bits": 8, "block_size": size, "accuracy_level": 4}
    (found,) = run_node("MatMulNBits", values.numpy(), weights, 1, domain="com.microsoft", **how)
    difference = np.abs(round_input(values, Activation(kind="block-int8", block=size)).numpy() - found)
    step = float(values.abs().max()) / 127
    assert step > 0.01
    assert float(np.quantile(difference, 0.999)) < 1e-4
    assert float(difference.max()) < 1.01 * step


def test_a_row_is_its_absmax_over_127_in_steps() -> None:
    values = torch.tensor([[1.0, -2.54, 0.011, 0.009, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]])
    found = round_input(values, ROW)
    torch.testing.assert_close(found, torch.tensor([[1.0, -2.54, 0.02, 0.0, 0.0], [0.0] * 5]))


@pytest.mark.parametrize("activation", [WINDOW, ROW, BLOCK])
@pytest.mark.parametrize("values", [torch.zeros(2, 3, 20), torch.full((2, 3, 20), 1e-38), torch.full((1, 1, 20), 3.0)])
def test_nothing_and_next_to_nothing_stay_finite(activation: Activation, values: torch.Tensor) -> None:
    found = round_input(values, activation)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("activation", [WINDOW, ROW, BLOCK])
def test_the_gradient_passes_straight_through_and_the_type_stays(activation: Activation) -> None:
    values = make_values(2, 4, 24).bfloat16().requires_grad_()
    rounded = InputRounding.apply(values, activation)  # type: ignore[no-untyped-call]
    assert rounded.dtype == torch.bfloat16
    rounded.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, torch.ones_like(values))
