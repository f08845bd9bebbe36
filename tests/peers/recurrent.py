"""Imports recurrent networks as PyTorch and Keras export them to ONNX, and compares what Tonearm computes
with a float64 evaluation of the same graph, row by row, and so with ONNX Runtime's error.

The networks have random weights. Rows are ordinary ones, zeros, rows that begin with a padding of 9, and
large numbers. A row matches if each output is no farther from float64 than 1e-5, and than the largest of
these:
  * twice ONNX Runtime's largest error in that network,
  * twice as far as the float64 output itself moves where weights and inputs do by half a unit in the last
    place,
  * a rounding of the output.
Distances are relative where an output is above 1. Rows that such moves take farther than 1e-6, because large
numbers cancel, tell little about who computes better. They are counted apart and match if the output is as
near as twice ONNX Runtime's of that row, or as 32 such moves.

Networks called `nodes` are written here with ONNX's own tools, because tf2onnx makes loops of SimpleRNN,
Masking and Keras 3's GRU, which cannot be imported: that is tried too.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import warnings
import zlib

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy

from exactness import Blob, Refused, imported

ROOT = pathlib.Path(__file__).resolve().parents[2]
F32, F64 = numpy.float32, numpy.float64
STEPS, WIDTH, OTHER = 12, 5, 3

# ------------------------------------------------------------------------------------ float64


def logistic(x):
    with numpy.errstate(over="ignore"):
        return 1 / (1 + numpy.exp(-x))


def run_direction(op, x, w, r, wb, rb, lengths, backward, before_reset, activation):
    """One direction: the states of all steps, and the last ones. x: [steps, rows, values]."""
    steps, rows, units = x.shape[0], x.shape[1], r.shape[-1]
    h, c, states = numpy.zeros((rows, units)), numpy.zeros((rows, units)), numpy.zeros((steps, rows, units))
    part = lambda array, gate: array[gate * units:(gate + 1) * units]
    for n in range(steps):
        # Each row reads its own last step first where the direction is backward.
        step = numpy.where(backward, lengths - 1 - n, n)
        known = (n < lengths)[:, None]
        at = x[numpy.clip(step, 0, steps - 1), numpy.arange(rows)]
        gate = lambda g: at @ part(w, g).T + part(wb, g) + h @ part(r, g).T + part(rb, g)
        if op == "LSTM":  # i, o, f, c
            new_c = logistic(gate(2)) * c + logistic(gate(0)) * numpy.tanh(gate(3))
            new_h = logistic(gate(1)) * numpy.tanh(new_c)
            c = numpy.where(known, new_c, c)
        elif op == "GRU":  # z, r, h
            z, reset = logistic(gate(0)), logistic(gate(1))
            from_input = at @ part(w, 2).T + part(wb, 2)
            from_state = (reset * (h @ part(r, 2).T + part(rb, 2)) if before_reset else
                          (reset * h) @ part(r, 2).T + part(rb, 2))
            new_h = (1 - z) * numpy.tanh(from_input + from_state) + z * h
        else:
            new_h = numpy.maximum(gate(0), 0) if activation == "relu" else numpy.tanh(gate(0))
        h = numpy.where(known, new_h, h)
        places = known[:, 0]
        states[step[places], numpy.flatnonzero(places)] = new_h[places]
    return states, h


def run_recurrent(op, attributes, x, w, r, b=None, lengths=None, *_):
    directions, units = r.shape[0], r.shape[2]
    gates = r.shape[1] // units
    b = numpy.zeros((directions, 2 * gates * units)) if b is None else b
    lengths = numpy.full(x.shape[1], x.shape[0]) if lengths is None else lengths.astype(int)
    activations = [text.decode().lower() for text in attributes.get("activations", [])]
    backward = [attributes.get("direction", b"forward") == b"reverse", True]
    found = [
        run_direction(op, x, w[d], r[d], b[d][:gates * units], b[d][gates * units:], lengths, backward[d],
                      attributes.get("linear_before_reset", 0),
                      activations[d] if op == "RNN" and activations else "") for d in range(directions)
    ]
    return numpy.stack([states for states, _ in found], 1), numpy.stack([last for _, last in found])


def slice_of(x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    where = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps):
        end = None if step < 0 and end < -x.shape[axis] else int(end)
        where[int(axis)] = slice(int(start), end, int(step))
    return x[tuple(where)]


def reshape(x, shape):
    return x.reshape([x.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def reverse_sequence(x, lengths, time, batch):
    x = numpy.moveaxis(x, (time, batch), (0, 1)).copy()
    for i, length in enumerate(lengths.astype(int)):
        x[:length, i] = x[:length, i][::-1]
    return numpy.moveaxis(x, (0, 1), (time, batch))


def softmax(x):
    e = numpy.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def float64_outputs(model, feeds, move=lambda x: x):
    """The first output of a graph, all of it in float64; `move` is applied to weights and inputs."""
    import onnx
    to_array, wide = onnx.numpy_helper.to_array, lambda x: move(x.astype(F64)) if x.dtype == F32 else x
    values = {tensor.name: wide(to_array(tensor)) for tensor in model.graph.initializer}
    values |= {name: wide(array) for name, array in feeds.items()}
    for node in model.graph.node:
        a = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        x = [values[name] if name else None for name in node.input]
        op = node.op_type
        listed = lambda name, i: a[name] if name in a else x[i] if len(x) > i else None
        if op in ("LSTM", "GRU", "RNN"):
            made = run_recurrent(op, a, *x)
        else:
            made = [{
                "Constant":
                lambda: wide(to_array(a["value"])),
                "Identity":
                lambda: x[0],
                "Shape":
                lambda: numpy.array(x[0].shape[a.get("start", 0):a.get("end", None)]),
                "Cast":
                lambda: x[0],
                "Gather":
                lambda: numpy.take(x[0], x[1].astype(int), a.get("axis", 0)),
                "Unsqueeze":
                lambda: numpy.expand_dims(x[0], tuple(int(i) for i in listed("axes", 1))),
                "Squeeze":
                lambda: numpy.squeeze(x[0], tuple(int(i) for i in listed("axes", 1))),
                "Concat":
                lambda: numpy.concatenate(x, a["axis"]),
                "ConstantOfShape":
                lambda: numpy.full(x[0].astype(int),
                                   wide(to_array(a["value"]))[0]),
                "Expand":
                lambda: x[0] * numpy.ones(x[1].astype(int), x[0].dtype),
                "Transpose":
                lambda: numpy.transpose(x[0], a["perm"]),
                "Slice":
                lambda: slice_of(*x),
                "Reshape":
                lambda: reshape(*x),
                "Flatten":
                lambda: x[0].reshape(len(x[0]), -1),
                "ReverseSequence":
                lambda: reverse_sequence(x[0], x[1], a["time_axis"], a["batch_axis"]),
                "Gemm":
                lambda: x[0] @ (x[1].T if a.get("transB") else x[1]) + x[2],
                "MatMul":
                lambda: x[0] @ x[1],
                "Add":
                lambda: x[0] + x[1],
                "Sub":
                lambda: x[0] - x[1],
                "Mul":
                lambda: x[0] * x[1],
                "Div":
                lambda: x[0] / x[1],
                "ReduceMean":
                lambda: x[0].mean(tuple(int(i) for i in listed("axes", 1)),
                                  keepdims=bool(a.get("keepdims", 1))),
                "BatchNormalization":
                lambda: batch_normalization(a.get("epsilon", 1e-5), *x),
                "Sigmoid":
                lambda: logistic(x[0]),
                "Tanh":
                lambda: numpy.tanh(x[0]),
                "Relu":
                lambda: numpy.maximum(x[0], 0),
                "Softmax":
                lambda: softmax(x[0]),
            }[op]()]
        values |= dict(zip(node.output, made))
    return values[model.graph.output[0].name]


def batch_normalization(epsilon, x, scale, bias, mean, variance):
    along = lambda numbers: numbers.reshape([-1] + [1] * (x.ndim - 2))
    return (x - along(mean)) / numpy.sqrt(along(variance) + epsilon) * along(scale) + along(bias)


# ------------------------------------------------------------------------------------ PyTorch


def torch_networks(work):
    """Writes them; yields names."""
    import torch

    torch.set_num_threads(1)

    class Network(torch.nn.Module):
        """One or two recurrent branches, joined with columns of their own, before a dense head."""

        def __init__(self, kind, layers, both, first, head, joined=False, norm=False, scale=1.0, **options):
            super().__init__()
            make = getattr(torch.nn, kind)
            self.layer = make(WIDTH, 8, layers, bidirectional=both, batch_first=first, **options)
            self.other = torch.nn.LSTM(OTHER, 6, batch_first=first) if joined else None
            self.first, self.head = first, head
            width = 8 * (2 if both else 1) * (STEPS if head == "flat" else 1) + (10 if joined else 0)
            self.norm = torch.nn.BatchNorm1d(width) if norm else None
            self.dense = torch.nn.Linear(width, 3)
            with torch.no_grad():
                for parameter in self.layer.parameters():
                    parameter *= scale
                if norm:
                    self.norm.running_mean.normal_()
                    self.norm.running_var.uniform_(0.5, 2)

        def forward(self, x, *more):
            if self.head == "packed":
                x = torch.nn.utils.rnn.pack_padded_sequence(x, more[0], self.first)
            y, state = self.layer(x)
            state = state[0] if isinstance(state, tuple) else state
            z = {
                "last": lambda: y[:, -1] if self.first else y[-1],
                "state": lambda: torch.cat([state[-2], state[-1]], 1)
                if self.layer.bidirectional else state[-1],
                "packed": lambda: state[-1],
                "flat": lambda: y.reshape(y.shape[0], -1),
                "mean": lambda: y.mean(1 if self.first else 0),
            }[self.head]()
            if self.other is not None:
                z = torch.cat([z, self.other(more[0])[1][0][-1], more[1]], 1)
            z = self.norm(z) if self.norm is not None else z
            return torch.sigmoid(self.dense(z))

    choices = [(kind, layers, both, first, head) for kind in ("LSTM", "GRU", "RNN") for layers in (1, 2, 3)
               for both in (False, True) for first, head in ((True, "last"), (False, "state"))]
    choices = [(*choice, {}) for choice in choices]
    for kind in ("LSTM", "GRU", "RNN"):
        choices += [(kind, 1, True, True, "flat", {}), (kind, 1, False, True, "mean", {}),
                    (kind, 2, False, True, "packed", {}), (kind, 1, False, False, "state", {"bias": False}),
                    (kind, 1, True, True, "state", {"joined": True}),
                    (kind, 1, True, True, "state", {"norm": True}),
                    (kind, 2, True, True, "last", {"scale": 2.0}),
                    (kind, 2, False, True, "last", {"dynamo": True})]
    choices += [("RNN", layers, both, True, "last", {"nonlinearity": "relu"}) for layers in (1, 2)
                for both in (False, True)]
    for number, (kind, layers, both, first, head, options) in enumerate(choices):
        torch.manual_seed(number)
        options = dict(options)
        dynamo = options.pop("dynamo", False)
        name = " ".join([
            "torch", kind, f"layers={layers}", "both" if both else "forward",
            "batch-first" if first else "time-first", head, *(f"{k}={v}" for k, v in options.items()),
            "torch.export" if dynamo else "torchscript"
        ])
        network = Network(kind, layers, both, first, head, **options).eval()
        axis = 0 if first else 1
        shape = lambda width: (2, STEPS, width) if first else (STEPS, 2, width)
        inputs, axes = [torch.zeros(shape(WIDTH))], [axis]
        if options.get("joined"):
            inputs, axes = inputs + [torch.zeros(shape(OTHER)), torch.zeros(2, 4)], [axis, axis, 0]
        if head == "packed":
            inputs, axes = inputs + [torch.tensor([STEPS, STEPS - 1])], [axis, 0]
        path = work / f"torch-{number}.onnx"
        names = ["steps", "more", "row"][:len(inputs)] if head != "packed" else ["steps", "lengths"]
        if dynamo:
            rows = torch.export.Dim("rows")
            torch.onnx.export(network,
                              tuple(inputs),
                              path,
                              dynamo=True,
                              external_data=False,
                              verbose=False,
                              dynamic_shapes=({0: rows}, *[({0: rows}, )] * (len(inputs) > 1)))
        else:
            torch.onnx.export(network,
                              tuple(inputs),
                              path,
                              dynamo=False,
                              input_names=names,
                              dynamic_axes={name: {at: "rows"}
                                            for name, at in zip(names, axes)})
        yield name, path, False


# -------------------------------------------------------------------------------------- Keras


def keras_networks(work):
    import keras
    import tensorflow
    import tf2onnx
    import tf_keras

    tensorflow.config.threading.set_intra_op_parallelism_threads(1)
    layers = keras.layers

    def chain(*parts):
        return keras.Sequential([layers.Input((STEPS, WIDTH), name="steps"), *parts])

    old = tf_keras.layers  # of Keras 2, whose GRU is exported as one

    def keras_2(*parts):
        return tf_keras.Sequential(
            [old.Input((STEPS, WIDTH), name="steps"), *parts,
             old.Dense(1, activation="sigmoid")])

    def joined():
        steps, more = layers.Input((STEPS, WIDTH), name="steps"), layers.Input((STEPS, OTHER), name="more")
        row = layers.Input((4, ), name="row")
        branches = [
            layers.LSTM(8)(steps),
            layers.Bidirectional(layers.LSTM(6))(more),
            layers.Dense(5, activation="relu")(row)
        ]
        return keras.Model([steps, more, row],
                           layers.Dense(1, activation="sigmoid")(layers.Concatenate()(branches)))

    both, lstm = layers.Bidirectional, layers.LSTM
    networks = {
        "LSTM":
        lambda: chain(lstm(8), layers.Dense(1, activation="sigmoid")),
        "LSTM of three layers":
        lambda: chain(lstm(8, return_sequences=True), lstm(8, return_sequences=True), lstm(6),
                      layers.Dense(3, activation="softmax")),
        "two Bi-LSTM":
        lambda: chain(both(lstm(8, return_sequences=True)), both(lstm(6)),
                      layers.Dense(1, activation="sigmoid")),
        "LSTM backward":
        lambda: chain(lstm(8, go_backwards=True), layers.Dense(1, activation="sigmoid")),
        "LSTM, normalised":
        lambda: chain(lstm(8, return_sequences=True), layers.BatchNormalization(), layers.Dropout(0.2), lstm(
            6), layers.BatchNormalization(), layers.Dense(1, activation="sigmoid")),
        "LSTM, Dense over steps":
        lambda: chain(layers.Dense(6, activation="relu"), lstm(8, return_sequences=True),
                      layers.Dense(4, activation="tanh"), layers.Flatten(),
                      layers.Dense(1, activation="sigmoid")),
        "LSTM, mean of steps":
        lambda: chain(lstm(8, return_sequences=True), layers.GlobalAveragePooling1D(),
                      layers.Dense(1, activation="sigmoid")),
        "three inputs":
        joined,
        "2 GRU":
        lambda: keras_2(old.GRU(8)),
        "2 GRU of three layers":
        lambda: keras_2(old.GRU(8, return_sequences=True), old.GRU(8, return_sequences=True), old.GRU(6)),
        "2 two Bi-GRU":
        lambda: keras_2(old.Bidirectional(old.GRU(8, return_sequences=True)), old.Bidirectional(old.GRU(6))),
        "GRU, a loop":
        lambda: chain(layers.GRU(8), layers.Dense(1, activation="sigmoid")),
        "SimpleRNN, a loop":
        lambda: chain(layers.SimpleRNN(8), layers.Dense(1, activation="sigmoid")),
        "LSTM of masked steps, a loop":
        lambda: chain(layers.Masking(9.0), lstm(8), layers.Dense(1)),
    }
    for number, (name, make) in enumerate(networks.items()):
        keras.utils.set_random_seed(number)
        tf_keras.utils.set_random_seed(number)
        network = make()
        for layer in network.layers:
            if isinstance(layer, layers.BatchNormalization):
                layer.set_weights([numpy.random.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
        path = work / f"keras-{number}.onnx"
        signature = [
            tensorflow.TensorSpec((None, *x.shape[1:]), tensorflow.float32, name=x.name)
            for x in network.inputs
        ]
        run = tensorflow.function(lambda *x: network(list(x) if len(x) > 1 else x[0], training=False))
        tf2onnx.convert.from_function(run, input_signature=signature, opset=17, output_path=str(path))
        yield "keras " + name, path, "a loop" in name


# -------------------------------------------------------------------------------------- nodes


def written_networks(work):
    """Single nodes, with every attribute that no exporter of these uses."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    number = 0
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            for before in ((0, 1) if op == "GRU" else (0, )):
                random = numpy.random.default_rng(number)
                count = 2 if direction == "bidirectional" else 1
                make = lambda name, *shape: numpy_helper.from_array(
                    random.normal(0, 0.5, shape).astype(F32), name)
                options = {"linear_before_reset": before} if op == "GRU" else {}
                value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                graph = helper.make_graph([
                    helper.make_node("Transpose", ["steps"], ["x"], perm=[1, 0, 2]),
                    helper.make_node(
                        op, ["x", "W", "R", "B"], ["Y", "Y_h"], hidden_size=8, direction=direction, **
                        options),
                    helper.make_node("Transpose", ["Y"], ["states"], perm=[2, 0, 1, 3]),
                    helper.make_node("Reshape", ["states", "shape"], ["out"])
                ], "network", [value("steps", "rows", STEPS, WIDTH)
                               ], [value("out", "rows", STEPS * count * 8)], [
                                   make("W", count, gates * 8, WIDTH),
                                   make("R", count, gates * 8, 8),
                                   make("B", count, gates * 16),
                                   numpy_helper.from_array(numpy.array([0, STEPS * count * 8]), "shape")
                               ])
                model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
                path = work / f"nodes-{number}.onnx"
                onnx.save(model, str(path))
                yield " ".join(["nodes", op, direction,
                                *(f"{k}={v}" for k, v in options.items())]), path, False
                number += 1


