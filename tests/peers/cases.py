"""The models of exactness.py: what is trained, and how files and the trainers' answers are read."""

import itertools
import json
import math
import os
import pathlib
import re
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy

F32 = numpy.float32
HALF_ULP = 2.0**-24
# Beside those of requirements.txt; each is installed into a folder of this name.
OLD_VERSIONS = {
    "lightgbm": ["lightgbm==2.3.1", "lightgbm==3.3.5"],
    "xgboost": ["xgboost==1.7.6", "xgboost-cpu==2.1.4", "xgboost-cpu==3.0.5"]
}

# ------------------------------------------------------------------------------------------- trees


@dataclass
class Tree:
    """Lists by node. A leaf has feature -1 and a row of `value`, one number per output."""

    feature: list
    threshold: list
    left: list
    right: list
    value: Any
    categories: dict  # node: the set that goes left
    first_leaf: int = 0  # the node of the leaf that the trainer calls 0


@dataclass
class Ensemble:
    trees: list
    base: Any
    scale: float = 1.0

    def reached(self, leaves):
        """The scores of reported leaves."""
        total = sum(tree.value[leaf + tree.first_leaf] for tree, leaf in zip(self.trees, leaves.T))
        return self.base + self.scale * total

    def bound(self):
        """Of leaves rounded to float32 and summed in float32 in any order, the worst output."""
        leaf_error = sum(abs(t.value - t.value.astype(F32)).max(axis=0) for t in self.trees)
        size = sum(abs(t.value).max(axis=0) for t in self.trees)
        scaled = abs(self.scale) * (size + leaf_error)
        return max(
            abs(self.scale) * leaf_error + HALF_ULP * ((self.additions() + 8) * scaled + 2 * abs(self.base)))

    def additions(self):
        return max(numpy.count_nonzero([t.value.any(axis=0) for t in self.trees], axis=0))

    def peer_bound(self):
        """The same for a trainer that adds float32 numbers one after the other."""
        size = sum(abs(t.value).max(axis=0) for t in self.trees)
        return max(HALF_ULP * (self.additions() + 4) * (abs(self.scale) * size + abs(self.base)))

    def separation(self):
        """The smallest difference between two leaves of a tree."""
        smallest = math.inf
        for tree in self.trees:
            leaves = tree.value[numpy.array(tree.feature) < 0]
            for column in leaves.T:
                steps = numpy.diff(numpy.unique(column))
                smallest = min(smallest, steps.min(initial=math.inf))
        return abs(self.scale) * smallest


def read_lightgbm(path):
    header, *parts = re.split(r"^Tree=\d+\n", path.read_text(), flags=re.M)
    entries = dict(line.split("=", 1) for line in header.splitlines() if "=" in line)
    outputs = int(entries["num_tree_per_iteration"])
    trees = []
    for number, part in enumerate(parts):
        entries = dict(line.split("=", 1) for line in part.split("\n\n")[0].splitlines())

        def numbers(key, kind=int):
            return [kind(word) for word in entries.get(key, "").split()]

        inner = int(entries["num_leaves"]) - 1
        value = numpy.zeros((2 * inner + 1, outputs))
        value[inner:, number % outputs] = numbers("leaf_value", float)
        children = [[inner - 1 - child if child < 0 else child for child in numbers(key)]
                    for key in ("left_child", "right_child")]
        threshold, categories = numbers("threshold", float), {}
        bounds, words = numbers("cat_boundaries"), numbers("cat_threshold")
        for node, kind in enumerate(numbers("decision_type")):
            if kind & 1:
                first, end = bounds[int(threshold[node])], bounds[int(threshold[node]) + 1]
                categories[node] = {
                    32 * i + bit for i, word in enumerate(words[first:end]) for bit in range(32)
                    if word >> bit & 1
                }
        features = numbers("split_feature") + [-1] * (inner + 1)
        trees.append(Tree(features, threshold, *children, value, categories, first_leaf=inner))
    average = "average_output" in header.splitlines()
    return Ensemble(trees, numpy.zeros(outputs), outputs / len(trees) if average else 1.0)


