"""Imports models that LightGBM, XGBoost and the exporters to ONNX write, and compares what Tonearm computes
with what the trainer itself (for ONNX: ONNX Runtime) computes, row by row.

Every configuration trains a model of its own. The rows are made against it: they reach a node of the model
and lie on its threshold and one float32 to each side, or hold NaN, infinities, zeros of both signs,
denormals, the ends of the range, and categories that are unseen, negative, fractional or huge. Rows go
through the C API as float32, so that every bit pattern arrives.

A row matches if, for each output,
  * after a second import, with an integer in place of each leaf, the score is the very sum of the integers
    of the leaves that the trainer says it reached (of ONNX: the sum that ONNX Runtime computes): every
    decision is the trainer's,
  * the score differs from the float64 sum of the leaves that the trainer says it reached by no more than the
    bound that `tonearm import` computed (which must not be larger than the plain one computed here),
  * the score differs from the trainer's by no more than that and the trainer's own rounding,
  * what predict() returns differs by no more than these two through the link, and its rounding.
Models without trees have to be within 1e-6 of the largest output, on ordinary rows. XGBoost names no leaves
of rows with infinities. Where the blob has a vocabulary, numbers that are no index of it are unknown by the
C API's own rule: the trainer is then asked about NaN.
"""

import argparse
import concurrent.futures
import ctypes
import itertools
import json
import math
import os
import pathlib
import re
import struct
import subprocess
import sys
import time
import traceback
import warnings
import zlib
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy

from cases import OLD_VERSIONS, configurations

ROOT = pathlib.Path(__file__).resolve().parents[2]
F32 = numpy.float32
NAN, INFINITY, LARGEST = F32("nan"), F32("inf"), numpy.finfo(F32).max
TRAINERS = ("lightgbm", "xgboost", "onnx")

# ------------------------------------------------------------------------------------------- blobs


class Blob:
    """A blob, evaluated through the C API."""

    TREES = {2, 3, 5}  # of schema.OperatorKind: branching, symmetric and block trees
    library: Any = None

    def __init__(self, content):
        self.content = numpy.frombuffer(bytes(content), numpy.uint8).copy()
        self.moved = False

    @classmethod
    def link(cls, build, work):
        """Makes a shared object of the static library."""
        shared = work / "rows.so"
        subprocess.run([
            "cc", "-std=c11", "-O2", "-shared", "-fPIC", "-I", ROOT / "runtime/include", "-o", shared,
            pathlib.Path(__file__).with_name("rows.c"), build / "lib/libtonearm.a"
        ], check=True)

    @classmethod
    def load(cls, work):
        cls.library = ctypes.CDLL(str(work / "rows.so"))
        cls.library.rows_category.restype = ctypes.c_float

    def evaluate(self, rows):
        rows = numpy.ascontiguousarray(rows, F32)
        outputs = self.outputs()
        out = numpy.full((len(rows), outputs), -12345, F32)
        message = ctypes.create_string_buffer(400)
        status = self.library.rows_evaluate(self.content.ctypes, ctypes.c_size_t(len(self.content)),
                                            int(self.moved), rows.ctypes, ctypes.c_size_t(len(rows)),
                                            ctypes.c_uint32(rows.shape[1]), out.ctypes, message,
                                            ctypes.c_size_t(len(message)))
        if status != 0:
            raise RuntimeError(f"status {status} {message.value.decode()}")
        return out

    def category(self, column, text):
        """The number of a category, NaN if it is unknown."""
        return self.library.rows_category(self.content.ctypes, ctypes.c_size_t(len(self.content)),
                                          ctypes.c_uint32(column), text.encode())

    def categories(self, column):
        """The size of a column's vocabulary; 0 of a number."""
        return self.library.rows_categories(self.content.ctypes, ctypes.c_size_t(len(self.content)),
                                            ctypes.c_uint32(column))

    def outputs(self):
        return self._read("H", self._field(self._root(), "Model", "output_length"), 0)

    def before_link(self):
        """The blob with the scores of its trees as output; None if more than a link follows them."""
        operators = self._vector(self._field(self._root(), "Model", "operators"))
        kinds = [self._read("B", self._field(op, "Operator", "kind_type"), 0) for op in operators]
        if kinds[-1] in self.TREES:
            return self
        if len(kinds) < 2 or kinds[-2] not in self.TREES:
            return None
        moved = Blob(self.content)
        moved.moved = True
        for name in ("output_offset", "output_length"):
            value = self._read("H", self._field(operators[-2], "Operator", name), 0)
            at = self._field(self._root(), "Model", name)
            moved.content[at:at + 2] = numpy.frombuffer(struct.pack("<H", value), numpy.uint8)
        return moved

    # FlatBuffers, as far as needed here; fields are numbered in the order of the schema.

    def _read(self, kind, at, default):
        return default if at is None else struct.unpack_from("<" + kind, self.content, at)[0]

    def _root(self):
        return self._read("I", 0, 0)

    def _vector(self, at):
        start = at + self._read("I", at, 0)
        places = range(start + 4, start + 4 + 4 * self._read("I", start, 0), 4)
        return [place + self._read("I", place, 0) for place in places]

    def _field(self, table, name, wanted):
        vtable = table - self._read("i", table, 0)
        entry = 4 + 2 * schema_fields(name).index(wanted)
        offset = self._read("H", vtable + entry, 0) if entry < self._read("H", vtable, 0) else 0
        return table + offset if offset else None


