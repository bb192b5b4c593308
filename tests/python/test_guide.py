# SPDX-License-Identifier: BSD-3-Clause
"""doc/migration.md and README.md show lines of files that the tests run: are they
there?"""

import ast
import re
import textwrap
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
GUIDE = SOURCE / "doc/migration.md"
README = SOURCE / "README.md"
OURS = "With Tally ("
TRAINERS = {
    "PyTorch DDP",
    "FSDP2",
    "transformers Trainer",
    "accelerate",
    "torchtitan",
    "Megatron-core",
    "DeepSpeed",
    "torchft",
}
BY_HAND = {"PyTorch DDP", "FSDP2"}
# A package that test_conformance.sh runs by its name.
SUITE = "python/tally/conformance"
BLOCK = re.compile(
    r"^ *(?P<head>Today:|With Tally \((?:.|\n)*?\):)\n\n"
    r"(?P<indent> *)```python\n(?P<code>(?:.|\n)*?)\n *```$",
    re.M,
)
# In README.md a section "From PyTorch": a file in brackets, and its lines.
SHOWN = re.compile(
    r"\n\(?[^\n]*\]\((?P<file>[\w/]+\.py)\)\)?:?\n\n"
    r"```python\n(?P<code>(?:.|\n)*?)\n```"
)


def blocks(text):
    for found in BLOCK.finditer(text):
        yield found["head"], textwrap.dedent(found["code"])


def stands_in(piece, lines, start):
    """The line after the piece in a file, at whatever depth; None: not there."""
    size = len(piece)
    for at in range(start, len(lines) - size + 1):
        there = textwrap.dedent("\n".join(lines[at : at + size]))
        if there == "\n".join(piece):
            return at + size
    return None


def pieces(code):
    found = [[]]
    for line in code.split("\n"):
        if line.strip() == "...":
            found.append([])
        else:
            found[-1].append(line)
    # What is left out may have been deeper or not as deep.
    return [textwrap.dedent("\n".join(each)).split("\n") for each in found]


class GuideTest(unittest.TestCase):
    text = GUIDE.read_text("utf-8")
    scripts = "".join(
        each.read_text("utf-8") for each in SOURCE.glob("tests/python/*.sh")
    )

    def test_each_trainer_has_todays_lines_and_ours(self):
        sections = dict(
            part.split("\n", 1) for part in re.split(r"^## ", self.text, flags=re.M)
        )
        self.assertLessEqual(TRAINERS, set(sections))
        for trainer in sorted(TRAINERS):
            heads = [head for head, _ in blocks(sections[trainer])]
            self.assertEqual(heads[0], "Today:", trainer)
            self.assertTrue(heads[1].startswith(OURS), trainer)

    def test_no_block_is_passed_over(self):
        self.assertEqual(
            len(list(blocks(self.text))), len(re.findall("```python", self.text))
        )

    def test_our_lines_are_in_files_that_the_tests_run(self):
        for head, code in blocks(self.text):
            if not head.startswith(OURS):
                continue
            self.lines_are_in(re.search(r"\(\.\./([\w/]+\.py)\)", head)[1], code)

    def lines_are_in(self, file, code):
        if not file.startswith(SUITE):
            self.assertIn(Path(file).name, self.scripts)
        lines = (SOURCE / file).read_text("utf-8").split("\n")
        at = 0
        for piece in pieces(code):
            with self.subTest(file=file, piece=piece):
                at = stands_in(piece, lines, at)
                self.assertIsNotNone(at, "not there, or not in this order")

    def test_the_readmes_lines_for_each_trainer_are_in_those_files(self):
        text = README.read_text("utf-8")
        section = text[text.index("## From PyTorch") : text.index("## On GPUs")]
        shown = list(SHOWN.finditer(section))
        self.assertEqual(len(shown), section.count("```python"))
        names = set(re.findall("^### (.*)$", section, re.M))
        self.assertLessEqual(
            {each.removesuffix(" Trainer") for each in TRAINERS} - BY_HAND, names
        )
        for each in shown:
            self.lines_are_in(each["file"], each["code"])

    def test_todays_lines_are_python(self):
        for head, code in blocks(self.text):
            if not head.startswith(OURS):
                # `return` stands in a function.
                ast.parse("def trainer():\n" + textwrap.indent(code, "    "))

