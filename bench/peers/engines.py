"""Tree engines beside each other: the same trees in every engine's own format, one row at a time through its C
interface, from the raw float32 row to the probability, on one thread.

Trains each workload once, writes it in every format, checks that all engines compute the same thing, times them in
interleaved rounds (engines.c), and prints a table, what Tonearm reaches beside them, and what it is asked to reach.

    W1   boosted trees, 100 x 31 leaves, depth <= 5, 13 audio features of the hit tracks
    W2   boosted trees, 500 x 31 leaves, 70 made-up features
    W3   scikit-learn's random forest, 200 trees, depth 25, 15 features of the hit tracks

Times are medians over rounds with the interquartile range. The rows are 1,024 that no model was trained on.
"""

import argparse
import contextlib
import csv
import hashlib
import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import lightgbm
import numpy
import onnxmltools
import onnxmltools.convert.common.data_types
import skl2onnx
import skl2onnx.common.data_types
import tl2cgen
import treelite
import xgboost
from sklearn.ensemble import RandomForestClassifier

from measuring import (BUILD, KERNELS, ROOT, build_program, child_cpu_seconds, machine, machine_text, package_file, plot, progress,
                       quartiles, size_text, table_text, time_text)

THREADS = 2
ROWS = 1024
SAME = 5e-6  # summing 500 float32 leaves in another order changes less; a row that takes another way changes more
OURS, SCALAR = "Tonearm", "Tonearm, scalar kernels"
LIGHTGBM, IF_ELSE, EMLEARN = "LightGBM, single-row-fast", "compiled if-else", "emlearn, int16 inputs"
PACKAGES = ["lightgbm", "xgboost-cpu", "onnxruntime", "onnxmltools", "skl2onnx", "tl2cgen", "treelite", "emlearn",
            "scikit-learn"]

AUDIO = ["danceability", "energy", "key", "loudness", "mode", "speechiness", "acousticness", "instrumentalness",
         "liveness", "valence", "tempo", "duration_ms", "time_signature"]
SECTIONS = ["chorus_hit", "sections"]

# What is asked of Tonearm: so many times faster than whom, warm or cold. None is the best peer.
GOALS = {
    "W1": [("warm", LIGHTGBM, 20), ("warm", IF_ELSE, 6), ("cold", None, 2.5)],
    "W2": [("warm", LIGHTGBM, 15), ("warm", IF_ELSE, 6), ("cold", None, 2)],
    "W3": [("warm", IF_ELSE, 5)],
}
LARGEST_BLOB = {"W3": 12e6}


# ------------------------------------------------------------------------------------------ workloads

def hit_tracks(columns):
    """Features and target of the hit tracks, or made-up ones of about their kind, and which it is."""
    folder = os.environ.get("TONEARM_DATA")
    files = sorted(pathlib.Path(folder, "hit").glob("dataset-of-*.csv")) if folder else []
    if files:
        lines = []
        for file in files:
            with open(file, newline="") as text:
                lines += list(csv.DictReader(text))
        features = numpy.array([[float(line[name]) for name in columns] for line in lines], numpy.float32)
        return features, numpy.array([int(line["target"]) for line in lines]), "hit tracks of TONEARM_DATA"
    random = numpy.random.default_rng(1)
    ranges = {"key": (0, 11), "loudness": (-25, 0), "tempo": (60, 200), "duration_ms": (1e5, 4e5),
              "time_signature": (3, 5), "chorus_hit": (15, 80), "sections": (5, 20)}
    whole = {"key", "mode", "duration_ms", "time_signature", "sections"}
    share = random.random((41106, len(columns)))
    low, high = numpy.array([ranges.get(name, (0, 1)) for name in columns]).T
    features = low + share * (high - low)
    for i, name in enumerate(columns):
        features[:, i] = numpy.round(features[:, i], 0 if name in whole else 3)
    score = numpy.sin(5 * share).sum(axis=1) + share[:, 0] * share[:, 1] + random.normal(0, 1, len(share))
    return features.astype(numpy.float32), (score > numpy.median(score)).astype(int), "MADE-UP tracks"


