"""Instructions of one prediction on low-power processors: the same trees and weights in Tonearm and in what can be built
of its peers, from the raw float32 row to the probability, as programs for a Cortex-M4 without an operating system and
for 64-bit Arm.

    trees      boosted trees, 100 x 31 leaves, 13 audio features of the hit tracks, trained by LightGBM
    symmetric  300 symmetric trees of depth 5, 15 features of the hit tracks, trained by Tonearm
    gru        the recurrent skip predictor, a GRU of 32 units over the session and a dense head, int8: what a player
               calls; and its networks alone: one step of the GRU, one of the same with an LSTM, and the head

The programs run under QEMU, and a plugin (device_count.c) counts what they execute, by function; TensorFlow Lite Micro,
whose package is for x86-64 only, under Valgrind, beside Tonearm on x86-64. Instructions are not cycles.
"""

import argparse
import contextlib
import csv
import functools
import hashlib
import importlib
import importlib.metadata
import json
import os
import pathlib
import re
import subprocess
import sys
import zipfile

import numpy

import networks
from engines import AUDIO, SECTIONS, Tree, hit_tracks, train_boosted
from measuring import BUILD, ROOT, machine, package_file, progress, size_text, table_text

HERE = ROOT / "bench/peers"
ROWS = 256  # that are predicted
CALLS = 600  # of a player, about so many
NETWORK_ROWS = 32
PACKAGES = ["lightgbm", "emlearn", "tflite-micro", "ai-edge-litert", "tensorflow"]

START, END, PLAYING, NEXT, ALL = 0, 1, 2, 3, 8  # kinds of calls, as device_main.c marks them
BINNING = "bin_inputs|bin_scalar|bin_row|rank_of|tonearm_bin_|bin_categories"
TREES = ("walk|descend|child_of|with_answer|find_left|add_branching|add_symmetric|add_leaves|add_reached|blocks|look_up"
         "|sum_branching|sum_symmetric|reduce|total|eml_trees|sum_trees|model_|^t[0-9]+$|tree_of")
NETWORK = ("multiply|update|units|sigmoid|tanh|activate|encode|code_of|dense|dot|run_layer|run_quantized|stream_step"
           "|take_step|LayerWork")


# ------------------------------------------------------------------------------------------- targets

def run_command(*command, **options):
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          **options)
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise RuntimeError(f"{words[:300]} ...: {(done.stderr + done.stdout).strip()[-2000:]}")
    return done.stdout


class Target:
    """A processor: how to compile for it, and how to run a program. `cpu` is the tonearm_open_options.cpu, 0: the
    best."""

    def __init__(self, name, preset, prefix, flags, emulator, cpu=0):
        self.name, self.preset, self.prefix, self.flags = name, preset, prefix, flags
        self.emulator, self.cpu = emulator, cpu
        self.bare = prefix.startswith("arm-none-eabi")

    def tool(self, name):
        return self.prefix + name


M4 = Target("Cortex-M4F", "cortex-m4", "arm-none-eabi-",
            ["-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"],
            ["qemu-system-arm", "-M", "mps2-an386", "-display", "none", "-monitor", "none", "-serial", "none", "-chardev",
             "stdio,id=out", "-semihosting-config", "enable=on,target=native,chardev=out", "-icount", "shift=0"])
SYSROOT = ["-L", "/usr/aarch64-linux-gnu"]
A53 = Target("Cortex-A53", "aarch64", "aarch64-linux-gnu-", [], ["qemu-aarch64", *SYSROOT, "-cpu", "cortex-a53"])
A76 = Target("Cortex-A76", "aarch64", "aarch64-linux-gnu-", [], ["qemu-aarch64", *SYSROOT, "-cpu", "cortex-a76"])
X86_SCALAR = Target("x86-64, scalar", "release", "", [], ["qemu-x86_64", "-cpu", "Nehalem"], cpu=1)
X86_SSSE3 = Target("x86-64, SSSE3", "release", "", [], ["qemu-x86_64", "-cpu", "Nehalem"], cpu=2)


def build_plugin(out):
    path = out / "device_count.so"
    run_command("gcc", "-std=gnu11", "-O2", "-shared", "-fPIC", HERE / "device_count.c", "-o", path)
    return path


@functools.cache
def runtime_library(target, optimize, operators, sessions, out):
    """The runtime by its own build, with what a model needs of it: at -Os as for firmware, or at -O2. Built in every run:
    it is ours and changes."""
    folder = out / f"runtime-{target.preset}{optimize}-{operators.replace(';', '-')}{'-sessions' if sessions else ''}"
    toolchain = [] if target.preset == "release" else [
        f"-DCMAKE_TOOLCHAIN_FILE={ROOT}/toolchain/targets/{target.preset}.cmake"]
    off = [f"-DTONEARM_{part}=OFF" for part in ("BUILD_CONVERTER", "BUILD_TESTS", "BUILD_EXAMPLES", "INSTALL")]
    run_command("cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, *toolchain, *off, f"-DTONEARM_OPERATORS={operators}",
                f"-DTONEARM_SESSIONS={'ON' if sessions else 'OFF'}", f"-DTONEARM_SMALL={'ON' if target.bare else 'OFF'}",
                f"-DCMAKE_BUILD_TYPE={'MinSizeRel' if optimize == '-Os' else 'Release'}",
                "-DCMAKE_CXX_FLAGS_RELEASE=-O2 -DNDEBUG")
    run_command("cmake", "--build", folder, "--target", "tonearm")
    return folder / "lib/libtonearm.a"


