# SPDX-License-Identifier: BSD-3-Clause
"""The ctypes package by itself: no PyTorch, no NumPy."""

import array
import ctypes
import math
import os
import subprocess
import sys
import threading
import unittest

import tally
from tally import _abi, errors


class Values:
    """A C array that says where it lies."""

    def __init__(self, code, values, *shape):
        kinds = {"q": "<i8", "i": "<i4", "f": "<f4"}
        self.values = array.array(code, values)
        self.__array_interface__ = {
            "typestr": kinds[code],
            "shape": shape or (len(self.values),),
            "data": (self.values.buffer_info()[0], False),
            "strides": None,
        }


class OneRank(unittest.TestCase):
    def setUp(self):
        self.tally = tally.Tally()
        self.group = tally.Group(self.tally)
        self.step = tally.Step(self.group, 3)

    def tearDown(self):
        self.step.close()
        self.group.close()
        self.tally.close()

    def test_a_step_gives_loss_gradient_and_totals(self):
        labels = Values("q", [0, 2, -100, 1])
        logits = Values("f", [0.0] * 12, 4, 3)
        gradient = Values("f", [9.0] * 12, 4, 3)
        nll = Values("f", [9.0] * 4)
        self.step.begin()
        self.step.count(labels)
        self.step.reduce()
        self.step.wait()
        self.step.loss(logits, labels, gradient=gradient, nll=nll)
        self.step.end()
        result = self.step.result(wait=True)
        self.assertEqual(result.channels[0].count, 3)
        self.assertEqual(result.channels[0].weight, (3 << 8, 0))
        self.assertAlmostEqual(result.channels[0].mean, math.log(3), places=6)
        self.assertEqual(list(gradient.values[6:9]), [0, 0, 0])
        self.assertAlmostEqual(gradient.values[0], -2 / 9, places=6)
        self.assertEqual(nll.values[2], 0)

    def test_weights_and_int32_labels_are_taken(self):
        self.step.begin()
        self.step.count(Values("i", [0, 1]), Values("f", [0.5, 0.25]))
        self.step.reduce()
        self.step.end()
        self.assertEqual(self.step.result(wait=True).channels[0].weight_sum, 0.75)

    def test_an_empty_step_says_so(self):
        self.step.begin(2)
        self.step.count(None)
        self.step.count(Values("q", [-100]))
        self.step.reduce()
        self.step.end()
        result = self.step.result(wait=True)
        self.assertTrue(result.empty)
        self.assertEqual(result.channels[0].scale, 0)

    def test_a_label_out_of_range_is_reported(self):
        self.step.begin()
        self.step.count(Values("q", [3, 1]))
        self.step.reduce()
        self.step.end()
        result = self.step.result(wait=True)
        self.assertTrue(result.flags & tally.Flag.BAD_LABELS)
        self.assertEqual(result.channels[0].bad_labels, 1)

    def test_what_is_not_known_yet_is_none(self):
        self.step.begin()
        self.step.count(None)
        self.step.reduce()
        with self.assertRaises(errors.OrderError):
            self.step.result(2)
        self.step.end()
        self.assertIsNotNone(self.step.result(wait=True))

    def test_calls_out_of_order_raise_with_the_librarys_sentence(self):
        with self.assertRaisesRegex(errors.OrderError, "tally_step_reduce"):
            self.step.reduce()

    def test_arrays_that_do_not_fit_are_refused_before_they_are_read(self):
        labels = Values("q", [0, 1])
        self.step.begin()
        self.step.count(labels)
        self.step.reduce()
        strided = Values("f", [0.0] * 12, 2, 3)
        strided.__array_interface__["strides"] = (0, 4)
        wrong = [
            (Values("f", [0.0] * 9, 3, 3), "3 rows of logits for 2 labels"),
            (Values("f", [0.0] * 8, 2, 4), "the vocabulary, 3"),
            (Values("f", [0.0] * 6), "the vocabulary, 3"),
            (strided, "one distance"),
            ([0.0] * 6, "list is no array"),
        ]
        for logits, sentence in wrong:
            with self.assertRaisesRegex(errors.InvalidError, sentence):
                self.step.loss(logits, labels)
        logits = Values("f", [0.0] * 6, 2, 3)
        for name, output in (
            ("gradient", Values("f", [0.0] * 9, 3, 3)),
            ("nll", Values("f", [0.0] * 3)),
            ("grad_scale", Values("f", [0.0] * 2)),
        ):
            with self.assertRaisesRegex(errors.InvalidError, name):
                self.step.loss(logits, labels, **{name: output})
        with self.assertRaisesRegex(errors.InvalidError, "weights"):
            self.step.loss(logits, labels, Values("f", [1.0] * 3))
        with self.assertRaisesRegex(errors.InvalidError, "float64|<f8"):
            wide = Values("f", [0.0] * 6, 2, 3)
            wide.__array_interface__["typestr"] = "<f8"
            self.step.loss(wide, labels)
        self.step.end()

    def test_columns_of_two_shards_give_what_whole_rows_give(self):
        values = [0.5, -2.0, 7.0, 0.0, 3.0, 1.0]
        labels = Values("q", [0, 2])
        whole = Values("f", values, 2, 3)
        wanted, gradient = Values("f", [9.0] * 2), Values("f", [9.0] * 6, 2, 3)
        self.step.begin(3)
        for _ in range(3):
            self.step.count(labels)
        self.step.reduce()
        self.step.loss(whole, labels, gradient=gradient, nll=wanted)
        spread = [tally.Columns(2, 0, 2), tally.Columns(2, 2, 1)]
        logits = [
            Values("f", values[0:2] + values[3:5], 2, 2),
            Values("f", [values[2], values[5]], 2, 1),
        ]
        both = []
        for columns, mine in zip(spread, logits):
            part = Values("q", [0] * 2 * tally.PART)
            self.step.loss_part(mine, labels, columns, part)
            both += part.values.tolist()
        found = []
        for columns, mine in zip(spread, logits):
            nll, parts = Values("f", [9.0] * 2), Values("q", both)
            self.step.loss_columns(
                mine, labels, columns, parts, gradient=mine, nll=nll
            )
            found.append(mine.values.tolist())
            for got, want in zip(nll.values, wanted.values):
                self.assertAlmostEqual(got, want, places=6)
        self.step.end()
        rows = found[0][:2] + found[1][:1] + found[0][2:] + found[1][1:]
        for got, want in zip(rows, gradient.values):
            self.assertAlmostEqual(got, want, places=6)
        self.assertEqual(self.step.result(wait=True).channels[0].count, 6)
        with self.assertRaisesRegex(errors.InvalidError, "parts must be 6 elem"):
            self.step.loss_part(logits[0], labels, spread[0], Values("q", [0]))
        with self.assertRaisesRegex(errors.InvalidError, "columns.begin is 3"):
            self.step.loss_part(
                logits[0], labels, tally.Columns(2, 3, 2), Values("q", [0] * 6)
            )

    def test_a_step_that_an_exception_has_left_is_abandoned(self):
        labels = Values("q", [0, 1])
        self.step.abandon()  # nothing to do
        self.step.begin(2)
        self.step.count(labels)
        self.step.abandon()
        self.assertEqual(self.step.result(wait=True).channels[0].count, 2)
        self.step.begin()
        self.step.count(labels)
        self.step.reduce()
        self.step.end()
        self.assertEqual(self.step.result(wait=True).epoch, 2)

    def test_rows_may_lie_apart(self):
        labels = Values("q", [0, 1])
        logits = Values("f", [0, 0, 0, 99, 0, 0, 0, 99], 2, 3)
        logits.__array_interface__["strides"] = (16, 4)
        self.step.begin()
        self.step.count(labels)
        self.step.reduce()
        self.step.loss(logits, labels)
        self.step.end()
        mean = self.step.result(wait=True).channels[0].mean
        self.assertAlmostEqual(mean, math.log(3), places=6)

    def test_an_array_on_a_gpu_is_refused(self):
        labels = Values("q", [0])
        labels.__cuda_array_interface__ = labels.__array_interface__
        self.step.begin()
        with self.assertRaisesRegex(errors.InvalidError, "step is on the host"):
            self.step.count(labels)
        self.step.count(None)
        self.step.reduce()
        self.step.end()

    def test_max_lanes_ride_along(self):
        with tally.Step(self.group, 3, max_lanes=2) as step:
            step.begin()
            step.count(None)
            step.reduce()
            step.offer_max(Values("f", [2.5]), 1)
            step.end()
            self.assertEqual(step.result(wait=True).max, (-math.inf, 2.5))

    def test_what_is_in_use_cannot_be_closed(self):
        with self.assertRaises(errors.BusyError):
            self.group.close()
        self.assertFalse(self.group.closed)

    def test_a_closed_object_is_refused(self):
        step = tally.Step(self.group, 3)
        step.close()
        step.close()
        with self.assertRaisesRegex(ValueError, "Step is closed"):
            step.begin()

    def test_several_channels_have_a_scale_each(self):
        channels = [
            tally.Channel(3, "text"),
            tally.Channel(5, "image", coefficient=0.5),
        ]
        with tally.Step(self.group, channels) as step:
            step.begin()
            step.count(Values("q", [0, 1]))
            step.count(Values("q", [4]), channel=1)
            step.reduce()
            step.wait()
            scales = (ctypes.c_float * 2).from_address(step.scale.address)
            self.assertEqual(list(scales), [0.5, 0.5])
            self.assertEqual(list(step.scale.host_buffer()), [0.5, 0.5])
            step.end()

    def test_what_c_reads_as_the_default_cannot_be_asked_for(self):
        with self.assertRaises(errors.InvalidError):
            tally.Step(self.group, tally.Channel(3, coefficient=0.0))
        with self.assertRaises(errors.InvalidError):
            tally.Step(self.group, tally.Channel(3, temperature=0.0))

    def shaped_loss(self, **shaping):
        """Of one token with the logits 1, 0, -2 and the label 1."""
        nll = Values("f", [0.0])
        with tally.Step(self.group, tally.Channel(3, **shaping)) as step:
            step.begin()
            step.count(Values("q", [1]))
            step.reduce()
            step.loss(Values("f", [1.0, 0.0, -2.0], 1, 3), Values("q", [1]), nll=nll)
            step.end()
        return nll.values[0]

    def test_a_channel_has_a_shaping(self):
        def lse(*values):
            return math.log(sum(math.exp(value) for value in values))

        plain = lse(1, 0, -2)
        for shaping, want in (
            ({}, plain),
            ({"label_smoothing": 0.25}, plain + 0.25 / 3),
            ({"z_loss": 0.5}, plain + 0.5 * plain**2),
            ({"temperature": 2.0}, lse(0.5, 0, -1)),
            ({"soft_cap": 2.0}, lse(2 * math.tanh(0.5), 0, -2 * math.tanh(1))),
        ):
            with self.subTest(shaping=shaping):
                self.assertAlmostEqual(self.shaped_loss(**shaping), want, places=5)

    def test_a_shaping_out_of_range_is_refused_with_the_librarys_sentence(self):
        with self.assertRaisesRegex(errors.InvalidError, "label_smoothing is 1, not"):
            self.shaped_loss(label_smoothing=1.0)
        with self.assertRaisesRegex(errors.InvalidError, "soft_cap is -3, not"):
            self.shaped_loss(soft_cap=-3.0)


