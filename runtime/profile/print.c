#include <inttypes.h>
#include <string.h>

#include "profiling.h"

static const struct {
    uint32_t cpu;
    const char *name;
} cpus[] = {{TONEARM_CPU_SCALAR, "scalar"}, {TONEARM_CPU_SSSE3, "ssse3"}, {TONEARM_CPU_AVX2, "avx2"},
            {TONEARM_CPU_AVX512, "avx512"}, {TONEARM_CPU_NEON, "neon"},   {TONEARM_CPU_NEON_DOT, "neon-dot"},
            {TONEARM_CPU_WASM, "wasm"},     {TONEARM_CPU_DSP, "dsp"}};
enum { CPUS = sizeof cpus / sizeof cpus[0] };

uint32_t profile_cpu_of(const char *name) {
    for (int i = 0; i < CPUS; ++i)
        if (strcmp(cpus[i].name, name) == 0) return cpus[i].cpu;
    return 0;
}

const char *profile_cpu_name(uint32_t cpu) {
    for (int i = 0; i < CPUS; ++i)
        if (cpus[i].cpu == cpu) return cpus[i].name;
    return "unknown";
}

const char *profile_kind_name(uint32_t kind) {
    return kind == TONEARM_PROFILE_OPERATOR   ? "operator"
           : kind == TONEARM_PROFILE_FEATURES ? "features"
                                              : "call";
}

const char *profile_phase_name(uint32_t phase) {
    return phase == TONEARM_PHASE_HISTORY     ? "history"
           : phase == TONEARM_PHASE_CONTEXT   ? "context"
           : phase == TONEARM_PHASE_CANDIDATE ? "candidate"
                                              : "";
}

/* ---------------------------------------------------------------------------------------- people */

static void print_number(FILE *file, int width, int known, uint64_t number) {
    if (known)
        fprintf(file, " %*" PRIu64, width, number);
    else
        fprintf(file, " %*s", width, "-");
}

static void print_times(FILE *file, const struct profile_times *times) {
    const int known = times->summary.count > 0;
    print_number(file, 7, known, times->summary.median);
    print_number(file, 7, known, times->summary.p90);
    print_number(file, 7, known, times->summary.p99);
    print_number(file, 8, known, times->summary.maximum);
    fputs(" ", file);
}

static int has_instructions(const struct profile *profile) {
    for (size_t i = 0; i < profile->part_count; ++i)
        if (profile->parts[i].instructions.summary.count > 0) return 1;
    return 0;
}

static void print_head(const struct profile *profile, FILE *file, const char *title) {
    const int counted = has_instructions(profile);
    fprintf(file, "\n%-34s %31s  %31s %9s%s\n", title, "warm, ns", "cold, ns", "touched",
            counted ? "   instruc-" : "");
    fprintf(file, "  %-32s %7s %7s %7s %8s  %7s %7s %7s %8s %9s%s\n", "", "median", "p90", "p99", "max",
            "median", "p90", "p99", "max", "bytes", counted ? "      tions" : "");
}

static void print_part(const struct profile *profile, FILE *file, const struct profile_part *part,
                       const char *name) {
    fprintf(file, "  %-32s", name);
    print_times(file, &part->warm);
    print_times(file, &part->cold);
    print_number(file, 8, part->touched_bytes > 0, part->touched_bytes);
    if (has_instructions(profile))
        print_number(file, 10, part->instructions.summary.count > 0, part->instructions.summary.median);
    fputc('\n', file);
}

static const struct profile_part *call_of(const struct profile *profile, uint32_t kind) {
    for (size_t i = 0; i < profile->part_count; ++i)
        if (profile->parts[i].kind == kind) return &profile->parts[i];
    return NULL;
}