def wide_table():
    random = numpy.random.default_rng(2)
    features = random.normal(size=(30000, 70)).astype(numpy.float32)
    score = numpy.sin(2 * features[:, :40]).sum(axis=1) + (features[:, 40:] * features[:, 10:40]).sum(axis=1) / 4
    return features, (score + random.normal(0, 2, len(score)) > 0).astype(int), "70 MADE-UP features"


def train_boosted(features, target, folder, trees, depth):
    booster = lightgbm.train(
        {"objective": "binary", "num_leaves": 31, "max_depth": depth, "learning_rate": 0.09, "seed": 1,
         "num_threads": THREADS, "deterministic": True, "force_row_wise": True, "verbosity": -1},
        lightgbm.Dataset(features, target), num_boost_round=trees)
    booster.save_model(folder / "model.txt")
    kind = onnxmltools.convert.common.data_types.FloatTensorType([1, features.shape[1]])
    model = onnxmltools.convert_lightgbm(booster, initial_types=[("input", kind)], zipmap=False)
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def train_forest(features, target, folder, trees, depth):
    forest = RandomForestClassifier(trees, max_depth=depth, n_jobs=THREADS, random_state=1)
    forest.fit(features, target)
    parts = [Tree.of_scikit_learn(estimator.tree_, trees) for estimator in forest.estimators_]
    (folder / "model.txt").write_text(lightgbm_text(parts, features.shape[1]))
    kind = skl2onnx.common.data_types.FloatTensorType([1, features.shape[1]])
    model = skl2onnx.to_onnx(forest, initial_types=[("input", kind)], options={"zipmap": False})
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    exact = lightgbm.Booster(model_file=folder / "model.txt").predict(features[:ROWS])
    difference = float(numpy.abs(exact - forest.predict_proba(features[:ROWS])[:, 1]).max())
    if difference > 1e-12:
        sys.exit(f"the forest as LightGBM text differs from scikit-learn's by {difference:g}")


class Workload:
    """A trained model in `folder` as model.txt (LightGBM text) and model.onnx, and the rows it is timed on."""

    def __init__(self, name, out, quick):
        self.name = name
        self.boosted = name != "W3"
        trees, depth = {"W1": (100, 5), "W2": (500, -1), "W3": (200, 25)}[name]
        if quick and name != "W1":
            trees //= 10
        features, target, self.data = {
            "W1": lambda: hit_tracks(AUDIO), "W2": wide_table, "W3": lambda: hit_tracks(AUDIO + SECTIONS)}[name]()
        order = numpy.random.default_rng(3).permutation(len(features))
        self.low, self.high = features.min(axis=0), features.max(axis=0)
        self.rows = numpy.ascontiguousarray(features[order[:ROWS]])

        settings = [name, trees, depth, self.data, hashlib.sha256(features.tobytes() + target.tobytes()).hexdigest(),
                    sorted((name, importlib.metadata.version(name)) for name in PACKAGES)]
        key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
        self.folder = out / f"{name}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "trained").exists():
            progress(f"{name}: training")
            train = train_boosted if self.boosted else train_forest
            train(features[order[ROWS:]], target[order[ROWS:]], self.folder, trees, depth)
            (self.folder / "trained").touch()
        self.rows.tofile(self.folder / "rows.f32")

        text = (self.folder / "model.txt").read_text()
        self.trees = [Tree.of_lightgbm(part) for part in text.split("\nTree=")[1:]]
        exact = lightgbm.Booster(model_file=self.folder / "model.txt")
        self.exact = exact.predict(self.rows.astype(numpy.float64), num_threads=1)
        kind = "boosted trees" if self.boosted else "random forest"
        nodes = sum(len(tree.feature) for tree in self.trees)
        deepest = max(tree.depth() for tree in self.trees)
        self.title = (f"{name}: {kind}, {len(self.trees)} trees, {nodes:,} nodes and leaves, depth {deepest}, "
                      f"{features.shape[1]} features; {self.data}")


