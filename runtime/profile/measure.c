#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#if defined(__linux__)
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#endif

#include "profiling.h"

static void copy_text(char *to, const char *from) { snprintf(to, PROFILE_TEXT, "%s", from); }

static void not_measured(struct profile *profile, const char *what, const char *why) {
    if (profile->remark_count == PROFILE_REMARKS) return;
    struct profile_remark *remark = &profile->not_measured[profile->remark_count++];
    copy_text(remark->what, what);
    snprintf(remark->why, sizeof remark->why, "%s", why);
}

/* ---------------------------------------------------------------------------------------- device */

/* The first line of a file, or of it the first that begins with `key` and a colon: what is behind that. */
static int read_text(const char *path, const char *key, char *text) {
    char line[PROFILE_TEXT];
    FILE *file = fopen(path, "r");
    int found = 0;
    if (file == NULL) return 0;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        const char *value = line;
        if (key != NULL) {
            if (strncmp(line, key, strlen(key)) != 0) continue;
            value = strchr(line, ':');
            if (value == NULL) continue;
            for (++value; *value == ' ' || *value == '\t';) ++value;
        }
        copy_text(text, value);
        text[strcspn(text, "\r\n")] = 0;
        found = *text != 0;
    }
    fclose(file);
    return found;
}

uint64_t profile_cache_bytes(void) {
    uint64_t largest = 0;
    for (int index = 0; index < 8; ++index) {
        char path[PROFILE_TEXT], text[PROFILE_TEXT];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (!read_text(path, NULL, text)) break;
        char *unit;
        uint64_t bytes = strtoull(text, &unit, 10);
        if (*unit == 'K') bytes <<= 10;
        if (*unit == 'M') bytes <<= 20;
        if (bytes > largest) largest = bytes;
    }
    return largest;
}

uint64_t profile_evict_bytes(void) {
    const uint64_t least = 16 << 20, most = 96 << 20, twice = 2 * profile_cache_bytes();
    return twice < least ? least : twice > most ? most : twice;
}

static void describe_device(struct profile *profile, const char *name) {
    struct utsname system;
    if (name != NULL)
        copy_text(profile->device.name, name);
    else if (!read_text("/sys/firmware/devicetree/base/model", NULL, profile->device.name) &&
             !read_text("/proc/cpuinfo", "model name", profile->device.name) &&
             !read_text("/proc/cpuinfo", "Hardware", profile->device.name))
        copy_text(profile->device.name, "unknown device");
    if (uname(&system) == 0) {
        copy_text(profile->device.machine, system.machine);
        snprintf(profile->device.system, PROFILE_TEXT, "%.64s %.64s", system.sysname, system.release);
    }
    profile->device.cache_bytes = profile_cache_bytes();
#if !defined(__x86_64__) && !defined(__i386__)
    char vendor[PROFILE_TEXT];
    if (read_text("/proc/cpuinfo", "vendor_id", vendor) &&
        (strcmp(vendor, "GenuineIntel") == 0 || strcmp(vendor, "AuthenticAMD") == 0))
        not_measured(profile, "times of the processor itself",
                     "the computer is an x86 and this program is not: these are the times of an emulator");
#endif
}

/* ------------------------------------------------------------------------- clock, caches, counter */

struct meter {
    int counter; /* of instructions; -1: there is none */
    unsigned char *evicted;
    uint64_t evicted_bytes;
    unsigned char value;
    struct profile_part *parts; /* what is measured */
};