struct profile_phase profile_phase_of(const struct profile *profile, uint32_t phase, int cold) {
    const struct profile_part *end = call_of(profile, TONEARM_PROFILE_END),
                              *context = call_of(profile, TONEARM_PROFILE_CONTEXT),
                              *queue = call_of(profile, TONEARM_PROFILE_QUEUE);
    struct profile_phase found = {0, 0, 0};
    if (end == NULL || context == NULL || queue == NULL) return found;
    const tonearm_profile_times *of_end = cold ? &end->cold.summary : &end->warm.summary,
                                *of_context = cold ? &context->cold.summary : &context->warm.summary,
                                *of_queue = cold ? &queue->cold.summary : &queue->warm.summary;
    if (phase == TONEARM_PHASE_HISTORY) {
        found.known = of_end->count > 0;
        found.whole = of_end->median;
    } else if (phase == TONEARM_PHASE_CONTEXT) {
        found.known = of_context->count > 0;
        found.whole = of_context->median;
    } else {
        found.known = of_queue->count > 0 && of_context->count > 0;
        if (found.known && of_queue->median > of_context->median)
            found.whole = (of_queue->median - of_context->median) / profile->workload.queue;
    }
    for (size_t i = 0; i < profile->part_count; ++i) {
        const struct profile_part *part = &profile->parts[i];
        if (part->kind >= TONEARM_PROFILE_FEATURES && part->phase == phase)
            found.parts += cold ? part->cold.summary.median : part->warm.summary.median;
    }
    return found;
}

static void print_phases(const struct profile *profile, FILE *file) {
    static const char *const names[] = {"history, per track that ends", "context, per prediction",
                                        "candidate, per track of a queue"};
    if (call_of(profile, TONEARM_PROFILE_END) == NULL) return;
    fprintf(file, "\n%-34s %15s  %15s  %s\n", "Phases, median ns", "warm", "cold",
            "of that in the parts below");
    for (uint32_t i = 0; i < 3; ++i) {
        const struct profile_phase warm = profile_phase_of(profile, TONEARM_PHASE_HISTORY + i, 0),
                                   cold = profile_phase_of(profile, TONEARM_PHASE_HISTORY + i, 1);
        fprintf(file, "  %-32s", names[i]);
        print_number(file, 15, warm.known, warm.whole);
        fputc(' ', file);
        print_number(file, 15, cold.known, cold.whole);
        if (warm.known) fprintf(file, "  %" PRIu64 " warm", warm.parts);
        fputc('\n', file);
    }
}

void profile_print(const struct profile *profile, FILE *file) {
    const uint32_t version = profile->library;
    fprintf(file,
            "%s%s%s, model %08" PRIx32 ": blob %" PRIu32 " bytes, session %" PRIu32 ", scratch %" PRIu32 "\n",
            profile->model.name, *profile->model.version == 0 ? "" : " ", profile->model.version,
            profile->model.id, profile->model.blob_bytes, profile->model.session_bytes,
            profile->model.scratch_bytes);
    fprintf(file, "on %s (%s, %s); kernels %s, library %" PRIu32 ".%" PRIu32 ".%" PRIu32 "\n",
            profile->device.name, profile->device.machine, profile->device.system, profile->model.kernels,
            version / 10000, version / 100 % 100, version % 100);
    fprintf(file,
            "fed with %s; reading the clock takes %" PRIu64 " ns (taken off), its steps are %" PRIu64 " ns\n",
            profile->workload.source, profile->clock.cost, profile->clock.step);
    if (profile->evicted_bytes > 0)
        fprintf(file, "cold: %.0f MB are written before each measurement; the last-level cache has %.1f MB\n",
                (double)profile->evicted_bytes / (1 << 20), (double)profile->device.cache_bytes / (1 << 20));

    print_head(profile, file, "Calls");
    for (size_t i = 0; i < profile->part_count; ++i) {
        const struct profile_part *part = &profile->parts[i];
        char name[PROFILE_TEXT + 32];
        if (part->kind >= TONEARM_PROFILE_FEATURES) continue;
        snprintf(name, sizeof name, "%s", part->name);
        if (part->kind == TONEARM_PROFILE_QUEUE)
            snprintf(name, sizeof name, "%s of %" PRIu32, part->name, profile->workload.queue);
        print_part(profile, file, part, name);
    }
    print_phases(profile, file);
    const char *phase = NULL;
    for (size_t i = 0; i < profile->part_count; ++i) {
        const struct profile_part *part = &profile->parts[i];
        char name[PROFILE_TEXT + 32];
        if (part->kind < TONEARM_PROFILE_FEATURES) continue;
        if (phase == NULL || strcmp(phase, profile_phase_name(part->phase)) != 0) {
            phase = profile_phase_name(part->phase);
            snprintf(name, sizeof name, "Parts%s%s", *phase == 0 ? "" : " of the phase ", phase);
            print_head(profile, file, name);
        }
        if (part->kind == TONEARM_PROFILE_OPERATOR)
            snprintf(name, sizeof name, "#%" PRIu32 " %s", part->index, part->name);
        else
            snprintf(name, sizeof name, "%s", part->name);
        print_part(profile, file, part, name);
    }
    if (profile->stack_count > 0) fputs("\nStack, bytes:", file);
    for (size_t i = 0; i < profile->stack_count; ++i)
        fprintf(file, "%s %s %" PRIu64, i == 0 ? "" : ",", profile->stack[i].call, profile->stack[i].bytes);
    if (profile->stack_count > 0) fputs("\n", file);
    for (size_t i = 0; i < profile->remark_count; ++i)
        fprintf(file, "%sNot measured: %s: %s\n", i == 0 ? "\n" : "", profile->not_measured[i].what,
                profile->not_measured[i].why);
}