EXPORTERS = {"torch": torch_networks, "keras": keras_networks, "nodes": written_networks}

# ---------------------------------------------------------------------------------- comparison


def rows_of(shapes, random, count=60):
    """Kinds of rows; each a list of inputs, [rows, ...]."""
    ordinary = lambda: [random.normal(0, 1, (count, *shape)) for shape in shapes]
    padded, sparse = ordinary(), ordinary()
    for values in padded:
        for row in values if values.ndim == 3 else []:
            row[:random.integers(values.shape[1])] = 9
    for values in sparse:
        values[random.random(values.shape) < 0.7] = 0
    kinds = [ordinary(), [numpy.zeros((2, *shape)) for shape in shapes], padded, sparse]
    for size in (30, 1e3, 1e5):
        kinds.append([random.uniform(-size, size, (count, *shape)) for shape in shapes])
    return [[values.astype(F32) for values in inputs] for inputs in kinds]


def compare(name, path, must_refuse, build, work, seed):
    import onnx
    import onnxruntime

    try:
        blob, _ = imported(path, build, work)
    except Refused as error:
        return {"name": name, "refused": str(error), "error": "" if must_refuse else "not imported"}
    if must_refuse:
        return {"name": name, "error": "imported, and should have been refused"}
    model = onnx.load(str(path))
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    shapes, axes, types = [], [], []
    for value in session.get_inputs():
        axes.append(
            next(axis for axis, size in enumerate(value.shape) if isinstance(size, str) or size is None))
        shapes.append([size for axis, size in enumerate(value.shape) if axis != axes[-1]])
        types.append(numpy.int64 if "int64" in value.type else F32)
    random = numpy.random.default_rng([seed, zlib.crc32(name.encode())])
    ours, theirs, moved = [], [], []
    for inputs in rows_of(shapes, random):
        count = len(inputs[0])
        for i, of_type in enumerate(types):
            if of_type is not F32:  # lengths
                inputs[i] = random.integers(1, STEPS + 1, inputs[i].shape).astype(F32)
        flat = numpy.concatenate([values.reshape(count, -1) for values in inputs], 1)
        feeds = {
            value.name: numpy.moveaxis(values, 0, axis).astype(of_type)
            for value, values, axis, of_type in zip(session.get_inputs(), inputs, axes, types)
        }
        exact = float64_outputs(model, feeds)
        off = lambda found: (abs(found.reshape(count, -1) - exact.reshape(count, -1)) / numpy.maximum(
            1, abs(exact.reshape(count, -1)))).max(1)
        ours += list(off(blob.evaluate(flat)))
        theirs += list(off(session.run(None, feeds)[0]))
        by_half_an_ulp = lambda x: x * (1 + 2.0**-24 * random.choice([-1, 1], x.shape))
        moved += list(numpy.max([off(float64_outputs(model, feeds, by_half_an_ulp)) for _ in range(4)], 0))
    ours, theirs, moved = map(numpy.array, (ours, theirs, moved))
    bad = moved > 1e-6
    good_theirs = theirs[~bad].max()
    fits = numpy.where(bad, ours <= numpy.maximum(2 * theirs, 32 * moved),
                       (ours <= 1e-5) & (ours <= numpy.maximum(2 * moved, max(2 * good_theirs, 2.0**-23))))
    result = {
        "name": name, "rows": int((~bad).sum()), "matched": int((fits & ~bad).sum()), "bad": int(bad.sum()),
        "bad matched": int((fits & bad).sum()), "ours": float(ours[~bad].max()), "theirs": float(good_theirs),
        "ratios": (ours[bad] / numpy.maximum(theirs[bad], 2.0**-30)).tolist(), "error": ""
    }
    for i in numpy.flatnonzero(~fits):
        result["error"] += f"row {i}: {ours[i]:.3g}, ONNX Runtime {theirs[i]:.3g}, moves by {moved[i]:.3g}; "
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(EXPORTERS), help="exporters, separated by commas")
    parser.add_argument("--match", default="", help="only networks with this in their name")
    parser.add_argument("--seed", type=int, default=1, help="of the rows")
    parser.add_argument("--json", help="write all results to a file")
    parser.add_argument("--build",
                        default=str(ROOT / "build/release"),
                        help="folder of bin/tonearm and lib/libtonearm.a")
    parser.add_argument("--work", default=str(ROOT / "build/peers/recurrent"))
    parser.add_argument("--export", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    work, build = pathlib.Path(arguments.work), pathlib.Path(arguments.build)
    work.mkdir(parents=True, exist_ok=True)
    warnings.filterwarnings("ignore")
    if arguments.export:  # in a process of its own: TensorFlow and PyTorch do not share one well
        for name, path, must_refuse in EXPORTERS[arguments.export](work):
            print("exported " + json.dumps([name, str(path), must_refuse]), flush=True)
        return 0

    Blob.link(build, work)
    Blob.load(work)
    results = []
    for exporter in arguments.only.split(","):
        command = [sys.executable, __file__, "--export", exporter, "--work", arguments.work]
        run = subprocess.run(command, capture_output=True, text=True)
        lines = [
            line.removeprefix("exported ") for line in run.stdout.splitlines() if line.startswith("exported ")
        ]
        if run.returncode != 0:
            results.append({"name": exporter, "error": f"ended with {run.returncode}: {run.stderr[-1000:]}"})
        for name, path, must_refuse in map(json.loads, lines):
            if arguments.match not in name:
                continue
            results.append(compare(name, pathlib.Path(path), must_refuse, build, work, arguments.seed))
            show(results[-1])
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))
    return summary(results)