def schema_fields(table, cache={}):
    if table not in cache:
        text = (ROOT / "schemas/model.fbs").read_text()
        body = re.search(rf"^table {table} {{(.*?)^}}", text, re.M | re.S).group(1)
        names = re.findall(r"^\s*(\w+)\s*:\s*([\w\[\]]+)", re.sub("//.*", "", body), re.M)
        unions = set(re.findall(r"^union (\w+)", text, re.M))
        cache[table] = [
            n for name, kind in names for n in ([name + "_type"] if kind in unions else []) + [name]
        ]
    return cache[table]


# -------------------------------------------------------------------------------------------- rows


def around(value):
    """The float32 nearest to a number, and its neighbours."""
    with numpy.errstate(over="ignore"):
        middle = F32(value)
        return [middle, numpy.nextafter(middle, -INFINITY), numpy.nextafter(middle, INFINITY)]


def special_values():
    values = [NAN, INFINITY, -INFINITY, F32(0.0), F32(-0.0), LARGEST, -LARGEST]
    for size in (1e-35, numpy.finfo(F32).smallest_subnormal, numpy.finfo(F32).tiny, 1e-20, 0.5, 1, 1e10,
                 1e20):
        values += around(size) + around(-size)
    values += [numpy.nextafter(LARGEST, F32(0)), F32(1e-40), F32(-1e-40)]
    return numpy.array(values, F32)


def special_categories(largest):
    near = [
        -2, -1.5, -1, -0.999, -0.5, -1e-3, -1e-36, 0, 0.5, 0.999, 1, 1.5, 2, 31, 32, 33, 63, 64, 255, 256,
        65535, 65536, largest - 0.5, largest, largest + 0.5, largest + 1, largest + 1.5, largest + 32,
        largest + 64
    ]
    far = [
        2.0**24 - 1, 2.0**24, 2.0**31, 2.0**31 - 128, -(2.0**31), -(2.0**31) - 256, 2.0**32, 2.0**32 + 512,
        2.0**63, 1e20
    ]
    return numpy.array(near + far + [NAN, INFINITY, -INFINITY, -0.0, LARGEST], F32)


def row_of_node(tree, parents, node, row, categorical, random):
    """Changes a row so that it comes to the node, as far as numbers decide that."""
    below, above, sets = {}, {}, {}
    while node in parents:
        parent, is_left = parents[node]
        axis = tree.feature[parent]
        if parent in tree.categories:
            sets.setdefault(axis, []).append((tree.categories[parent], is_left))
        elif is_left:
            below[axis] = min(below.get(axis, math.inf), tree.threshold[parent])
        else:
            above[axis] = max(above.get(axis, -math.inf), tree.threshold[parent])
        node = parent
    for axis in {**below, **above}:
        low, high = above.get(axis, -math.inf), below.get(axis, math.inf)
        if low < row[axis] < high:
            continue
        near_high = numpy.nextafter(F32(min(high, LARGEST)), -INFINITY)
        near_low = numpy.nextafter(F32(max(low, -LARGEST)), INFINITY)
        row[axis] = (near_high if low == -math.inf else
                     near_low if high == math.inf else random.choice([near_low, near_high]))
    for axis, asked in sets.items():
        known = set.union(*(group
                            for group, _ in asked)) | {max(g for group, _ in asked for g in group | {0}) + 1}
        fits = [c for c in sorted(known) if all((c in group) == is_left for group, is_left in asked)]
        if fits:
            row[axis] = fits[random.integers(len(fits))]