/* -------------------------------------------------------------------------------------- machines */

/* A string of JSON. Names need not be UTF-8: what is no valid sequence becomes '?'. */
static void write_text(FILE *file, const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    fputc('"', file);
    while (*at != 0) {
        const int more_bytes = *at < 0x80                  ? 0
                               : *at >= 0xc2 && *at < 0xe0 ? 1
                               : *at >= 0xe0 && *at < 0xf0 ? 2
                               : *at >= 0xf0 && *at < 0xf5 ? 3
                                                           : -1;
        int good = more_bytes >= 0;
        for (int i = 1; good && i <= more_bytes; ++i) good = (at[i] & 0xc0) == 0x80;
        /* Longer than needed, surrogates, beyond the last one. */
        if (good && ((*at == 0xe0 && at[1] < 0xa0) || (*at == 0xed && at[1] > 0x9f) ||
                     (*at == 0xf0 && at[1] < 0x90) || (*at == 0xf4 && at[1] > 0x8f)))
            good = 0;
        if (!good) {
            fputc('?', file);
            ++at;
        } else if (*at == '"' || *at == '\\') {
            fprintf(file, "\\%c", *at++);
        } else if (*at < ' ') {
            fprintf(file, "\\u%04x", *at++);
        } else {
            fwrite(at, 1, (size_t)more_bytes + 1, file);
            at += more_bytes + 1;
        }
    }
    fputc('"', file);
}

static void write_field(FILE *file, const char *before, const char *name, const char *value) {
    fprintf(file, "%s\"%s\": ", before, name);
    write_text(file, value);
}

static void write_times(FILE *file, const char *name, const struct profile_times *times) {
    const tonearm_profile_times *summary = &times->summary;
    fprintf(file, ",\n      \"%s\": ", name);
    if (summary->count == 0) {
        fputs("null", file);
        return;
    }
    fprintf(file,
            "{\"count\": %" PRIu32 ", \"total\": %" PRIu64 ", \"minimum\": %" PRIu64 ", \"median\": %" PRIu64
            ", \"p90\": %" PRIu64 ", \"p99\": %" PRIu64 ", \"maximum\": %" PRIu64
            ",\n        \"quantiles\": [",
            summary->count, summary->total, summary->minimum, summary->median, summary->p90, summary->p99,
            summary->maximum);
    for (int q = 0; q < PROFILE_QUANTILES; ++q)
        fprintf(file, "%s%" PRIu64, q == 0 ? "" : ", ", times->quantiles[q]);
    fputs("]}", file);
}