def read_xgboost(path):
    learner = json.loads(path.read_text())["learner"]
    booster = learner["gradient_booster"]
    weights = booster.get("weight_drop")
    model = booster.get("gbtree", booster)["model"]
    outputs = max(1, int(learner["learner_model_param"]["num_class"]))
    base = numpy.array(json.loads(learner["learner_model_param"]["base_score"]), F32).reshape(-1)
    if learner["objective"]["name"] in XGBOOST_LOGISTIC:
        base = -numpy.log(1 / base - F32(1))
    trees = []
    for number, (tree, output) in enumerate(zip(model["trees"], model["tree_info"])):
        left, right = tree["left_children"], tree["right_children"]
        feature = [-1 if child < 0 else axis for child, axis in zip(left, tree["split_indices"])]
        value = numpy.zeros((len(left), outputs))
        threshold = numpy.array(tree["split_conditions"], F32)
        value[:, output] = numpy.where(numpy.array(left) < 0, threshold, 0)
        if weights is not None:
            value *= float(F32(weights[number]))
        categories = {}
        for node, first, size in zip(tree["categories_nodes"], tree["categories_segments"],
                                     tree["categories_sizes"]):
            # XGBoost lists those that go right.
            categories[node] = set(tree["categories"][first:first + size])
            left[node], right[node] = right[node], left[node]
        trees.append(Tree(feature, threshold.tolist(), left, right, value, categories))
    return Ensemble(trees, numpy.resize(base.astype(float), outputs))


def read_onnx(model):
    """The tree ensemble in an ONNX model, None if there is none."""
    kinds = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
    found = [node for node in model.graph.node if node.op_type in kinds]
    if not found:
        return None
    import onnx

    a = {item.name: onnx.helper.get_attribute_value(item) for item in found[0].attribute}
    keys = list(zip(a["nodes_treeids"], a["nodes_nodeids"]))
    tree_ids = sorted(set(a["nodes_treeids"]))
    outputs = 1 + max(a.get("class_ids") or a["target_ids"])
    trees = {}
    for tree in tree_ids:
        size = 1 + max(node for t, node in keys if t == tree)
        blank = lambda: [-1] * size
        trees[tree] = Tree(blank(), [0.0] * size, blank(), blank(), numpy.zeros((size, outputs)), {})
    for i, (tree, node) in enumerate(keys):
        if a["nodes_modes"][i] != b"LEAF":
            t = trees[tree]
            t.feature[node], t.threshold[node] = a["nodes_featureids"][i], a["nodes_values"][i]
            t.left[node], t.right[node] = a["nodes_truenodeids"][i], a["nodes_falsenodeids"][i]
    kind = "class" if "class_ids" in a else "target"
    for tree, node, output, weight in zip(*(a[f"{kind}_{part}"]
                                            for part in ("treeids", "nodeids", "ids", "weights"))):
        trees[tree].value[node, output] += weight
    base = numpy.resize(numpy.array(a.get("base_values", [0.0])), outputs)
    average = a.get("aggregate_function") == b"AVERAGE"
    return Ensemble(list(trees.values()), base, 1 / len(trees) if average else 1.0)


# ----------------------------------------------------------------------------------------- trainers


@dataclass
class Case:
    """A trained model: its file, and the trainer's own answers."""

    path: pathlib.Path
    ordinary: Any
    predict: Callable
    ensemble: Any = None
    score: Any = None
    leaves: Any = None
    leaves_of_infinities: bool = True
    categorical: list = field(default_factory=list)
    link: str = ""  # "", "sigmoid" or "softmax"
    slope: float = 1.0
    float32: bool = True  # the trainer sums in float32
    tolerance: float = 0.0  # instead of bounds, of models without trees
    named: Any = None  # rows with categories by name, and the trainer's predictions
    code: Any = None  # writes the file with integers for leaves; returns its path, and their sums of rows

    def reached(self, rows, ensemble=None):
        """The float64 sum of the leaves that the trainer says a row reached; NaN where it does not say."""
        ensemble = ensemble or self.ensemble
        known = (numpy.isfinite(numpy.where(numpy.isnan(rows), 0, rows)).all(axis=1)
                 | self.leaves_of_infinities)
        leaves = numpy.asarray(self.leaves(rows[known]), int).reshape(known.sum(), -1)
        scores = numpy.full((len(rows), len(ensemble.base)), numpy.nan)
        scores[known] = ensemble.reached(leaves)
        return scores


