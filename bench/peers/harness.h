/* What a program needs that times calls of several engines beside each other: a call once warm and once cold,
 * heap allocations, and the clock. For one source per program.
 *
 * Warm: nanoseconds of a call, the mean over a walk of calls in turn, after a walk that is not timed: code
 * and model are in the caches, but no answer is known by heart. Cold: a single call, after 96 MB have been
 * written. In every round each engine has its turn, in an order that changes, so that a disturbance of the
 * machine meets all of them. */
#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tonearm/tonearm.h>

#define EVICTED_BYTES ((size_t)96 << 20)
#define PREPARED_CALLS 16

/* One engine to be timed. `prepare`, which may be NULL, does what a call needs but is no part of it, for call
 * i; up to PREPARED_CALLS calls are prepared ahead. */
struct subject {
  void (*call)(void* engine, size_t i);
  void (*prepare)(void* engine, size_t i);
  void* engine;
};

static void fail(const char* form, ...) {
  va_list values;
  va_start(values, form);
  fputs(PROGRAM ": ", stderr);
  vfprintf(stderr, form, values);
  fputc('\n', stderr);
  va_end(values);
  exit(1);
}

static void* allocated(size_t size) {
  void* memory = aligned_alloc(64, (size + 63) / 64 * 64);
  if (memory == NULL) fail("no memory");
  return memory;
}

static void* read_file(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) fail("%s cannot be read", path);
  *size = (size_t)ftell(file);
  rewind(file);
  void* bytes = allocated(*size);
  if (fread(bytes, 1, *size, file) != *size) fail("%s cannot be read", path);
  fclose(file);
  return bytes;
}

/* `cpu` is the number for tonearm_open_options; 0 lets the library choose. */
static tonearm_model* open_model(const char* cpu, const char* path, tonearm_info* info) {
  size_t size;
  void* blob = read_file(path, &size);
  const tonearm_open_options options = {.struct_size = sizeof options,
                                        .cpu = (uint32_t)strtoul(cpu, NULL, 10)};
  tonearm_diagnostic diagnostic = {.struct_size = sizeof diagnostic};
  tonearm_model* model = allocated(sizeof(tonearm_model));
  if (tonearm_model_open(model, blob, size, &options, &diagnostic) != TONEARM_OK) {
    char text[512];
    tonearm_diagnostic_text(&diagnostic, text, sizeof text);
    fail("%s: %s", path, text);
  }
  *info = (tonearm_info){.struct_size = sizeof *info};
  tonearm_model_info(model, info);
  return model;
}

static void* symbol(const char* library, const char* name) {
  void* handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  void* found = handle == NULL ? NULL : dlsym(handle, name);
  if (found == NULL) fail("%s", dlerror());
  return found;
}

/* A pointer to data as one to a function: C has no cast for it, POSIX promises that it works. */
#define AS_FUNCTION(type, pointer) (*(type*)&(pointer))

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static int ascending(const void* left, const void* right) {
  const double a = *(const double*)left, b = *(const double*)right;
  return (a > b) - (a < b);
}

/* What reading a clock costs; part of every time that is that of a few calls. */
static double clock_cost(clockid_t clock) {
  enum { count = 10001 };
  static double times[count];
  for (int i = 0; i < count; ++i) {
    const double start = now(clock);
    times[i] = now(clock) - start;
  }
  qsort(times, count, sizeof *times, ascending);
  return times[count / 2];
}

/* Writes to every cache line. A plain loop, because a memset of this size may pass the caches by. */
static void evict(void) {
  static volatile uint64_t* words;
  static uint64_t round;
  if (words == NULL) words = allocated(EVICTED_BYTES);
  ++round;
  for (size_t i = 0; i < EVICTED_BYTES / sizeof *words; i += 64 / sizeof *words) words[i] = round;
}

/* A fixed pseudo-random order of the engines (xorshift32, Marsaglia 2003). */
static void shuffle(size_t* order, size_t count) {
  static uint32_t state = 2463534242;
  for (size_t i = count; i > 1; --i) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    const size_t other = state % i, saved = order[i - 1];
    order[i - 1] = order[other];
    order[other] = saved;
  }
}