void profile_write_json(const struct profile *profile, FILE *file) {
    const uint32_t version = profile->library;
    fprintf(file, "{\n  \"tonearm_profile\": %d,\n  \"library\": \"%" PRIu32 ".%" PRIu32 ".%" PRIu32 "\",\n",
            PROFILE_VERSION, version / 10000, version / 100 % 100, version % 100);
    write_field(file, "  \"device\": {", "name", profile->device.name);
    write_field(file, ", ", "machine", profile->device.machine);
    write_field(file, ", ", "system", profile->device.system);
    fprintf(file, ",\n    \"cache_bytes\": %" PRIu64 "},\n", profile->device.cache_bytes);
    write_field(file, "  \"model\": {", "name", profile->model.name);
    write_field(file, ", ", "version", profile->model.version);
    write_field(file, ", ", "kernels", profile->model.kernels);
    fprintf(file,
            ",\n    \"id\": \"%08" PRIx32 "\", \"format\": \"%u.%u\", \"columns\": %" PRIu32
            ", \"outputs\": %" PRIu32 ",\n    \"blob_bytes\": %" PRIu32 ", \"session_bytes\": %" PRIu32
            ", \"scratch_bytes\": %" PRIu32 "},\n",
            profile->model.id, profile->model.format_major, profile->model.format_minor,
            profile->model.columns, profile->model.outputs, profile->model.blob_bytes,
            profile->model.session_bytes, profile->model.scratch_bytes);
    write_field(file, "  \"workload\": {", "source", profile->workload.source);
    fprintf(file,
            ",\n    \"rows\": %" PRIu64 ", \"events\": %" PRIu64 ", \"tracks\": %" PRIu64
            ", \"queue\": %" PRIu32 "},\n",
            profile->workload.rows, profile->workload.events, profile->workload.tracks,
            profile->workload.queue);
    fprintf(file, "  \"clock\": {\"unit\": \"ns\", \"cost\": %" PRIu64 ", \"step\": %" PRIu64 "},\n",
            profile->clock.cost, profile->clock.step);
    fprintf(file, "  \"evicted_bytes\": %" PRIu64 ",\n  \"parts\": [", profile->evicted_bytes);
    for (size_t i = 0; i < profile->part_count; ++i) {
        const struct profile_part *part = &profile->parts[i];
        fprintf(file, "%s\n    {\"kind\": \"%s\", \"phase\": ", i == 0 ? "" : ",",
                profile_kind_name(part->kind));
        if (part->phase == TONEARM_PHASE_NONE)
            fputs("null", file);
        else
            write_text(file, profile_phase_name(part->phase));
        if (part->kind == TONEARM_PROFILE_OPERATOR) fprintf(file, ", \"operator\": %" PRIu32, part->index);
        if (part->kind < TONEARM_PROFILE_FEATURES) fprintf(file, ", \"call\": %" PRIu32, part->kind);
        write_field(file, ", ", "name", part->name);
        fprintf(file, ", \"touched_bytes\": %" PRIu32, part->touched_bytes);
        write_times(file, "warm", &part->warm);
        write_times(file, "cold", &part->cold);
        write_times(file, "instructions", &part->instructions);
        fputs("}", file);
    }
    fputs("\n  ],\n  \"stack\": [", file);
    for (size_t i = 0; i < profile->stack_count; ++i) {
        write_field(file, i == 0 ? "\n    {" : ",\n    {", "call", profile->stack[i].call);
        fprintf(file, ", \"bytes\": %" PRIu64 "}", profile->stack[i].bytes);
    }
    fputs("\n  ],\n  \"not_measured\": [", file);
    for (size_t i = 0; i < profile->remark_count; ++i) {
        write_field(file, i == 0 ? "\n    {" : ",\n    {", "what", profile->not_measured[i].what);
        write_field(file, ", ", "why", profile->not_measured[i].why);
        fputs("}", file);
    }
    fputs("\n  ]\n}\n", file);
}