def table(random, rows, missing):
    """Columns of every scale: float64, integers, huge, tiny, many zeros, around 1e-35, and a constant."""
    x = numpy.empty((rows, 8))
    x[:, 0] = random.normal(size=rows)
    x[:, 1] = random.integers(-5, 20, rows)
    x[:, 2] = random.normal(size=rows) * 10**random.uniform(0, 37, rows)
    x[:, 3] = random.normal(size=rows) * 1e-30
    x[:, 4] = random.normal(size=rows) * (random.random(rows) < 0.5)
    x[:, 5] = random.choice([-2e-35, -1e-35, -1e-38, -1e-41, 0, 1e-41, 1e-38, 1e-35, 2e-35, 1], rows)
    x[:, 6] = random.random(rows)
    x[:, 7] = 3
    signal = sum(math.pi * random.random() * numpy.sin(4 * c.argsort().argsort() / rows + a)
                 for a, c in enumerate(x[:, :6].T))
    if missing:
        x[:, :7][random.random((rows, 7)) < 0.15] = numpy.nan
    return x, signal


def with_categories(random, x, signal, kind):
    """Appends columns of categories; returns their numbers."""
    rows = len(x)
    sets = {
        "none": [], "few": [3], "many": [40, 300], "pandas": [5, 60], "odd": [12, 35], "onehot": [3, 4],
        "partition": [20, 90]
    }[kind]
    for count in sets:
        codes = random.integers(0, count, rows)
        signal = signal + random.normal(size=count)[codes]
        column = codes.astype(float)
        if kind == "many" and count == 300:
            column = column * 17 + 3  # up to 5086, with holes
        if kind == "odd":  # missing, negative and fractional codes
            column[random.random(rows) < 0.1] = -1
            column[random.random(rows) < 0.05] = numpy.nan
            column[random.random(rows) < 0.05] += 0.5
        x = numpy.column_stack([x, column])
    return x, signal, list(range(x.shape[1] - len(sets), x.shape[1]))