class Tree:
    """One tree in arrays. Node 0 is the root; a row goes left where row[feature] <= threshold; a leaf has feature -1
    and a value. The prediction is the sum over trees, through a sigmoid if boosted."""

    def __init__(self, feature, threshold, left, right, value):
        self.feature, self.threshold, self.left, self.right, self.value = feature, threshold, left, right, value
        # A float32 is <= a double exactly if it is <= the largest float32 that is.
        single = threshold.astype(numpy.float32)
        self.single = numpy.where(single > threshold, numpy.nextafter(single, numpy.float32(-numpy.inf)), single)

    @staticmethod
    def of_lightgbm(text):
        fields = dict(line.split("=", 1) for line in text.split("\n\n")[0].splitlines()[1:] if "=" in line)
        numbers = lambda name, kind: numpy.array(fields[name].split(), kind)
        leaves = int(fields["num_leaves"])
        inner = leaves - 1
        if int(fields["num_cat"]) != 0 or numpy.any(numbers("decision_type", int) & ~2):
            sys.exit("a trained tree has categories or missing values: this bench has neither")
        child = lambda name: numpy.array([i if i >= 0 else inner + ~i for i in numbers(name, int)])
        pad = lambda values, fill: numpy.concatenate([values, numpy.full(leaves, fill)])
        return Tree(pad(numbers("split_feature", int), -1), pad(numbers("threshold", float), 0.0),
                    pad(child("left_child"), -1), pad(child("right_child"), -1),
                    numpy.concatenate([numpy.zeros(inner), numbers("leaf_value", float)]))

    @staticmethod
    def of_scikit_learn(tree, count):
        leaf = tree.children_left < 0
        return Tree(numpy.where(leaf, -1, tree.feature), numpy.where(leaf, 0.0, tree.threshold), tree.children_left,
                    tree.children_right, numpy.where(leaf, tree.value[:, 0, 1], 0) / count)

    def siblings_together(self):
        """The same tree with every right child just after its left one."""
        order, place = [0], {0: 0}
        for i in order:  # grows while it is walked
            if self.feature[i] >= 0:
                for child in (self.left[i], self.right[i]):
                    place[child] = len(order)
                    order.append(child)
        moved = lambda children: numpy.array([place.get(children[i], -1) for i in order])
        return Tree(self.feature[order], self.threshold[order], moved(self.left), moved(self.right), self.value[order])

    def depth(self):
        depth = numpy.zeros(len(self.feature), int)
        for i in numpy.flatnonzero(self.feature >= 0):  # a child comes after its parent
            depth[self.left[i]] = depth[self.right[i]] = depth[i] + 1
        return int(depth.max())


# -------------------------------------------------------------------------------- the trees in every format

