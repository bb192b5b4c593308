#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes a table and curves from the JSON that bench/scale prints.

    bench/scale.py JSON TABLE CURVES

TABLE is Markdown that shows CURVES, an SVG in the same folder. Fails if a total
was wrong or a rank sent more than it may.
"""
import json
import math
import pathlib
import sys

RADICES = ("2", "4", "8", "16")
RADIX_MAX = 16  # of "auto"
JOIN_CONNECTIONS_MAX = 32 + 64  # children and guests
DRAWN = RADICES + ("auto",)
COLOURS = {"2": "#0072b2", "4": "#009e73", "8": "#e69f00", "16": "#cc79a7",
           "auto": "#000000"}


class Points:
    """What was measured, by profile, ranks and plan."""

    def __init__(self, data):
        self.profiles = data["profiles"]
        self.all = data["points"]
        self.joins = data["joins"]
        self.table = {(p["profile"], p["ranks"], p["plan"]): p
                      for p in self.all}
        self.sizes = sorted({p["ranks"] for p in self.all})

    def get(self, profile, ranks, plan):
        point = self.table.get((profile, ranks, plan))
        if point is None and plan == "tuned":  # the same as auto
            point = self.table.get((profile, ranks, "auto"))
        return point

    def time_us(self, profile, ranks, plan):
        point = self.get(profile, ranks, plan)
        return point["time_ns"] / 1000 if point else None

    def best(self, profile, ranks):
        """The fastest of all plans that were tried."""
        plans = [p for p in self.all
                 if p["profile"] == profile and p["ranks"] == ranks]
        return min(plans, key=lambda p: p["time_ns"])

    def ratio(self, profile, ranks, plan):
        """A plan's time by the best one's."""
        return (self.get(profile, ranks, plan)["time_ns"] /
                self.best(profile, ranks)["time_ns"])


def log_ceiling(value, base):
    power, count = 1, 0
    while power < value:
        power *= base
        count += 1
    return count


def bound(plan, ranks):
    """How many messages a rank sends at most."""
    radix = int(plan) if plan.isdigit() else RADIX_MAX
    return (radix - 1) * log_ceiling(ranks, radix) + 2


def faults(points):
    """What must not be."""
    for point in points.all:
        where = f"{point['profile']}, {point['ranks']} ranks, {point['plan']}"
        if point["wrong"]:
            yield f"{where}: {point['wrong']} totals are wrong"
        if point["sent_max"] > bound(point["plan"], point["ranks"]):
            yield f"{where}: a rank sends {point['sent_max']} messages"
    for join in points.joins:
        where = f"{join['profile']}, {join['ranks']} ranks"
        if join["up"] != join["ranks"]:
            yield f"{where}: {join['up']} came up"
        if join["connections"] > JOIN_CONNECTIONS_MAX:
            yield f"{where}: {join['connections']} connections at the root"


def table(headings, rows):
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def figure(value):
    return "-" if value is None else f"{value:,.1f}"


def shape(point):
    """The factors of a plan; "+" if ranks are left over."""
    factors = []
    for factor in point["factors"]:
        if factors and factors[-1][0] == factor:
            factors[-1][1] += 1
        else:
            factors.append([factor, 1])
    text = "·".join(str(f) if n == 1 else f"{f}^{n}" for f, n in factors)
    return text + (" +" if point["extras"] else "")


# ------------------------------------------------------------------------ table

def profile_rows(points):
    for profile in points.profiles:
        yield (profile["title"], f"{profile['one_way_ns'] / 1000:g}",
               f"{profile['overhead_ns'] / 1000:g}",
               f"{profile['jitter_ns'] / 1000:g}",
               f"{profile['bytes_per_us'] * 8 / 1000:g}", profile["source"])


def time_rows(points, profile):
    for ranks in points.sizes:
        auto = points.get(profile, ranks, "auto")
        best = points.best(profile, ranks)
        yield ((f"{ranks:,}",) +
               tuple(figure(points.time_us(profile, ranks, plan))
                     for plan in RADICES) +
               (f"**{figure(auto['time_ns'] / 1000)}**", shape(auto),
                figure(best["time_ns"] / 1000), shape(best),
                f"{points.ratio(profile, ranks, 'auto'):.2f}",
                f"{points.ratio(profile, ranks, 'tuned'):.2f}"))


def message_rows(points):
    profile = points.profiles[0]["name"]
    for ranks in points.sizes:
        row = [f"{ranks:,}"]
        for plan in DRAWN:
            point = points.get(profile, ranks, plan)
            row.append("-" if point is None else
                       f"{point['sent_max']} of {bound(plan, ranks)}")
        row.append(str(points.get(profile, ranks, "auto")["connected_max"]))
        yield row


def join_rows(points):
    titles = {p["name"]: p["title"] for p in points.profiles}
    for join in points.joins:
        ranks = join["ranks"]
        yield (titles[join["profile"]], f"{ranks:,}",
               f"{join['time_ns'] / 1e9:.3f}", str(join["depth"]),
               str(join["connections"]), f"{join['accepted'] / ranks:.1f}",
               f"{join['received'] / ranks:.1f}", f"{join['sent'] / ranks:.1f}",
               f"{join['busy_ns'] / 1e9:.3f}")


def worst(points, profile, plan):
    ranks = max(points.sizes, key=lambda n: points.ratio(profile, n, plan))
    ratio = points.ratio(profile, ranks, plan)
    if ratio < 1.005:
        return "as long everywhere"
    return f"up to {ratio:.2f} times as long (at {ranks:,} ranks)"


def findings(points):
    last = points.sizes[-1]
    # Two sizes in the upper half, to see what a doubling adds.
    first = min(points.sizes, key=lambda n: abs(math.log(n) -
                                                math.log(last) / 2))
    lines = []
    for profile in points.profiles:
        name = profile["name"]
        end = points.time_us(name, last, "auto")
        grows = ((end - points.time_us(name, first, "auto")) /
                 (math.log2(last) - math.log2(first)))
        lines.append(
            f"* {profile['title']}: {figure(end)} us for {last:,} ranks; from "
            f"{first:,} on a doubling adds {figure(grows)} us. Against the best "
            f"found, the choice takes {worst(points, name, 'auto')}; reckoning "
            f"with the profile's own figures, {worst(points, name, 'tuned')}.")
    return "\n".join(lines)


def markdown(points, curves):
    sections = []
    headings = ("ranks",) + tuple(f"radix {r}" for r in RADICES) + (
        "auto", "its factors", "best found", "its factors", "auto / best",
        "tuned / best")
    for profile in points.profiles:
        rows = table(headings, time_rows(points, profile["name"]))
        sections.append(f"## {profile['title']}\n\n"
                        f"Microseconds.\n\n{rows}\n")
    profiles = table(("network", "one way us", "overhead us", "jitter us",
                      "Gb/s", "one way after"), profile_rows(points))
    joins = table(("latency of", "ranks", "all are up s", "depth",
                   "connections at once", "visits a rank", "messages in a rank",
                   "out", "busy s"), join_rows(points))
    messages = table(("ranks",) + tuple(f"radix {r}" for r in RADICES) +
                     ("auto", "partners, auto"), message_rows(points))
    return f"""# How an all-reduce grows

