"""Eight float32 lanes as a numba value, so that kernels can say what the vector unit should do.

LLVM's own vectoriser gives up on loops that carry transmittance and on arrays that may overlap.
With this type a kernel works on eight neighbouring pixels with ordinary arithmetic operators;
LLVM maps the lanes to whatever the machine has (one AVX register, two NEON registers, ...).
Nothing here is reassociated or contracted: a product and a sum fuse only where `fma` is written,
so that two kernels that evaluate the same expression get the same bits.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 8

FLOAT, INT = ir.FloatType(), ir.IntType(32)
VECTOR, VECTOR_INT = ir.VectorType(FLOAT, LANES), ir.VectorType(INT, LANES)


class LanesType(types.Type):  # type: ignore[misc]
    """numba type of eight float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes_type = LanesType()


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """Lanes live in one LLVM vector value."""

    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, VECTOR)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(VECTOR, [value] * LANES)


def _call(builder: Any, name: str, *args: Any) -> Any:
    """Call an LLVM intrinsic over float lanes, such as llvm.fma."""
    signature = ir.FunctionType(VECTOR, [VECTOR] * len(args))
    function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.v8f32")
    return builder.call(function, args)


def _elementwise(arity: int, emit: Callable[..., Any]) -> Any:
    """An intrinsic of `arity` lanes to lanes from a function that emits its LLVM code."""
    signature = lanes_type(*[lanes_type] * arity)

    def codegen(context: Any, builder: Any, _: Any, args: Any) -> Any:
        return emit(builder, *args)

    # intrinsic reads the number of parameters: one definition per arity.
    if arity == 1:
        return intrinsic(lambda typing, a: (signature, codegen))
    if arity == 2:
        return intrinsic(lambda typing, a, b: (signature, codegen))
    if arity == 3:
        return intrinsic(lambda typing, a, b, c: (signature, codegen))
    return intrinsic(lambda typing, a, b, c, d: (signature, codegen))


def _emit_choose(builder: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">=", a, b), x, y)


def _emit_minimum(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


EXP_COEFFICIENTS = (
    *(1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3),
    *(4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1),
)


def _emit_exp(builder: Any, x: Any) -> Any:
    """exp by Cephes' expf: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2], within 2 ulp."""
    lowest = _constant(-87.0)
    x = builder.select(builder.fcmp_ordered(">", x, lowest), x, lowest)
    n = _call(builder, "rint", builder.fmul(x, _constant(1.44269504088896341)))
    r = _call(builder, "fma", n, _constant(-0.693359375), x)
    r = _call(builder, "fma", n, _constant(2.12194440e-4), r)
    p = _constant(EXP_COEFFICIENTS[0])
    for coefficient in EXP_COEFFICIENTS[1:]:
        p = _call(builder, "fma", p, r, _constant(coefficient))
    p = _call(builder, "fma", p, builder.fmul(r, r), builder.fadd(r, _constant(1.0)))
    biased = builder.add(builder.fptosi(n, VECTOR_INT), ir.Constant(VECTOR_INT, [127] * LANES))
    power = builder.shl(biased, ir.Constant(VECTOR_INT, [23] * LANES))
    return builder.fmul(p, builder.bitcast(power, VECTOR))


_add = _elementwise(2, lambda builder, a, b: builder.fadd(a, b))
_subtract = _elementwise(2, lambda builder, a, b: builder.fsub(a, b))
_multiply = _elementwise(2, lambda builder, a, b: builder.fmul(a, b))
_divide = _elementwise(2, lambda builder, a, b: builder.fdiv(a, b))

fma = _elementwise(3, lambda builder, a, b, c: _call(builder, "fma", a, b, c))
"""a * b + c with one rounding."""
choose = _elementwise(4, _emit_choose)
"""x where a >= b, else y, from (a, b, x, y)."""
minimum = _elementwise(2, _emit_minimum)
exp = _elementwise(1, _emit_exp)
sqrt = _elementwise(1, lambda builder, a: _call(builder, "sqrt", a))


def _in_every_lane(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), value, INT(0))
    zeros = ir.Constant(VECTOR_INT, [0] * LANES)
    return builder.shuffle_vector(first, ir.Constant(VECTOR, ir.Undefined), zeros)