def lightgbm_text(trees, columns):
    """A forest as LightGBM's text, with scores that are summed as they are."""
    blocks = []
    for i, tree in enumerate(trees):
        leaf = tree.feature < 0
        number = numpy.where(leaf, ~(numpy.cumsum(leaf) - 1), numpy.cumsum(~leaf) - 1)
        row = lambda name, values, form="%d": name + "=" + " ".join(form % value for value in values)
        inner, leaves = int((~leaf).sum()), int(leaf.sum())
        blocks.append("\n".join([
            f"Tree={i}", f"num_leaves={leaves}", "num_cat=0", row("split_feature", tree.feature[~leaf]),
            row("split_gain", numpy.zeros(inner)), row("threshold", tree.threshold[~leaf], "%.17g"),
            row("decision_type", numpy.full(inner, 2)), row("left_child", number[tree.left[~leaf]]),
            row("right_child", number[tree.right[~leaf]]), row("leaf_value", tree.value[leaf], "%.17g"),
            row("leaf_weight", numpy.ones(leaves)), row("leaf_count", numpy.ones(leaves)),
            row("internal_value", numpy.zeros(inner)), row("internal_weight", numpy.zeros(inner)),
            row("internal_count", numpy.ones(inner)), "is_linear=0", "shrinkage=1", "", "", ""]))
    names = " ".join(f"Column_{i}" for i in range(columns))
    head = ["tree", "version=v4", "num_class=1", "num_tree_per_iteration=1", "label_index=0",
            f"max_feature_idx={columns - 1}", "objective=regression", f"feature_names={names}",
            "feature_infos=" + " ".join(["[-inf:inf]"] * columns),
            "tree_sizes=" + " ".join(str(len(block)) for block in blocks), "", ""]
    tail = "end of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n"
    return "\n".join(head) + "".join(blocks) + tail


def write_xgboost(workload, path, _):
    """The trees in XGBoost's JSON, in the frame of a model of its own, saved by itself as UBJSON. It goes left where
    a float32 is < the threshold, so the threshold is the next float32. Its prediction for a single row takes the right
    child to be the node after the left one, whatever is written."""
    columns = workload.rows.shape[1]
    frame = xgboost.train(
        {"objective": "binary:logistic" if workload.boosted else "reg:squarederror", "max_depth": 1, "nthread": 1,
         "base_score": 0.5 if workload.boosted else 0.0},
        xgboost.DMatrix(workload.rows, numpy.arange(ROWS) % 2), 1)
    model = json.loads(frame.save_raw("json").decode())
    booster = model["learner"]["gradient_booster"]["model"]
    booster["gbtree_model_param"]["num_trees"] = str(len(workload.trees))
    booster["iteration_indptr"] = list(range(len(workload.trees) + 1))
    booster["tree_info"] = [0] * len(workload.trees)
    booster["trees"] = []
    for i, tree in enumerate(workload.trees):
        tree = tree.siblings_together()
        leaf, count = tree.feature < 0, len(tree.feature)
        parents = numpy.full(count, 2147483647)
        parents[tree.left[~leaf]] = parents[tree.right[~leaf]] = numpy.flatnonzero(~leaf)
        above = numpy.nextafter(tree.single, numpy.float32(numpy.inf))
        value = tree.value.astype(numpy.float32)
        zeros, none = [0] * count, [0.0] * count
        booster["trees"].append({
            "base_weights": value.tolist(), "categories": [], "categories_nodes": [], "categories_segments": [],
            "categories_sizes": [], "default_left": zeros, "id": i, "left_children": tree.left.tolist(),
            "loss_changes": none, "parents": parents.tolist(), "right_children": tree.right.tolist(),
            "split_conditions": numpy.where(leaf, value, above).tolist(),
            "split_indices": numpy.maximum(tree.feature, 0).tolist(), "split_type": zeros, "sum_hessian": none,
            "tree_param": {"num_deleted": "0", "num_feature": str(columns), "num_nodes": str(count),
                           "size_leaf_vector": "1"}})
    whole = xgboost.Booster()
    whole.load_model(bytearray(json.dumps(model).encode()))
    path.write_bytes(whole.save_raw("ubj"))


def probability(workload, score):
    return f"1 / (1 + expf(-({score})))" if workload.boosted else score


def compile_shared(folder, path, *options):
    """The C files of a folder as one shared object, THREADS at a time."""
    gcc = ["gcc", "-O2", "-fPIC", "-w", *options]
    compile_one = lambda source: subprocess.run(
        [*gcc, "-c", source, "-o", source.with_suffix(".o")], check=True)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(compile_one, sorted(folder.glob("*.c"))))
    subprocess.run([*gcc, "-shared", *sorted(folder.glob("*.o")), "-o", path, "-lm"], check=True)


