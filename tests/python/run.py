# SPDX-License-Identifier: BSD-3-Clause
"""Runs unittest files and ends with Check's result line.
    run.py FILE..."""

import sys
import unittest
from pathlib import Path


def main() -> int:
    suite = unittest.TestSuite()
    for file in sys.argv[1:]:
        path = Path(file).resolve()
        sys.path.insert(0, str(path.parent))
        suite.addTests(unittest.defaultTestLoader.loadTestsFromName(path.stem))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
    for test, reason in result.skipped:
        print(f"skipped: {test}: {reason}")
    run = result.testsRun - len(result.skipped)
    failures, errors = len(result.failures), len(result.errors)
    share = 100 * (run - failures - errors) // max(run, 1)
    print(f"{share}%: Checks: {run}, Failures: {failures}, Errors: {errors}")
    return 0 if result.wasSuccessful() and run > 0 else 1


sys.exit(main())
