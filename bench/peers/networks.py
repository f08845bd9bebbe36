"""Networks beside each other: the same weights in every engine's own format, one row or one step at a time through its
C interface, from the raw float32 inputs to the outputs, on one thread.

    W5s      LSTM of 64 units over 70 inputs, one step from the state before: what a player computes when a track ends
    W4       two stacked bidirectional LSTMs of 116 units over the 13 columns of a row, dense sigmoid
    W6       dense 15-14-120-80-2, relu, softmax
    W7       logistic regression on 70 features
    encoder  GRU of 32 units over 40 inputs, one step

Writes each network with fixed random weights for every engine, checks that all of them compute what a float64 reference
does, times them in interleaved rounds (networks.c), and prints a table, and what Tonearm reaches beside what is
asked of it. Times are medians over rounds with the interquartile range.
"""

import argparse
import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy
import onnx
import onnx.helper
import onnx.numpy_helper

from measuring import (BUILD, KERNELS, ROOT, build_program, child_cpu_seconds, machine, machine_text, package_file, plot, progress,
                       quartiles, size_text, table_text, time_text)

ROWS = 1024
WINDOW = 20  # steps that a general runtime looks at anew when a track has ended
SAME = 1e-5  # how far a float32 engine may be from the float64 reference
LOSSY = 0.25  # the same of engines with rounded weights: more is no rounding, but a mistake
PACKAGES = ["onnxruntime", "onnx", "torch", "ai-edge-litert", "tensorflow", "tf_keras"]


# ------------------------------------------------------------------------------------------ workloads

def sigmoid(x):
    return 1 / (1 + numpy.exp(-x))


class Lstm:
    """Rows i, f, g, o."""

    def __init__(self, random, inputs, units):
        bound = units ** -0.5
        draw = lambda *shape: random.uniform(-bound, bound, shape).astype(numpy.float32)
        self.inputs, self.units = inputs, units
        self.input, self.recurrent, self.bias = draw(4 * units, inputs), draw(4 * units, units), draw(4 * units)

    def arrays(self):
        return [self.input, self.recurrent, self.bias]

    def step(self, x, state):
        """Of a batch in columns, as everything here."""
        h, c = state
        i, f, g, o = numpy.split(self.input @ x + self.recurrent @ h + self.bias.astype(numpy.float64)[:, None], 4)
        c = sigmoid(f) * c + sigmoid(i) * numpy.tanh(g)
        return sigmoid(o) * numpy.tanh(c), c

    def empty(self, batch):
        return numpy.zeros((self.units, batch)), numpy.zeros((self.units, batch))

    def run(self, sequence, backward=False):
        """The state h after each step, in the order of the steps."""
        states, state = [None] * len(sequence), self.empty(sequence[0].shape[1])
        order = range(len(sequence))
        for n in reversed(order) if backward else order:
            state = self.step(sequence[n], state)
            states[n] = state[0]
        return states

    def onnx(self):
        """Rows i, o, f, c."""
        order = lambda array: numpy.concatenate([numpy.split(array, 4)[g] for g in (0, 3, 1, 2)])
        bias = numpy.concatenate([order(self.bias), numpy.zeros(4 * self.units, numpy.float32)])
        return [order(self.input)[None], order(self.recurrent)[None], bias[None]]

    def torch(self):
        return [self.input, self.recurrent, self.bias, numpy.zeros_like(self.bias)]

    def keras(self):
        return [self.input.T, self.recurrent.T, self.bias]


class Gru:
    """Rows r, z, n; recurrent_bias is that of n."""

    def __init__(self, random, inputs, units):
        bound = units ** -0.5
        draw = lambda *shape: random.uniform(-bound, bound, shape).astype(numpy.float32)
        self.inputs, self.units = inputs, units
        self.input, self.recurrent, self.bias = draw(3 * units, inputs), draw(3 * units, units), draw(3 * units)
        self.recurrent_bias = draw(units)

    def arrays(self):
        return [self.input, self.recurrent, self.bias, self.recurrent_bias]

    def step(self, x, state):
        (h,) = state
        of_input = numpy.split(self.input @ x + self.bias.astype(numpy.float64)[:, None], 3)
        of_state = numpy.split(self.recurrent @ h, 3)
        r, z = sigmoid(of_input[0] + of_state[0]), sigmoid(of_input[1] + of_state[1])
        n = numpy.tanh(of_input[2] + r * (of_state[2] + self.recurrent_bias[:, None]))
        return ((1 - z) * n + z * h,)

    def empty(self, batch):
        return (numpy.zeros((self.units, batch)),)

    def all_recurrent_bias(self):
        return numpy.concatenate([numpy.zeros(2 * self.units, numpy.float32), self.recurrent_bias])

    def onnx(self):
        """Rows z, r, h."""
        order = lambda array: numpy.concatenate([numpy.split(array, 3)[g] for g in (1, 0, 2)])
        bias = numpy.concatenate([order(self.bias), order(self.all_recurrent_bias())])
        return [order(self.input)[None], order(self.recurrent)[None], bias[None]]

    def keras(self):
        weights, recurrent, bias = self.onnx()
        return [weights[0].T, recurrent[0].T, bias.reshape(2, -1)]

    def torch(self):
        return [self.input, self.recurrent, self.bias, self.all_recurrent_bias()]