def label_of(random, signal, kind):
    """Returns labels, and group sizes for ranking."""
    noisy = signal + random.normal(size=len(signal))
    order = noisy.argsort().argsort() / len(noisy)
    if kind == "binary":
        return (order > 0.5).astype(float), None
    if kind == "share":
        return order, None
    if kind == "classes":
        return numpy.floor(order * 4), None
    if kind == "rank":
        return numpy.floor(order * 4), numpy.full(len(noisy) // 20, 20, numpy.int32)
    return noisy * 10 + 3, None


def codes(random, leaves, trees):
    """Different integers for the leaves of a tree; float32 adds those of all trees exactly."""
    return random.choice(2**24 // trees, leaves, replace=False).tolist()


LIGHTGBM_LABELS = {
    "binary": "binary", "cross_entropy": "share", "multiclass": "classes", "multiclassova": "classes",
    "lambdarank": "rank", "rank_xendcg": "rank"
}


def train_lightgbm(work, random, objective="binary", sigmoid=1.0, boosting="gbdt", missing="none",
                   categories="none", leaves=31, depth=-1, rounds=12, rows=1500, special=""):
    import lightgbm

    x, signal = table(random, rows, missing in ("nan", "off"))
    x, signal, categorical = with_categories(random, x, signal, categories)
    if missing == "zero":
        x[:, 0][random.random(rows) < 0.3] = 0
        x[:, 6][random.random(rows) < 0.1] = numpy.nan
    y, group = label_of(random, signal, LIGHTGBM_LABELS.get(objective, "real"))
    if special == "lone leaf":
        x[:] = 1
    parameters = {
        "objective": objective, "boosting": boosting, "num_leaves": leaves, "max_depth": depth, "seed": 1,
        "learning_rate": 0.15, "num_threads": 1, "verbosity": -1, "min_data_in_leaf": 3,
        "min_data_per_group": 3, "cat_smooth": 1.0, "cat_l2": 1.0, "zero_as_missing": missing == "zero",
        "use_missing": missing != "off", "sigmoid": sigmoid
    }
    if objective.startswith("multiclass"):
        parameters["num_class"] = 4
    if boosting == "rf":
        parameters.update(bagging_freq=1, bagging_fraction=0.7)
    if special == "linear":
        parameters["linear_tree"] = True
    frame = x
    if categories == "pandas":
        import pandas

        words = [f"Ü{c} word" for c in range(100)]
        frame = pandas.DataFrame({f"x{i}": x[:, i] for i in range(x.shape[1])})
        for axis in categorical:
            codes = [words[int(c)] for c in x[:, axis]]
            frame[f"x{axis}"] = pandas.Categorical(codes, categories=sorted(set(codes),
                                                                            reverse=axis % 2 == 1))
            x[:, axis] = frame[f"x{axis}"].cat.codes
    choice = "auto" if categories == "pandas" else categorical
    data = lightgbm.Dataset(frame, y, group=group, categorical_feature=choice, free_raw_data=False)
    if special == "early stop":
        parameters["early_stopping_round"] = 3
        held = lightgbm.Dataset(frame, random.permutation(y), reference=data, categorical_feature=choice)
        booster = lightgbm.train(parameters, data, rounds, valid_sets=[held],
                                 **({} if lightgbm.__version__ > "3" else {"verbose_eval": False}))
    else:
        booster = lightgbm.train(parameters, data, rounds)
    path = work / "model.txt"
    booster.save_model(str(path))
    named = None
    if categories == "pandas":
        strange = frame.iloc[:200].copy()
        for axis in set(range(x.shape[1])) - set(categorical):
            strange[f"x{axis}"] = strange[f"x{axis}"].astype(F32)
        for axis in categorical:
            column = strange[f"x{axis}"].astype(object)
            column.iloc[::7] = "never seen"
            column.iloc[::11] = None
            seen = frame[f"x{axis}"].cat.categories
            strange[f"x{axis}"] = pandas.Categorical(column, categories=list(seen) + ["never seen"])
        named = strange, booster.predict(strange, num_threads=1)
    return lightgbm_case(path, x, categorical, objective, sigmoid, named)


def lightgbm_case(path, ordinary, categorical, objective, sigmoid, named=None):
    import lightgbm

    loaded = lightgbm.Booster(model_file=str(path))  # the file as the trainer reads it
    link = {
        "binary": "sigmoid", "cross_entropy": "sigmoid", "multiclassova": "sigmoid", "multiclass": "softmax"
    }.get(objective, "")
    run = lambda rows, **options: loaded.predict(numpy.ascontiguousarray(rows, F32), num_threads=1, **options)
    ensemble = read_lightgbm(path)
    # raw_score of a random forest is the sum, although predict() starts from the mean.
    return Case(path, ordinary, predict=run, score=lambda rows: ensemble.scale * run(rows, raw_score=True),
                leaves=lambda rows: run(rows, pred_leaf=True), ensemble=ensemble, categorical=categorical,
                link=link, slope=sigmoid if objective != "cross_entropy" else 1.0, float32=False, named=named,
                code=code_lightgbm)


def code_lightgbm(case, work, random):
    text = case.path.read_text().replace("\naverage_output\n", "\n")
    trees = text.count("\nleaf_value=")
    line = lambda found: "leaf_value=" + " ".join(map(str, codes(random, len(found[1].split()), trees)))
    coded = work / "coded.txt"
    coded.write_text(re.sub("^leaf_value=(.*)$", line, text, flags=re.M))
    return coded, lambda rows: case.reached(rows, read_lightgbm(coded))


def real_lightgbm(work, random, file):
    """A model that others trained; ordinary rows are drawn from the ranges that it saw."""
    path = pathlib.Path(os.environ["TONEARM_DATA"]) / "models" / file
    text = path.read_text()
    infos = re.search(r"^feature_infos=(.*)$", text, re.M).group(1).split()
    x = numpy.zeros((1000, len(infos)))
    for axis, info in enumerate(infos):
        if info.startswith("["):
            low, high = map(float, info[1:-1].split(":"))
            x[:, axis] = random.uniform(low, high, len(x))
        elif info != "none":
            x[:, axis] = random.choice([int(c) for c in info.split(":")], len(x))
    categorical = [axis for axis, info in enumerate(infos) if not info.startswith("[") and info != "none"]
    objective = re.search(r"^objective=(\w+)(?:.*sigmoid:([\d.]+))?", text, re.M)
    return lightgbm_case(path, x, categorical, objective.group(1), float(objective.group(2) or 1))


def code_xgboost(case, work, random):
    document = json.loads((work / "read.json").read_text())
    learner = document["learner"]
    base = "5E-1" if learner["objective"]["name"] in XGBOOST_LOGISTIC else "0E0"  # a score of 0
    parameters = learner["learner_model_param"]
    parameters["base_score"] = re.sub(r"[^\[\],]+", base, parameters["base_score"])
    booster = learner["gradient_booster"]
    if "weight_drop" in booster:
        booster["weight_drop"] = [1.0] * len(booster["weight_drop"])
    trees = booster.get("gbtree", booster)["model"]["trees"]
    for tree in trees:
        leaves = [node for node, child in enumerate(tree["left_children"]) if child < 0]
        for node, value in zip(leaves, codes(random, len(leaves), len(trees))):
            tree["split_conditions"][node] = float(value)
    coded = work / "coded.json"
    coded.write_text(json.dumps(document))
    return coded, lambda rows: case.reached(rows, read_xgboost(coded))


XGBOOST_LOGISTIC = ("binary:logistic", "reg:logistic")
XGBOOST_LABELS = {
    "binary:logistic": "binary", "reg:logistic": "share", "binary:logitraw": "binary",
    "multi:softprob": "classes", "rank:pairwise": "rank"
}


def train_xgboost(work, random, objective="binary:logistic", booster="gbtree", method="hist", missing=True,
                  categories="none", parallel=1, base=None, format="json", depth=6, rounds=10, rows=1500,
                  special=""):
    import xgboost

    x, signal = table(random, rows, missing)
    x, signal, categorical = with_categories(random, x, signal, categories)
    x = x.astype(F32)
    y, group = label_of(random, signal, XGBOOST_LABELS.get(objective, "real"))
    if special == "lone leaf":
        x[:] = 1
    parameters = {
        "objective": objective, "booster": booster, "tree_method": method, "num_parallel_tree": parallel,
        "max_depth": depth, "nthread": 1, "seed": 1, "subsample": 0.8 if parallel > 1 else 1.0,
        "min_child_weight": 0.5, "verbosity": 0
    }
    if base is not None:
        parameters["base_score"] = base
    if booster == "dart":
        parameters.update(rate_drop=0.4, one_drop=1)
    if objective == "multi:softprob":
        parameters["num_class"] = 4
    if categorical:
        parameters["max_cat_to_onehot"] = 100 if categories == "onehot" else 1
    types = ["c" if axis in categorical else "q" for axis in range(x.shape[1])]
    matrix = lambda rows, **options: xgboost.DMatrix(rows, feature_types=types, enable_categorical=True,
                                                     nthread=1, **options)
    data = matrix(x, label=y)
    if group is not None:
        data.set_group(group)
    options = {}
    if special == "early stop":
        options = {
            "evals": [(matrix(x, label=random.permutation(y)), "held")], "early_stopping_rounds": 3,
            "verbose_eval": False
        }
    trained = xgboost.train(parameters, data, rounds, **options)
    path = work / f"model.{format}"
    trained.save_model(str(path))
    trained.save_model(str(work / "read.json"))
    loaded = xgboost.Booster(model_file=str(path))
    loaded.set_param({"nthread": 1})

    link = {"binary:logistic": "sigmoid", "reg:logistic": "sigmoid",
            "multi:softprob": "softmax"}.get(objective, "")
    return Case(
        path,
        x,
        predict=loaded.inplace_predict,
        score=lambda rows: loaded.inplace_predict(rows, predict_type="margin"),
        leaves=lambda rows: loaded.predict(matrix(rows), pred_leaf=True),
        leaves_of_infinities=False,  # a DMatrix takes none
        ensemble=read_xgboost(work / "read.json"),
        categorical=categorical,
        link=link,
        code=code_xgboost)


def export_onnx(work, random, make, rows=600, missing=False, label="binary", **options):
    """`make` fits something on rows and labels, and returns an ONNX model, or its bytes."""
    import onnx

    x, signal = table(random, rows, missing)
    x = numpy.clip(x, -1e6, 1e6).astype(F32)
    y, _ = label_of(random, signal, label)
    made = make(x, y if label == "real" else y.astype(int), work, **options)
    path = work / "model.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    model = onnx.load(str(path))
    ensemble = read_onnx(model)
    operators = [node.op_type for node in model.graph.node]
    text = str(model.graph.node)
    link = ("sigmoid" if "LOGISTIC" in text or "Sigmoid" in operators else
            "softmax" if "SOFTMAX" in text or "Softmax" in operators else "")
    code = code_onnx if operators.count("TreeEnsembleRegressor") + operators.count(
        "TreeEnsembleClassifier") == 1 else None
    return Case(path, x, onnx_runtime(path), ensemble, link=link, code=code,
                tolerance=0 if ensemble else 1e-6)


def onnx_runtime(path):
    """A function of rows: the model's last output, as ONNX Runtime computes it."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name

    def predict(rows):
        found = session.run(None, {feed: rows})[-1]
        if isinstance(found, list):  # of a ZipMap
            found = [[entry[key] for key in sorted(entry)] for entry in found]
        return numpy.asarray(found, float).reshape(len(rows), -1)

    return predict


def code_onnx(case, work, random):
    import onnx

    model = onnx.load(str(case.path))
    node = next(node for node in model.graph.node if node.op_type.startswith("TreeEnsemble"))
    attributes = {item.name: item for item in node.attribute}
    for name, attribute in attributes.items():
        if name == "post_transform":
            attribute.s = b"NONE"
        if name == "aggregate_function":
            attribute.s = b"SUM"
        if name == "base_values":
            attribute.floats[:] = [0.0] * len(attribute.floats)
    kind = "class" if "class_ids" in attributes else "target"
    trees = len(set(attributes["nodes_treeids"].ints))
    weights = attributes[f"{kind}_weights"].floats
    weights[:] = codes(random, len(weights), trees)
    coded = work / "coded.onnx"
    onnx.save(model, str(coded))
    return coded, onnx_runtime(coded)


def sklearn_onnx(x, y, work, chain, zipmap=False):
    from skl2onnx import to_onnx
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(*[make() for make in chain]) if len(chain) > 1 else chain[0]()
    model.fit(x, y)
    classifier = hasattr(model, "predict_proba")
    return to_onnx(model, x[:1], options={id(model): {"zipmap": zipmap}} if classifier else None)


def lightgbm_onnx(x, y, work, **parameters):
    import lightgbm
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    kind = lightgbm.LGBMRegressor if parameters.pop("regression", False) else lightgbm.LGBMClassifier
    model = kind(n_jobs=1, verbosity=-1, n_estimators=10, **parameters).fit(x, y)
    return onnxmltools.convert_lightgbm(model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))],
                                        zipmap=False)


def xgboost_onnx(x, y, work, **parameters):
    import onnxmltools
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    kind = xgboost.XGBRegressor if parameters.pop("regression", False) else xgboost.XGBClassifier
    model = kind(n_jobs=1, n_estimators=10, **parameters).fit(x, y)
    return onnxmltools.convert_xgboost(model, initial_types=[("X", FloatTensorType([None, x.shape[1]]))])


def catboost_onnx(x, y, work, **parameters):
    import catboost

    kind = catboost.CatBoostRegressor if parameters.pop("regression", False) else catboost.CatBoostClassifier
    model = kind(iterations=20, thread_count=1, verbose=False, allow_writing_files=False,
                 **parameters).fit(x, y)
    model.save_model(str(work / "cat.onnx"), format="onnx")
    return (work / "cat.onnx").read_bytes()


# ----------------------------------------------------------------------------------- configurations


def mixed(random, count, **choices):
    """`count` combinations in which the values of each choice come equally often."""
    columns = []
    for values in choices.values():
        column = [values[i % len(values)] for i in range(count)]
        random.shuffle(column)
        columns.append(column)
    return [dict(zip(choices, row)) for row in zip(*columns)]


def configurations(seed):
    """All of them: name to (trainer, version, function, its arguments, must be refused)."""
    import random as standard

    random = standard.Random(seed)
    all_of = {}

    def add(trainer, make, arguments, version="", refused=False):
        words = [
            v if isinstance(v, str) else f"{k}={v}" for k, v in arguments.items()
            if not callable(v) and v not in ("", None) and k != "chain"
        ]
        name = " ".join([trainer, version, *words]).replace("  ", " ")
        while name in all_of:
            name += "'"
        all_of[name] = trainer, version, make, arguments, refused

    choices = dict(
        objective=[
            "binary", "binary", "regression", "regression_l1", "cross_entropy", "multiclass", "multiclassova",
            "lambdarank"
        ], boosting=["gbdt", "gbdt", "dart", "goss", "rf"], missing=["none", "nan", "zero", "off"],
        categories=["none", "few", "many", "pandas",
                    "odd"], leaves=[2, 4, 31, 255], depth=[-1, -1, 1, 3, 6, 12], rounds=[1, 7, 20, 40])
    for arguments in mixed(random, 170, **choices):
        if arguments["objective"] == "binary":
            arguments["sigmoid"] = random.choice([1.0, 2.0, 0.7])
        add("lightgbm", train_lightgbm, arguments)
    for version in OLD_VERSIONS["lightgbm"]:
        choices["categories"] = ["none", "few", "many", "odd"]
        for arguments in mixed(random, 12, **choices):
            add("lightgbm", train_lightgbm, arguments, version)
    for objective in ("huber", "quantile", "fair", "mape", "rank_xendcg"):
        add("lightgbm", train_lightgbm, {"objective": objective, "missing": "nan"})
    for objective in ("binary", "regression", "multiclass"):
        add("lightgbm", train_lightgbm, {"objective": objective, "special": "lone leaf", "rounds": 3})
        add("lightgbm", train_lightgbm,
            {"objective": objective, "special": "early stop", "missing": "nan", "rounds": 50})
    add("lightgbm", train_lightgbm, {"rounds": 300, "missing": "nan", "leaves": 31})
    for objective in ("binary", "multiclass"):
        add("lightgbm", train_lightgbm, {"objective": objective, "missing": "nan", "storage": "int16"})
    add("lightgbm", train_lightgbm, {"objective": "regression", "special": "linear"}, refused=True)
    if os.environ.get("TONEARM_DATA"):
        for path in sorted((pathlib.Path(os.environ["TONEARM_DATA"]) / "models").glob("*.lightgbm.txt")):
            add("lightgbm", real_lightgbm, {"file": path.name})

    choices = dict(
        objective=[
            "binary:logistic", "binary:logistic", "reg:squarederror", "reg:logistic", "binary:logitraw",
            "multi:softprob", "rank:pairwise"
        ], booster=["gbtree", "gbtree", "dart"], method=["hist", "exact", "approx"],
        missing=[True, True, False], categories=["none", "none", "onehot", "partition"], parallel=[1, 1, 4],
        base=[None, None, 0.3], format=["json", "ubj"], depth=[1, 2, 4, 8, 12], rounds=[1, 5, 15])
    for version, count in [("", 90), *((version, 12) for version in OLD_VERSIONS["xgboost"])]:
        for arguments in mixed(random, count, **choices):
            if arguments["method"] == "exact":
                arguments["categories"] = "none"
            add("xgboost", train_xgboost, arguments, version)
    for special in ("lone leaf", "early stop"):
        add("xgboost", train_xgboost, {"special": special, "rounds": 30})
    add("xgboost", train_xgboost, {"rounds": 300})

    add_onnx(add)
    return all_of


def add_onnx(add):
    import functools

    from sklearn import ensemble, impute, linear_model, neural_network, preprocessing, svm, tree

    part = functools.partial

    def scikit(text, *chain, **options):
        add("onnx", export_onnx, {"make": sklearn_onnx, "text": text, "chain": chain, **options})

    for depth, (label, suffix) in itertools.product(
        (1, 4, 12), (("binary", "Classifier"), ("classes", "Classifier"), ("real", "Regressor"))):
        for name in ("DecisionTree", "RandomForest", "ExtraTrees", "GradientBoosting",
                     "HistGradientBoosting"):
            options = {"max_depth": depth, "random_state": 1}
            if name in ("RandomForest", "ExtraTrees", "GradientBoosting"):
                options["n_estimators"] = 8
            if name == "HistGradientBoosting":
                options["max_iter"] = 8
            make = getattr(tree if name == "DecisionTree" else ensemble, name + suffix)
            scikit(f"{name} {depth}", part(make, **options), label=label,
                   missing=name == "HistGradientBoosting")
    scaled_tree = part(tree.DecisionTreeRegressor, max_depth=8)
    for scaler in ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler"):
        make = getattr(preprocessing, scaler)
        scikit(f"{scaler} linear", make, linear_model.LinearRegression, label="real")
        scikit(f"{scaler} logistic", make, linear_model.LogisticRegression)
        scikit(f"{scaler} tree", make, scaled_tree, label="real")
    scikit("imputer logistic", impute.SimpleImputer, preprocessing.StandardScaler,
           linear_model.LogisticRegression, missing=True)
    for norm in ("l1", "l2", "max"):
        scikit(f"normalizer {norm} logistic", part(preprocessing.Normalizer, norm=norm),
               linear_model.LogisticRegression)
    scikit("softmax regression", preprocessing.StandardScaler, linear_model.LogisticRegression,
           label="classes")
    scikit("ridge", preprocessing.StandardScaler, linear_model.Ridge, label="real")
    scikit("linear SVM regression", preprocessing.StandardScaler, svm.LinearSVR, label="real")
    for activation in ("relu", "tanh", "logistic", "identity"):
        options = {"hidden_layer_sizes": (16, 8), "activation": activation, "max_iter": 60, "random_state": 1}
        for label, make in (("binary", "MLPClassifier"), ("classes", "MLPClassifier"), ("real",
                                                                                        "MLPRegressor")):
            scikit(f"{make} {activation}", preprocessing.StandardScaler,
                   part(getattr(neural_network, make), **options), label=label)
    for text, make in (("LightGBM", lightgbm_onnx), ("XGBoost", xgboost_onnx), ("CatBoost", catboost_onnx)):
        for depth, label in itertools.product((1, 4, 8), ("binary", "classes", "real")):
            depth_name = "depth" if text == "CatBoost" else "max_depth"
            add(
                "onnx", export_onnx, {
                    "make": make, "text": text, "missing": text == "XGBoost", "label": label,
                    depth_name: depth, "regression": label == "real"
                })