class Program:
    """A linked program, and what running it showed."""

    def __init__(self, target, path):
        self.target, self.path, self.emulator = target, path, target.emulator
        lines = [line.split() for line in run_command(target.tool("size"), "-A", path).splitlines()]
        sizes = {words[0]: int(words[1]) for words in lines if len(words) == 3 and words[1].isdigit()}
        self.flash = sum(sizes.get(name, 0) for name in (".text", ".rodata", ".data", ".ARM.exidx"))

    def run(self, plugin):
        symbols, counts = self.path.with_suffix(".symbols"), self.path.with_suffix(".counts")
        found = {}
        for line in run_command(self.target.tool("nm"), "-C", "-S", "--defined-only", self.path).splitlines():
            words = line.split(maxsplit=3)
            if len(words) == 4 and words[2] in "tTwW":
                address = int(words[0], 16) & ~(1 if self.target.bare else 0)  # Thumb's mark
                found[address] = f"{address:x} {words[1]} {words[3]}\n"
        symbols.write_text("".join(found[address] for address in sorted(found)))
        start = ["-kernel", self.path] if self.target.bare else [self.path]
        said = run_command(*self.emulator, "-plugin", f"{plugin},symbols={symbols},out={counts}", *start,
                           timeout=600).split()
        self.answers = numpy.array([int(word, 16) for word in said[:-2]], numpy.uint32).view(numpy.float32)
        # Under -icount shift=0 an instruction takes a nanosecond. All calls in one go were timed that way.
        self.clocked = int(said[-2], 16) * 1e9 / int(said[-1], 16) if self.target.bare else None
        self.counts = {}
        for line in counts.read_text().splitlines():
            kind, count, name = line.split(maxsplit=2)
            if name != "main" or int(kind) == ALL:
                self.counts.setdefault(int(kind), {})[name] = int(count)
        return self

    def count(self, kind, calls, pattern=None):
        """Instructions of a call, of the functions whose names match."""
        return sum(count for name, count in self.counts.get(kind, {}).items()
                   if pattern is None or re.search(pattern, name)) / calls


def link(target, folder, name, sources, optimize, options=(), libraries=(), static=True):
    """A program of an engine's C files, compiled as `optimize` says, main and the board."""
    path = folder / f"{name}-{target.name.replace(' ', '').replace(',', '-')}.elf"
    board = ROOT / "toolchain/boards"
    flags = [target.tool("gcc"), *target.flags, "-std=gnu11", "-ffp-contract=off", "-ffunction-sections",
             "-fdata-sections", "-w", "-DBOARD_CLOCK=25000000", *(f"-I{place}" for place in (
                 board, HERE, folder, ROOT / "runtime/include"))]
    around = [HERE / "device_main.c", *([board / "cortex-m.c", board / "start.c"] if target.bare else [board / "host.c"])]
    objects = []
    for source, level in [(source, optimize) for source in sources] + [(source, "-Os") for source in around]:
        objects.append(path.with_suffix(f".{source.stem}.o"))
        run_command(*flags, level, *options, "-c", source, "-o", objects[-1])
    memory = ["code_origin=0x0", "code_length=0x400000", "data_origin=0x20000000", "data_length=0x400000",
              "stack_bytes=16384"]
    ends = (["-nostartfiles", "-specs=nosys.specs", f"-T{board}/board.ld", *(f"-Wl,--defsym={one}" for one in memory)]
            if target.bare else ["-static", "-no-pie"] if static else ["-no-pie", "-ldl"])
    run_command(target.tool("gcc"), *target.flags, "-Wl,--gc-sections", *objects, *libraries, *ends, "-lm", "-o", path)
    return Program(target, path)


class Engine:
    """What is measured of an engine with a model on a target."""

    def __init__(self, name, optimize, program, nothing, model_bytes=None, ours=False):
        self.name, self.optimize, self.program, self.ours = name, optimize, program, ours
        self.flash = program.flash - nothing.flash
        self.model_bytes = model_bytes


def inspect(blob):
    return json.loads(run_command(BUILD / "bin/tonearm", "inspect", blob, "--json", "-"))


def tonearm(target, folder, name, blob, optimize, operators, data, outputs, out, session=False):
    facts = inspect(blob)
    options = [f'-DMODEL="{blob}"', f"-DSCRATCH_BYTES={facts['scratch_bytes']}", f"-DOUTPUTS={outputs}",
               f"-DDEVICE_CPU={target.cpu}"]
    if session:
        options.append(f"-DSESSION_BYTES={facts['session_bytes']}")
    library = runtime_library(target, optimize, operators, session, out)
    return link(target, folder, f"tonearm-{name}{optimize}", [HERE / "device_tonearm.c", data], optimize, options,
                [library])


# --------------------------------------------------------------------------------------------- trees

def listed(numbers):
    return ", ".join(map(str, numbers))


def literals(numbers):
    return ", ".join(float(number).hex() + "f" if numpy.isfinite(number) else "INFINITY" for number in numbers)


def write_rows(folder, rows, outputs):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "device_data.h").write_text(
        f"enum {{ DEVICE_COLUMNS = {rows.shape[1]} }};\nextern const float device_rows[{len(rows)}][{rows.shape[1]}];\n")
    lines = ",\n".join("{" + literals(row) + "}" for row in rows)
    path = folder / "rows.c"
    path.write_text(f"""#include <math.h>
#include "device.h"
#include "device_data.h"
const uint32_t device_calls = {len(rows)}, device_outputs = {outputs};
const float device_rows[{len(rows)}][{rows.shape[1]}] = {{{lines}}};
""")
    return path


class Trees:
    """An ensemble whose sum goes through a sigmoid, as every engine gets it, and rows of the hit tracks."""

    def __init__(self, name, out, columns):
        self.name, self.folder = name, out / name
        features, target, self.data = hit_tracks(columns)
        order = numpy.random.default_rng(3).permutation(len(features))  # as the workloads of engines.py
        self.rows, self.labels = features[order[:1024]], target[order[:1024]]
        self.rest, self.rest_labels = features[order[1024:]], target[order[1024:]]
        self.low, self.high = features.min(axis=0), features.max(axis=0)
        self.rows_c = write_rows(self.folder, self.rows[:ROWS], 1)
        self.base, self.blobs = 0.0, {}
        self.build(out)
        # A row's bin is how many of its feature's distinct thresholds are below its number: it is <= a threshold
        # exactly if its bin is <= the threshold's place.
        self.thresholds = [numpy.unique(numpy.concatenate([tree.single[tree.feature == i] for tree in self.trees]))
                           for i in range(self.rows.shape[1])]
        if max(map(len, self.thresholds)) > 255:
            sys.exit(f"{name}: a feature has more than 255 thresholds, whose bins do not fit a byte")
        self.exact = self.predict(self.rows)

    def place(self, tree, node):
        return int(numpy.searchsorted(self.thresholds[tree.feature[node]], tree.single[node]))

    def predict(self, rows):
        """In float64, by the trees as they are."""
        total, every = numpy.full(len(rows), self.base), numpy.arange(len(rows))
        for tree in self.trees:
            node = numpy.zeros(len(rows), int)
            for _ in range(tree.depth()):
                feature = tree.feature[node]
                left = rows[every, numpy.maximum(feature, 0)] <= tree.single[node]
                node = numpy.where(feature >= 0, numpy.where(left, tree.left[node], tree.right[node]), node)
            total += tree.value[node]
        return 1 / (1 + numpy.exp(-total))