class Dense:
    def __init__(self, random, inputs, outputs):
        bound = (6 / (inputs + outputs)) ** 0.5
        self.weights = random.uniform(-bound, bound, (outputs, inputs)).astype(numpy.float32)
        self.bias = random.uniform(-0.1, 0.1, outputs).astype(numpy.float32)

    def arrays(self):
        return [self.weights, self.bias]

    def __call__(self, x):
        return self.weights @ x.astype(numpy.float64) + self.bias[:, None]


class Workload:
    """A network in every engine's format, in `folder`, and the rows it is timed on."""

    def __init__(self, out):
        self.random = numpy.random.default_rng(5)
        self.build()
        # Rows behind the last are the rest of the last window.
        self.rows = self.random.normal(size=(ROWS + WINDOW, self.columns)).astype(numpy.float32)
        sources = b"".join((ROOT / "bench/peers" / name).read_bytes()
                           for name in ("networks.py", "networks_eigen.cpp", "networks_torch.cpp", "networks_litert.c"))
        key = hashlib.sha256(sources + json.dumps(machine(PACKAGES)["versions"]).encode()).hexdigest()[:8]
        self.folder = out / f"{self.name}-{key}"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.rows.tofile(self.folder / "rows.f32")
        numpy.concatenate([array.ravel() for part in self.parts for array in part.arrays()]).tofile(
            self.folder / "weights.f32")
        largest = numpy.abs(self.rows).reshape(-1, self.columns_of_step).max(axis=0)
        with open(self.folder / "network.f32", "wb") as file:
            file.write((self.folder / "weights.f32").read_bytes() + largest.tobytes())
        self.exact = self.reference()

    def keras_calibration(self):
        shape = (1, 13, 1) if self.name == "W4" else (1, self.columns)
        return ([row.reshape(shape)] for row in self.rows[:256])


