# SPDX-License-Identifier: BSD-3-Clause
"""Does a trainer's loss give every token its weight? Each rank's gradient is
compared with that of one process on all the data, in float64, over the ways in
which PyTorch spreads a model. `python -m tally.conformance --help`."""