class Boosted(Trees):
    operators = "trees"

    def build(self, out):
        model = self.folder / "model.txt"
        if not model.exists():
            progress(f"{self.name}: training")
            train_boosted(self.rest, self.rest_labels, self.folder, 100, 5)
        self.trees = [Tree.of_lightgbm(part) for part in model.read_text().split("\nTree=")[1:]]
        self.title = f"boosted trees by LightGBM, {len(self.trees)} x 31 leaves, {self.rows.shape[1]} features"
        for name, options in [("complete", ["--layout", "complete"]),
                              ("complete, int16", ["--layout", "complete", "--leaves", "int16"]),
                              ("walk", ["--layout", "walk"]), ("walk, int16", ["--layout", "walk", "--leaves", "int16"]),
                              ("blocks", ["--layout", "auto"])]:
            self.blobs[name] = self.folder / f"{name.replace(', ', '-')}.tarm"
            run_command(BUILD / "bin/tonearm", "import", model, *options, "--out", self.blobs[name])


def schema_reader(out):
    """flatc's Python for the blob's schema: its JSON rounds numbers."""
    run_command("flatc", "--python", "-o", out / "schema", ROOT / "schemas/model.fbs")
    sys.path.insert(0, str(out / "schema"))


def operators_of(blob, kind):
    """A blob's operators of a kind."""
    import tonearm.schema as package
    load = lambda name: getattr(importlib.import_module(f"{package.__name__}.{name}"), name)
    model = load("Model").GetRootAs(blob.read_bytes(), 0)
    found = []
    for i in range(model.OperatorsLength()):
        operator = model.Operators(i)
        if operator.KindType() == getattr(load("OperatorKind"), kind):
            view, union = load(kind)(), operator.Kind()
            view.Init(union.Bytes, union.Pos)
            found.append(view)
    return found


class Symmetric(Trees):
    operators = "trees"

    def build(self, out):
        data = hit_folder(out)
        for name, layout in [("walk", "walk"), ("blocks", "auto")]:
            self.blobs[name] = self.folder / f"{name}.tarm"
            run_command(BUILD / "bin/tonearm", "train", ROOT / "converter/recipes/hit-boosted.toml", "--variant", "symmetric",
                        "--set", f"blob.layout={layout}", "--data", data, "--out", self.blobs[name])
        self.trees = self.read(self.blobs["walk"])
        self.title = (f"symmetric trees by Tonearm, {len(self.trees)} of depth 5, int16 leaves, "
                      f"{self.rows.shape[1]} features")

    def read(self, blob):
        (ensemble,) = operators_of(blob, "SymmetricTrees")
        inputs, depth = ensemble.Inputs(), ensemble.Depth()
        begin = inputs.ThresholdBeginAsNumpy()
        keys = inputs.ThresholdsAsNumpy()
        thresholds = (keys ^ (keys >> 31 & 0x7fffffff)).astype(numpy.int32).view(numpy.float32)
        splits = ensemble.SplitsAsNumpy().reshape(-1, depth, 2)
        codes = ensemble.LeavesAsNumpy().view(numpy.int16).reshape(-1, 1 << depth)
        self.base = float(ensemble.Base(0))
        inner = (1 << depth) - 1
        level = numpy.floor(numpy.log2(numpy.arange(inner) + 1)).astype(int)
        # Leaf k of a complete tree in heap order: its path's bits, the root's first; a symmetric tree's first bit is
        # the lowest.
        order = [int(format(k, f"0{depth}b")[::-1], 2) for k in range(1 << depth)]
        trees = []
        for tree, leaves in zip(splits, codes):
            axis, place = tree[:, 0].astype(int), tree[:, 1].astype(int)
            if (begin[axis + 1] - begin[axis]).max() > 255:
                raise RuntimeError("an axis has several slices")
            at = begin[axis] + place
            cut = numpy.where(at < begin[axis + 1], thresholds[numpy.minimum(at, len(thresholds) - 1)], numpy.inf)
            feature = numpy.array([inputs.Slots(int(one)) for one in axis])
            pad = lambda values, fill: numpy.concatenate([values, numpy.full(1 << depth, fill)])
            heap = numpy.arange(inner)
            trees.append(Tree(pad(feature[level], -1), pad(cut[level].astype(float), 0.0), pad(2 * heap + 1, -1),
                              pad(2 * heap + 2, -1),
                              numpy.concatenate([numpy.zeros(inner), leaves[order] * float(ensemble.Scale())])))
        return trees


def hit_folder(out):
    """Hit tracks, or made-up ones."""
    folder = os.environ.get("TONEARM_DATA")
    if folder and list(pathlib.Path(folder, "hit").glob("dataset-of-*.csv")):
        return pathlib.Path(folder, "hit")
    made_up = out / "hits"
    if not made_up.exists():
        run_command(BUILD / "bin/tonearm", "synth", "hits", "--out", made_up)
    return made_up


# ------------------------------------------------------------------------------- trees in every peer's form

ROW_C = """#include <math.h>
#include "device.h"
#include "device_data.h"
void device_open(void) {}
uint32_t device_kind(uint32_t call) { return 0; }
"""
NOTHING_C = ROW_C + "const float* device_call(uint32_t call) { return device_rows[call]; }\n"


def bins_c(workload, kind):
    """The bins of a row by a plain search."""
    begin = numpy.concatenate([[0], numpy.cumsum([len(part) for part in workload.thresholds])])
    return f"""
static const float thresholds[] = {{{literals(numpy.concatenate(workload.thresholds))}}};
static const uint16_t begin[] = {{{listed(begin)}}};
__attribute__((noinline)) static void bin_row(const float* row, {kind}* bins) {{
  for (int i = 0; i < DEVICE_COLUMNS; ++i) {{
    const float *first = thresholds + begin[i], *at = first;
    int count = begin[i + 1] - begin[i];
    while (count > 0) {{
      const int half = count / 2;
      if (at[half] < row[i]) at += half + 1, count -= half + 1;
      else count = half;
    }}
    bins[i] = ({kind})(at - first);
  }}
}}
"""


def steps_c(workload):
    """emlearn's own way to int16: every feature's range in 65,534 steps."""
    return f"""
static const float low[] = {{{literals(workload.low)}}};
static const float steps[] = {{{literals(numpy.float32(65534) / (workload.high - workload.low))}}};
__attribute__((noinline)) static void bin_row(const float* row, int16_t* bins) {{
  for (int i = 0; i < DEVICE_COLUMNS; ++i) bins[i] = (int16_t)((int)((row[i] - low[i]) * steps[i]) - 32767);
}}
"""


