"""Programs written by hand, as XLA prints them: what they move, say to each other, ask the host."""

import textwrap

import pytest

from wsol_jax.stages.ahead import counted, hlo


def program(text):
    return hlo.parse(textwrap.dedent(text))


@pytest.mark.parametrize(
    ("shape", "size", "is_main"),
    [
        ("f32[2,3]{1,0}", 24, True),
        ("bf16[5]{0}", 10, True),
        ("f32[]", 4, True),
        ("pred[7]{0:T(256)}", 256, True),
        ("s4[3]{0}", 2, True),
        # A TPU's tiles: 64 channels in 128 lanes, 3 rows in 8.
        ("bf16[3,64]{1,0:T(8,128)(2,1)}", 8 * 128 * 2, True),
        ("bf16[64,10,10,64]{3,0,2,1:T(8,128)(2,1)}", 64 * 100 * 128 * 2, True),
        ("f32[8,128]{1,0:T(8,128)S(1)}", 4096, False),
        ("f32[8,128]{0,1:T(8,128)}", 128 * 128 * 4, True),
    ],
)
def test_arrays(shape, size, is_main):
    (array,) = hlo.arrays_of(shape)
    assert (array.bytes, array.is_main) == (size, is_main)


def test_a_tuple_of_arrays():
    found = hlo.arrays_of("(f32[2]{0}, (bf16[4,4]{1,0:T(8,128)}, token[]), /*index=3*/u32[])")
    assert [x.numbers for x in found] == [8, 32, 4]


def test_kernels_read_their_operands_and_write_their_results():
    text = """
    HloModule jit_f, entry_computation_layout={(f32[10]{0})->f32[10]{0}}

    %fused (param_0: f32[10], param_1: f32[10]) -> f32[10] {
      %param_0 = f32[10]{0} parameter(0)
      %param_1 = f32[10]{0} parameter(1)
      %m = f32[10]{0} multiply(%param_0, %param_1)
      ROOT %a = f32[10]{0} add(%m, %param_1), metadata={op_name="jit(f)/add (two)"}
    }

    ENTRY %main (x: f32[10], y: f32[10]) -> f32[10] {
      %x = f32[10]{0} parameter(0)
      %y = f32[10]{0} parameter(1)
      %f = f32[10]{0} fusion(%x, %y), kind=kLoop, calls=%fused
      %b = f32[2,5]{1,0} bitcast(%f)
      ROOT %n = f32[2,5]{1,0} negate(%b)
    }
    """
    assert counted.traffic(program(text)) == 3 * 40 + 2 * 40
    assert counted.collectives(program(text)) == {}
    assert counted.host_calls(program(text)) == []


def test_slices_and_updates_move_their_part_alone():
    text = """
    %sliced (param_0: f32[100,10], param_1: s32[]) -> f32[1,10] {
      %param_0 = f32[100,10]{1,0} parameter(0)
      %param_1 = s32[] parameter(1)
      %zero = s32[] constant(0)
      ROOT %d = f32[1,10]{1,0} dynamic-slice(%param_0, %param_1, %zero), dynamic_slice_sizes={1,10}
    }

    %put (param_0: f32[100,10], param_1: f32[1,10], param_2: s32[]) -> f32[100,10] {
      %param_0 = f32[100,10]{1,0} parameter(0)
      %param_1 = f32[1,10]{1,0} parameter(1)
      %param_2 = s32[] parameter(2)
      %zero = s32[] constant(0)
      ROOT %d = f32[100,10]{1,0} dynamic-update-slice(%param_0, %param_1, %param_2, %zero)
    }

    ENTRY %main (x: f32[100,10], i: s32[]) -> f32[100,10] {
      %x = f32[100,10]{1,0} parameter(0)
      %i = s32[] parameter(1)
      %row = f32[1,10]{1,0} fusion(%x, %i), kind=kLoop, calls=%sliced
      ROOT %new = f32[100,10]{1,0} fusion(%x, %row, %i), kind=kLoop, calls=%put
    }
    """
    row, index = 40, 4
    assert counted.traffic(program(text)) == (row + row + index) + (row + row + index)


LOOP = """
%body (p: (s32[], f32[10])) -> (s32[], f32[10]) {{
  %p = (s32[], f32[10]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[10]{{0}} get-tuple-element(%p), index=1
  %y = f32[10]{{0}} negate(%x)
  %r = f32[10]{{0}} all-reduce(%y), replica_groups={{}}, to_apply=%sum
  ROOT %t = (s32[], f32[10]{{0}}) tuple(%i, %r)
}}

%condition (p: (s32[], f32[10])) -> pred[] {{
  %end = s32[] constant(12)
  %p = (s32[], f32[10]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  ROOT %less = pred[] compare(%i, %end), direction=LT
}}

ENTRY %main (x: f32[10]) -> (s32[], f32[10]) {{
  %x = f32[10]{{0}} parameter(0)
  %first = s32[] constant(2)
  %t = (s32[], f32[10]{{0}}) tuple(%first, %x)
  ROOT %w = (s32[], f32[10]{{0}}) while(%t), condition=%condition, body=%body{0}
}}
"""


