"""What the comparisons of engines share: facts about the machine, medians, and an SVG of times."""

import importlib.metadata
import math
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import xml.sax.saxutils

import numpy

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build/release"
KERNELS = {1: "scalar", 2: "SSSE3", 4: "AVX2", 8: "AVX-512", 16: "NEON"}  # tonearm_cpu
EVICTED_MEGABYTES = 96  # as in harness.h


def progress(text):
    print(text, file=sys.stderr, flush=True)


def table_text(header, rows):
    """A table that reads well both as text and as Markdown."""
    lines = [header] + rows
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line_text(line):
        cells = [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join(["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]) + "|"
    return "\n".join([line_text(header), rule] + [line_text(row) for row in rows]) + "\n"


def size_text(size):
    return "%.1f MB" % (size / 1e6) if size >= 1e6 else "%.1f kB" % (size / 1e3)


def package_file(package, pattern):
    folder = pathlib.Path(importlib.metadata.distribution(package).locate_file(""))
    found = sorted(folder.glob(pattern))
    if not found:
        sys.exit(f"{package} has no {pattern}: another version than bench/peers names?")
    return found[0]


def quartiles(times):
    low, middle, high = numpy.percentile(times, [25, 50, 75])
    return {"median_ns": float(middle), "quartiles_ns": [float(low), float(high)]}


def time_text(figures):
    low, high = figures["quartiles_ns"]
    median = figures["median_ns"]
    return [f"{median:,.0f}" if median >= 100 else f"{median:.1f}", f"{high - low:,.0f}"]


def child_cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def machine(packages):
    cpuinfo = pathlib.Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", cpuinfo)
    caches = {}
    for cache in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        if (cache / "type").read_text().strip() != "Instruction":
            caches["L" + (cache / "level").read_text().strip()] = int((cache / "size").read_text().strip()[:-1]) * 1024
    header = (ROOT / "runtime/include/tonearm/tonearm.h").read_text()
    version = ".".join(re.search(rf"TONEARM_VERSION_{part} (\d+)", header)[1] for part in ("MAJOR", "MINOR", "PATCH"))
    gcc = subprocess.run(["gcc", "-dumpfullversion"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    versions = {name: importlib.metadata.version(name) for name in packages}
    return {"cpu": model[1] if model else platform.processor(), "cores": os.cpu_count(), "caches": caches,
            "compiler": "gcc " + gcc, "versions": {"tonearm": version, **versions}}


def machine_text(facts):
    caches = ", ".join(f"{name} {size // 1024} kB" for name, size in sorted(facts["caches"].items()))
    text = f"{facts['cpu']}, {facts['cores']} cores ({caches}), {facts['compiler']}\n"
    text += ", ".join(f"{name} {version}" for name, version in facts["versions"].items()) + "\n"
    largest = max(facts["caches"].values(), default=0)
    if largest > EVICTED_MEGABYTES << 20:
        text += (f"The last cache ({largest >> 20} MB) is larger than the {EVICTED_MEGABYTES} MB written before a cold "
                 "call: here a cold call may be answered from it, not from memory.\n")
    return text


def build_program(name, folder, *options):
    """`name`.c of this folder with Tonearm's release build."""
    library = BUILD / "lib/libtonearm.a"
    if not library.exists() or not (BUILD / "bin/tonearm").exists():
        sys.exit(f"The release build of Tonearm is missing in {BUILD}: run bench/peers/run, which makes it, or "
                 "`cmake --preset release && cmake --build --preset release`.")
    program = folder / (name + "".join(options))
    subprocess.run(
        ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", *options, f"-I{ROOT}/runtime/include",
         ROOT / f"bench/peers/{name}.c", library, "-rdynamic", "-ldl", "-lm", "-o", program], check=True)
    return program


def plot(panels, facts, what):
    """Bars on a logarithmic axis as SVG that reads on light and on dark pages. `panels` are pairs of a title and bars,
    each a name, whether it is ours, and its warm and cold nanoseconds; `what` is what a time is of."""
    width, bar, gap, head = 560, 9, 10, 44
    left = max(250, 20 + 7.5 * max(len(name) for _, bars in panels for name, *_ in bars))
    times = [time for _, bars in panels for _, _, *both in bars for time in both]
    first, last = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    place = lambda time: left + width * (math.log10(time) - first) / (last - first)
    unit = lambda time: f"{time:,.0f} ns" if time < 1e4 else f"{time / 1e3:,.0f} µs"
    text = lambda x, y, words, style="": f'<text x="{x:.1f}" y="{y:.1f}"{style}>{xml.sax.saxutils.escape(words)}</text>'
    body, y = [], 46
    for title, bars in panels:
        body.append(text(10, y, title, ' class="title"'))
        y += 14
        bottom = y + len(bars) * (2 * bar + gap)
        for decade in range(first, last + 1):
            x = place(10 ** decade)
            body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{bottom}"/>')
            body.append(text(x, bottom + 13, unit(10 ** decade), ' text-anchor="middle" class="axis"'))
        for name, ours, *both in sorted(bars, key=lambda bar: bar[2]):
            style = ' text-anchor="end"' + (' class="ours"' if ours else "")
            body.append(text(left - 8, y + gap / 2 + bar + 4, name, style))
            for i, (state, time) in enumerate(zip(("warm", "cold"), both)):
                top, end = y + gap / 2 + i * bar, place(time)
                body.append(f'<rect class="{state}" x="{left}" y="{top}" width="{end - left:.1f}" height="{bar - 1}"/>')
                body.append(text(end + 4, top + bar - 1.5, unit(time), ' class="axis"'))
            y += 2 * bar + gap
        y = bottom + head
    style = """
  text { font: 12px sans-serif; fill: #24292f } .title { font-weight: bold } .ours { font-weight: bold }
  .axis { font-size: 9px } line { stroke: #8c959f; stroke-opacity: .35 } .warm { fill: #d9730d } .cold { fill: #4078c0 }
  @media (prefers-color-scheme: dark) { text { fill: #d0d7de } .warm { fill: #f0983e } .cold { fill: #6ea8e8 } }
"""
    legend = ['<rect class="warm" x="10" y="12" width="12" height="9"/>', text(27, 21, "warm"),
              '<rect class="cold" x="80" y="12" width="12" height="9"/>',
              text(97, 21, f"cold ({EVICTED_MEGABYTES} MB written before the call); {what}, {facts['cpu']}")]
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 80:.0f} {y - head + 24}">\n'
            f"<title>Time of one prediction, shorter is better</title>\n<style>{style}</style>\n"
            + "\n".join(legend + body) + "\n</svg>\n")