def call_c(workload, kind, score):
    return f"""
__attribute__((noinline)) static float sum_trees(const {kind}* bins) {{ return {score}; }}
const float* device_call(uint32_t call) {{
  static float answer;
  {kind} bins[DEVICE_COLUMNS];
  bin_row(device_rows[call], bins);
  answer = 1 / (1 + expf(-(sum_trees(bins) + {float(numpy.float32(workload.base)).hex()}f)));
  return &answer;
}}
"""


def emlearn_forest(workload, value_of):
    """emlearn's arrays: a row goes left where a feature is < a node's value. Children are numbered through, leaves are
    -1 - their place, and equal leaves share one."""
    nodes, roots, leaves = [], [], {}
    for tree in workload.trees:
        leaf = tree.feature < 0
        first, number = len(nodes), numpy.cumsum(~leaf) - 1
        roots.append(first)
        child = lambda i: (-1 - leaves.setdefault(float(numpy.float32(tree.value[i])), len(leaves)) if leaf[i]
                           else first + int(number[i]))
        for i in numpy.flatnonzero(~leaf):
            nodes.append((int(tree.feature[i]), value_of(tree, i), child(tree.left[i]), child(tree.right[i])))
    return nodes, roots, list(leaves)


def emlearn_walk(workload, exact):
    def step_of(tree, i):
        feature = tree.feature[i]
        steps = numpy.float32(65534) / (workload.high[feature] - workload.low[feature])
        return int((tree.single[i] - workload.low[feature]) * steps) + 1 - 32767

    nodes, roots, leaves = emlearn_forest(workload, (lambda tree, i: workload.place(tree, i) + 1) if exact else step_of)
    nodes = [(feature, value, *(child - i if child >= 0 else child for child in children))
             for i, (feature, value, *children) in enumerate(nodes)]
    tables = f"""
static const EmlTreesNode nodes[] = {{{", ".join("{%d,%d,%d,%d}" % node for node in nodes)}}};
static const int32_t roots[] = {{{listed(roots)}}};
static const float leaves[] = {{{literals(leaves)}}};
static const EmlTrees trees = {{
  {len(nodes)}, (EmlTreesNode*)nodes, {len(roots)}, (int32_t*)roots, {len(leaves)}, (uint8_t*)leaves, 32, DEVICE_COLUMNS, 1
}};
"""
    return ("#include <eml_trees.h>\n" + ROW_C + tables + (bins_c(workload, "int16_t") if exact else steps_c(workload))
            + call_c(workload, "int16_t", f"{len(roots)} * eml_trees_regress1(&trees, bins, DEVICE_COLUMNS)"))


def emlearn_inline(workload):
    with numpy.errstate():  # it lets numpy raise where something underflows, for good
        from emlearn.trees import generate_c_inlined
    forest = emlearn_forest(workload, lambda tree, i: workload.place(tree, i) + 1)
    code = generate_c_inlined(forest, "model", workload.rows.shape[1], n_classes=1, leaf_bits=32, dtype="int16_t",
                              classifier=False)
    return ("#include <eml_trees.h>\n" + ROW_C + code + bins_c(workload, "int16_t")
            + call_c(workload, "int16_t", f"{len(workload.trees)} * model_predict(bins, DEVICE_COLUMNS)"))


def if_else(workload, tree, node):
    if tree.feature[node] < 0:
        return f"return {float(numpy.float32(tree.value[node])).hex()}f;"
    return (f"if (b[{tree.feature[node]}] <= {workload.place(tree, node)}) {{ {if_else(workload, tree, tree.left[node])} }} "
            f"else {{ {if_else(workload, tree, tree.right[node])} }}")


def compiled_if_else(workload):
    functions = "\n".join(f"static float t{i}(const uint8_t* b) {{ {if_else(workload, tree, 0)} }}"
                          for i, tree in enumerate(workload.trees))
    return (ROW_C + functions + bins_c(workload, "uint8_t")
            + call_c(workload, "uint8_t", " + ".join(f"t{i}(bins)" for i in range(len(workload.trees)))))


OURS, WALK, STEPS, INLINE, IF_ELSE = ("Tonearm", "emlearn, exact bins", "emlearn, its own int16", "emlearn inline, exact bins",
                                      "if-else on bytes")


def measure_trees(workload, target, plugin, out):
    engines = []
    headers = package_file("emlearn", "emlearn/eml_trees.h").parent
    peers = [(WALK, emlearn_walk(workload, True)), (STEPS, emlearn_walk(workload, False)),
             (INLINE, emlearn_inline(workload)), (IF_ELSE, compiled_if_else(workload))]
    for optimize in (["-Os", "-O2"] if target.bare else ["-O2"]):
        progress(f"{workload.name}: {target.name}, {optimize}")

        def compiled(name, text):
            source = workload.folder / (re.sub("[^a-z0-9]+", "_", name.lower()) + ".c")
            source.write_text(text)
            return link(target, workload.folder, source.stem + optimize, [source, workload.rows_c], optimize,
                        [f"-I{headers}"])

        nothing = compiled("nothing", NOTHING_C)
        for name, blob in workload.blobs.items():
            program = tonearm(target, workload.folder, blob.stem, blob, optimize, workload.operators, workload.rows_c, 1, out)
            engines.append(Engine(f"{OURS}, {name}", optimize, program.run(plugin), nothing, blob.stat().st_size, ours=True))
        for name, text in peers:
            engines.append(Engine(name, optimize, compiled(name, text).run(plugin), nothing))
    exact = workload.exact[:ROWS]
    for engine in engines:
        engine.difference = float(numpy.abs(engine.program.answers - exact).max())
    return engines


def report_trees(workload, target, engines):
    header = ["engine", "compiled", "instructions", "binning", "trees", "the rest", "flash", "of it blob",
              "largest difference"]
    lines = []
    for engine in engines:
        total, binning, trees = (engine.program.count(0, ROWS, pattern) for pattern in (None, BINNING, TREES))
        difference = f"{engine.difference:.1e}"
        lines.append([engine.name, engine.optimize, *(f"{count:,.0f}" for count in (
            total, binning, trees, total - binning - trees)), size_text(engine.flash),
            size_text(engine.model_bytes) if engine.ours else "",
            "LOSSY: " + difference if engine.difference > 1e-4 else difference])
    text = f"{workload.title}; {workload.data}\n{target.name}\n\n{table_text(header, lines)}"
    if target.bare:
        worst = max(abs(engine.program.clocked / engine.program.count(ALL, 1) - 1) for engine in engines)
        text += f"The plugin's counts and SysTick under -icount agree within {worst:.1e}.\n"
    return text + accuracy_text(workload)