def if_else(tree, node, lines):
    if tree.feature[node] < 0:
        lines.append(f"return {float(numpy.float32(tree.value[node])).hex()}f;")
        return
    lines.append(f"if (r[{tree.feature[node]}] <= {float(tree.single[node]).hex()}f) {{")
    if_else(tree, tree.left[node], lines)
    lines.append("} else {")
    if_else(tree, tree.right[node], lines)
    lines.append("}")


def write_if_else(workload, path, folder):
    """The trees as nested ifs with float32 thresholds and leaves, a function each."""
    at_once = 50 if workload.boosted else 2  # trees per file: more of them cost gcc disproportionately long
    for first in range(0, len(workload.trees), at_once):
        names, lines = [], []
        for i, tree in enumerate(workload.trees[first:first + at_once], first):
            names.append(f"t{i}(r)")
            lines.append(f"static float t{i}(const float* r) {{")
            if_else(tree, 0, lines)
            lines.append("}")
        lines.append(f"float part_{first}(const float* r) {{ float s = 0; ")
        lines += [f"s += {name};" for name in names]
        lines.append("return s; }")
        (folder / f"part_{first}.c").write_text("\n".join(lines))
    parts = [f"part_{first}" for first in range(0, len(workload.trees), at_once)]
    score = " + ".join(f"{part}(r)" for part in parts)
    (folder / "row.c").write_text(
        "#include <math.h>\n" + "".join(f"float {part}(const float* r);\n" for part in parts)
        + f"float predict_row(const float* r) {{ return {probability(workload, score)}; }}\n")
    compile_shared(folder, path)


def write_tl2cgen(workload, path, folder):
    """TL2cgen's own C for the model and a function that puts a row into its union."""
    with contextlib.redirect_stdout(sys.stderr):  # it talks
        model = treelite.frontend.load_lightgbm_model(workload.folder / "model.txt")
        tl2cgen.generate_c_code(model, dirpath=str(folder), params={})
    columns = workload.rows.shape[1]
    (folder / "row.c").write_text(f"""#include "header.h"
float predict_row(const float* row) {{
  union Entry entries[{columns}];
  double answer = 0;
  for (int i = 0; i < {columns}; ++i) {{
    if (row[i] == row[i]) entries[i].fvalue = row[i]; else entries[i].missing = -1;
  }}
  predict(entries, 0, &answer);
  return (float)answer;
}}
""")
    compile_shared(folder, path)


def write_emlearn(workload, path, folder):
    """The trees in emlearn's tables, walked by its own eml_trees.h. It compares int16 numbers, so every feature's
    range is divided into 65,534 steps; the step of a value is part of what is timed."""
    steps = numpy.float32(65534) / (workload.high - workload.low)
    bins = lambda values, feature: ((values - workload.low[feature]) * steps[feature]).astype(numpy.int64)
    values, nodes, roots = {}, [], []
    for tree in workload.trees:
        leaf = tree.feature < 0
        number = numpy.cumsum(~leaf) - 1
        roots.append(len(nodes))
        for i in numpy.flatnonzero(~leaf):
            feature = tree.feature[i]
            children = []
            for child in (tree.left[i], tree.right[i]):
                if leaf[child]:  # equal leaves share a place
                    value = numpy.float32(tree.value[child])
                    children.append(-values.setdefault(value, len(values)) - 1)
                else:
                    children.append(number[child] - number[i])
            nodes.append((feature, bins(tree.single[i], feature) + 1 - 32767, *children))
    if max(max(node[2:]) for node in nodes) > 32767 or len(values) > 32768:
        raise LeftOut("its tables hold 32,767 nodes per tree and leaf values")
    listed = lambda numbers: ", ".join(map(str, numbers))
    literals = lambda numbers: ", ".join(float(number).hex() + "f" for number in numbers)
    columns, count = workload.rows.shape[1], len(roots)
    (folder / "row.c").write_text(f"""#include <eml_trees.h>
static EmlTreesNode nodes[] = {{{", ".join("{%d,%d,%d,%d}" % node for node in nodes)}}};
static int32_t roots[] = {{{listed(roots)}}};
static float leaves[] = {{{literals(values)}}};
static const float low[] = {{{literals(workload.low)}}}, steps[] = {{{literals(steps)}}};
static const EmlTrees trees = {{
  {len(nodes)}, nodes, {count}, roots, {len(values)}, (uint8_t*)leaves, 32, {columns}, 1
}};
float predict_row(const float* row) {{
  int16_t bins[{columns}];
  for (int i = 0; i < {columns}; ++i) bins[i] = (int16_t)((int)((row[i] - low[i]) * steps[i]) - 32767);
  const float mean = eml_trees_regress1(&trees, bins, {columns});
  return {probability(workload, f"mean * {count}")};
}}
""")
    headers = pathlib.Path(importlib.metadata.distribution("emlearn").locate_file("emlearn"))
    compile_shared(folder, path, f"-I{headers}")