@intrinsic
def splat(typing, value):  # type: ignore[no-untyped-def]
    """The same float32 in every lane."""

    def codegen(context, builder, _, args):  # type: ignore[no-untyped-def]
        return _in_every_lane(builder, args[0])

    return lanes_type(types.float32), codegen


@intrinsic
def iota(typing):  # type: ignore[no-untyped-def]
    """0, 1, ..., 7."""

    def codegen(context, builder, _, args):  # type: ignore[no-untyped-def]
        return ir.Constant(VECTOR, [float(i) for i in range(LANES)])

    return lanes_type(), codegen


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), VECTOR.as_pointer())


@intrinsic
def load(typing, array, index):  # type: ignore[no-untyped-def]
    """Lanes array[index : index + 8] of a flat float32 array; nothing checks the bounds."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=4)

    return lanes_type(array, types.intp), codegen


@intrinsic
def spread(typing, array, index):  # type: ignore[no-untyped-def]
    """array[index] of a flat float32 array in every lane; nothing checks the bounds."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return _in_every_lane(builder, builder.load(builder.gep(data, [args[1]])))

    return lanes_type(array, types.intp), codegen


@intrinsic
def store(typing, array, index, value):  # type: ignore[no-untyped-def]
    """array[index : index + 8] = lanes; nothing checks the bounds."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        builder.store(args[2], pointer, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes_type), codegen


@intrinsic
def total(typing, value):  # type: ignore[no-untyped-def]
    """Sum of the lanes as a float32, in the fixed order ((0+4)+(2+6))+((1+5)+(3+7))."""

    def codegen(context, builder, _, args):  # type: ignore[no-untyped-def]
        vector, step = args[0], LANES // 2
        while step:
            places = [(i + step) % LANES for i in range(LANES)]
            turned = builder.shuffle_vector(vector, vector, ir.Constant(VECTOR_INT, places))
            vector, step = builder.fadd(vector, turned), step // 2
        return builder.extract_element(vector, INT(0))

    return types.float32(lanes_type), codegen


@intrinsic
def mask(typing, a, b):  # type: ignore[no-untyped-def]
    """Bit i of the result tells whether a >= b in lane i."""

    def codegen(context, builder, _, args):  # type: ignore[no-untyped-def]
        bits = builder.bitcast(builder.fcmp_ordered(">=", *args), ir.IntType(LANES))
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(lanes_type, lanes_type), codegen


@intrinsic
def lowest_bit(typing, bits):  # type: ignore[no-untyped-def]
    """Position of the lowest set bit of a uint64 that is not 0."""

    def codegen(context, builder, _, args):  # type: ignore[no-untyped-def]
        return builder.cttz(args[0], ir.IntType(1)(1))

    return types.intp(types.uint64), codegen


def _lift(function: Any, name: str) -> Callable[..., Any]:
    """Overload of a binary operator for lanes with lanes and lanes with float32."""

    def choose(a, b):  # type: ignore[no-untyped-def]
        kinds = isinstance(a, LanesType), isinstance(b, LanesType)
        if kinds == (True, True):
            return lambda a, b: function(a, b)
        if kinds == (True, False) and b == types.float32:
            return lambda a, b: function(a, splat(b))
        if kinds == (False, True) and a == types.float32:
            return lambda a, b: function(splat(a), b)
        return None

    choose.__name__ = name
    return choose


overload(operator.add)(_lift(_add, "add"))
overload(operator.sub)(_lift(_subtract, "subtract"))
overload(operator.mul)(_lift(_multiply, "multiply"))
overload(operator.truediv)(_lift(_divide, "divide"))
