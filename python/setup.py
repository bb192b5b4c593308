# SPDX-License-Identifier: BSD-3-Clause
"""Without python/tally/lib this is a wheel for any platform, which finds the
system's library; with it (make wheel), one for this platform and any Python 3."""

from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel

BUNDLED = any((Path(__file__).parent / "tally" / "lib").glob("*.so*"))


class TallyDistribution(Distribution):
    def has_ext_modules(self):
        return BUNDLED


class TallyWheel(bdist_wheel):
    def get_tag(self):
        return ("py3", "none", super().get_tag()[2])


setup(distclass=TallyDistribution, cmdclass={"bdist_wheel": TallyWheel})