def adversarial_rows(ensemble, ordinary, categorical, random, most_nodes):
    ordinary = numpy.ascontiguousarray(ordinary, F32)
    columns = ordinary.shape[1]
    largest = {axis: float(numpy.nanmax(ordinary[:, axis], initial=0)) for axis in categorical}
    specials = [
        special_categories(largest[axis]) if axis in largest else special_values() for axis in range(columns)
    ]
    pick = lambda: ordinary[random.integers(len(ordinary))].copy()
    rows = list(ordinary[:300])

    # Every special value in every column, among ordinary ones.
    for axis in range(columns):
        for value in specials[axis]:
            row = pick()
            row[axis] = value
            rows.append(row)

    # On every threshold that the model has, at a node that asks for it.
    thresholds = [[] for _ in range(columns)]
    if ensemble is not None:
        first, others, parents = {}, [], []
        for number, tree in enumerate(ensemble.trees):
            above = {}
            for node, axis in enumerate(tree.feature):
                if axis < 0:
                    continue
                above[tree.left[node]], above[tree.right[node]] = (node, True), (node, False)
                question = axis, tuple(sorted(tree.categories.get(node, ()))) or tree.threshold[node]
                if question in first:
                    others.append((number, node))
                else:
                    first[question] = number, node
            parents.append(above)
        others = [others[i] for i in random.permutation(len(others))[:max(0, most_nodes - len(first))]]
        for number, node in list(first.values()) + others:
            tree = ensemble.trees[number]
            axis = tree.feature[node]
            if node in tree.categories:
                group = sorted(tree.categories[node])
                values = [
                    group[random.integers(len(group))] if group else 0,
                    max(group, default=0) + 1, specials[axis][random.integers(len(specials[axis]))]
                ]
            else:
                values = around(tree.threshold[node])
                thresholds[axis] += values
            row = pick()
            row_of_node(tree, parents[number], node, row, categorical, random)
            for value in values:
                rows.append(row.copy())
                rows[-1][axis] = value

    # Rows of nothing but such values.
    for _ in range(400):
        row = pick()
        for axis in range(columns):
            kind = random.integers(3)
            pool = specials[axis] if kind == 0 or not thresholds[axis] else thresholds[axis]
            if kind < 2:
                row[axis] = pool[random.integers(len(pool))]
        rows.append(row)
    return numpy.array(rows, F32)


# ---------------------------------------------------------------------------------------- comparison


class Refused(Exception):
    pass


def imported(path, build, work, leaves="exact"):
    """The blob of a file, and the bound on its scores."""
    blob, report = work / "model.tarm", work / "report.json"
    command = [build / "bin/tonearm", "import", path, "--out", blob, "--json", report, "--leaves", leaves]
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise Refused(f"exit {run.returncode}, {run.stderr.strip().replace(str(path), path.name)}")
    return Blob(blob.read_bytes()), json.loads(report.read_text())["score_bound"]


