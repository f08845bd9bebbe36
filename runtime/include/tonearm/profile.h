/* Tonearm's profiler: what a model costs on this device, call by call and operator by operator.
 *
 * One function, tonearm_profile, for programs and firmware alike. It runs the caller's own events (or rows) through
 * an open model, and reads the caller's clock before and after each part: first again and again, with everything in
 * the caches (*warm*), and then after the caller has driven the caches out (*cold*), as in a player that predicts once
 * per track. What it finds are counts and quantiles of these times, in ticks of that clock, and how many bytes of
 * the blob each part reads.
 *
 * The clock may count anything: nanoseconds, cycles, or instructions. On a Cortex-M with its cycle counter:
 *
 *     static uint64_t cycles(void *context) { (void)context; return *(volatile uint32_t *)0xE0001004; }
 *     static uint32_t memory[TONEARM_PROFILE_BYTES(NAME_SESSION_BYTES, NAME_SCRATCH_BYTES, 1, 8) / 4];
 *     static uint64_t samples[100];
 *     static tonearm_profile_part parts[16];
 *
 *     *(volatile uint32_t *)0xE000EDFC |= 1u << 24;   // DEMCR: switches the unit on
 *     *(volatile uint32_t *)0xE0001000 |= 1;          // DWT_CTRL: lets the counter run
 *     tonearm_profile_request request = {sizeof request};
 *     request.now = cycles;
 *     request.clock_mask = 0xffffffff;                // it has 32 bits
 *     request.warm_runs = 100;
 *     request.samples = samples;
 *     request.sample_count = 100;
 *     request.events = events;                        // a listening session that was recorded
 *     request.event_count = event_count;
 *     request.tracks = queue;
 *     request.track_count = request.queue = 8;
 *     tonearm_profile_result result = {sizeof result};
 *     result.parts = parts;
 *     result.part_count = 16;
 *     parts[0].struct_size = sizeof parts[0];
 *     if (tonearm_profile(&model, &request, memory, sizeof memory, &result) == TONEARM_OK)
 *         for (uint32_t i = 0; i < result.part_count; ++i)
 *             print(parts[i].name, parts[i].warm.median, parts[i].warm.p99);
 *
 * The rules of tonearm.h hold here too: nothing is allocated, nothing is kept, the caller owns every byte. It is an
 * object of its own in the library: a player that does not call it has none of it.
 *
 * This header is C99 and C++. Licence: Apache-2.0.
 */
#ifndef TONEARM_PROFILE_H
#define TONEARM_PROFILE_H

#include <tonearm/tonearm.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What a part is: a call of the API, all of it, or what is run within calls. Values are frozen. */
typedef enum tonearm_profile_kind {
    TONEARM_PROFILE_EVALUATE = 1, /**< tonearm_evaluate, of a row. */
    TONEARM_PROFILE_START = 2,    /**< tonearm_track_start */
    TONEARM_PROFILE_END = 3,      /**< tonearm_track_end: the history phase. */
    TONEARM_PROFILE_CONTEXT = 4,  /**< tonearm_predict about a queue of no tracks: the context phase. */
    TONEARM_PROFILE_PLAYING = 5,  /**< tonearm_predict about the playing track. */
    TONEARM_PROFILE_QUEUE = 6, /**< tonearm_predict about a queue of request.queue tracks: the context phase,
                                       and as many candidate phases. */
    TONEARM_PROFILE_FEATURES =
        7,                       /**< The encoders of one phase: all features but those that are read from the
                                       session's state. Of a table model: its columns' policies, and all features. */
    TONEARM_PROFILE_OPERATOR = 8 /**< One operator in one phase. */
} tonearm_profile_kind;

/** The phase of a part. An operator may have two: a network over the session takes a step in `history` and is read
 *  in `context`; an ensemble of trees asks what all candidates share in `context`, and the rest for each. */
typedef enum tonearm_phase {
    TONEARM_PHASE_NONE = 0,     /**< Of a table model, and of calls that are no phase. */
    TONEARM_PHASE_HISTORY = 1,  /**< Run when a track has ended. */
    TONEARM_PHASE_CONTEXT = 2,  /**< Run once per prediction. */
    TONEARM_PHASE_CANDIDATE = 3 /**< Run for every track that a prediction is about. */
} tonearm_phase;

/** Times of one part, in ticks of the clock, each less what reading the clock itself takes (and at least 0).
 *  Quantiles are by nearest rank: p90 is the smallest time that at least 90 of 100 do not exceed. */
typedef struct tonearm_profile_times {
    uint32_t count; /**< How many were measured; 0: none, and the others are 0. */
    uint32_t reserved;
    uint64_t total; /**< Their sum: where the clock is coarse, total / count says more than the median. */
    uint64_t minimum;
    uint64_t median;
    uint64_t p90;
    uint64_t p99;
    uint64_t maximum;
} tonearm_profile_times;

/** What was found of one part. */
typedef struct tonearm_profile_part {
    uint32_t struct_size; /**< sizeof(tonearm_profile_part); the caller sets that of the first part. */
    uint32_t kind;        /**< a tonearm_profile_kind */
    uint32_t phase;       /**< a tonearm_phase */
    uint32_t index;       /**< OPERATOR: which one of the blob; else 0. */
    const char *name;     /**< In words, e.g. "recurrent, a step". Static. */
    /** At most so many bytes of the blob's weights, thresholds, tables and trees are read by one run of this part.
     *  Counted from the shapes of the arrays: of dense and recurrent layers all weights, once, however many steps read
     *  them; of trees the longest way through each, with a leaf (of trees in blocks all nodes, for all are asked);
     *  of thresholds those that a search reads. 0 for whole calls: add their parts up. */
    uint32_t touched_bytes;
    uint32_t reserved;
    tonearm_profile_times warm;
    tonearm_profile_times cold; /**< Not measured without request.evict. */
} tonearm_profile_part;