/* Calls first to first + count - 1: nanoseconds of all of them. In CPU time, because a walk of a slow engine
 * is long enough to be interrupted by other work. `overhead` is what reading that clock costs. */
static double walk(const struct subject* subject, size_t first, size_t count, double overhead) {
  const size_t at_once = subject->prepare == NULL ? count : PREPARED_CALLS;
  double sum = 0;
  for (size_t part = first; part < first + count; part += at_once) {
    const size_t end = part + at_once < first + count ? part + at_once : first + count;
    if (subject->prepare != NULL)
      for (size_t i = part; i < end; ++i) subject->prepare(subject->engine, i);
    const double start = now(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = part; i < end; ++i) subject->call(subject->engine, i);
    sum += now(CLOCK_PROCESS_CPUTIME_ID) - start - overhead;
  }
  return sum;
}

/* How many calls a walk has: as many as were asked for, or for a very slow engine as many as take `longest`
 * nanoseconds, but some. */
static size_t walk_length(const struct subject* subject, size_t most, double longest) {
  const size_t fewest = 32;
  walk(subject, 0, fewest, 0);
  const double one = walk(subject, 0, fewest, 0) / (double)fewest;
  const double fit = one > 0 ? longest / one : (double)most;
  return fit >= (double)most ? most : fit > (double)fewest ? (size_t)fit : fewest;
}

static double time_warm(const struct subject* subject, size_t round, size_t length, double overhead) {
  walk(subject, round * length, length, overhead);
  return walk(subject, round * length, length, overhead) / (double)length;
}

static double time_cold(const struct subject* subject, size_t round, double overhead) {
  if (subject->prepare != NULL) subject->prepare(subject->engine, round);
  evict();
  const double start = now(CLOCK_MONOTONIC);
  subject->call(subject->engine, round);
  return now(CLOCK_MONOTONIC) - start - overhead;
}

/* A line of times for each engine, one per round. */
static void print_times(const struct subject* subjects, size_t count, size_t calls, double longest,
                        size_t rounds, int cold) {
  double* times = allocated(count * rounds * sizeof *times);
  size_t* order = allocated(count * sizeof *order);
  size_t* lengths = allocated(count * sizeof *lengths);
  const double overhead = clock_cost(cold ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID);
  for (size_t e = 0; e < count; ++e) {
    order[e] = e;
    lengths[e] = walk_length(&subjects[e], calls, longest);
  }
  for (size_t round = 0; round < rounds; ++round) {
    shuffle(order, count);
    for (size_t i = 0; i < count; ++i) {
      const struct subject* subject = &subjects[order[i]];
      const double time =
          cold ? time_cold(subject, round, overhead) : time_warm(subject, round, lengths[order[i]], overhead);
      times[order[i] * rounds + round] = time > 0 ? time : 0;
    }
  }
  for (size_t e = 0; e < count; ++e) {
    for (size_t round = 0; round < rounds; ++round) printf("%.2f ", times[e * rounds + round]);
    printf("\n");
  }
}

#ifdef COUNT_ALLOCATIONS
/* The program's own malloc is the one that every library finds; it passes the call on to glibc's. */
static size_t allocations;
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* memory, size_t size);
void* __libc_memalign(size_t alignment, size_t size);
void* malloc(size_t size) {
  ++allocations;
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  ++allocations;
  return __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
  ++allocations;
  return __libc_realloc(memory, size);
}
void* memalign(size_t alignment, size_t size) {
  ++allocations;
  return __libc_memalign(alignment, size);
}
void* aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) {
  *memory = memalign(alignment, size);
  return *memory == NULL ? 12 /* ENOMEM */ : 0;
}

/* The mean number of a call. */
static void print_allocations(const struct subject* subject, size_t calls, double longest) {
  const size_t length = walk_length(subject, calls, longest), before = allocations;
  walk(subject, 0, length, 0);
  printf("%.3f\n", (double)(allocations - before) / (double)length);
}
#else
static void print_allocations(const struct subject* subject, size_t calls, double longest) {
  (void)subject;
  (void)calls;
  (void)longest;
  fail("allocations are counted only by a build with -DCOUNT_ALLOCATIONS");
}
#endif

