/* A plugin of QEMU's that counts the instructions which a program executes, by symbol, between two markers.
 *
 *     qemu-... -plugin device_count.so,symbols=FILE,out=FILE ...
 *
 * `symbols` has a line `ADDRESS SIZE NAME` for each function, addresses in hexadecimal and ascending. What
 * runs after the function device_begin_K has been entered, K = 0 to 9, and before device_end has, is counted
 * for K. `out` receives a line `K COUNT NAME` for each symbol that was reached; what belongs to none is
 * called "?".
 *
 * No header of QEMU's interface for plugins is packaged: these are the declarations of its version 1. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct qemu_info_t qemu_info_t;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
typedef void qemu_plugin_tb_trans(qemu_plugin_id_t id, struct qemu_plugin_tb* tb);
typedef void qemu_plugin_executed(unsigned int cpu, void* data);
typedef void qemu_plugin_exit(qemu_plugin_id_t id, void* data);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_tb_trans* callback);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn* insn, qemu_plugin_executed* callback,
                                            enum qemu_plugin_cb_flags flags, void* data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, qemu_plugin_exit* callback, void* data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb* tb);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb* tb, size_t index);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn* insn);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

enum { PARTS = 10, NONE = -1 };

struct symbol {
  uint64_t begin, end, counts[PARTS];
  char* name;
};

static struct symbol* symbols; /* the last one is "?" */
static size_t symbol_count;
static int part = NONE;
static const char* out_path;

static void executed(unsigned int cpu, void* data) {
  (void)cpu;
  if (part != NONE) ++((struct symbol*)data)->counts[part];
}

static void begun(unsigned int cpu, void* data) {
  (void)cpu;
  part = (int)(intptr_t)data;
}

static struct symbol* symbol_at(uint64_t address) {
  size_t first = 0, count = symbol_count;
  while (count > 0) {
    const size_t half = count / 2;
    if (symbols[first + half].begin <= address)
      first += half + 1, count -= half + 1;
    else
      count = half;
  }
  return first > 0 && address < symbols[first - 1].end ? &symbols[first - 1] : &symbols[symbol_count];
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
  static const char begin[] = "device_begin_";
  (void)id;
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
    struct qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
    const uint64_t address = qemu_plugin_insn_vaddr(insn);
    struct symbol* symbol = symbol_at(address);
    if (strcmp(symbol->name, "device_end") == 0)
      qemu_plugin_register_vcpu_insn_exec_cb(insn, begun, QEMU_PLUGIN_CB_NO_REGS, (void*)(intptr_t)NONE);
    else if (strncmp(symbol->name, begin, sizeof begin - 1) == 0)
      qemu_plugin_register_vcpu_insn_exec_cb(insn, begun, QEMU_PLUGIN_CB_NO_REGS,
                                             (void*)(intptr_t)(symbol->name[sizeof begin - 1] - '0'));
    else
      qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, QEMU_PLUGIN_CB_NO_REGS, symbol);
  }
}

static void write_counts(qemu_plugin_id_t id, void* data) {
  (void)id, (void)data;
  FILE* file = fopen(out_path, "w");
  if (file == NULL) return;
  for (size_t i = 0; i <= symbol_count; ++i)
    for (int k = 0; k < PARTS; ++k)
      if (symbols[i].counts[k] > 0)
        fprintf(file, "%d %" PRIu64 " %s\n", k, symbols[i].counts[k], symbols[i].name);
  fclose(file);
}

static bool read_symbols(const char* path) {
  FILE* file = fopen(path, "r");
  if (file == NULL) return false;
  char line[4096];
  while (fgets(line, sizeof line, file) != NULL) ++symbol_count;
  rewind(file);
  symbols = calloc(symbol_count + 1, sizeof *symbols);
  for (size_t i = 0; i < symbol_count && fgets(line, sizeof line, file) != NULL; ++i) {
    char* name;
    symbols[i].begin = strtoull(line, &name, 16);
    symbols[i].end = symbols[i].begin + strtoull(name, &name, 16);
    name[strcspn(name, "\n")] = 0;
    symbols[i].name = strdup(name + 1);
  }
  symbols[symbol_count].name = strdup("?");
  fclose(file);
  return true;
}

__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info,
                                                               int argc, char** argv) {
  (void)info;
  bool read = false;
  for (int i = 0; i < argc; ++i) {
    if (strncmp(argv[i], "symbols=", 8) == 0) read = read_symbols(argv[i] + 8);
    if (strncmp(argv[i], "out=", 4) == 0) out_path = strdup(argv[i] + 4);
  }
  if (!read || out_path == NULL) return 1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, write_counts, NULL);
  return 0;
}
