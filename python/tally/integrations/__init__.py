# SPDX-License-Identifier: BSD-3-Clause
"""One small module a trainer. Each imports its trainer; none imports another."""