static uint64_t nanoseconds(void *context) {
    struct timespec time;
    (void)context;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static uint64_t instructions(void *context) {
    const struct meter *meter = context;
    uint64_t count = 0;
    return read(meter->counter, &count, sizeof count) == (ssize_t)sizeof count ? count : 0;
}

/* Writes every line of a buffer that is larger than the caches, or as large as is bearable. */
static void evict(void *context) {
    struct meter *meter = context;
    volatile unsigned char *bytes = meter->evicted;
    ++meter->value;
    for (uint64_t i = 0; i < meter->evicted_bytes; i += 32) bytes[i] = meter->value;
}

/* Counts the instructions of this thread in user mode; -1, and why, where that cannot be done. */
static int open_counter(char *why, size_t size) {
#if defined(__linux__)
    struct perf_event_attr attributes;
    memset(&attributes, 0, sizeof attributes);
    attributes.type = PERF_TYPE_HARDWARE;
    attributes.size = sizeof attributes;
    attributes.config = PERF_COUNT_HW_INSTRUCTIONS;
    attributes.exclude_kernel = 1;
    attributes.exclude_hv = 1;
    const long counter = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
    uint64_t count;
    if (counter >= 0 && read((int)counter, &count, sizeof count) == (ssize_t)sizeof count)
        return (int)counter;
    const int error = errno;
    if (counter >= 0) close((int)counter);
    char level[PROFILE_TEXT];
    if (!read_text("/proc/sys/kernel/perf_event_paranoid", NULL, level)) copy_text(level, "not there");
    const char *advice = error == ENOENT || error == EOPNOTSUPP || error == ENODEV
                             ? "this processor (or virtual machine) offers no counter"
                         : error == EACCES || error == EPERM
                             ? "lower kernel.perf_event_paranoid to 2 or less, or run as root"
                         : error == ENOSYS ? "this system (or emulator) has no such call"
                                           : "the kernel refuses";
    snprintf(why, size, "perf_event_open: %.60s; %s (kernel.perf_event_paranoid is %.20s)", strerror(error),
             advice, level);
#else
    snprintf(why, size, "this system has no perf_event_open");
#endif
    return -1;
}

static struct profile_times times_of(const uint64_t *sorted, uint32_t count,
                                     const tonearm_profile_times *summary) {
    struct profile_times times = {*summary, {0}};
    for (uint32_t q = 0; q < PROFILE_QUANTILES; ++q)
        times.quantiles[q] = sorted[(uint64_t)(count - 1) * q / (PROFILE_QUANTILES - 1)];
    return times;
}

static void keep_distribution(void *context, const tonearm_profile_part *part, uint32_t cold,
                              const uint64_t *sorted, uint32_t count) {
    struct meter *meter = context;
    struct profile_part *found = meter->parts;
    while (found->kind != part->kind || found->phase != part->phase || found->index != part->index) ++found;
    struct profile_times *times = meter->counter >= 0 ? &found->instructions
                                  : cold != 0         ? &found->cold
                                                      : &found->warm;
    const tonearm_profile_times nothing = {0};
    *times = times_of(sorted, count, &nothing);
}

/* ------------------------------------------------------------------------------------------ stack */

/* Calls are made on a thread whose stack has been painted: where the paint is gone, it was used. */
enum { STACK_BYTES = 1 << 18, STACK_GAP = 256, STACK_EVENTS = 200 };
static const uint32_t paint_value = 0xa5c35a3cu;

struct stack_probe {
    const tonearm_model *model;
    const void *blob;
    const struct workload *workload;
    struct profile *profile;
    uint32_t queue;
    uint32_t *low; /* the stack's lowest word */
    char *top;     /* the frame of the function that makes the call */
    void *memory;  /* a session */
    void *scratch;
    float *out;
    tonearm_session *session;
    const tonearm_event *event;
    const float *row;
    tonearm_request request;
    tonearm_model opened;
};

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TONEARM_UNCHECKED __attribute__((noinline, no_sanitize("address")))
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TONEARM_UNCHECKED __attribute__((noinline, no_sanitize_address))
#endif
#ifndef TONEARM_UNCHECKED
#define TONEARM_UNCHECKED __attribute__((noinline))
#endif

TONEARM_UNCHECKED static void paint(const struct stack_probe *probe) {
    volatile uint32_t *end =
        (volatile uint32_t *)(((uintptr_t)__builtin_frame_address(0) - STACK_GAP) & ~(uintptr_t)3);
    for (volatile uint32_t *at = probe->low; at < end; ++at) *at = paint_value;
}

TONEARM_UNCHECKED static uint64_t used(const struct stack_probe *probe) {
    const volatile uint32_t *at = probe->low;
    while ((const char *)at < probe->top - STACK_GAP && *at == paint_value) ++at;
    return (uint64_t)(probe->top - (const char *)at);
}

__attribute__((noinline)) static void call_open(struct stack_probe *probe) {
    probe->top = __builtin_frame_address(0);
    tonearm_model_open(&probe->opened, probe->blob, probe->profile->model.blob_bytes, NULL, NULL);
}
__attribute__((noinline)) static void call_self_test(struct stack_probe *probe) {
    probe->top = __builtin_frame_address(0);
    tonearm_model_self_test(probe->model, probe->scratch, probe->profile->model.scratch_bytes, NULL);
}
__attribute__((noinline)) static void call_evaluate(struct stack_probe *probe) {
    probe->top = __builtin_frame_address(0);
    tonearm_evaluate(probe->model, probe->row, probe->profile->model.columns, probe->scratch,
                     probe->profile->model.scratch_bytes, probe->out);
}
__attribute__((noinline)) static void call_start(struct stack_probe *probe) {
    probe->top = __builtin_frame_address(0);
    tonearm_track_start(probe->model, probe->session, &probe->event->track, &probe->event->start,
                        &probe->event->now, probe->scratch, probe->profile->model.scratch_bytes);
}
__attribute__((noinline)) static void call_end(struct stack_probe *probe) {
    probe->top = __builtin_frame_address(0);
    tonearm_track_end(probe->model, probe->session, &probe->event->end, probe->scratch,
                      probe->profile->model.scratch_bytes);
}
__attribute__((noinline)) static void call_predict(struct stack_probe *probe) {
    probe->top = __builtin_frame_address(0);
    tonearm_predict(probe->model, probe->session, &probe->request, probe->scratch,
                    probe->profile->model.scratch_bytes, probe->out);
}

/* Makes the call twice, because the first time the loader may have to look functions up on the same stack. */
static void probe_call(struct stack_probe *probe, struct profile_stack *stack, const char *name,
                       void (*call)(struct stack_probe *), int changes_state) {
    const uint32_t session_bytes = probe->profile->model.session_bytes;
    if (changes_state) {
        unsigned char *before = (unsigned char *)probe->memory + session_bytes;
        memcpy(before, probe->memory, session_bytes);
        call(probe);
        memcpy(probe->memory, before, session_bytes);
    } else {
        call(probe);
    }
    paint(probe);
    call(probe);
    const uint64_t bytes = used(probe);
    copy_text(stack->call, name);
    if (bytes > stack->bytes) stack->bytes = bytes;
}

static void probe_session(struct stack_probe *probe, struct profile_stack *stack) {
    const struct workload *workload = probe->workload;
    tonearm_session_init(probe->model, probe->memory, probe->profile->model.session_bytes, &probe->session);
    for (size_t i = 0; i < workload->event_count && i < STACK_EVENTS; ++i) {
        probe->event = &workload->events[i];
        if (probe->event->kind == TONEARM_EVENT_RESET) {
            tonearm_session_reset(probe->model, probe->session);
        } else if (probe->event->kind == TONEARM_EVENT_END) {
            probe_call(probe, stack + 1, "a track ends", call_end, 1);
        } else {
            probe_call(probe, stack, "a track starts", call_start, 1);
            tonearm_request_init(&probe->request, sizeof probe->request);
            probe->request.kind = TONEARM_PLAYING;
            probe_call(probe, stack + 2, "predict, playing track", call_predict, 0);
            probe->request.kind = TONEARM_QUEUE;
            probe->request.candidates = workload->tracks;
            probe->request.candidate_count = probe->queue;
            if (probe->queue > 0) probe_call(probe, stack + 3, "predict, queue", call_predict, 0);
        }
    }
}

static void *run_probe(void *context) {
    struct stack_probe *probe = context;
    struct profile *profile = probe->profile;
    struct profile_stack *stack = profile->stack;
    probe_call(probe, stack++, "open the model", call_open, 0);
    probe_call(probe, stack++, "self-test", call_self_test, 0);
    if (profile->model.session_bytes > 0) {
        probe_session(probe, stack);
        stack += probe->queue > 0 ? 4 : 3;
    } else if (probe->workload->rows != NULL) {
        for (size_t i = 0; i < probe->workload->row_count && i < STACK_EVENTS; ++i) {
            probe->row = probe->workload->rows + i * profile->model.columns;
            probe_call(probe, stack, "evaluate a row", call_evaluate, 0);
        }
        ++stack;
    }
    profile->stack_count = (size_t)(stack - profile->stack);
    return NULL;
}

static void measure_stack(struct stack_probe *probe) {
    struct profile *profile = probe->profile;
    const size_t session = profile->model.session_bytes,
                 outputs = (size_t)profile->model.outputs * (probe->queue + 1);
    void *stack = NULL;
    const long page = sysconf(_SC_PAGESIZE);
    pthread_attr_t attributes;
    pthread_t thread;
    const char *why = NULL;
    probe->memory = malloc(2 * session + 16);
    probe->scratch = malloc(profile->model.scratch_bytes + 16u);
    probe->out = malloc(outputs * sizeof *probe->out);
    if (probe->memory == NULL || probe->scratch == NULL || probe->out == NULL ||
        posix_memalign(&stack, page > 0 ? (size_t)page : 4096, STACK_BYTES) != 0) {
        why = "not enough memory";
    } else {
        probe->low = stack;
        pthread_attr_init(&attributes);
        const int error = pthread_attr_setstack(&attributes, stack, STACK_BYTES) != 0
                              ? EINVAL
                              : pthread_create(&thread, &attributes, run_probe, probe);
        if (error != 0)
            why = strerror(error);
        else
            pthread_join(thread, NULL);
        pthread_attr_destroy(&attributes);
    }
    if (why != NULL) not_measured(profile, "stack", why);
    free(stack);
    free(probe->out);
    free(probe->scratch);
    free(probe->memory);
}

/* -------------------------------------------------------------------------------------- measuring */

/* Instructions are the same every time, or nearly: a few samples tell. */
enum { INSTRUCTION_RUNS = 101 };

static void describe_model(const tonearm_model *model, struct profile *profile) {
    tonearm_info info = {0};
    info.struct_size = sizeof info;
    tonearm_model_info(model, &info);
    copy_text(profile->model.name, info.name);
    copy_text(profile->model.version, info.version);
    copy_text(profile->model.kernels, profile_cpu_name(info.cpu));
    profile->model.id = info.model_id;
    profile->model.columns = info.columns;
    profile->model.outputs = info.outputs;
    profile->model.blob_bytes = info.blob_bytes;
    profile->model.session_bytes = info.session_bytes;
    profile->model.scratch_bytes = info.scratch_bytes;
    profile->model.format_major = info.format_major;
    profile->model.format_minor = info.format_minor;
}

static const char *measure_parts(const tonearm_model *model, const struct workload *workload,
                                 const struct profile_settings *settings, struct meter *meter,
                                 struct profile *profile, void *memory, size_t memory_size,
                                 uint64_t *samples) {
    const uint32_t count = tonearm_profile_part_count(model);
    tonearm_profile_part *parts = calloc(count, sizeof *parts);
    profile->parts = calloc(count + 1, sizeof *profile->parts);
    if (parts == NULL || profile->parts == NULL) {
        free(parts);
        return "there is not enough memory for the results";
    }
    tonearm_profile_request request = {0};
    request.struct_size = sizeof request;
    request.warm_runs = settings->warm_runs;
    request.cold_runs = settings->cold_runs;
    request.queue = profile->workload.queue;
    request.context = meter;
    request.now = nanoseconds;
    request.evict = meter->evicted != NULL ? evict : NULL;
    request.samples = samples;
    request.sample_count =
        settings->warm_runs > settings->cold_runs ? settings->warm_runs : settings->cold_runs;
    request.rows = workload->rows;
    request.row_count = workload->row_count;
    request.events = workload->events;
    request.event_count = workload->event_count;
    request.tracks = workload->tracks;
    request.track_count = workload->track_count;
    tonearm_profile_result result = {0};
    result.struct_size = sizeof result;
    result.parts = parts;
    result.part_count = count;
    parts->struct_size = sizeof *parts;

    /* A dry run first: it names the parts, and brings the pages of the program into memory. */
    const int counter = meter->counter;
    meter->counter = -1;
    tonearm_profile_request dry = request;
    dry.warm_runs = 1;
    dry.cold_runs = 0;
    tonearm_status status = tonearm_profile(model, &dry, memory, memory_size, &result);
    profile->part_count = result.part_count;
    for (uint32_t i = 0; i < result.part_count; ++i) {
        struct profile_part *part = &profile->parts[i];
        part->kind = parts[i].kind;
        part->phase = parts[i].phase;
        part->index = parts[i].index;
        copy_text(part->name, parts[i].name);
        part->touched_bytes = parts[i].touched_bytes;
    }
    meter->parts = profile->parts;
    request.measured = keep_distribution;
    result.part_count = count;
    if (status == TONEARM_OK) status = tonearm_profile(model, &request, memory, memory_size, &result);
    profile->clock.cost = result.clock_cost;
    profile->clock.step = result.clock_step;
    for (uint32_t i = 0; status == TONEARM_OK && i < result.part_count; ++i) {
        profile->parts[i].warm.summary = parts[i].warm;
        profile->parts[i].cold.summary = parts[i].cold;
    }
    if (counter >= 0 && status == TONEARM_OK) {
        meter->counter = counter;
        request.now = instructions;
        request.evict = NULL;
        request.cold_runs = 0;
        if (request.warm_runs > INSTRUCTION_RUNS) request.warm_runs = INSTRUCTION_RUNS;
        result.part_count = count;
        status = tonearm_profile(model, &request, memory, memory_size, &result);
        for (uint32_t i = 0; status == TONEARM_OK && i < result.part_count; ++i)
            profile->parts[i].instructions.summary = parts[i].warm;
    }
    free(parts);
    if (status == TONEARM_NO_GOLDEN) return "the model holds no rows of its own: give --rows";
    return status == TONEARM_OK ? NULL : tonearm_status_text(status);
}

const char *profile_measure(const tonearm_model *model, const void *blob, const struct workload *workload,
                            const struct profile_settings *settings, struct profile *profile) {
    memset(profile, 0, sizeof *profile);
    describe_device(profile, settings->device_name);
    describe_model(model, profile);
    profile->library = tonearm_version();
    const int sessions = profile->model.session_bytes > 0;
    copy_text(profile->workload.source, workload->source);
    profile->workload.rows = workload->row_count;
    profile->workload.events = workload->event_count;
    profile->workload.tracks = workload->track_count;
    if (sessions && workload->tracks != NULL)
        profile->workload.queue =
            settings->queue < workload->track_count ? settings->queue : (uint32_t)workload->track_count;

    char why[2 * PROFILE_TEXT];
    struct meter meter = {.counter = open_counter(why, sizeof why)};
    if (meter.counter < 0) not_measured(profile, "instructions", why);
    const uint32_t most =
        settings->warm_runs > settings->cold_runs ? settings->warm_runs : settings->cold_runs;
    const size_t memory_size = tonearm_profile_size(model, profile->workload.queue);
    uint64_t *samples = malloc((most + 1u) * sizeof *samples);
    void *memory = NULL;
    const char *wrong = NULL;
    if (settings->evict_bytes > 0 && settings->cold_runs > 0) {
        meter.evicted = settings->evict_bytes > SIZE_MAX ? NULL : malloc((size_t)settings->evict_bytes);
        meter.evicted_bytes = settings->evict_bytes;
        if (meter.evicted == NULL)
            not_measured(profile, "cold times", "there is no memory to evict the caches with");
    } else {
        not_measured(profile, "cold times", "the options say so");
    }
    if (meter.evicted != NULL) {
        profile->evicted_bytes = settings->evict_bytes;
        if (profile->device.cache_bytes > settings->evict_bytes)
            not_measured(
                profile, "caches that are quite cold",
                "the last-level cache is larger than what is written before each cold measurement (--evict)");
    }
    if (samples == NULL || posix_memalign(&memory, 64, memory_size + 64) != 0) {
        wrong = "there is not enough memory: ask for fewer runs";
    } else {
        wrong = measure_parts(model, workload, settings, &meter, profile, memory, memory_size, samples);
    }
    if (wrong == NULL) {
        struct stack_probe probe = {.model = model,
                                    .blob = blob,
                                    .workload = workload,
                                    .profile = profile,
                                    .queue = profile->workload.queue};
        measure_stack(&probe);
    }
    free(memory);
    free(samples);
    free(meter.evicted);
    if (meter.counter >= 0) close(meter.counter);
    if (wrong != NULL) profile_free(profile);
    return wrong;
}

void profile_free(struct profile *profile) {
    free(profile->parts);
    profile->parts = NULL;
    profile->part_count = 0;
}