@pytest.mark.parametrize(
    ("noted", "turns"),
    [
        ("", 10),  # from 2 to 12, as the condition has it
        (', backend_config={"known_trip_count":{"n":"7"},"x":1}', 7),
    ],
)
def test_a_loop_counts_as_often_as_it_turns(noted, turns):
    found = program(LOOP.format(noted))
    compare = 4 + 4 + 1
    assert counted.traffic(found) == turns * (80 + 80 + compare)
    assert counted.collectives(found) == {"all-reduce": (turns, turns * 40)}


def test_collectives_of_all_kinds():
    text = """
    ENTRY %main (x: f32[8,64]) -> f32[8,64] {
      %x = f32[8,64]{1,0:T(8,128)} parameter(0)
      %s = bf16[64]{0:T(256)} parameter(1)
      %all-reduce.1 = (f32[8,64]{1,0:T(8,128)}, bf16[64]{0:T(256)}) all-reduce(%x, %s), \
channel_id=1, replica_groups=mesh['axis_0'=4] {'axis_0'}, to_apply=%add
      %gs = f32[32,64]{1,0:T(8,128)} all-gather(%x), channel_id=2, dimensions={0}
      %rs = f32[2,64]{1,0:T(8,128)} reduce-scatter(%x), channel_id=3, dimensions={0}
      %ags = (bf16[64]{0}, bf16[256]{0}) all-gather-start(%s), channel_id=4, dimensions={0}
      %agd = bf16[256]{0} all-gather-done(%ags)
      %ars = bf16[64]{0:T(256)} all-reduce-start(%s), channel_id=5, to_apply=%add
      %ard = bf16[64]{0:T(256)} all-reduce-done(%ars)
      ROOT %cp = f32[8,64]{1,0:T(8,128)} collective-permute(%x), source_target_pairs={{0,1}}
    }
    """
    x, s = 8 * 64 * 4, 64 * 2
    assert counted.collectives(program(text)) == {
        "all-reduce": (2, x + s + s),
        "all-gather": (2, x + s),
        "reduce-scatter": (1, x),
        "collective-permute": (1, x),
    }


@pytest.mark.parametrize(
    ("line", "is_host"),
    [
        ('%c = f32[4]{0} custom-call(%x), custom_call_target="xla_ffi_python_cpu_callback"', True),
        ('%c = f32[4]{0} custom-call(%x), custom_call_target="MoveToHost"', True),
        (
            "%c = (f32[4]{0}, u32[], token[]) send(%x, %t), channel_id=1, is_host_transfer=true",
            True,
        ),
        ("%c = token[] outfeed(%x, %t), outfeed_config=something", True),
        ("%c = ((f32[4]{0}), token[]) infeed(%t)", True),
        ('%c = f32[4]{0} custom-call(%x), custom_call_target="ConcatBitcast"', False),
        ('%c = f32[4]{0} custom-call(%x), custom_call_target="__cudnn$convForward"', False),
        ('%c = f32[4]{0} negate(%x), metadata={op_name="host_callback"}', False),
    ],
)
def test_calls_of_the_host(line, is_host):
    text = f"ENTRY %main (x: f32[4]) -> f32[4] {{\n  %x = f32[4]{{0}} parameter(0)\n  {line}\n}}"
    assert bool(counted.host_calls(hlo.parse(text))) == is_host


def test_copies_between_memories_count_what_lies_in_the_main_one():
    text = """
    ENTRY %main (x: f32[16,128]) -> f32[16,128] {
      %x = f32[16,128]{1,0:T(8,128)} parameter(0)
      %s = (f32[16,128]{1,0:T(8,128)S(1)}, f32[16,128]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x)
      %d = f32[16,128]{1,0:T(8,128)S(1)} copy-done(%s)
      %p = ((f32[16,128]{1,0:T(8,128)}), f32[8,128]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%x), slice={[0:8], [0:128]}
      %q = f32[8,128]{1,0:T(8,128)S(1)} slice-done(%p)
      ROOT %n = f32[16,128]{1,0:T(8,128)} negate(%d)
    }
    """
    whole = 16 * 128 * 4
    # The copy's and the slice's reads, the last kernel's write.
    assert counted.traffic(program(text)) == pytest.approx(whole + whole / 2 + whole, abs=16)


def test_conditionals_and_calls_are_walked():
    text = """
    %one (p: f32[10]) -> f32[10] {
      %p = f32[10]{0} parameter(0)
      ROOT %n = f32[10]{0} negate(%p)
    }

    %two (p: f32[10]) -> f32[10] {
      %p = f32[10]{0} parameter(0)
      ROOT %n = f32[10]{0} exponential(%p)
    }

    ENTRY %main (x: f32[10], i: s32[]) -> f32[10] {
      %x = f32[10]{0} parameter(0)
      %i = s32[] parameter(1)
      %c = f32[10]{0} conditional(%i, %x, %x), branch_computations={%one, %two}
      ROOT %d = f32[10]{0} call(%c), to_apply=%one
    }
    """
    assert counted.traffic(program(text)) == 3 * 80
