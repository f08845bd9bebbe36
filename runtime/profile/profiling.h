/* Profiles a model on the computer that it runs on: its clock, its caches, its instruction counter, its
 * stack. What was found is one struct profile, which is printed for people and written as JSON for machines
 * (see README.md).
 *
 * Memory is the program's own here, unlike in the library. */
#ifndef TONEARM_PROFILING_H
#define TONEARM_PROFILING_H

#include <stdint.h>
#include <stdio.h>
#include <tonearm/profile.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of the JSON, its field "tonearm_profile". */
enum { PROFILE_VERSION = 1 };

/* Quantiles of a distribution that are kept: of 0, 5, ... 100 %. */
enum { PROFILE_QUANTILES = 21, PROFILE_TEXT = 160, PROFILE_REMARKS = 8, PROFILE_CALLS = 8 };

/* What a model is fed: events and tracks of a session model, rows of another; rows may be NULL for the blob's
 * own. */
struct workload {
    char source[PROFILE_TEXT]; /* in words */
    const float *rows;
    size_t row_count;
    const tonearm_event *events;
    size_t event_count;
    const tonearm_track *tracks;
    size_t track_count;
};

struct profile_settings {
    uint32_t warm_runs, cold_runs, queue;
    uint64_t evict_bytes;    /* written before each cold measurement; 0: nothing is measured cold */
    const char *device_name; /* NULL: as the system calls it */
};

struct profile_times {
    tonearm_profile_times summary; /* count 0: not measured */
    uint64_t quantiles[PROFILE_QUANTILES];
};

struct profile_part {
    uint32_t kind, phase, index;
    char name[PROFILE_TEXT];
    uint32_t touched_bytes;
    struct profile_times warm, cold; /* nanoseconds */
    struct profile_times instructions;
};

struct profile_stack {
    char call[PROFILE_TEXT];
    uint64_t bytes;
};

struct profile_remark {
    char what[PROFILE_TEXT], why[2 * PROFILE_TEXT];
};

struct profile {
    struct {
        char name[PROFILE_TEXT], machine[PROFILE_TEXT], system[PROFILE_TEXT];
        uint64_t cache_bytes; /* of the last level; 0: unknown */
    } device;
    struct {
        char name[PROFILE_TEXT], version[PROFILE_TEXT], kernels[PROFILE_TEXT];
        uint32_t id, columns, outputs, blob_bytes, session_bytes, scratch_bytes;
        uint16_t format_major, format_minor;
    } model;
    struct {
        char source[PROFILE_TEXT];
        uint64_t rows, events, tracks;
        uint32_t queue;
    } workload;
    struct {
        uint64_t cost, step; /* nanoseconds */
    } clock;
    uint64_t evicted_bytes;
    uint32_t library; /* TONEARM_VERSION */
    size_t part_count, stack_count, remark_count;
    struct profile_part *parts; /* profile_free() */
    struct profile_stack stack[PROFILE_CALLS];
    struct profile_remark not_measured[PROFILE_REMARKS];
};

/* Sessions that nobody has listened to, the same every time. They are static. */
void workload_made_up(struct workload *workload);

/* Measures a model, opened over `blob`. Returns NULL, or what is wrong, in a sentence; the profile is then
 * empty. */
const char *profile_measure(const tonearm_model *model, const void *blob, const struct workload *workload,
                            const struct profile_settings *settings, struct profile *profile);
void profile_free(struct profile *profile);

/* The last level of the caches, in bytes; 0 if it cannot be found out. And what to write so that little is
 * left in it. */
uint64_t profile_cache_bytes(void);
uint64_t profile_evict_bytes(void);

/* The TONEARM_CPU_ bit of a name ("scalar", "avx2"), 0 if there is none; and the name. */
uint32_t profile_cpu_of(const char *name);
const char *profile_cpu_name(uint32_t cpu);
/* "call", "features", "operator"; and "history", "context", "candidate", or "" for none. */
const char *profile_kind_name(uint32_t kind);
const char *profile_phase_name(uint32_t phase);

/* A phase of a session model, by the medians of the calls that run it: `history` is the end of a track, `context` a
 * prediction about no track, and `candidate` what one about a queue takes more, for each of its tracks. `parts` adds up
 * the parts of the phase; what is missing are the columns, the state of the session, and the call itself. (Cold parts
 * take more than the whole, because each was measured with caches of its own to fill.) */
struct profile_phase {
    int known;
    uint64_t whole, parts; /* nanoseconds */
};
struct profile_phase profile_phase_of(const struct profile *profile, uint32_t phase, int cold);

/* For people, and as JSON. */
void profile_print(const struct profile *profile, FILE *file);
void profile_write_json(const struct profile *profile, FILE *file);

#ifdef __cplusplus
}
#endif

#endif