def show(result):
    state = "FAILED" if result["error"] else "ok"
    numbers = (f"{result['matched']}/{result['rows']} and {result['bad matched']}/{result['bad']}; "
               f"ours {result['ours']:.2e}, ONNX Runtime {result['theirs']:.2e}"
               if "rows" in result else "refused")
    print(f"{state:6} {numbers}  {result['name']}  {result['error']}", flush=True)
    if result["error"] and "refused" in result:
        print("       " + result["refused"])


def summary(results):
    """Prints the counts, matched / tried; returns the exit status."""
    print(
        f"\n{'':6} {'networks':>12} {'rows':>15}   largest error: ours, theirs; badly conditioned rows, "
        "median of our error by theirs")
    for exporter in (*EXPORTERS, "total"):
        group = [r for r in results if "rows" in r and exporter in (r["name"].split()[0], "total")]
        if not group:
            continue
        total = lambda key: sum(r[key] for r in group)
        ratios = [ratio for r in group for ratio in r["ratios"]]
        print(f"{exporter:6} {sum(not r['error'] for r in group):5} / {len(group):4} "
              f"{total('matched'):7} / {total('rows'):5}   {max(r['ours'] for r in group):.2e}, "
              f"{max(r['theirs'] for r in group):.2e}; {total('bad matched')} / {total('bad')}, "
              f"{numpy.median(ratios) if ratios else 0:.2f}")
    for result in results:
        if "refused" in result and not result["error"]:
            print(f"refused, as it should be: {result['name']}: {result['refused']}")
        elif "rows" not in result and result["error"]:
            print(f"FAILED: {result['name']}: {result['error']}")
    return 1 if not results or any(r["error"] for r in results) else 0


if __name__ == "__main__":
    sys.exit(main())