def check(name, seed, build, work):
    """Trains, imports and compares one configuration."""
    trainer, _, make, arguments, must_refuse = configurations(seed)[name]
    random = numpy.random.default_rng([seed, zlib.crc32(name.encode())])
    result = {"name": name, "trainer": trainer, "rows": 0, "matched": 0, "mismatches": [], "error": ""}
    arguments = {key: value for key, value in arguments.items() if key != "text"}
    storage = arguments.pop("storage", "exact")
    case = make(work, random, **arguments)
    try:
        blob, stated = imported(case.path, build, work, storage)
    except Refused as error:
        return result | {"refused": str(error), "error": "" if must_refuse else f"not imported: {error}"}
    if must_refuse:
        return result | {"error": "imported, and should have been refused"}

    if case.ensemble is None:
        rows = numpy.ascontiguousarray(case.ordinary, F32)
        theirs = case.predict(rows)
        bound = case.tolerance * max(1, abs(theirs).max())
        found = differences("prediction", rows, blob.evaluate(rows), theirs, bound)
        return result | {
            "rows": len(rows), "matched": len(rows) - len(found), "mismatches": list(found.values())
        }

    plain, separation = case.ensemble.bound(), case.ensemble.separation()
    if stated > plain * 1.01 and storage == "exact":
        result["error"] = f"the stated bound {stated:.3g} is above the plain one, {plain:.3g}"
    bound = stated or plain
    both = bound + (case.ensemble.peer_bound() if case.float32 else 1e-12)
    through_link = {"": 1, "sigmoid": case.slope / 4, "softmax": 0.5}[case.link] * both + (5e-7 if case.link
                                                                                           else 0)
    result |= {"bound": bound, "stated": stated > 0, "separated": bool(bound < separation / 2)}

    rows = adversarial_rows(case.ensemble, case.ordinary, case.categorical, random, most_nodes=3000)
    told = rows.copy()
    for axis in case.categorical:
        if blob.categories(axis) > 0:
            # To the C API a number that is no index of the vocabulary is unknown.
            known = (rows[:, axis] >= 0) & (rows[:, axis] < blob.categories(axis))
            told[~(known & (rows[:, axis] == numpy.floor(rows[:, axis]))), axis] = NAN
    found = differences("prediction", rows, blob.evaluate(rows), case.predict(told), through_link)
    if case.score is not None:
        ours, exact = blob.before_link().evaluate(rows), case.reached(told)
        found |= differences("score", rows, ours, case.score(told), both)
        found |= differences("sum of leaves", rows, ours, exact, bound + 1e-15 * abs(exact),
                             numpy.isnan(exact))
    if case.code is not None:
        path, code_sums = case.code(case, work, random)
        coded, exact = imported(path, build, work)[0], code_sums(told)
        ours = (coded.before_link() or coded).evaluate(rows)
        found |= differences("sum of numbers for leaves", rows, ours, exact, 0, numpy.isnan(exact))
        result["decisions"] = True
    tried, mismatches = len(rows), list(found.values())
    if case.named is not None:
        rows, theirs = named_rows(case, blob), case.named[1]
        found = differences("prediction by names", rows, blob.evaluate(rows), theirs, through_link)
        tried, mismatches = tried + len(rows), mismatches + list(found.values())
    return result | {"rows": tried, "matched": tried - len(mismatches), "mismatches": mismatches}


def as_outputs(numbers):
    numbers = numpy.asarray(numbers, float)
    return numbers.reshape(len(numbers), -1)


def differences(what, rows, ours, theirs, bound, unknown=False):
    """Number of a row to what is wrong with it. Where `unknown`, the trainer gives no answer."""
    ours, theirs = as_outputs(ours), as_outputs(theirs)
    if ours.shape[1] == 1 and theirs.shape[1] == 2:
        theirs, unknown = theirs[:, 1:], False  # of two classes, the second
    if ours.shape != theirs.shape:
        raise RuntimeError(f"{what}: we have {ours.shape[1]} outputs, the trainer {theirs.shape[1]}")
    bound = numpy.broadcast_to(bound, ours.shape)
    with numpy.errstate(invalid="ignore"):
        fits = (abs(ours - theirs) <= bound) | (ours == theirs) | (numpy.isnan(ours) & numpy.isnan(theirs))
    return {
        int(i): {
            "what": what, "row": [repr(float(value)) for value in rows[i]], "ours": ours[i].tolist(),
            "theirs": theirs[i].tolist(), "bound": bound[i].tolist()
        } for i in numpy.flatnonzero(~(fits | unknown).all(axis=1))
    }


def named_rows(case, blob):
    """The rows of a pandas table, whose categories go through the blob's vocabulary if it has one."""
    frame = case.named[0]
    rows = numpy.empty(frame.shape, F32)
    for axis, (name, column) in enumerate(frame.items()):
        if axis not in case.categorical:
            rows[:, axis] = column
        elif blob.categories(axis) > 0:
            rows[:, axis] = [blob.category(axis, text) if isinstance(text, str) else NAN for text in column]
        else:
            rows[:, axis] = numpy.where(column.isna() | (column == "never seen"), NAN, column.cat.codes)
    return rows


# ------------------------------------------------------------------------------------------- the run