class StepWorkload(Workload):
    """One step from the state before."""

    def reference(self):
        state, exact = self.parts[0].empty(1), []
        for row in self.rows[:ROWS]:
            state = self.parts[0].step(row[:, None].astype(numpy.float64), state)
            exact.append(state[0][:, 0])
        return numpy.array(exact)

    def window_reference(self):
        """The last state of each window by itself."""
        state = self.parts[0].empty(ROWS)
        for n in range(WINDOW):
            state = self.parts[0].step(self.rows[n:n + ROWS].T.astype(numpy.float64), state)
        return state[0].T

    def first_reference(self):
        """The state after one step from the beginning."""
        return self.parts[0].step(self.rows[:ROWS].T.astype(numpy.float64), self.parts[0].empty(ROWS))[0].T

    def onnx_nodes(self, steps, states=True):
        """`states`: they come in and go out. Otherwise they begin as zeros, and the last one is the output."""
        layer, kind = self.parts[0], type(self.parts[0]).__name__.upper()
        names = ["h", "c"] if kind == "LSTM" else ["h"]
        weights = [onnx.numpy_helper.from_array(array, name) for array, name in zip(layer.onnx(), "WRB")]
        attributes = {"hidden_size": layer.units} | ({"linear_before_reset": 1} if kind == "GRU" else {})
        state = lambda name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 1, layer.units])
        inputs = [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [steps, 1, self.columns])]
        if states:
            node = onnx.helper.make_node(kind, ["input", "W", "R", "B", "", *names],
                                         ["", *(name + "_next" for name in names)], **attributes)
            return [node], weights, inputs + [state(name) for name in names], [state(name + "_next") for name in names]
        nodes = [onnx.helper.make_node(kind, ["input", "W", "R", "B"], ["", "last"], **attributes),
                 onnx.helper.make_node("Squeeze", ["last", "axes"], ["output"])]
        weights.append(onnx.numpy_helper.from_array(numpy.array([0]), "axes"))
        return nodes, weights, inputs, [onnx.helper.make_tensor_value_info(
            "output", onnx.TensorProto.FLOAT, [1, layer.units])]

    def onnx_model(self):
        return self.onnx_nodes(1)

    def torch_module(self):
        import torch
        layer, gru = self.parts[0], isinstance(self.parts[0], Gru)
        cell = (torch.nn.GRUCell if gru else torch.nn.LSTMCell)(layer.inputs, layer.units)

        class OneStep(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.cell = cell

        class LstmStep(OneStep):
            def forward(self, x, h, c):
                return self.cell(x, (h, c))

        class GruStep(OneStep):
            def forward(self, x, h):
                return self.cell(x, h)

        states = [[1, layer.units]] * (1 if gru else 2)
        return (GruStep if gru else LstmStep)(), layer.torch(), [1, layer.inputs], states

    def keras_model(self, keras):
        """With the state as inputs and outputs: LiteRT does not open its own LSTM operator, which keeps it."""
        layer, gru = self.parts[0], isinstance(self.parts[0], Gru)
        cell = (keras.layers.GRUCell if gru else keras.layers.LSTMCell)(layer.units)
        inputs = {"row": keras.Input(batch_shape=(1, layer.inputs), name="row")}
        names = ["h"] if gru else ["h", "c"]
        inputs |= {name: keras.Input(batch_shape=(1, layer.units), name=name) for name in names}
        states = cell(inputs["row"], [inputs[name] for name in names])[1]
        outputs = [keras.layers.Activation("linear", name=name + "_next")(state) for name, state in zip(names, states)]
        model = keras.Model(inputs, outputs)
        cell.set_weights(layer.keras())
        return model

    def keras_calibration(self):
        state = self.parts[0].empty(1)
        for row in self.rows[:256]:
            yield {"row": row[None]} | {name: part.T.astype(numpy.float32) for name, part in zip("hc", state)}
            state = self.parts[0].step(row[:, None].astype(numpy.float64), state)


class W5s(StepWorkload):
    name, columns, outputs, columns_of_step = "W5s", 70, 64, 70
    title = "one step of an LSTM of 64 units, 70 inputs"

    def build(self):
        self.parts = [Lstm(self.random, 70, 64)]


class Encoder(StepWorkload):
    name, columns, outputs, columns_of_step = "encoder", 40, 32, 40
    title = "one step of a GRU of 32 units, 40 inputs"

    def build(self):
        self.parts = [Gru(self.random, 40, 32)]


class W4(Workload):
    name, columns, outputs, columns_of_step = "W4", 13, 1, 1
    title = "two stacked bidirectional LSTMs of 116 units over 13 steps of one input, dense sigmoid"

    def build(self):
        self.parts = [Lstm(self.random, inputs, 116) for inputs in (1, 1, 232, 232)] + [Dense(self.random, 232, 1)]

    def reference(self):
        forward, backward, forward_above, backward_above, dense = self.parts
        steps = [step[None].astype(numpy.float64) for step in self.rows[:ROWS].T]
        states = [numpy.concatenate(both) for both in zip(forward.run(steps), backward.run(steps, True))]
        last = numpy.concatenate([forward_above.run(states)[-1], backward_above.run(states, True)[0]])
        return sigmoid(dense(last)).T

    def onnx_model(self):
        weights, nodes = [], []

        def constant(name, array):
            weights.append(onnx.numpy_helper.from_array(numpy.ascontiguousarray(array), name))
            return name

        previous = "input"
        for level in range(2):
            both = [numpy.concatenate(arrays) for arrays in zip(*(part.onnx() for part in
                                                                  self.parts[2 * level:2 * level + 2]))]
            names = [constant(f"{name}{level}", array) for name, array in zip("WRB", both)]
            nodes.append(onnx.helper.make_node("LSTM", [previous, *names], [f"Y{level}", f"last{level}"],
                                               hidden_size=116, direction="bidirectional"))
            if level == 0:
                nodes.append(onnx.helper.make_node("Transpose", ["Y0"], ["turned"], perm=[0, 2, 1, 3]))
                nodes.append(onnx.helper.make_node(
                    "Reshape", ["turned", constant("sequence", numpy.array([13, 1, 232]))], ["joined"]))
                previous = "joined"
        dense = self.parts[4]
        nodes += [onnx.helper.make_node("Transpose", ["last1"], ["last_turned"], perm=[1, 0, 2]),
                  onnx.helper.make_node("Reshape", ["last_turned", constant("row", numpy.array([1, 232]))], ["last"]),
                  onnx.helper.make_node("Gemm", ["last", constant("weights", dense.weights.T),
                                                 constant("bias", dense.bias)], ["score"]),
                  onnx.helper.make_node("Sigmoid", ["score"], ["output"])]
        return nodes, weights, [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [13, 1, 1])], [
            onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, [1, 1])]

    def torch_module(self):
        import torch

        class Stacked(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.lstm = torch.nn.LSTM(1, 116, num_layers=2, bidirectional=True)
                self.dense = torch.nn.Linear(232, 1)

            def forward(self, x):
                h = self.lstm(x)[1][0]
                return torch.sigmoid(self.dense(torch.cat((h[2], h[3]), 1)))

        arrays = [array for part in self.parts[:4] for array in part.torch()] + self.parts[4].arrays()
        return Stacked(), arrays, [13, 1, 1], []

    def keras_model(self, keras):
        inputs = keras.Input(batch_shape=(1, 13, 1))
        # Unrolled, because LiteRT does not open its own LSTM operator.
        first = keras.layers.Bidirectional(keras.layers.LSTM(116, return_sequences=True, unroll=True))
        second = keras.layers.Bidirectional(keras.layers.LSTM(116, unroll=True))
        dense = keras.layers.Dense(1, activation="sigmoid")
        model = keras.Model(inputs, dense(second(first(inputs))))
        first.set_weights(self.parts[0].keras() + self.parts[1].keras())
        second.set_weights(self.parts[2].keras() + self.parts[3].keras())
        dense.set_weights([self.parts[4].weights.T, self.parts[4].bias])
        return model


class DenseWorkload(Workload):
    def reference(self):
        x = self.rows[:ROWS].T
        for part in self.parts[:-1]:
            x = numpy.maximum(part(x), 0)
        return self.last(self.parts[-1](x)).T

    def onnx_model(self):
        nodes, weights, previous = [], [], "input"
        for i, part in enumerate(self.parts):
            weights += [onnx.numpy_helper.from_array(array, f"{name}{i}") for array, name in zip(part.arrays(), "WB")]
            nodes.append(onnx.helper.make_node("Gemm", [previous, f"W{i}", f"B{i}"], [f"score{i}"], transB=1))
            last = i + 1 == len(self.parts)
            previous = "output" if last else f"hidden{i}"
            nodes.append(onnx.helper.make_node(self.onnx_last if last else "Relu", [f"score{i}"], [previous]))
        return nodes, weights, [onnx.helper.make_tensor_value_info(
            "input", onnx.TensorProto.FLOAT, [1, self.columns])], [onnx.helper.make_tensor_value_info(
                "output", onnx.TensorProto.FLOAT, [1, self.outputs])]

    def torch_module(self):
        import torch
        layers = []
        for i, part in enumerate(self.parts):
            layers.append(torch.nn.Linear(part.weights.shape[1], part.weights.shape[0]))
            layers.append(torch.nn.ReLU() if i + 1 < len(self.parts) else
                          torch.nn.Softmax(1) if self.outputs > 1 else torch.nn.Sigmoid())

        class Layers(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = torch.nn.Sequential(*layers)

            def forward(self, x):
                return self.layers(x)

        return Layers(), [array for part in self.parts for array in part.arrays()], [1, self.columns], []

    def keras_model(self, keras):
        inputs = keras.Input(batch_shape=(1, self.columns))
        layers = [keras.layers.Dense(len(part.bias), activation="relu") for part in self.parts[:-1]]
        layers.append(keras.layers.Dense(self.outputs, activation="softmax" if self.outputs > 1 else "sigmoid"))
        outputs = inputs
        for layer in layers:
            outputs = layer(outputs)
        model = keras.Model(inputs, outputs)
        for layer, part in zip(layers, self.parts):
            layer.set_weights([part.weights.T, part.bias])
        return model


class W6(DenseWorkload):
    name, columns, outputs, columns_of_step, onnx_last = "W6", 15, 2, 15, "Softmax"
    title = "dense 15-14-120-80-2, relu, softmax"

    def build(self):
        sizes = [15, 14, 120, 80, 2]
        self.parts = [Dense(self.random, *both) for both in zip(sizes, sizes[1:])]

    def last(self, x):
        powers = numpy.exp(x - x.max(axis=0))
        return powers / powers.sum(axis=0)


class W7(DenseWorkload):
    name, columns, outputs, columns_of_step, onnx_last = "W7", 70, 1, 70, "Sigmoid"
    title = "logistic regression, 70 features"

    def build(self):
        self.parts = [Dense(self.random, 70, 1)]

    def last(self, x):
        return sigmoid(x)


# ---------------------------------------------------------------------------- the networks in every format

def once(workload, name, write):
    """A file of a workload, written if it is not there, completely or not at all."""
    path = workload.folder / name
    if not path.exists():
        progress(f"{workload.name}: {name}")
        with tempfile.TemporaryDirectory(dir=workload.folder) as folder:
            unfinished = pathlib.Path(folder, name)
            with contextlib.redirect_stdout(sys.stderr):  # converters talk
                write(workload, unfinished)
            unfinished.rename(path)
    return path


def run_command(*words):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(words[0]).name} failed: {done.stdout.strip()}")
    return done.stdout


def write_onnx(parts, path):
    nodes, weights, inputs, outputs = parts
    graph = onnx.helper.make_graph(nodes, "network", inputs, outputs, weights)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def write_onnx_dynamic(workload, path):
    from onnxruntime.quantization import QuantType, quantize_dynamic
    quantize_dynamic(workload.folder / "model.onnx", path, per_channel=True, weight_type=QuantType.QInt8)


def write_onnx_static(workload, path):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Rows(CalibrationDataReader):
        rows = iter(row[None] for row in workload.rows[:256])

        def get_next(self):
            row = next(self.rows, None)
            return None if row is None else {"input": row}

    quantize_static(workload.folder / "model.onnx", path, Rows(), per_channel=True, weight_type=QuantType.QInt8)


def write_torch(workload, path):
    import torch
    module, arrays, row, states = workload.torch_module()
    with torch.no_grad():
        for parameter, array in zip(module.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
    module.register_buffer("row", torch.zeros(row))
    for i, shape in enumerate(states):
        module.register_buffer(f"state{i}", torch.zeros(shape))
    torch.jit.script(module.eval()).save(path)


def write_tflite(workload, path, int8=False):
    # With the Keras before 3, because only its recurrent layers become LiteRT's own operators.
    os.environ.update(TF_USE_LEGACY_KERAS="1", TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
    import tensorflow
    model = workload.keras_model(tensorflow.keras)
    converter = tensorflow.lite.TFLiteConverter.from_keras_model(model)
    if int8:
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter.representative_dataset = workload.keras_calibration
    path.write_bytes(converter.convert())


def compile_shared(path, source, *options):
    compiler = ["g++", "-std=c++20"] if source.endswith("cpp") else ["gcc", "-std=c11"]
    run_command(*compiler, "-O3", "-march=native", "-DNDEBUG", "-w", "-fPIC", "-shared", ROOT / "bench/peers" / source,
                *options, "-o", path)


def write_eigen(workload, path):
    compile_shared(path, "networks_eigen.cpp", f"-D{workload.name}", "-I/usr/include/eigen3")


def torch_library(out):
    """The same for every workload."""
    import torch
    folder = pathlib.Path(torch.__file__).parent
    path = out / f"torch-{torch.__version__}.so"
    source = ROOT / "bench/peers/networks_torch.cpp"
    if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
        progress("compiling networks_torch.cpp")
        compile_shared(path, source.name, f"-I{folder}/include", f"-I{folder}/include/torch/csrc/api/include",
                       f"-L{folder}/lib", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{folder}/lib")
    return path


def litert_library(out):
    path = out / "litert.so"
    library = package_file("ai-edge-litert", "ai_edge_litert/libLiteRt.so")
    compile_shared(path, "networks_litert.c", f'-DLITERT_LIBRARY="{library}"', "-ldl")
    return path


def write_tonearm(workload, name):
    """Every time: the converter is ours and changes. `name` is one of bench_networks, or nothing: imported."""
    blob = workload.folder / f"{name or 'imported'}.tarm"
    if name:
        run_command(BUILD / "bin/bench_networks", name, workload.folder / "network.f32", blob)
    else:
        run_command(BUILD / "bin/tonearm", "import", workload.folder / "model.onnx", "--out", blob)
    return blob


def quantized(workload, blob, weights):
    path = blob.with_name(f"{blob.stem}-{weights}.tarm")
    rows = []
    if blob.stem == "imported":  # its golden rows are few
        rows = ["--rows", write_table(workload, blob)]
        if weights == "int8":
            rows.append("--missing-as-zero")  # codes cannot say that an input is missing, and none is
    said = run_command(BUILD / "bin/tonearm", "quantize", blob, "--out", path, "--weights", weights, "--tolerance", "1",
                       *rows)
    if f"  {weights}  " not in said:
        raise RuntimeError("tonearm quantize made other weights of it: " + " ".join(said.splitlines()[2].split()))
    return path


def write_table(workload, blob):
    """Rows under the names of the blob's columns."""
    path = workload.folder / "rows.csv"
    facts = subprocess.run([BUILD / "bin/tonearm", "inspect", blob, "--json", "-"], check=True, stdout=subprocess.PIPE)
    lines = [",".join(json.loads(facts.stdout)["columns"])]
    lines += [",".join(repr(float(number)) for number in row) for row in workload.rows[:256]]
    path.write_text("\n".join(lines) + "\n")
    return path


# ---------------------------------------------------------------------------------------------- engines

class Engine:
    """`words` is how networks.c opens it: kind, library, model, shape of its input. `same`: its weights are float32.
    `reference`: what it should compute, where that is not what the workload does. `compared`: it does just what the
    workload is, so that it can be its best peer."""

    def __init__(self, name, kind, library, model, shape="-", arguments=None, same=True, reference=None, compared=True):
        self.name, self.same, self.reference, self.compared = name, same, reference, compared
        self.ours = kind.startswith("tonearm")
        self.words = [kind, str(library), arguments or str(model), shape]
        self.model_bytes = pathlib.Path(model).stat().st_size


def engines_of(workload, out):
    """The engines that take a workload, and the others with the reason."""
    engines, left_out = [], []

    def add(name, *arguments, **options):
        """`arguments[2]`, the model, is a function that writes it."""
        try:
            kind, library, model, *shape = arguments
            engines.append(Engine(name, kind, library() if callable(library) else library, model(), *shape, **options))
        except Exception as reason:  # whatever a peer's converter says
            left_out.append((name, str(reason).strip().splitlines()[-1][:300] if str(reason) else repr(reason)))

    steps = isinstance(workload, StepWorkload)
    plain = {"W5s": "lstm-session", "encoder": "gru-session"}.get(workload.name)
    ours = "tonearm-session" if steps else "tonearm"
    blob = lambda weights, name: (lambda: write_tonearm(workload, name) if weights == "float32" else
                                  quantized(workload, write_tonearm(workload, name), weights))
    once(workload, "model.onnx", lambda workload, path: write_onnx(workload.onnx_model(), path))
    for weights in ["float32", "float16", "int8"]:
        add(f"Tonearm, {weights}", ours, 0, blob(weights, plain), same=weights == "float32")
    add("Tonearm, float32, scalar kernels", ours, 1, blob("float32", plain), compared=False)
    add("Tonearm, int8, scalar kernels", ours, 1, blob("int8", plain), same=False, compared=False)
    if steps:
        one = {"W5s": "lstm-step", "encoder": "gru-step"}[workload.name]
        for weights in ["float32", "int8"]:
            add(f"Tonearm, {weights}, bare step of a row", "tonearm", 0, blob(weights, one), same=weights == "float32",
                reference=workload.first_reference, compared=False)

    shape = {"W4": "13x1x1"}.get(workload.name, f"1x1x{workload.columns}" if steps else f"1x{workload.columns}")
    onnxruntime = package_file("onnxruntime", "onnxruntime/capi/libonnxruntime.so.*")
    model = lambda name, write: (lambda: once(workload, name, write))
    add("ONNX Runtime", "onnxruntime", onnxruntime, lambda: workload.folder / "model.onnx", shape)
    if workload.name == "encoder":
        left_out.append(("ONNX Runtime, int8", "its quantizer leaves a GRU as it is"))
    else:
        add("ONNX Runtime, int8 dynamic", "onnxruntime", onnxruntime,
            model("dynamic.onnx", write_onnx_dynamic), shape, same=False)
    if not steps and workload.name != "W4":
        add("ONNX Runtime, int8 static", "onnxruntime", onnxruntime,
            model("static.onnx", write_onnx_static), shape, same=False)
    if steps:
        add(f"ONNX Runtime, {WINDOW} steps anew", "onnxruntime", onnxruntime,
            model("window.onnx", lambda workload, path: write_onnx(workload.onnx_nodes(WINDOW, False), path)),
            f"{WINDOW}x1x{workload.columns}", reference=workload.window_reference, compared=False)
    add("Eigen, -O3 -march=native", "compiled", model("eigen.so", write_eigen), lambda: workload.folder / "weights.f32")
    torch_model = model("model.pt", write_torch)
    for how, words in [("eager", f"eager {workload.name} "), ("torch.jit", "jit ")]:
        add(f"PyTorch, {how}", "compiled", lambda: torch_library(out), torch_model,
            arguments=words + str(workload.folder / "model.pt"))
    litert = lambda: litert_library(out)
    add("LiteRT", "compiled", litert, model("model.tflite", write_tflite))
    add("LiteRT, int8", "compiled", litert,
        model("int8.tflite", lambda workload, path: write_tflite(workload, path, True)), same=False)
    return engines, left_out


def run_program(program, mode, rounds, workload, engines):
    """A list of numbers for every engine."""
    words = [word for engine in engines for word in engine.words]
    command = [program, mode, str(rounds), workload.folder / "rows.f32", str(ROWS), str(workload.columns),
               str(workload.outputs), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    lines = done.stdout.splitlines()
    if done.returncode != 0 or len(lines) != len(engines):
        said = done.stderr.strip().splitlines()
        raise RuntimeError(said[-1] if said else f"ended with {done.returncode}")
    return [numpy.array(line.split(), float) for line in lines]


# ------------------------------------------------------------------------------------------- measuring

def compare(workload, program, engines, left_out):
    """Those of the engines that run, with how far they are from the reference."""
    running = []
    for engine in engines:
        try:
            predictions = run_program(program, "predict", 1, workload, [engine])[0].reshape(ROWS, -1)
        except RuntimeError as reason:
            left_out.append((engine.name, str(reason)[:300]))
            continue
        exact = workload.exact if engine.reference is None else engine.reference()
        difference = numpy.abs(predictions - exact[:, -predictions.shape[1]:])
        engine.largest, engine.mean = float(difference.max()), float(difference.mean())
        running.append(engine)
    return running


def measure(workload, out, quick):
    progress(f"{workload.name}: writing the network for every engine")
    engines, left_out = engines_of(workload, out)
    program, counting = build_program(out), build_program(out, "-DCOUNT_ALLOCATIONS")
    progress(f"{workload.name}: comparing and counting")
    engines = compare(workload, program, engines, left_out)
    kernels = run_program(program, "kernels", 1, workload, engines)
    sessions = run_program(program, "sessions", 1, workload, engines)
    allocations = run_program(counting, "allocations", 1, workload, engines)
    progress(f"{workload.name}: timing")
    start, start_cpu = time.monotonic(), child_cpu_seconds()
    warm = run_program(program, "warm", 2 if quick else 31, workload, engines)
    cold = run_program(program, "cold", 5 if quick else 101, workload, engines)
    disturbance = 1 - (child_cpu_seconds() - start_cpu) / (time.monotonic() - start)
    results = []
    for i, engine in enumerate(engines):
        results.append({
            "engine": engine.name, "ours": engine.ours, "float32": engine.same, "compared": engine.compared,
            "warm": quartiles(warm[i]), "cold": quartiles(cold[i]), "largest_difference": engine.largest,
            "mean_difference": engine.mean, "mistaken": engine.largest > (SAME if engine.same else LOSSY),
            "allocations": float(allocations[i][0]), "model_bytes": engine.model_bytes,
            "session_bytes": int(sessions[i][0])})
    return {"workload": workload.name, "title": f"{workload.name}: {workload.title}", "rows": ROWS,
            "kernels": KERNELS.get(int(kernels[0][0]), "no"), "disturbance": disturbance, "engines": results,
            "left_out": [{"engine": name, "reason": reason} for name, reason in left_out]}


def goals(result):
    """What Tonearm reaches beside what is asked of it, from this run."""
    by_name = {engine["engine"]: engine for engine in result["engines"]}
    found = []

    def add(goal, asked, value, reached, form="{:.2f}", cold=None):
        found.append({"goal": goal, "asked": asked, "found": "not measured" if value is None else form.format(value),
                      "cold": "" if cold is None else form.format(cold),
                      "reached": value is not None and reached(value)})

    def ratio(above, below, state):
        if above not in by_name or below not in by_name:
            return None
        return by_name[above][state]["median_ns"] / by_name[below][state]["median_ns"]

    def at_most(ours, peer, share):
        add(f"{ours}: time by that of {peer}", f"<= {share:g}", ratio(ours, peer, "warm"), lambda value: value <= share,
            cold=ratio(ours, peer, "cold"))

    def faster(ours, peer, times):
        add(f"{ours}: times faster than {peer}", f">= {times:g}", ratio(peer, ours, "warm"),
            lambda value: value >= times, cold=ratio(peer, ours, "cold"))

    float32, int8 = "Tonearm, float32", "Tonearm, int8"
    dynamic = "ONNX Runtime, int8 dynamic"
    if result["workload"] == "W5s":
        best = best_peer(result)["engine"]
        at_most(float32, best, 0.7)
        at_most(int8, best, 0.2)
        faster(int8, dynamic, 15)
        faster(float32, f"ONNX Runtime, {WINDOW} steps anew", 20)
    elif result["workload"] == "W4":
        faster(float32, "ONNX Runtime", 1)
        faster(int8, dynamic, 2)
    elif result["workload"] == "W6":
        faster(float32, "Eigen, -O3 -march=native", 2)
    elif result["workload"] == "W7":
        warm, cold = (by_name[float32][state]["median_ns"] if float32 in by_name else None
                      for state in ("warm", "cold"))
        add(f"{float32}: ns", "<= 12", warm, lambda value: value <= 12, "{:.1f}", cold)
    elif result["workload"] == "encoder":
        ours = by_name.get(int8)
        add("blob, int8", "<= 12.0 kB", ours and ours["model_bytes"] / 1e3, lambda value: value <= 12, "{:.1f} kB")
        add("session, int8", "<= 512 B", ours and ours["session_bytes"], lambda value: value <= 512, "{:.0f} B")
    allocations = [engine["allocations"] for engine in result["engines"] if engine["ours"]]
    add("Tonearm: heap allocations of a call", "0", max(allocations, default=None), lambda value: value == 0, "{:.0f}")
    differences = [engine["largest_difference"] for engine in result["engines"] if engine["ours"] and engine["float32"]]
    add("Tonearm, float32: largest difference from float64", f"<= {SAME:g}", max(differences, default=None),
        lambda value: value <= SAME, "{:.1e}")
    return found


def best_peer(result):
    """The fastest peer that computes the same in float32."""
    peers = [engine for engine in result["engines"] if not engine["ours"] and engine["float32"] and engine["compared"]]
    return min(peers, key=lambda engine: engine["warm"]["median_ns"])


# -------------------------------------------------------------------------------------------- reporting

def report(result):
    best = best_peer(result)
    header = ["engine", "warm ns", "spread", "x best", "cold ns", "spread", "x best", "allocations", "model", "session",
              "largest difference", "mean"]
    lines = []
    for engine in result["engines"]:
        share = lambda state: f"{engine[state]['median_ns'] / best[state]['median_ns']:.2f}"
        lines.append([engine["engine"], *time_text(engine["warm"]), share("warm"), *time_text(engine["cold"]),
                      share("cold"), f"{engine['allocations']:.0f}", size_text(engine["model_bytes"]),
                      f"{engine['session_bytes']} B" if engine["session_bytes"] else "",
                      ("WRONG: " if engine["mistaken"] else "") + f"{engine['largest_difference']:.1e}",
                      f"{engine['mean_difference']:.1e}"])
    text = (f"{result['title']}\nTonearm uses its {result['kernels']} kernels. Best: the fastest float32 peer, "
            f"{best['engine']}.\n\n" + table_text(header, lines) + "\n")
    if result["disturbance"] > 0.05:
        text += f"DISTURBED: for {result['disturbance']:.0%} of the time other work had the CPU.\n"
    for other in result["left_out"]:
        text += f"{other['engine']}: left out: {other['reason']}\n"
    text += "\n" + table_text(["goal, warm", "asked", "found", "", "cold"],
                              [[goal["goal"], goal["asked"], goal["found"], "met" if goal["reached"] else "MISSED",
                                goal["cold"]] for goal in result["goals"]])
    return text


def main():
    workloads = {workload.name: workload for workload in (W5s, W4, W6, W7, Encoder)}
    parser = argparse.ArgumentParser(prog="bench/peers/run", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="?", const=",".join(workloads), default=",".join(workloads),
                        metavar=",".join(workloads), help="which workloads, by commas")
    parser.add_argument("--quick", action="store_true", help="few rounds: shows that it runs, measures nothing")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build/peers/networks",
                        help="folder for the networks, which are kept (build/peers/networks)")
    parser.add_argument("--json", help="write the figures as JSON too; - is stdout, then without the tables")
    parser.add_argument("--plot", type=pathlib.Path, help="write an SVG of the times")
    options = parser.parse_args()
    names = options.networks.split(",")
    if not set(names) <= set(workloads):
        parser.error(f"--networks {options.networks}: the workloads are {', '.join(workloads)}")

    options.out.mkdir(parents=True, exist_ok=True)
    build_program(options.out)  # so that a missing build is said before anything long
    facts = machine(PACKAGES)
    results = []
    for name in names:
        result = measure(workloads[name](options.out), options.out, options.quick)
        result["goals"] = goals(result)
        results.append(result)
    text = json.dumps({"machine": facts, "quick": options.quick, "workloads": results}, indent=2) + "\n"
    if options.json == "-":
        print(text, end="")
    else:
        if options.quick:
            print("QUICK: few rounds; these are no figures\n")
        print(machine_text(facts))
        print("\n".join(report(result) for result in results), end="")
        if options.json:
            pathlib.Path(options.json).write_text(text)
    if options.plot:
        bars = lambda result: [(engine["engine"], engine["ours"], engine["warm"]["median_ns"],
                                engine["cold"]["median_ns"]) for engine in result["engines"]]
        options.plot.write_text(plot([(result["title"], bars(result)) for result in results], facts, "one call"))
    return 1 if any(engine["mistaken"] for result in results for engine in result["engines"] if engine["ours"]) else 0


if __name__ == "__main__":
    sys.exit(main())
