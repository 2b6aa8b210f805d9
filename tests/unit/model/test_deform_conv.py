from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from napari_pisam.model import deform_conv
from napari_pisam.model.deform_conv import ModulatedDeformConv2d, modulated_deform_conv2d

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_pisam.model.deform_conv import Kernel

KERNELS: list[Kernel] = ["gather", "grid_sample", "torchvision"]
OWN_KERNELS: list[Kernel] = ["gather", "grid_sample"]

needs_torchvision = pytest.mark.skipif(
    deform_conv.torchvision_deform_conv2d() is None, reason="torchvision's operators are missing"
)


class Inputs(NamedTuple):
    x: Tensor
    offset: Tensor
    modulator: Tensor
    weight: Tensor


def make_inputs(
    size: int = 3, spread: float = 1.5, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> Inputs:
    generator = torch.Generator().manual_seed(size)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype)

    return Inputs(
        normal(2, 6, 11, 17),
        spread * normal(2, 2 * size * size, 11, 17),
        normal(2, size * size, 11, 17),
        normal(5, 6, size, size),
    )


def reference(inputs: Inputs) -> Tensor:
    operator = pytest.importorskip("torchvision.ops").deform_conv2d
    x, offset, modulator, weight = inputs
    return operator(x, offset, weight, padding=weight.shape[-1] // 2, mask=modulator)


def with_grad(inputs: Inputs) -> Inputs:
    return Inputs(*(t.clone().requires_grad_() for t in inputs))


def assert_close(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    error = (actual - expected).abs().max() / expected.abs().max()
    assert error <= tolerance


@pytest.fixture
def fresh_torchvision_lookup() -> Iterator[None]:
    deform_conv.torchvision_deform_conv2d.cache_clear()
    yield
    deform_conv.torchvision_deform_conv2d.cache_clear()


@needs_torchvision
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("spread", [0.3, 1.5, 30.0], ids=["near", "across border", "far out"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
def test_values_are_those_of_torchvision(
    kernel: Kernel, size: int, spread: float, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = make_inputs(size, spread, dtype)
    actual = modulated_deform_conv2d(*inputs, kernel=kernel)
    assert actual.shape == (2, 5, 11, 17)
    assert actual.dtype == dtype
    assert_close(actual, reference(inputs), tolerance)


@needs_torchvision
@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("spread", [1.5, 30.0], ids=["across border", "far out"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["f32", "f64"]
)
def test_gradients_are_those_of_torchvision(
    kernel: Kernel, size: int, spread: float, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = make_inputs(size, spread, dtype)
    actual, expected = with_grad(inputs), with_grad(inputs)
    out = modulated_deform_conv2d(*actual, kernel=kernel)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    out.backward(upstream)
    reference(expected).backward(upstream)
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert_close(ours.grad, theirs.grad, tolerance)


@needs_torchvision
@pytest.mark.parametrize("edge", [-1.0, -0.999, -0.25, 10.25, 10.999, 11.0])
def test_gather_fades_out_over_one_pixel_beyond_the_border(edge: float) -> None:
    x, offset, modulator, weight = make_inputs(1)
    offset.zero_()
    offset[:, 0] = edge - torch.arange(11.0)[:, None]
    inputs = Inputs(x, offset, modulator, weight)
    expected = reference(inputs)
    actual = modulated_deform_conv2d(*inputs, kernel="gather")
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@needs_torchvision
def test_gather_has_torchvisions_gradients_at_zero_offsets() -> None:
    # The derivative jumps at integers, and an untrained layer starts at them.
    x, offset, modulator, weight = make_inputs(3)
    inputs = Inputs(x, torch.zeros_like(offset), modulator, weight)
    actual, expected = with_grad(inputs), with_grad(inputs)
    modulated_deform_conv2d(*actual, kernel="gather").square().sum().backward()
    reference(expected).square().sum().backward()
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-3)


def test_gather_passes_gradcheck() -> None:
    x, offset, modulator, weight = make_inputs(3, 0.7, torch.float64)
    planes = [t[:1, :, :3, :4] for t in (x[:, :2], offset, modulator)]
    small = with_grad(Inputs(*planes, weight[:2, :2]))

    def convolve(*tensors: Tensor) -> Tensor:
        return modulated_deform_conv2d(*tensors, kernel="gather")

    assert torch.autograd.gradcheck(convolve, tuple(small))


@pytest.mark.parametrize(
    "floats", [6 * 9 * 10, 6 * 9 * 50, 1 << 30], ids=["small", "ragged", "one"]
)
def test_gather_does_not_depend_on_the_chunks(floats: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked = with_grad(make_inputs()), with_grad(make_inputs())
    expected = modulated_deform_conv2d(*whole, kernel="gather")
    expected.square().sum().backward()
    monkeypatch.setattr(deform_conv, "_FLOATS_PER_CHUNK", floats)
    actual = modulated_deform_conv2d(*chunked, kernel="gather")
    actual.square().sum().backward()
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(chunked, whole, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("wanted", range(4), ids=Inputs._fields)
def test_gradient_of_one_input_alone(kernel: Kernel, wanted: int) -> None:
    everything = with_grad(make_inputs())
    modulated_deform_conv2d(*everything, kernel=kernel).square().sum().backward()
    alone = make_inputs()
    alone[wanted].requires_grad_()
    modulated_deform_conv2d(*alone, kernel=kernel).square().sum().backward()
    torch.testing.assert_close(alone[wanted].grad, everything[wanted].grad)


@pytest.mark.parametrize("kernel", KERNELS)
def test_zero_offsets_and_unit_modulators_are_an_ordinary_convolution(kernel: Kernel) -> None:
    if kernel == "torchvision" and deform_conv.torchvision_deform_conv2d() is None:
        pytest.skip("torchvision's operators are missing")
    x, offset, modulator, weight = make_inputs()
    zero, one = torch.zeros_like(offset), torch.ones_like(modulator)
    actual = modulated_deform_conv2d(x, zero, one, weight, kernel=kernel)
    torch.testing.assert_close(actual, F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("huge", [1e9, -1e9, 3e38, float("inf"), float("-inf")])
def test_huge_offsets_read_zeros(kernel: Kernel, huge: float) -> None:
    x, offset, modulator, weight = with_grad(make_inputs())
    out = modulated_deform_conv2d(
        x, torch.full_like(offset, huge), modulator, weight, kernel=kernel
    )
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    for tensor in (x, modulator, weight):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("kernel", OWN_KERNELS)
def test_nan_offset_gives_nan_at_its_pixel_only(kernel: Kernel) -> None:
    inputs = make_inputs()
    inputs.offset[0, 0, 4, 5] = torch.nan
    isnan = modulated_deform_conv2d(*inputs, kernel=kernel).isnan()
    assert isnan[0, :, 4, 5].all()
    assert isnan.sum() == 5


@pytest.mark.parametrize("kernel", OWN_KERNELS)
def test_channels_last_memory_gives_the_same(kernel: Kernel) -> None:
    x, offset, modulator, weight = make_inputs()
    expected = modulated_deform_conv2d(x, offset, modulator, weight, kernel=kernel)
    moved = [t.contiguous(memory_format=torch.channels_last) for t in (x, offset, modulator)]
    actual = modulated_deform_conv2d(*moved, weight, kernel=kernel)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (9, 1)])
@pytest.mark.parametrize("kernel", OWN_KERNELS)
def test_images_smaller_than_the_kernel(kernel: Kernel, shape: tuple[int, int]) -> None:
    x, offset, modulator, weight = make_inputs(7)
    rows, cols = shape
    cut = [t[..., :rows, :cols] for t in (x, offset.zero_(), modulator.fill_(1))]
    actual = modulated_deform_conv2d(*cut, weight, kernel=kernel)
    torch.testing.assert_close(actual, F.conv2d(cut[0], weight, padding=3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel", OWN_KERNELS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(kernel: Kernel, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    actual = modulated_deform_conv2d(*inputs, kernel=kernel)
    expected = modulated_deform_conv2d(*(t.float() for t in inputs), kernel=kernel)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, expected.to(dtype))


def test_autocast_does_not_reach_the_positions() -> None:
    inputs = make_inputs()
    expected = modulated_deform_conv2d(*inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = modulated_deform_conv2d(*inputs)
    torch.testing.assert_close(actual, expected)


def test_layer_trains_under_autocast() -> None:
    layer = ModulatedDeformConv2d(6, 5, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        layer(make_inputs().x).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@pytest.mark.usefixtures("fresh_torchvision_lookup")
def test_torchvision_that_is_absent_is_reported_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.ops", None)
    assert deform_conv.torchvision_deform_conv2d() is None


@needs_torchvision
@pytest.mark.usefixtures("fresh_torchvision_lookup")
def test_torchvision_without_operators_is_reported_as_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoOperators:
        def __getattr__(self, name: str) -> None:
            raise RuntimeError(f"operator torchvision::{name} does not exist")

    monkeypatch.setattr(torch.ops, "torchvision", NoOperators(), raising=False)
    assert deform_conv.torchvision_deform_conv2d() is None


def test_broken_torchvision_is_an_error_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deform_conv, "torchvision_deform_conv2d", lambda: None)
    with pytest.raises(RuntimeError, match="Reinstall torchvision"):
        modulated_deform_conv2d(*make_inputs(), kernel="torchvision")


@pytest.mark.parametrize(
    ("device", "kernel"), [("cpu", "gather"), ("cuda", "grid_sample"), ("mps", "grid_sample")]
)
def test_choice_without_torchvision(
    device: str, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deform_conv, "torchvision_deform_conv2d", lambda: None)
    assert deform_conv._fastest_kernel(device) == kernel


def test_choice_on_cuda_is_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deform_conv, "torchvision_deform_conv2d", lambda: F.conv2d)
    assert deform_conv._fastest_kernel("cuda") == "torchvision"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kernel", ["auto", "grid_sample", "gather"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_gives_what_the_cpu_gives(kernel: Kernel, dtype: torch.dtype) -> None:
    inputs = make_inputs(dtype=dtype)
    actual = modulated_deform_conv2d(*(t.cuda() for t in inputs), kernel=kernel)
    expected = modulated_deform_conv2d(*inputs)
    assert_close(actual.cpu().float(), expected.float(), 1e-2 if dtype != torch.float32 else 1e-4)


def test_layer_starts_as_an_ordinary_convolution() -> None:
    layer = ModulatedDeformConv2d(6, 5, 3)
    x = make_inputs().x
    torch.testing.assert_close(layer(x), layer.regular_conv(x), rtol=1e-4, atol=1e-5)


def test_layer_has_the_published_parameter_names() -> None:
    assert {
        name: tuple(p.shape) for name, p in ModulatedDeformConv2d(6, 5, 7).named_parameters()
    } == {
        "offset_conv.weight": (98, 6, 7, 7),
        "offset_conv.bias": (98,),
        "modulator_conv.weight": (49, 6, 7, 7),
        "modulator_conv.bias": (49,),
        "regular_conv.weight": (5, 6, 7, 7),
    }


@pytest.mark.parametrize("size", [0, 2, -1])
def test_layer_refuses_an_even_kernel(size: int) -> None:
    with pytest.raises(ValueError, match="expected an odd number"):
        ModulatedDeformConv2d(6, 5, size)


@pytest.mark.parametrize(
    ("field", "shape", "message"),
    [
        ("x", (6, 11, 17), r"x has shape \(6, 11, 17\); expected \(B, C, H, W\)"),
        ("offset", (2, 9, 11, 17), r"offset has shape .* expected \(2, 18, 11, 17\)"),
        ("modulator", (2, 9, 11, 16), r"modulator has shape .* expected \(2, 9, 11, 17\)"),
        ("weight", (5, 4, 3, 3), r"weight has shape .* expected \(O, 6, k, k\)"),
        ("weight", (5, 6, 2, 2), "k odd"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    field: str, shape: tuple[int, ...], message: str
) -> None:
    inputs = make_inputs()._replace(**{field: torch.zeros(shape)})
    with pytest.raises(ValueError, match=message):
        modulated_deform_conv2d(*inputs)


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel is 'fast'; expected 'auto' or one of"):
        modulated_deform_conv2d(*make_inputs(), kernel="fast")  # type: ignore[arg-type]


@torch.inference_mode()
def test_an_untrained_layer_predicts_what_its_deformable_form_predicts() -> None:
    layer = ModulatedDeformConv2d(4, 6, 5)
    x = torch.randn(2, 4, 13, 17)
    taps = 25
    expected = modulated_deform_conv2d(
        x, torch.zeros(2, 2 * taps, 13, 17), torch.ones(2, taps, 13, 17), layer.regular_conv.weight
    )
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


def test_an_untrained_layer_can_be_trained() -> None:
    layer = ModulatedDeformConv2d(4, 6, 3)
    layer(torch.randn(1, 4, 9, 9)).square().mean().backward()
    for conv in (layer.offset_conv, layer.modulator_conv):
        assert conv.weight.grad is not None
        assert conv.weight.grad.any()
