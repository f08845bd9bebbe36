/* LiteRT by the C interface of its package's libLiteRt.so, which has no header: handles are pointers,
 * statuses are 0 where all is well. networks.c calls it. MODEL is the .tflite file; the library's path is
 * compiled in. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CPU = 1, READ = 0, WRITE = 1 };

#define MOST 3 /* a row, and the state: h, c */

struct network {
  void *compiled, *inputs[MOST], *outputs[MOST];
  size_t places[2]
               [MOST]; /* of the row (of inputs; of outputs the answer is at 0), h and c in the signature */
  size_t input_count, output_count, row_size, answer_size;
  int (*run)(void* compiled, size_t signature, size_t inputs, void** input, size_t outputs, void** output);
  int (*lock)(void* buffer, void** address, int mode);
  int (*unlock)(void* buffer);
};

static void* find(const char* name) {
  static void* library;
  if (library == NULL) library = dlopen(LITERT_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  void* found = library == NULL ? NULL : dlsym(library, name);
  if (found == NULL) fprintf(stderr, "LiteRT: %s\n", dlerror());
  return found;
}

/* Calls a function that returns a status; its name is what fails. */
#define CALL(name, ...)                             \
  (status = ((int (*)())(find(name)))(__VA_ARGS__), \
   status == 0 ? 1 : (fprintf(stderr, "%s: %d\n", name, status), 0))

/* Buffers for the inputs or the outputs. Those of a state are known by their names. */
static int make_buffers(void* environment, void* model, struct network* network, int output) {
  int status;
  size_t count;
  void *signature, *tensor, *requirements;
  const char* name;
  _Alignas(16) unsigned char type[256]; /* LiteRtRankedTensorType, whatever is in it */
  if (!CALL("LiteRtGetModelSignature", model, (size_t)0, &signature) ||
      !CALL(output ? "LiteRtGetNumSignatureOutputs" : "LiteRtGetNumSignatureInputs", signature, &count) ||
      count > MOST)
    return 0;
  *(output ? &network->output_count : &network->input_count) = count;
  for (size_t i = 0; i < count; ++i) {
    void** buffer = output ? &network->outputs[i] : &network->inputs[i];
    if (!CALL(output ? "LiteRtGetSignatureOutputName" : "LiteRtGetSignatureInputName", signature, i, &name) ||
        !CALL(output ? "LiteRtGetSignatureOutputTensorByIndex" : "LiteRtGetSignatureInputTensorByIndex",
              signature, i, &tensor) ||
        !CALL("LiteRtGetRankedTensorType", tensor, type) ||
        !CALL(output ? "LiteRtGetCompiledModelOutputBufferRequirements"
                     : "LiteRtGetCompiledModelInputBufferRequirements",
              network->compiled, (size_t)0, i, &requirements) ||
        !CALL("LiteRtCreateManagedTensorBufferFromRequirements", environment, type, requirements, buffer))
      return 0;
    const int state = strcmp(name, output ? "h_next" : "h") == 0   ? 1
                      : strcmp(name, output ? "c_next" : "c") == 0 ? 2
                                                                   : 0;
    network->places[output][state] = i;
  }
  return 1;
}

/* Zeros, and how many bytes they are. */
static size_t clear(struct network* network, void* buffer) {
  int status;
  size_t size = 0;
  void* address;
  if (CALL("LiteRtGetTensorBufferPackedSize", buffer, &size) && network->lock(buffer, &address, WRITE) == 0) {
    memset(address, 0, size);
    network->unlock(buffer);
  }
  return size;
}

void* open_network(const char* path) {
  int status;
  void *environment, *model, *options;
  struct network* network = calloc(1, sizeof *network);
  if (!CALL("LiteRtCreateEnvironment", 0, NULL, &environment) ||
      !CALL("LiteRtCreateModelFromFile", environment, path, &model) ||
      !CALL("LiteRtCreateOptions", &options) || !CALL("LiteRtSetOptionsHardwareAccelerators", options, CPU) ||
      !CALL("LiteRtCreateCompiledModel", environment, model, options, &network->compiled) ||
      !make_buffers(environment, model, network, 0) || !make_buffers(environment, model, network, 1))
    return NULL;
  *(void**)&network->run = find("LiteRtRunCompiledModel");
  *(void**)&network->lock = find("LiteRtLockTensorBuffer");
  *(void**)&network->unlock = find("LiteRtUnlockTensorBuffer");
  for (size_t i = 0; i < network->input_count; ++i) clear(network, network->inputs[i]);
  network->row_size = clear(network, network->inputs[network->places[0][0]]);
  network->answer_size =
      clear(network, network->outputs[network->places[1][network->input_count > 1 ? 1 : 0]]);
  return network;
}

void run_network(void* handle, const float* row, float* output) {
  struct network* network = handle;
  void* address;
  void* input = network->inputs[network->places[0][0]];
  if (network->lock(input, &address, WRITE) != 0) abort();
  memcpy(address, row, network->row_size);
  network->unlock(input);
  if (network->run(network->compiled, 0, network->input_count, network->inputs, network->output_count,
                   network->outputs) != 0)
    abort();
  const int state = network->input_count > 1;
  void* answer = network->outputs[network->places[1][state ? 1 : 0]];
  if (network->lock(answer, &address, READ) != 0) abort();
  memcpy(output, address, network->answer_size);
  network->unlock(answer);
  for (int s = 1; s < (int)network->input_count; ++s) { /* the next state changes places with the state */
    void **before = &network->inputs[network->places[0][s]],
         **after = &network->outputs[network->places[1][s]];
    void* buffer = *before;
    *before = *after;
    *after = buffer;
  }
}