def accuracy_text(workload):
    """What emlearn's own int16 changes, by its arithmetic in numpy, on all held-out rows."""
    steps = numpy.float32(65534) / (workload.high - workload.low)
    of = lambda numbers, i: ((numbers - workload.low[i]) * steps[i]).astype(numpy.int64)
    rows = numpy.stack([of(workload.rows[:, i], i) for i in range(workload.rows.shape[1])], axis=1)
    total = numpy.full(len(rows), workload.base)
    every = numpy.arange(len(rows))
    for tree in workload.trees:
        cut = numpy.array([of(tree.single[i], tree.feature[i]) if tree.feature[i] >= 0 and numpy.isfinite(tree.single[i]) else 0
                           for i in range(len(tree.feature))])
        node = numpy.zeros(len(rows), int)
        for _ in range(tree.depth()):
            feature = tree.feature[node]
            left = rows[every, numpy.maximum(feature, 0)] <= cut[node]
            node = numpy.where(feature >= 0, numpy.where(left, tree.left[node], tree.right[node]), node)
        total += tree.value[node]
    lossy = 1 / (1 + numpy.exp(-total))
    right = lambda answers: int(((answers > 0.5) == (workload.labels > 0.5)).sum())
    return (f"emlearn's own int16: {int((numpy.abs(lossy - workload.exact) > 1e-5).sum())} of {len(rows)} held-out rows "
            f"change, by {numpy.abs(lossy - workload.exact).max():.1e} at most; right {right(lossy)} instead of "
            f"{right(workload.exact)}\n")


def tree_goals(workload, engines, optimize):
    of = lambda name: next(engine for engine in engines if engine.name == name and engine.optimize == optimize)
    total = lambda engine, *patterns: engine.program.count(0, ROWS, *patterns)
    ours = min((engine for engine in engines if engine.ours and engine.optimize == optimize), key=total)
    small = min((engine for engine in engines if engine.ours and engine.optimize == optimize), key=lambda engine: engine.flash)
    where = f"{workload.name}, {optimize}: {ours.name}"
    found = []

    def goal(what, ratio, asked, most=False):
        found.append([f"{where}, {what}", f"{'<=' if most else '>='} {asked:g}", f"{ratio:.2f}",
                      "reached" if (ratio <= asked if most else ratio >= asked) else "MISSED"])

    goal("times fewer than emlearn, exact bins", total(of(WALK)) / total(ours), 1.5)
    goal("times fewer than emlearn, its own int16", total(of(STEPS)) / total(ours), 1.5)
    goal("the trees alone, times fewer than emlearn", total(of(WALK), TREES) / total(ours, TREES), 1.5)
    goal("times those of if-else", total(ours) / total(of(IF_ELSE)), 3, most=True)
    found.append([f"{workload.name}, {optimize}: {small.name}, flash over that of if-else", "<= 0.5",
                  f"{small.flash / of(IF_ELSE).flash:.2f}",
                  "reached" if small.flash <= of(IF_ELSE).flash / 2 else "MISSED"])
    return found


# ------------------------------------------------------------------------------------- recorded sessions

REASONS = ["trackdone", "fwdbtn", "backbtn", "clickrow", "appload", "playbtn", "remote", "trackerror", "endplay", "logout",
           "clickside", "popup", "uriopen", "unexpected-exit", "unexpected-exit-while-paused"]
CONTEXTS = ["user_collection", "catalog", "editorial_playlist", "radio", "personalized_playlist", "charts"]
TRACK_NUMBERS = ["duration", "release_year", "us_popularity_estimate", "acousticness", "beat_strength", "bounciness",
                 "danceability", "dyn_range_mean", "energy", "flatness", "instrumentalness", "key", "liveness", "loudness",
                 "mechanism", "mode", "organism", "speechiness", "tempo", "time_signature", "valence"]
KINDS = {START: "a track starts", END: "a track ends", PLAYING: "prediction, playing track", NEXT: "prediction, next track"}


def read_table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_events(folder, sessions, most):
    """Recorded sessions as the calls of a player: each track starts, is asked about, ends, and so is the next one
    before it starts."""
    tracks = {line["track_id"]: line for path in sessions.glob("tf_*.csv") for line in read_table(path)}
    word = lambda words, name: words.index(name) + 1 if name in words else 0
    on = lambda line, name: int(line[name] in ("1", "true"))

    def track_of(line):
        facts = tracks[line["track_id_clean"]]
        number = lambda name: {"minor": "0", "major": "1"}.get(facts[name], facts[name])
        identity = int.from_bytes(hashlib.sha256(line["track_id_clean"].encode()).digest()[:8], "little")
        return (f"{{sizeof(tonearm_track), 0, {identity:#x}u, 0, " + ", ".join(number(name) for name in TRACK_NUMBERS)
                + ", {" + ", ".join(facts[f"acoustic_vector_{i}"] for i in range(8)) + "}, 0}")

    def start_of(line):
        pause = 3 if on(line, "long_pause_before_play") else 2 if on(line, "short_pause_before_play") else on(
            line, "no_pause_before_play")
        return (f"{{sizeof(tonearm_start), {word(REASONS, line['hist_user_behavior_reason_start'])}, {pause}, "
                f"{on(line, 'context_switch')}, 0, 0}}")

    def now_of(line):
        return (f"{{sizeof(tonearm_now), {word(CONTEXTS, line['context_type'])}, TONEARM_UNKNOWN_TIME, TONEARM_UNKNOWN_OFFSET, "
                f"{line['date'].replace('-', '')}, {line['hour_of_day']}, {on(line, 'hist_user_behavior_is_shuffle')}, "
                f"{on(line, 'premium')}, 0, 0}}")

    def end_of(line):
        level = 5 if on(line, "skip_1") else 4 if on(line, "skip_2") else 3 if on(line, "skip_3") else 1 if on(
            line, "not_skipped") else 2
        return (f"{{sizeof(tonearm_end), {word(REASONS, line['hist_user_behavior_reason_end'])}, {level}, "
                f"{line['hist_user_behavior_n_seekfwd']}, {line['hist_user_behavior_n_seekback']}, NAN, TONEARM_UNKNOWN_TIME, 0, 0}}")

    events, kinds = [], []
    for line in read_table(sorted(sessions.glob("log_*.csv"))[0]):
        first = line["session_position"] == "1"
        if first and len(events) >= most:
            break
        told = f"{track_of(line)}, {start_of(line)}, {now_of(line)}, {end_of(line)}"
        for kind in ([] if first else [NEXT]) + [START, PLAYING, END]:
            events.append(f"{{{kind}, {int(first and kind == START)}, {told}}}")
            kinds.append(kind)
    (folder / "device_data.h").write_text(f"""#include <tonearm/tonearm.h>
enum device_kinds {{ DEVICE_START, DEVICE_END, DEVICE_PLAYING, DEVICE_NEXT }};
struct device_event {{
  uint32_t kind, first; /* of a session */
  tonearm_track track;
  tonearm_start start;
  tonearm_now now;
  tonearm_end end;
}};
extern const struct device_event device_events[{len(events)}];
""")
    lines = ",\n".join(events)
    (folder / "events.c").write_text(f"""#include <math.h>
#include "device.h"
#include "device_data.h"
const uint32_t device_calls = {len(events)}, device_outputs = 1;
const struct device_event device_events[{len(events)}] = {{{lines}}};
""")
    return kinds


