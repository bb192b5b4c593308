# SPDX-License-Identifier: BSD-3-Clause
"""Steps in the memory of a CUDA device, by the ctypes package alone: no PyTorch.
Runs on the double of libcuda and on a GPU, on any number of ranks."""

import array
import ctypes
import math
import unittest

import tally
from tally import _cuda, errors

V = 5
KINDS = {"q": "<i8", "i": "<i4", "f": "<f4", "H": "<f2"}


class Driver:
    """What a trainer calls beside Tally."""

    def __init__(self):
        self.library = ctypes.CDLL("libcuda.so.1")
        self.context = ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(self.context), 0)
        self.call("cuCtxSetCurrent", self.context)

    def call(self, name, *arguments):
        error = getattr(self.library, name)(*arguments)
        if error:
            raise RuntimeError(f"{name}: {error}")

    def stream(self):
        handle = ctypes.c_void_p()
        non_blocking = 1
        self.call("cuStreamCreate", ctypes.byref(handle), non_blocking)
        return handle.value

    def waits(self):
        """Calls in which the host waited for the device; the double counts."""
        counter = getattr(self.library, "cuda_double_waits", None)
        if counter is None:
            return 0
        counter.restype = ctypes.c_long
        return counter()


class OnDevice:
    """A C array in device memory, that says where it lies."""

    def __init__(self, driver, code, values, *shape):
        self.driver = driver
        self.host = array.array(code, values)
        self.bytes = ctypes.c_size_t(len(self.host) * self.host.itemsize)
        self.address = ctypes.c_uint64()
        driver.call("cuMemAlloc_v2", ctypes.byref(self.address), self.bytes)
        driver.call(
            "cuMemcpyHtoD_v2", self.address, self._of_host(), self.bytes
        )
        self.__cuda_array_interface__ = {
            "version": 3,
            "typestr": KINDS[code],
            "shape": shape or (len(self.host),),
            "data": (self.address.value, False),
            "strides": None,
            "stream": None,
        }

    def _of_host(self):
        return ctypes.c_void_p(self.host.buffer_info()[0])

    def values(self):
        self.driver.call("cuCtxSynchronize")
        self.driver.call(
            "cuMemcpyDtoH_v2", self._of_host(), self.address, self.bytes
        )
        return list(self.host)