/** What to measure, and with what. All zero but struct_size, clock, samples, runs and events or rows is a good start.
 *  Everything is read during the call only. */
typedef struct tonearm_profile_request {
    uint32_t struct_size; /**< sizeof(tonearm_profile_request) */
    uint32_t
        warm_runs; /**< Samples of each part, at least 1. An eighth as many are run before, and not counted. */
    uint32_t cold_runs; /**< Samples of each part, each after a call of `evict`. */
    uint32_t queue;     /**< Tracks of the QUEUE part; 0 leaves it out. */

    void *context; /**< The caller's own, handed to each of the functions. */
    /** The clock: a number that grows. Never NULL. */
    uint64_t (*now)(void *context);
    uint64_t
        clock_mask; /**< The bits that the clock counts with, if it wraps around before 64 bits; 0: all. A part
                              must take less than once around. */
    /** Drives the blob, the session and the code out of the caches; NULL: nothing is measured cold. */
    void (*evict)(void *context);
    /** NULL, or is handed all times of a part, ascending, when it has been measured: first the warm ones (cold = 0),
     *  then the cold ones. For drawings of distributions. Both pointers are valid during the call only. */
    void (*measured)(void *context, const tonearm_profile_part *part, uint32_t cold, const uint64_t *times,
                     uint32_t count);
    uint64_t *samples;     /**< Memory for the times of one part, contents arbitrary. */
    uint32_t sample_count; /**< How many it has: at least warm_runs and cold_runs. */
    uint32_t reserved;

    /* Of a table model. */
    const float
        *rows; /**< As for tonearm_evaluate, one behind the other, taken in turn; NULL: the rows that the
                            blob's self-test has. */
    size_t row_count;

    /* Of a session model. */
    const tonearm_event *events; /**< As for tonearm_session_replay, over and over, each time from an empty
                                      session; RESET between listening sessions. */
    size_t event_count;
    const tonearm_track *tracks; /**< What queues are made of, in their order; their stride is
                                      tracks[0].struct_size. NULL leaves the QUEUE part out. */
    size_t track_count;          /**< At least `queue`. */
} tonearm_profile_request;

/** What was found. */
typedef struct tonearm_profile_result {
    uint32_t struct_size; /**< sizeof(tonearm_profile_result), set by the caller. */
    uint32_t part_count;  /**< In: how many `parts` there is room for. Out: how many there are. */
    tonearm_profile_part
        *parts;          /**< Caller-owned; their stride is parts[0].struct_size. The calls come first, then
                                      features and operators in the order in which they run. */
    uint64_t clock_cost; /**< Ticks that reading the clock takes, and that were taken off every time. */
    uint64_t
        clock_step; /**< The smallest step that was seen of the clock: times are no finer. 0: it stood still. */
} tonearm_profile_result;

/** How many parts a model has; 0 if model is NULL or not open. Linear in its features and operators. Thread-safe. */
TONEARM_API uint32_t tonearm_profile_part_count(const tonearm_model *model) TONEARM_NOEXCEPT;

/** Bytes of memory that tonearm_profile takes, as a constant for static memory: two sessions, a scratch, and the
 *  outputs for a queue. */
#define TONEARM_PROFILE_BYTES(session_bytes, scratch_bytes, outputs, queue)             \
    (2u * (((session_bytes) + 15u) / 16u * 16u) + ((scratch_bytes) + 15u) / 16u * 16u + \
     4u * (outputs) * ((queue) + 1u))

/** The same of an open model, for request.queue tracks; 0 if model is NULL or not open. Constant time, thread-safe. */
TONEARM_API size_t tonearm_profile_size(const tonearm_model *model, uint32_t queue) TONEARM_NOEXCEPT;

/** Measures every part of a model.
 *
 * Whole calls go through the public API, in the session's state at each of the events in turn. An operator is run
 * once more on the scratch that a whole call has left behind, so that it meets the inputs that it meets there.
 *
 * @param request  Not kept.
 * @param memory   tonearm_profile_size bytes, 4-byte aligned (16 is faster on some CPUs), contents arbitrary. Not kept.
 * @param result   Filled. If an event is refused, part_count is 0.
 *
 * Cost: for every part warm_runs + cold_runs (and an eighth) whole calls and events; stack under 2 kB more than these.
 * Threads: as many at once as there are memories, but they would disturb each other's times.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT      model, request, memory, result, result->parts, request->now or request->samples is
 *                                    NULL; events of a session model are; an extra_count without extra
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_BAD_STRUCT_SIZE    of request, result, parts[0], an event or a track
 * @retval TONEARM_MISALIGNED         memory is not 4-byte aligned
 * @retval TONEARM_SCRATCH_TOO_SMALL  memory_size < tonearm_profile_size(model, request->queue)
 * @retval TONEARM_OUT_OF_RANGE       warm_runs is 0; sample_count is less than warm_runs or cold_runs; part_count is
 *                                    less than tonearm_profile_part_count; queue is more than track_count, or than
 *                                    1,000; rows are given but row_count is 0; an event's kind is none of the three
 * @retval TONEARM_NO_GOLDEN          rows is NULL, and the blob has none of its own
 * @retval TONEARM_NOTHING_PLAYING    no event is a start */
TONEARM_API tonearm_status tonearm_profile(const tonearm_model *model, const tonearm_profile_request *request,
                                           void *memory, size_t memory_size,
                                           tonearm_profile_result *result) TONEARM_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* TONEARM_PROFILE_H */