# ------------------------------------------------------------------------------------------ networks

def train_predictor(out):
    """The recurrent skip predictor on generated sessions: its float32 blobs, and int8 made of them."""
    folder = out / "predictor"
    folder.mkdir(parents=True, exist_ok=True)
    sessions = folder / "sessions"
    if not sessions.exists():
        run_command(BUILD / "bin/tonearm", "synth", "sessions", "--count", "500", "--seed", "1", "--out", sessions)
    blobs = {}
    for cell in ("gru", "lstm"):
        exact, int8 = folder / f"{cell}.tarm", folder / f"{cell}-int8.tarm"
        if not int8.exists():
            progress(f"training the {cell} predictor")
            run_command(BUILD / "bin/tonearm", "train", ROOT / "converter/recipes/skip-recurrent.toml", "--variant",
                        "float32", "--set", f"train.cell={cell}", "--set", "train.epochs=4", "--data", sessions, "--out",
                        exact)
            run_command(BUILD / "bin/tonearm", "quantize", exact, "--data", sessions, "--tolerance", "0.05", "--out", int8)
        blobs[cell] = (exact, int8)
    return folder, sessions, blobs


def layer_of(blob, kind):
    """The recurrent layer of a float32 blob, as networks.py has it."""
    (recurrent,) = operators_of(blob, "Recurrent")
    packed, gates = recurrent.Layers(0), 4 if kind is networks.Lstm else 3
    layer = kind.__new__(kind)
    layer.units = packed.Units()
    # In panels of 16 units; see WeightFormat in the schema.
    panels = layer.units // 16
    matrix = lambda weights: numpy.ascontiguousarray(weights.view(numpy.float32).reshape(panels, -1, gates, 16).transpose(
        2, 0, 3, 1).reshape(gates * layer.units, -1))
    layer.input, layer.recurrent = matrix(packed.InputWeightsAsNumpy()), matrix(packed.RecurrentWeightsAsNumpy())
    layer.inputs = layer.input.shape[1]
    layer.bias = packed.BiasAsNumpy().reshape(panels, gates, 16).transpose(1, 0, 2).ravel()
    if kind is networks.Gru:
        layer.recurrent_bias = numpy.array(packed.RecurrentBiasAsNumpy())
    return layer


def inputs_of(columns):
    """Made up: most inputs of the predictor are 0 or 1."""
    random = numpy.random.default_rng(5)
    rows = numpy.where(random.random((networks.ROWS, columns)) < 0.7, random.integers(0, 2, (networks.ROWS, columns)),
                       random.normal(0, 0.5, (networks.ROWS, columns)))
    return rows.astype(numpy.float32)


class Step(networks.StepWorkload):
    """A step from the empty state."""

    def __init__(self, name, title, folder, layer):
        self.name, self.title, self.folder, self.parts = name, title, folder, [layer]
        self.columns, self.outputs = layer.inputs, layer.units
        self.rows = inputs_of(self.columns)
        self.exact = self.first_reference()
        folder.mkdir(parents=True, exist_ok=True)
        self.micro = [(MICRO, self)]

    def onnx_model(self):
        parts = self.onnx_nodes(1, states=False)
        for value, place in zip([parts[2][0], parts[3][0]], [1, 0]):  # else both 1s could be the rows
            value.type.tensor_type.shape.dim[place].dim_param = "rows"
        return parts

    def tflite_inputs(self):
        """Of the models with the state as inputs, in the order of TensorFlow Lite's names."""
        state = [numpy.zeros((1, self.outputs), numpy.float32)] * (2 if isinstance(self.parts[0], networks.Lstm) else 1)
        return lambda row: sorted_inputs(state, row[None])


def sorted_inputs(states, row):
    return [*reversed(states), row]  # c, h, row


class FusedStep(Step):
    """The same as the layer of Keras, which becomes UNIDIRECTIONAL_SEQUENCE_LSTM."""

    def keras_model(self, keras):
        inputs = keras.Input(batch_shape=(1, 1, self.columns))
        layer = keras.layers.LSTM(self.outputs)
        model = keras.Model(inputs, layer(inputs))
        layer.set_weights(self.parts[0].keras())
        return model

    def keras_calibration(self):
        return ([row[None, None]] for row in self.rows[:256])

    def tflite_inputs(self):
        return lambda row: [row[None, None]]


class Head(networks.W7):
    """The dense layers between the state and the probability."""

    def __init__(self, name, title, folder, blob):
        self.name, self.title, self.folder, self.parts = name, title, folder, []
        for affine in operators_of(blob, "Affine"):
            part = networks.Dense.__new__(networks.Dense)
            part.bias = numpy.array(affine.BiasAsNumpy())
            part.weights = numpy.array(affine.WeightsAsNumpy()).reshape(len(part.bias), -1)
            self.parts.append(part)
        self.columns, self.outputs = self.parts[0].weights.shape[1], 1
        self.rows = inputs_of(self.columns)
        self.exact = self.reference()
        folder.mkdir(parents=True, exist_ok=True)
        self.micro = [(MICRO, self)]

    def keras_calibration(self):
        return ([row[None]] for row in self.rows[:256])

    def tflite_inputs(self):
        return lambda row: [row[None]]