class Device(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.driver = Driver()
        cls.tally = tally.Tally()
        cls.group = tally.Group(cls.tally)
        cls.ranks = cls.tally.world_size
        cls.stream = cls.driver.stream()

    @classmethod
    def tearDownClass(cls):
        cls.group.close()
        cls.tally.close()

    def on_device(self, code, values, *shape):
        return OnDevice(self.driver, code, values, *shape)

    def scales(self, step):
        found = step.scale.__cuda_array_interface__
        self.assertEqual((found["typestr"], found["shape"]), ("<f4", (1,)))
        self.driver.call("cuCtxSynchronize")
        scale = ctypes.c_float()
        self.driver.call(
            "cuMemcpyDtoH_v2",
            ctypes.byref(scale),
            ctypes.c_uint64(found["data"][0]),
            ctypes.c_size_t(4),
        )
        return scale.value

    def test_a_step_gives_loss_gradient_scale_and_totals(self):
        labels = self.on_device("q", [0, 2, -100])
        weights = self.on_device("f", [0.5, 0.25, 7])
        logits = self.on_device("f", [0.0] * 3 * V, 3, V)
        gradient = self.on_device("f", [9.0] * 3 * V, 3, V)
        nll = self.on_device("f", [9.0] * 3)
        value = self.on_device("f", [2.5])
        with tally.Step(
            self.group, V, device="cuda:0", max_lanes=1
        ) as step:
            for stream in (self.stream, None):
                waits = self.driver.waits()
                step.begin(1, stream)
                step.count(labels, weights, stream=stream)
                step.reduce(stream)
                step.wait(stream)
                step.loss(
                    logits,
                    labels,
                    weights,
                    gradient=gradient,
                    nll=nll,
                    stream=stream,
                )
                step.offer_max(value, 0, stream)
                step.end(stream)
                result = step.result(wait=True)
                self.assertEqual(self.driver.waits(), waits)
                totals = result.channels[0]
                self.assertEqual(totals.count, 2 * self.ranks)
                self.assertEqual(totals.weight_sum, 0.75 * self.ranks)
                self.assertAlmostEqual(totals.mean, math.log(V), places=6)
                self.assertEqual(result.max, (2.5,))
                self.assertEqual(totals.scale, self.scales(step))
                self.assertAlmostEqual(totals.scale, 1 / 0.75, places=6)
                found = gradient.values()
                self.assertAlmostEqual(found[0], -0.8 * 2 / 3, places=6)
                self.assertEqual(found[2 * V :], [0] * V)
                self.assertAlmostEqual(nll.values()[1], math.log(V), places=6)

    def test_a_gradient_is_multiplied_unless_by_one(self):
        count = 9 * V  # whole vectors, and what is left
        with tally.Step(self.group, V, device="cuda:0") as step:
            for factor in (0.5, 1.0):
                gradient = self.on_device("f", range(count), 9, V)
                by = self.on_device("f", [factor])
                step.multiply(gradient, by, self.stream)
                self.assertEqual(
                    gradient.values(), [each * factor for each in range(count)]
                )
            # From an address that no vector may have; the first stays.
            gradient = self.on_device("f", range(count))
            part = {
                **gradient.__cuda_array_interface__,
                "data": (gradient.address.value + 4, False),
                "shape": (count - 1,),
            }
            shifted = type("Shifted", (), {"__cuda_array_interface__": part})()
            step.multiply(shifted, self.on_device("f", [2.0]))
            self.assertEqual(
                gradient.values(), [0.0] + [2.0 * i for i in range(1, count)]
            )
            with self.assertRaisesRegex(tally.TallyError, "factor: on the host"):
                step.multiply(gradient, OnHost(array.array("f", [2.0])))

    def test_the_host_and_the_device_give_the_same_bits_of_weight(self):
        values = [0.1, 0.2, 0.3]
        results = []
        for device in ("cpu", "cuda"):
            with tally.Step(self.group, V, device=device) as step:
                labels, weights = array.array("i", [1, 2, 3]), array.array(
                    "f", values
                )
                if device == "cuda":
                    labels = self.on_device("i", labels)
                    weights = self.on_device("f", weights)
                else:
                    labels, weights = OnHost(labels), OnHost(weights)
                step.begin()
                step.count(labels, weights)
                step.reduce()
                step.end()
                results.append(step.result(wait=True).channels[0])
        self.assertEqual(results[0], results[1])

    def test_arrays_that_lie_elsewhere_are_refused(self):
        with tally.Step(self.group, V, device="cuda:0") as step:
            step.begin()
            with self.assertRaisesRegex(
                errors.InvalidError, "on the host, but the step is on cuda:0"
            ):
                step.count(OnHost(array.array("q", [1])))
            elsewhere = Capsule(self.on_device("q", [1]), 2, 1)
            with self.assertRaisesRegex(errors.InvalidError, "on cuda:1, but"):
                step.count(elsewhere)
            step.count(None)
            step.reduce()
            step.end()

    def test_dlpack_is_read_where_it_lies_and_stays_its_owners(self):
        labels = Capsule(self.on_device("q", [9, 1]), 2, 0)
        with tally.Step(self.group, V, device="cuda:0") as step:
            step.begin()
            step.count(labels)
            step.reduce()
            step.end()
            totals = step.result(wait=True).channels[0]
        self.assertEqual(totals.count, self.ranks)
        self.assertEqual(totals.bad_labels, self.ranks)
        self.assertEqual(labels.asked, [-1])  # for no wait
        self.assertEqual(labels.name(), b"dltensor")  # not "used_dltensor"

    def test_a_second_device_is_refused(self):
        with tally.Step(self.group, V, device="cuda:0"):
            with self.assertRaisesRegex(errors.InvalidError, "one device"):
                tally.Step(self.group, V, device="cuda:1")

    def test_what_is_no_device_or_stream_is_named(self):
        for device in ("gpu", "cuda:", "cuda:x", "xpu:0"):
            with self.assertRaisesRegex(errors.InvalidError, device):
                tally.Step(self.group, V, device=device)
        with tally.Step(self.group, V, device="cuda:0") as step:
            with self.assertRaisesRegex(errors.InvalidError, "is no stream"):
                step.begin(1, stream="0")

    def test_objects_that_stand_for_a_stream_are_taken(self):
        class Protocol:
            def __cuda_stream__(self):
                return (0, 77)

        class Torch:
            cuda_stream = 78

        self.assertEqual(_cuda.handle_of(Protocol()), 77)
        self.assertEqual(_cuda.handle_of(Torch()), 78)


class OnHost:
    def __init__(self, values):
        self.values = values
        self.__array_interface__ = {
            "typestr": KINDS[values.typecode],
            "shape": (len(values),),
            "data": (values.buffer_info()[0], False),
        }


class Tensor(ctypes.Structure):
    """DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", ctypes.c_int32 * 2),
        ("dimensions", ctypes.c_int32),
        ("kind", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class Capsule:
    """int64 values by DLPack alone, one word behind where it says they begin."""

    def __init__(self, values, device, ordinal):
        self.values = values
        self.asked = []
        self.shape = (ctypes.c_int64 * 1)(len(values.host))
        self.tensor = Tensor(
            data=values.address.value - 8,
            dimensions=1,
            kind=0,
            bits=64,
            lanes=1,
            shape=self.shape,
            byte_offset=8,
        )
        self.tensor.device[:] = device, ordinal
        make = ctypes.pythonapi.PyCapsule_New
        make.restype = ctypes.py_object
        make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        self.capsule = make(ctypes.addressof(self.tensor), b"dltensor", None)

    def __dlpack_device__(self):
        return tuple(self.tensor.device)

    def __dlpack__(self, *, stream=None):
        self.asked.append(stream)
        return self.capsule

    def name(self):
        get = ctypes.pythonapi.PyCapsule_GetName
        get.restype, get.argtypes = ctypes.c_char_p, [ctypes.py_object]
        return get(self.capsule)