Written by `bench/scale.sh`; do not edit. To repeat: `bench/scale.sh`; the same
figures come out again.

The code that ships, on simulated networks (`src/transport/sim`), in virtual
time: one record of 64 bytes, every rank on a node of its own, all begin at once,
the time until the last one has the total. It is a model: switches are never
full, nothing is lost, ranks do nothing else. What it shows is how the schedule
grows and which radix suits which network, not what a machine will measure.

![Time against ranks]({curves})

{findings(points)}

All totals were right at every rank, and no rank sent more than
(k - 1) * ceil(log_k N) + 2 messages.

## Networks

{profiles}

One way is half a round trip as a ping-pong sees it, rounded from what was
published; both overheads are part of it. The overhead is what a call that sends
or receives costs its processor: that of TCP was measured on the loopback, the
others are assumed, and so are jitter (up to so much, all values alike) and
bandwidth.

Plans: `radix k` has factors k alone, as many as fit, and leaves the other ranks
to two rounds more. `auto` is what the library chooses, by a cost model whose
figures are the same on all networks. `tuned` is what that model chooses with the
profile's own figures. The best found is the fastest of these and of all radices
from 2 to {RADIX_MAX} (beyond 2,048 ranks: those in the table). 8·5^3 is a
factor 8 and three of 5; + means that ranks are left over.

{chr(10).join(sections)}
## Messages

What the busiest rank sends, of what it may send; and with how many others a rank
is connected.

{messages}

## Finding each other

The rendezvous' tree as it ships (`src/bootstrap/tree`), over simulated TCP
(`src/bootstrap/sim`): all ranks begin at once, in any order, and go to the root,
which sends each to its parent. Every call on a socket costs 1.5 us, and the
root's kernel queues {4096:,} connections. What it comes to at the root: its
connections at once are {JOIN_CONNECTIONS_MAX} at most, however many ranks there
are, and its messages grow with their number, a few each.