def write_tonearm(workload, path):
    command = [BUILD / "bin/tonearm", "import", workload.folder / "model.txt", "--out", path]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"tonearm cannot import {workload.folder / 'model.txt'}: {done.stderr.strip()}")


# ---------------------------------------------------------------------------------------------- engines

class LeftOut(Exception):
    """Why an engine does not take a model."""


class Engine:
    """`words` is how engines.c opens it: kind, library, model."""

    def __init__(self, name, kind, library, model, code):
        self.name, self.words = name, [kind, str(library), str(model)]
        self.model_bytes = pathlib.Path(model).stat().st_size
        self.code_bytes = text_size(code)


def once(workload, name, write):
    """A file of a workload, written if it is not there, completely or not at all. `write` gets a folder that is
    removed when it is done, for its sources."""
    path = workload.folder / name
    if not path.exists():
        progress(f"{workload.name}: {name}")
        with tempfile.TemporaryDirectory(dir=workload.folder) as folder:
            unfinished = pathlib.Path(folder, name)
            write(workload, unfinished, pathlib.Path(folder))
            unfinished.rename(path)
    return path


def text_size(path):
    """Bytes of code and constants, of a whole library."""
    lines = subprocess.run(["size", "--totals", path], check=True, stdout=subprocess.PIPE, text=True).stdout
    return int(lines.splitlines()[-1].split()[0])


def engines_of(workload):
    """The engines that take a workload, and the others with the reason."""
    blob, code = workload.folder / "model.tarm", BUILD / "lib/libtonearm.a"
    write_tonearm(workload, blob)  # every time: the importer is ours and changes
    engines = [Engine(OURS, "tonearm", 0, blob, code), Engine(SCALAR, "tonearm", 1, blob, code)]
    left_out = []
    lightgbm_library = package_file("lightgbm", "lightgbm/lib/lib_lightgbm.so")
    engines.append(Engine(LIGHTGBM, "lightgbm", lightgbm_library, workload.folder / "model.txt", lightgbm_library))
    onnxruntime = package_file("onnxruntime", "onnxruntime/capi/libonnxruntime.so.*")
    engines.append(Engine("ONNX Runtime", "onnxruntime", onnxruntime, workload.folder / "model.onnx", onnxruntime))
    xgboost_library = package_file("xgboost-cpu", "xgboost/lib/libxgboost.so")
    ubjson = once(workload, "model.ubj", write_xgboost)
    engines.append(Engine("XGBoost", "xgboost", xgboost_library, ubjson, xgboost_library))
    for name, target, write in [("TL2cgen, gcc -O2", "tl2cgen.so", write_tl2cgen),
                                (IF_ELSE, "if_else.so", write_if_else), (EMLEARN, "emlearn.so", write_emlearn)]:
        try:
            if write is write_tl2cgen and not workload.boosted:
                raise LeftOut("left out by choice: code of the kind of the if-else, which takes gcc minutes already")
            library = once(workload, target, write)
            engines.append(Engine(name, "compiled", library, library, library))
        except LeftOut as reason:
            left_out.append((name, str(reason)))
    left_out.append(("LiteRT", "does not apply: it has no operator for trees"))
    return engines, left_out