def write_blob(workload):
    """Ours, from ONNX, in int8."""
    onnx, imported = workload.folder / "model.onnx", workload.folder / "imported.tarm"
    networks.write_onnx(workload.onnx_model(), onnx)
    run_command(BUILD / "bin/tonearm", "import", onnx, "--out", imported)
    return networks.quantized(workload, imported, "int8")


def tflite_model(workload):
    """The same in TensorFlow Lite's int8."""
    path = workload.folder / "int8.tflite"
    if not path.exists():
        progress(f"{workload.name}: converting for TensorFlow Lite")
        with contextlib.redirect_stdout(sys.stderr):  # it talks
            networks.write_tflite(workload, path, int8=True)
    return path


MICRO_CALLS = 10


def measure_micro(workload):
    """Instructions of MicroInterpreter::Invoke on x86-64, and answers."""
    of = workload.tflite_inputs()
    calls = numpy.empty(NETWORK_ROWS, object)
    calls[:] = [of(row) for row in workload.rows[:NETWORK_ROWS]]
    inputs = workload.folder / "inputs.npy"
    numpy.save(inputs, calls, allow_pickle=True)
    run = [sys.executable, HERE / "device_micro.py", tflite_model(workload), inputs]
    answers = numpy.array([line.split() for line in run_command(*run, NETWORK_ROWS).splitlines()], float)
    progress(f"{workload.name}: TensorFlow Lite Micro under Valgrind")
    counts = workload.folder / "callgrind.out"
    run_command("valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}",
                "--toggle-collect=tflite::micro::MicroInterpreter::Invoke()", *run, MICRO_CALLS)
    total = int(re.search(r"^(?:summary|totals): (\d+)", counts.read_text(), re.M)[1])
    if total == 0:
        raise RuntimeError("Valgrind did not see TensorFlow Lite Micro's Invoke")
    return total / MICRO_CALLS, answers


def litert_library(out):
    """LiteRT's library for 64-bit Arm, from its wheel."""
    version = importlib.metadata.version("ai-edge-litert")
    folder = out / f"litert-{version}"
    if not folder.exists():
        run_command(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform",
                    "manylinux_2_27_aarch64", "--dest", folder, f"ai-edge-litert=={version}")
    library = folder / "libLiteRt.so"
    if not library.exists():
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            library.write_bytes(wheel.read("ai_edge_litert/libLiteRt.so"))
    return library


LITERT_C = """#include "device.h"
#include "device_data.h"
void* open_network(const char* path);
void run_network(void* network, const float* row, float* output);
static void* network;
void device_open(void) { if (network == 0) network = open_network(MODEL); if (network == 0) __builtin_trap(); }
uint32_t device_kind(uint32_t call) { return 0; }
const float* device_call(uint32_t call) {
  static float answer[OUTPUTS];
  run_network(network, device_rows[call], answer);
  return answer;
}
"""


def litert_root(target, out):
    """A folder in which LiteRT, under QEMU, finds what Linux on such a processor says of it. Otherwise it reads of this
    machine's processors, and crashes."""
    root = out / f"root-{target.name}"
    cpus = root / "sys/devices/system/cpu"
    cpus.mkdir(parents=True, exist_ok=True)
    (root / "proc").mkdir(exist_ok=True)
    for name in ("possible", "present"):
        (cpus / name).write_text("0\n")
    part, features = {A53.name: ("0xd03", ""), A76.name: ("0xd0b", " atomics fphp asimdhp asimddp")}[target.name]
    (root / "proc/cpuinfo").write_text(
        f"processor\t: 0\nFeatures\t: fp asimd aes pmull sha1 sha2 crc32{features}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {part}\nCPU revision\t: 4\n\n")
    if not (root / "lib").exists():
        (root / "lib").symlink_to("/usr/aarch64-linux-gnu/lib")
    return root


def measure_litert(workload, target, plugin, rows_c, out):
    source = workload.folder / "litert.c"
    source.write_text(LITERT_C)
    options = [f'-DMODEL="{tflite_model(workload)}"', f"-DOUTPUTS={workload.outputs}",
               f'-DLITERT_LIBRARY="{litert_library(out)}"']
    program = link(target, workload.folder, "litert", [source, HERE / "networks_litert.c", rows_c], "-O2", options,
                   static=False)
    program.emulator = [target.emulator[0], "-L", litert_root(target, out), *target.emulator[3:]]
    return program.run(plugin)


NETWORK_TARGETS = [(M4, "-Os"), (M4, "-O2"), (A53, "-O2"), (A76, "-O2"), (X86_SCALAR, "-O2"), (X86_SSSE3, "-O2")]
MICRO = "TensorFlow Lite Micro"
NETWORK_OPERATORS = "affine;recurrent"


def measure_network(workload, plugin, out):
    blob = write_blob(workload)
    rows_c = write_rows(workload.folder, workload.rows[:NETWORK_ROWS], workload.outputs)
    exact = workload.exact[:NETWORK_ROWS]
    difference = lambda answers: float(numpy.abs(answers.reshape(exact.shape) - exact).max())
    found, left_out, bits = [], [], set()
    for target, optimize in NETWORK_TARGETS:
        progress(f"{workload.name}: {target.name}, {optimize}")
        program = tonearm(target, workload.folder, "int8", blob, optimize, NETWORK_OPERATORS, rows_c, workload.outputs,
                          out).run(plugin)
        bits.add(program.answers.tobytes())
        found.append((OURS, target.name, optimize, program.count(0, NETWORK_ROWS), program.count(0, NETWORK_ROWS, NETWORK),
                      difference(program.answers)))
    workload.same_bits = len(bits) == 1
    for name, model in workload.micro:
        try:
            count, answers = measure_micro(model)
            found.append((name, "x86-64", "its wheel", count, None, difference(answers)))
        except (RuntimeError, ImportError) as reason:
            left_out.append((name, str(reason)))
    for target in (A53, A76):
        try:
            progress(f"{workload.name}: LiteRT on {target.name}")
            program = measure_litert(workload, target, plugin, rows_c, out)
            # A call begins with the state after the one before, so only the first is the same step.
            first = float(numpy.abs(program.answers[:workload.outputs] - exact[0]).max())
            found.append(("LiteRT, XNNPACK", target.name, "its wheel", program.count(0, NETWORK_ROWS), None, first))
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as reason:
            left_out.append((f"LiteRT on {target.name}", str(reason)[-300:]))
    return found, left_out