/* ONNX Runtime's package has no header. Its functions lie in a table that is only ever added to at the end;
 * these are their places in it. NULL is success. */
enum {
  ORT_CREATE_ENV = 3,
  ORT_CREATE_SESSION = 7,
  ORT_RUN = 9,
  ORT_CREATE_SESSION_OPTIONS = 10,
  ORT_SET_EXECUTION_MODE = 13,
  ORT_SET_OPTIMIZATION_LEVEL = 23,
  ORT_SET_INTRA_OP_THREADS = 24,
  ORT_SET_INTER_OP_THREADS = 25,
  ORT_CREATE_TENSOR_WITH_DATA = 49,
  ORT_CREATE_CPU_MEMORY_INFO = 69
};
struct ort_base {
  void** (*table)(uint32_t version);
  const char* (*version)(void);
};
typedef const struct ort_base* ort_get_base(void);
typedef void* ort_create_env(int log_level, const char* name, void** env);
typedef void* ort_create_options(void** options);
typedef void* ort_set_option(void* options, int value);
typedef void* ort_create_session(void* env, const char* path, const void* options, void** session);
typedef void* ort_create_memory_info(int allocator, int memory, void** info);
typedef void* ort_create_tensor(const void* info, void* data, size_t size, const int64_t* shape,
                                size_t dimensions, int type, void** tensor);
typedef void* ort_run(void* session, const void* options, const char* const* input_names, void* const* inputs,
                      size_t input_count, const char* const* output_names, size_t output_count,
                      void** outputs);

/* A session for one thread; returns the table. */
static void** open_ort(const char* library, const char* path, void** session) {
  const uint32_t version = 17; /* any that has the functions above */
  const int errors = 3, sequential = 0, all = 99;
  void *env, *options;
  void* get_base = symbol(library, "OrtGetApiBase");
  void** table = AS_FUNCTION(ort_get_base*, get_base)()->table(version);
  if (table == NULL) fail("%s has no interface of version %u", library, (unsigned)version);
  if (AS_FUNCTION(ort_create_env*, table[ORT_CREATE_ENV])(errors, PROGRAM, &env) != NULL ||
      AS_FUNCTION(ort_create_options*, table[ORT_CREATE_SESSION_OPTIONS])(&options) != NULL ||
      AS_FUNCTION(ort_set_option*, table[ORT_SET_EXECUTION_MODE])(options, sequential) != NULL ||
      AS_FUNCTION(ort_set_option*, table[ORT_SET_OPTIMIZATION_LEVEL])(options, all) != NULL ||
      AS_FUNCTION(ort_set_option*, table[ORT_SET_INTRA_OP_THREADS])(options, 1) != NULL ||
      AS_FUNCTION(ort_set_option*, table[ORT_SET_INTER_OP_THREADS])(options, 1) != NULL ||
      AS_FUNCTION(ort_create_session*, table[ORT_CREATE_SESSION])(env, path, options, session) != NULL) {
    fail("ONNX Runtime cannot open %s", path);
  }
  return table;
}

/* A tensor of float32 over memory of the caller. */
static void* ort_tensor(void** table, float* values, const int64_t* shape, size_t dimensions) {
  const int arena = 1, default_memory = 0, float32 = 1;
  size_t size = sizeof(float);
  for (size_t i = 0; i < dimensions; ++i) size *= (size_t)shape[i];
  void *info, *tensor;
  if (AS_FUNCTION(ort_create_memory_info*, table[ORT_CREATE_CPU_MEMORY_INFO])(arena, default_memory, &info) !=
          NULL ||
      AS_FUNCTION(ort_create_tensor*, table[ORT_CREATE_TENSOR_WITH_DATA])(
          info, values, size, shape, dimensions, float32, &tensor) != NULL) {
    fail("ONNX Runtime makes no tensor");
  }
  return tensor;
}
