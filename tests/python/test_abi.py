# SPDX-License-Identifier: BSD-3-Clause
"""What the ctypes package says of structs and numbers is what the headers say."""

import re
import unittest
from pathlib import Path

import tally
from tally import _abi, errors

SOURCE = Path(__file__).resolve().parents[2]


class Abi(unittest.TestCase):
    header = "".join(
        (SOURCE / f"include/tally/{name}.h").read_text()
        for name in ("tally", "step", "columns")
    )

    def test_each_status_has_an_exception(self):
        codes = re.findall(r"TALLY_ERR_\w+ = (-\d+)", self.header)
        self.assertEqual({int(code) for code in codes}, set(errors.BY_STATUS))

    def test_numbers_are_those_of_the_header(self):
        for name, value in (
            ("TALLY_IGNORE_INDEX", f"({tally.IGNORE_INDEX})"),
            ("TALLY_ABI", f"{_abi.ABI}u"),
            ("TALLY_CHANNELS_MAX", str(_abi.CHANNELS_MAX)),
            ("TALLY_MAX_LANES_MAX", str(_abi.MAX_LANES_MAX)),
        ):
            self.assertRegex(
                self.header, rf"#define {name} {re.escape(value)}\n"
            )
        for prefix, kind in (
            ("TALLY_", tally.Order),
            ("TALLY_GRADIENT_", tally.Convention),
            ("TALLY_", tally.DType),
        ):
            for member in kind:
                self.assertRegex(
                    self.header, rf"\b{prefix}{member.name} = {member.value}\b"
                )
        for flag in tally.Flag:
            self.assertIn(
                f"TALLY_STEP_{flag.name} 0x{flag.value:x}u", self.header
            )

    def test_structs_have_the_members_of_the_header_in_their_order(self):
        pairs = {
            "tally_host": _abi.Host,
            "tally_group_params": _abi.GroupParams,
            "tally_group_info": _abi.GroupInfo,
            "tally_channel": _abi.ChannelParams,
            "tally_step_params": _abi.StepParams,
            "tally_labels": _abi.Labels,
            "tally_logits": _abi.Logits,
            "tally_columns": _abi.Columns,
            "tally_loss_outputs": _abi.LossOutputs,
            "tally_channel_result": _abi.ChannelResult,
            "tally_result": _abi.StepResult,
        }
        text = re.sub(r"//.*", "", self.header)
        for name, struct in pairs.items():
            body = re.search(
                rf"typedef struct {name} {{(.*?)\n}} {name}_t;", text, re.S
            ).group(1)
            members = []
            for line in body.split(";"):
                pointer = re.search(r"\(\*(\w+)\)\(", line)
                if pointer:
                    members.append(pointer.group(1))
                elif line.strip():
                    line = re.sub(r"\[.*?\]", "", line)
                    members += re.findall(r"(\w+)\s*(?:,|$)", line.strip())
            ours = [field[0] for field in struct._fields_]
            # The header may have grown at the tail: that is what sizes are for.
            self.assertEqual(ours, members[: len(ours)], name)