def run_program(program, mode, rounds, workload, engines):
    """A list of numbers for every engine."""
    words = [word for engine in engines for word in engine.words]
    command = [program, mode, str(rounds), workload.folder / "rows.f32", str(workload.rows.shape[1]), *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(engines):
        sys.exit(f"{workload.name}: the {mode} run failed")
    return [numpy.array(line.split(), float) for line in lines]


# ------------------------------------------------------------------------------------------- measuring

def measure(workload, folder, quick, instructions):
    engines, left_out = engines_of(workload)
    program, counting = build_program("engines", folder), build_program("engines", folder, "-DCOUNT_ALLOCATIONS")
    progress(f"{workload.name}: comparing and counting")
    kernels = KERNELS[int(run_program(program, "kernels", 1, workload, engines)[0][0])]
    predictions = run_program(program, "predict", 1, workload, engines)
    allocations = run_program(counting, "allocations", 1, workload, engines)
    steps = None
    if instructions:
        progress(f"{workload.name}: counting instructions")
        steps = run_program(program, "instructions", 4, workload, engines)
    progress(f"{workload.name}: timing")
    start, start_cpu = time.monotonic(), child_cpu_seconds()
    warm = run_program(program, "warm", 2 if quick else 31, workload, engines)
    cold = run_program(program, "cold", 5 if quick else 201, workload, engines)
    disturbance = 1 - (child_cpu_seconds() - start_cpu) / (time.monotonic() - start)
    results = []
    for i, engine in enumerate(engines):
        difference = numpy.abs(predictions[i] - workload.exact)
        results.append({
            "engine": engine.name, "warm": quartiles(warm[i]), "cold": quartiles(cold[i]),
            "largest_difference": float(difference.max()), "differing_rows": int((difference > SAME).sum()),
            "allocations": float(allocations[i][0]),
            "instructions": float(steps[i][0]) if steps else None,  # -1: too many to count
            "model_bytes": engine.model_bytes, "code_bytes": engine.code_bytes})
    return {"workload": workload.name, "title": workload.title, "kernels": kernels, "rows": ROWS,
            "disturbance": disturbance, "engines": results,
            "left_out": [{"engine": name, "reason": reason} for name, reason in left_out]}


def goals(result):
    """What Tonearm reaches beside what is asked of it, from this run."""
    by_name = {engine["engine"]: engine for engine in result["engines"]}
    ours, found = by_name[OURS], []
    for state, peer, asked in GOALS[result["workload"]]:
        if peer is None:
            others = [engine for name, engine in by_name.items() if name not in (OURS, SCALAR)]
            best = min(others, key=lambda engine: engine[state]["median_ns"])
            what, peer = f"the best peer ({best['engine']})", best["engine"]
        else:
            what = peer
        ratio = by_name[peer][state]["median_ns"] / ours[state]["median_ns"]
        found.append({"goal": f"{state}, times faster than {what}", "asked": f">= {asked:g}", "found": f"{ratio:.2f}",
                      "reached": ratio >= asked})
    found.append({"goal": "largest difference from LightGBM's float64", "asked": f"<= {SAME:g}",
                  "found": f"{ours['largest_difference']:.1e}", "reached": ours["largest_difference"] <= SAME})
    if result["workload"] in LARGEST_BLOB:
        most = LARGEST_BLOB[result["workload"]]
        found.append({"goal": "blob", "asked": "<= " + size_text(most), "found": size_text(ours["model_bytes"]),
                      "reached": ours["model_bytes"] <= most})
    return found


# -------------------------------------------------------------------------------------------- reporting

def report(result):
    ours = next(engine for engine in result["engines"] if engine["engine"] == OURS)
    header = ["engine", "warm ns", "spread", "x ours", "cold ns", "spread", "x ours", "allocations", "instructions",
              "model", "code", "largest difference"]
    lines = []
    for engine in result["engines"]:
        ratio = lambda state: f"{engine[state]['median_ns'] / ours[state]['median_ns']:.2f}"
        difference = f"{engine['largest_difference']:.1e}"
        if engine["largest_difference"] > SAME:
            difference = f"LOSSY, {engine['differing_rows']} rows: " + difference
        count = engine["instructions"]
        instructions = "" if count is None else "> 2,000,000" if count < 0 else f"{count:,.0f}"
        lines.append([engine["engine"], *time_text(engine["warm"]), ratio("warm"), *time_text(engine["cold"]),
                      ratio("cold"), f"{engine['allocations']:.0f}", instructions, size_text(engine["model_bytes"]),
                      size_text(engine["code_bytes"]), difference])
    text = f"{result['title']}\nTonearm uses its {result['kernels']} kernels.\n\n" + table_text(header, lines) + "\n"
    if result["disturbance"] > 0.05:
        text += f"DISTURBED: for {result['disturbance']:.0%} of the time other work had the CPU.\n"
    for other in result["left_out"]:
        text += f"{other['engine']}: {other['reason']}\n"
    text += "\n" + table_text(["goal", "asked", "found", ""],
                              [[f"{result['workload']} {goal['goal']}", goal["asked"], goal["found"],
                                "reached" if goal["reached"] else "MISSED"] for goal in result["goals"]])
    return text


def main():
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="?", const="W1,W2,W3", default="W1,W2,W3", metavar="W1,W2,W3",
                        help="which workloads, by commas")
    parser.add_argument("--quick", action="store_true",
                        help="small W2 and W3, few rounds: shows that it runs, measures nothing")
    parser.add_argument("--instructions", action="store_true", help="count instructions too: takes minutes")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/peers/engines",
                        help="folder for the models, which are kept (build/peers/engines)")
    parser.add_argument("--json", help="write the figures as JSON too; - is stdout, then without the tables")
    parser.add_argument("--plot", type=pathlib.Path, help="write an SVG of the times")
    options = parser.parse_args()
    names = options.engines.split(",")
    if not set(names) <= set(GOALS):
        parser.error(f"--engines {options.engines}: the workloads are {', '.join(GOALS)}")

    options.out.mkdir(parents=True, exist_ok=True)
    build_program(options.out)  # so that a missing build is said before anything long
    facts = machine(PACKAGES)
    results = []
    for name in names:
        result = measure(Workload(name, options.out, options.quick), options.out, options.quick, options.instructions)
        result["goals"] = goals(result)
        results.append(result)
    text = json.dumps({"machine": facts, "quick": options.quick, "workloads": results}, indent=2) + "\n"
    if options.json == "-":
        print(text, end="")
    else:
        if options.quick:
            print("QUICK: small models and few rounds; these are no figures\n")
        print(machine_text(facts))
        print("\n".join(report(result) for result in results), end="")
        if options.json:
            pathlib.Path(options.json).write_text(text)
    if options.plot:
        bars = lambda result: [(engine["engine"] + (" (lossy)" if engine["largest_difference"] > SAME else ""),
                                engine["engine"] in (OURS, SCALAR), engine["warm"]["median_ns"],
                                engine["cold"]["median_ns"]) for engine in result["engines"]]
        options.plot.write_text(plot([(result["title"], bars(result)) for result in results], facts, "one row"))
    ours = [engine for result in results for engine in result["engines"] if engine["engine"] in (OURS, SCALAR)]
    return 0 if all(engine["largest_difference"] <= SAME for engine in ours) else 1


if __name__ == "__main__":
    sys.exit(main())