{joins}
"""


# ----------------------------------------------------------------------- curves

PANEL_WIDTH, PANEL_HEIGHT = 300, 300
LEFT, TOP, GAP = 64, 48, 66


class Panel:
    """One profile: ranks on a logarithmic axis, time on a linear one."""

    def __init__(self, points, index):
        self.points = points
        self.profile = points.profiles[index]
        self.left = LEFT + index * (PANEL_WIDTH + GAP)
        times = [points.time_us(self.profile["name"], n, plan)
                 for n in points.sizes for plan in DRAWN]
        self.top_us, self.step_us = nice_top(max(t for t in times if t))

    def x(self, ranks):
        first, last = self.points.sizes[0], self.points.sizes[-1]
        share = math.log(ranks / first) / math.log(last / first)
        return self.left + share * PANEL_WIDTH

    def y(self, time_us):
        return TOP + PANEL_HEIGHT * (1 - time_us / self.top_us)

    def axes(self):
        yield text(self.left + PANEL_WIDTH / 2, TOP - 16,
                   f"{self.profile['title']}, "
                   f"{self.profile['one_way_ns'] / 1000:g} us one way", 14)
        value = 0
        while value <= self.top_us + 1e-9:
            y = self.y(value)
            yield line(self.left, y, self.left + PANEL_WIDTH, y, "#dddddd")
            yield text(self.left - 6, y + 4, f"{value:g}", 11, "end")
            value += self.step_us
        decade = 10
        while decade <= self.points.sizes[-1]:
            x = self.x(decade)
            yield line(x, TOP, x, TOP + PANEL_HEIGHT, "#dddddd")
            yield text(x, TOP + PANEL_HEIGHT + 16, f"{decade:,}", 11)
            decade *= 10
        yield text(self.left + PANEL_WIDTH / 2, TOP + PANEL_HEIGHT + 36,
                   "ranks", 12)

    def curve(self, plan):
        name = self.profile["name"]
        places = [(self.x(n), self.y(self.points.time_us(name, n, plan)))
                  for n in self.points.sizes
                  if self.points.get(name, n, plan)]
        width = 2.5 if plan == "auto" else 1.5
        joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        yield (f'<polyline points="{joined}" fill="none" '
               f'stroke="{COLOURS[plan]}" stroke-width="{width}"/>')


def nice_top(value):
    """A round number above, and the distance of lines."""
    step = 10 ** math.floor(math.log10(value))
    for part in (0.2, 0.5, 1, 2):
        if value / (step * part) <= 7:
            step *= part
            break
    return math.ceil(value / step) * step, step


def text(x, y, words, size, anchor="middle"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" '
            f'text-anchor="{anchor}">{words}</text>')


def line(x1, y1, x2, y2, colour, width=1):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>')


def legend(top):
    for i, plan in enumerate(DRAWN):
        x = LEFT + i * 110
        yield line(x, top, x + 28, top, COLOURS[plan],
                   2.5 if plan == "auto" else 1.5)
        name = plan if plan == "auto" else f"radix {plan}"
        yield text(x + 34, top + 4, name, 12, "start")


def svg(points):
    width = LEFT + len(points.profiles) * (PANEL_WIDTH + GAP) - GAP + 24
    height = TOP + PANEL_HEIGHT + 84
    parts = []
    for index in range(len(points.profiles)):
        panel = Panel(points, index)
        parts += panel.axes()
        for plan in DRAWN:
            parts += panel.curve(plan)
    parts.append(f'<text transform="translate(16 {TOP + PANEL_HEIGHT / 2}) '
                 'rotate(-90)" font-size="12" text-anchor="middle">'
                 'all-reduce, us of virtual time</text>')
    parts += legend(height - 22)
    body = "\n".join(parts)
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<!-- Written by bench/scale.sh; do not edit. -->
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" \
viewBox="0 0 {width} {height}" font-family="sans-serif">
<title>Time of an all-reduce against the number of ranks</title>
<rect width="100%" height="100%" fill="#ffffff"/>
{body}
</svg>
"""


def main():
    source, page, curves = (pathlib.Path(name) for name in sys.argv[1:])
    points = Points(json.loads(source.read_text(encoding="utf-8")))
    found = list(faults(points))
    if found:
        sys.exit("\n".join(found))
    page.write_text(markdown(points, curves.name), encoding="utf-8")
    curves.write_text(svg(points), encoding="utf-8")


if __name__ == "__main__":
    main()