def report_network(workload, found, left_out):
    lines = [[name, target, optimize, f"{count:,.0f}", "" if inner is None else f"{inner:,.0f}", f"{difference:.1e}"]
             for name, target, optimize, count, inner, difference in found]
    header = ["engine", "target", "compiled", "instructions", "of it the network's kernels", "difference from float64"]
    text = f"{workload.title}, from float32 inputs to float32 outputs\n\n{table_text(header, lines)}"
    text += f"Tonearm gives the same bits on all of them: {'yes' if workload.same_bits else 'NO'}\n"
    return text + "".join(f"{name}: {reason}\n" for name, reason in left_out)


def network_goals(workload, found):
    of = {(name, target): count for name, target, _, count, _, _ in found}
    goals = []
    for name, _ in workload.micro:
        for target in (X86_SCALAR.name, X86_SSSE3.name):
            if (name, "x86-64") in of:
                ratio = of[name, "x86-64"] / of[OURS, target]
                goals.append([f"{workload.name}: {OURS} on {target}, times fewer than {name}", ">= 2", f"{ratio:.2f}",
                              "reached" if ratio >= 2 else "MISSED"])
    return goals


SESSION_TARGETS = [(M4, "-Os"), (M4, "-O2"), (A53, "-O2"), (A76, "-O2"), (X86_SCALAR, "-O2")]


def measure_sessions(folder, sessions, blobs, plugin, out):
    """The calls of a player, on every target, and whether all give the same bits and those of `tonearm predict`."""
    kinds = numpy.array(write_events(folder, sessions, CALLS))
    calls = {kind: int((kinds == kind).sum()) for kind in KINDS}
    nothing_c = folder / "nothing.c"
    nothing_c.write_text("""#include "device.h"
#include "device_data.h"
void device_open(void) {}
uint32_t device_kind(uint32_t call) { return device_events[call].kind; }
const float* device_call(uint32_t call) { return &device_events[call].now.premium; }
""")
    lines, bits = [], {}
    for cell, (_, blob) in blobs.items():
        for target, optimize in SESSION_TARGETS:
            progress(f"{cell} predictor: {target.name}, {optimize}")
            nothing = link(target, folder, f"nothing{optimize}", [nothing_c, folder / "events.c"], optimize)
            program = tonearm(target, folder, cell, blob, optimize, NETWORK_OPERATORS, folder / "events.c", 1, out,
                              session=True).run(plugin)
            bits.setdefault(cell, set()).add(program.answers[kinds == PLAYING].tobytes())
            count = [program.count(kind, calls[kind]) for kind in KINDS]
            network = [program.count(kind, calls[kind], NETWORK) for kind in (END, PLAYING)]
            flash = program.flash - nothing.flash
            lines.append([f"{cell.upper()}(32)", target.name, optimize, *(f"{one:,.0f}" for one in [
                count[0], count[1], network[0], count[2], network[1], count[3]]),
                size_text(flash) if target.bare else "", size_text(blob.stat().st_size)])
    header = ["model", "target", "compiled", "track starts", "track ends", "of it kernels", "prediction, playing", "of it kernels",
              "prediction, next", "flash", "of it blob"]
    same = all(len(found) == 1 for found in bits.values())
    return (f"The recurrent skip predictor, int8, generated sessions, {len(kinds)} calls of a player: instructions of each\n\n"
            + table_text(header, lines) + f"The same bits on all of them: {'yes' if same else 'NO'}\n")


# ---------------------------------------------------------------------------------------------- main

def main():
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", nargs="?", const="trees,symmetric,gru", default="trees,symmetric,gru",
                        metavar="trees,symmetric,gru", help="which models, by commas")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/peers/device",
                        help="folder for models and programs (build/peers/device)")
    parser.add_argument("--functions", action="store_true", help="print the functions that take most, too")
    options = parser.parse_args()
    names = options.device.split(",")
    if not set(names) <= {"trees", "symmetric", "gru"}:
        parser.error(f"--device {options.device}: the models are trees, symmetric, gru")
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    plugin = build_plugin(out)
    schema_reader(out)
    facts = machine(PACKAGES)
    compilers = [run_command(target.tool("gcc"), "--version").splitlines()[0] for target in (M4, A53, X86_SCALAR)]
    print(", ".join(f"{name} {version}" for name, version in facts["versions"].items()))
    print("; ".join(compilers) + "; " + run_command("qemu-aarch64", "--version").splitlines()[0] + "\n")

    goals = []
    for name, kind, columns in [("trees", Boosted, AUDIO), ("symmetric", Symmetric, AUDIO + SECTIONS)]:
        if name not in names:
            continue
        workload = kind(name, out, columns)
        for target in (M4, A53):
            engines = measure_trees(workload, target, plugin, out)
            print(report_trees(workload, target, engines))
            if options.functions:
                for engine in engines:
                    print_functions(f"{engine.name} {engine.optimize}", engine.program, 0, ROWS)
            if target is M4:
                for optimize in ("-Os", "-O2"):
                    goals += tree_goals(workload, engines, optimize)
    if "gru" in names:
        folder, sessions, blobs = train_predictor(out)
        print(measure_sessions(folder, sessions, blobs, plugin, out))
        gru, lstm = layer_of(blobs["gru"][0], networks.Gru), layer_of(blobs["lstm"][0], networks.Lstm)
        size = f"{gru.units} units, {gru.inputs} inputs"
        lstm_step = Step("LSTM step", f"one step of the LSTM, {size}", out / "lstm", lstm)
        lstm_step.micro.append((f"{MICRO}, its LSTM operator", FusedStep("LSTM step, fused", "", out / "lstm-fused", lstm)))
        for workload in [Step("GRU step", f"one step of the GRU, {size}", out / "gru", gru), lstm_step,
                         Head("dense head", "the dense head, 80-32-1", out / "head", blobs["gru"][0])]:
            found, left_out = measure_network(workload, plugin, out)
            print(report_network(workload, found, left_out))
            goals += network_goals(workload, found)
    print(table_text(["goal", "asked", "found", ""], goals), end="")


def print_functions(title, program, kind, calls):
    print(title)
    for name, count in sorted(program.counts[kind].items(), key=lambda one: -one[1])[:12]:
        print(f"  {count / calls:10,.0f}  {name[:110]}")


if __name__ == "__main__":
    main()