def work_through(arguments):
    """In a process of its own: reads names, prints a result of each as a line of JSON."""
    warnings.filterwarnings("ignore")
    work = pathlib.Path(arguments.work) / f"worker-{os.getpid()}"
    work.mkdir(parents=True, exist_ok=True)
    Blob.load(pathlib.Path(arguments.work))
    for name in json.load(sys.stdin):
        start = time.monotonic()
        try:
            result = check(name, arguments.seed, pathlib.Path(arguments.build), work)
        except Exception:
            result = {
                "name": name, "trainer": name.split()[0], "rows": 0, "matched": 0, "mismatches": [],
                "error": traceback.format_exc().strip()
            }
        print(json.dumps(result | {"seconds": round(time.monotonic() - start, 2)}), flush=True)
    for path in work.iterdir():
        path.unlink()
    work.rmdir()


def run_worker(arguments, version, names):
    environment = dict(os.environ)
    if version:
        environment["PYTHONPATH"] = str(pathlib.Path(arguments.work) / version)
    command = [
        sys.executable, __file__, "--worker", "--seed",
        str(arguments.seed), "--build", arguments.build, "--work", arguments.work
    ]
    run = subprocess.run(command, input=json.dumps(names), capture_output=True, text=True, env=environment)
    results = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    for name in names[len(results):]:
        results.append({
            "name": name, "trainer": name.split()[0], "rows": 0, "matched": 0, "mismatches": [], "seconds": 0,
            "error": f"the process ended with {run.returncode}: {run.stderr.strip()[-500:]}"
        })
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(TRAINERS), help="trainers, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a tenth of the configurations")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--match", default="", help="only configurations with this in their name")
    parser.add_argument("--json", help="write all results to a file")
    parser.add_argument("--build", default=str(ROOT / "build/release"),
                        help="folder of bin/tonearm and lib/libtonearm.a")
    parser.add_argument("--work", default=str(ROOT / "build/peers/exactness"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--list-old", action="store_true", help="print the older versions that are tried too")
    arguments = parser.parse_args()
    if arguments.list_old:
        return print(*itertools.chain(*OLD_VERSIONS.values()))
    if arguments.worker:
        return work_through(arguments)

    pathlib.Path(arguments.work).mkdir(parents=True, exist_ok=True)
    Blob.link(pathlib.Path(arguments.build), pathlib.Path(arguments.work))
    chosen = {}  # version: names
    for name, (trainer, version, *_) in configurations(arguments.seed).items():
        if trainer in arguments.only.split(",") and arguments.match in name:
            chosen.setdefault(version, []).append(name)
    jobs = []
    for version, names in chosen.items():
        names = names[::12] if arguments.quick else names
        jobs += [(version, names[first:first + 10]) for first in range(0, len(names), 10)]
    results = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for batch in pool.map(lambda job: run_worker(arguments, *job), jobs):
            for result in batch:
                results.append(result)
                show(result)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))
    sys.exit(summary(results))


def show(result):
    good = not result["error"] and not result["mismatches"]
    counts = f"{result['matched']}/{result['rows']} {result['seconds']:5.1f} s"
    print(f"{'ok' if good else 'FAILED':6} {counts}  {result['name']}", flush=True)
    if result["error"]:
        print("       " + result["error"].replace("\n", "\n       "))
    for mismatch in result["mismatches"]:
        print("       " + "; ".join(f"{key} {value}" for key, value in mismatch.items()))


def summary(results):
    """Prints the counts, matched / tried; returns the exit status."""
    failed = [r for r in results if r["error"] or r["mismatches"]]
    print(
        f"\n{'':10} {'models':>15} {'rows':>19}   decisions compared by numbers; by a bound below every step")
    refused = [r for r in results if "refused" in r and not r["error"]]
    for trainer in (*TRAINERS, "total"):
        group = [r for r in results if trainer in (r["trainer"], "total") and r not in refused]
        good = sum(r not in failed for r in group)
        rows, matched = sum(r["rows"] for r in group), sum(r["matched"] for r in group)
        proven, separated = sum("decisions" in r
                                for r in group), sum(r.get("separated", False) for r in group)
        print(f"{trainer:10} {good:7} / {len(group):5} {matched:8} / {rows:8}   {proven}; {separated}")
    for result in refused:
        print(f"refused, as it should be: {result['name']}: {result['refused']}")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    main()