class SeveralRanks(unittest.TestCase):
    """Ranks as threads, with an all-gather of their own."""

    def run_ranks(self, size, rank_main):
        barrier = threading.Barrier(size)
        board = [b""] * size
        failures = []

        def allgather_of(rank):
            def gather(part):
                board[rank] = part
                barrier.wait(60)
                parts = list(board)
                barrier.wait(60)
                return parts

            return gather

        def run(rank):
            try:
                rank_main(rank, allgather_of(rank))
            except BaseException as failure:
                failures.append(failure)
                barrier.abort()

        threads = [
            threading.Thread(target=run, args=(rank,)) for rank in range(size)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return failures

    def test_every_rank_gets_the_same_totals(self):
        results = {}

        def rank_main(rank, gather):
            with tally.Tally(allgather=gather, rank=rank, world_size=3) as opened:
                self.assertEqual((opened.rank, opened.world_size), (rank, 3))
                with tally.Group(opened) as group, tally.Step(group, 9) as step:
                    self.assertEqual(group.describe().ranks, 3)
                    step.begin()
                    step.count(Values("q", [1] * rank) if rank else None)
                    step.reduce()
                    step.end()
                    results[rank] = step.result(wait=True)

        self.assertEqual(self.run_ranks(3, rank_main), [])
        self.assertEqual(results[0], results[1])
        self.assertEqual(results[0], results[2])
        self.assertEqual(results[0].channels[0].count, 3)
        self.assertEqual(results[0].channels[0].scale, 1.0)  # R / N
        self.assertEqual(results[0].members, 3)

    def test_ranks_that_disagree_are_told(self):
        def rank_main(rank, gather):
            with tally.Tally(allgather=gather, rank=rank, world_size=2) as opened:
                with tally.Group(opened) as group:
                    with self.assertRaises(errors.MismatchError):
                        tally.Step(group, 9 + rank)

        self.assertEqual(self.run_ranks(2, rank_main), [])

    def test_what_an_allgather_raises_is_the_cause(self):
        def gather(part):
            raise KeyError("no network")

        with self.assertRaises(errors.BootstrapError) as caught:
            tally.Tally(allgather=gather, rank=0, world_size=2)
        self.assertIsInstance(caught.exception.__cause__, KeyError)


class Loading(unittest.TestCase):
    def python(self, code, **environment):
        return subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_library_that_is_not_there_is_named(self):
        run = self.python("import tally; tally.Tally()", TALLY_LIBRARY="/none.so")
        self.assertIn("LibraryNotFoundError", run.stderr)
        self.assertIn("/none.so", run.stderr)

    def test_a_library_that_is_not_tally_is_named(self):
        run = self.python("import tally; tally.Tally()", TALLY_LIBRARY="libc.so.6")
        self.assertIn("LibraryNotFoundError", run.stderr)
        self.assertIn("tally_version", run.stderr)

    def test_importing_loads_neither_the_library_nor_pytorch(self):
        run = self.python(
            "import sys, tally; print('torch' in sys.modules, "
            "tally._library.cache_info().currsize)"
        )
        self.assertEqual(run.stdout.strip(), "False 0")

    def test_the_library_knows_the_variable(self):
        run = self.python(
            "import tally; tally.Tally().close()", TALLY_STRICT_ENV="1"
        )
        self.assertEqual(run.stderr, "")


class Log(unittest.TestCase):
    def python(self, code):
        run = subprocess.run(
            [sys.executable, "-c", "import tally.replica\n" + code],
            env={**os.environ, "TALLY_LOG": "info"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        return run.stdout.splitlines()

    def test_a_function_is_called_that_nobody_holds_any_more(self):
        lines = self.python(
            """
import ctypes, gc
from tally import _abi, _log
from tally._library import library
opened = tally.Tally(log=lambda level, line: print(line))
handle = ctypes.c_void_p(opened.handle.value)
del opened
gc.collect()
# What is freed would be taken by these.
others = [_abi.LogCallback(lambda *_: print("other")) for _ in range(100)]
print("nobody holds it")
group = ctypes.c_void_p()
assert library().group_create(handle, _abi.GroupParams(), group) == 0
assert library().group_free(group) == 0
"""
        )
        said = lines[lines.index("nobody holds it") + 1 :]
        self.assertRegex(said[0], "group")
        self.assertNotIn("other", said)

    def test_at_exit_what_has_no_groups_is_closed(self):
        lines = self.python(
            """
import atexit
from tally import _log
kept = lambda level, line: None
def late():
    print("in use", len(_log._in_use))
atexit.unregister(_log._end)
atexit.register(late)
atexit.register(_log._end)
tally.Tally(log=kept)
closed = tally.Tally(log=kept)
before = len(_log._in_use)
closed.close()
print("in use", before, len(_log._in_use))
"""
        )
        self.assertEqual(lines, ["in use 2 1", "in use 0"])

    def test_at_exit_threads_stay_in_their_next_line(self):
        lines = self.python(
            """
import atexit, threading
from tally import _log
go, gone = threading.Event(), threading.Event()
def late():
    go.set()
    print("gone" if gone.wait(0.5) else "stays")
    opened._host.log(None, 1, b"of the main thread")
atexit.unregister(_log._end)
atexit.register(late)
atexit.register(_log._end)
opened = tally.Tally(log=lambda level, line: print(line))
group = tally.Group(opened)
def thread():
    go.wait()
    opened._host.log(None, 1, b"of a thread")
    gone.set()
threading.Thread(target=thread, daemon=True).start()
"""
        )
        self.assertEqual(lines[-2:], ["stays", "of the main thread"])
