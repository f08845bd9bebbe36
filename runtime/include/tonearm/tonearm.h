/* Tonearm: evaluates a trained model, on the listener's own device, without allocating.
 *
 * A model arrives as one file, a *blob* (extension .tarm), made by the `tonearm` command. The player
 * loads or maps its bytes, opens it once, and asks for predictions:
 *
 *     tonearm_model model;
 *     if (tonearm_model_open(&model, bytes, size, NULL, NULL) == TONEARM_OK)
 *         tonearm_evaluate(&model, row, columns, scratch, scratch_size, &probability);
 *
 * Memory. The library never allocates and keeps nothing: no globals, no thread-locals, no locks, no
 * input or output. The caller owns every byte: the blob, the tonearm_model over it, and the scratch.
 * There is nothing to destroy.
 *
 * Lifetime. A tonearm_model and every string or array that the library hands out point into the blob.
 * The blob must stay in place, unchanged, for as long as they are used.
 *
 * Threads. An open model is read-only: any number of threads may use it at once, each with its own
 * scratch. No function blocks.
 *
 * Validity. tonearm_model_open checks the whole blob: structure, every index and size, every weight,
 * and a checksum. After it has returned TONEARM_OK, evaluation cannot fail on account of the blob, runs
 * in bounded time and stack, and reads nothing outside the blob, the session and the call's arguments. The stack
 * is under 4 kB; in builds for microcontrollers (TONEARM_SMALL) on Cortex-M, at most 1 kB, and 1.2 kB in
 * tonearm_model_self_test.
 *
 * Numbers. Tree models and networks of int8 weights give the same bits on every target; networks of float weights agree to
 * 1e-6. Callers may run in
 * any rounding mode and with denormals flushed: probabilities then agree to 1e-6, and decisions of trees
 * on columns do not change. (A tree that reads a computed feature sees it rounded as the caller's mode says.)
 *
 * Replacing a model. Sessions belong to one model, so a new one gets new sessions: open the new blob beside the old
 * one, in another thread if you like; then, in the thread that tells the session its events, make a session of it,
 * rebuild it with tonearm_session_replay from the last events that you kept, and use the new pair from the next call
 * on. Release the old blob and session when no call uses them. examples/player/player.c does so without locks
 * (player_offer).
 *
 * Smaller builds. The CMake option TONEARM_SMALL gives the least code instead of the most speed: texts of statuses and
 * diagnostics become numbers, and no result changes. TONEARM_OPERATORS (a list of trees, affine, recurrent) and
 * TONEARM_SESSIONS leave out what a device does not need: a model that needs it is refused with
 * TONEARM_LEFT_OUT, and without sessions their functions are not in the library at all.
 *
 * Growth. Structs that start with `struct_size` may gain fields at their end. Set struct_size to the
 * sizeof you compiled with; the library reads and fills only what fits. Enumerators never change their value.
 *
 * This header is C99 and C++. Licence: Apache-2.0.
 */
#ifndef TONEARM_TONEARM_H
#define TONEARM_TONEARM_H

#include <stddef.h>
#include <stdint.h>

#if defined(TONEARM_SHARED) && defined(_WIN32)
#if defined(TONEARM_BUILDING)
#define TONEARM_API __declspec(dllexport)
#else
#define TONEARM_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define TONEARM_API __attribute__((visibility("default")))
#else
#define TONEARM_API
#endif

#ifdef __cplusplus
extern "C" {
#define TONEARM_NOEXCEPT noexcept
#else
#define TONEARM_NOEXCEPT
#endif

/* ------------------------------------------------------------------------------------- versions */

#define TONEARM_VERSION_MAJOR 0
#define TONEARM_VERSION_MINOR 5
#define TONEARM_VERSION_PATCH 0
/** This header's version as one number: major * 10000 + minor * 100 + patch. */
#define TONEARM_VERSION (TONEARM_VERSION_MAJOR * 10000 + TONEARM_VERSION_MINOR * 100 + TONEARM_VERSION_PATCH)

/** The newest blob format this version opens. It opens every older minor version of the same major. */
#define TONEARM_FORMAT_MAJOR 1
#define TONEARM_FORMAT_MINOR 4

/** The version of the library that is linked, encoded as TONEARM_VERSION. Thread-safe, constant time. */
TONEARM_API uint32_t tonearm_version(void) TONEARM_NOEXCEPT;

/* --------------------------------------------------------------------------------------- status */

/** What a call came to. Values are frozen; tens group them by whose turn it is to act. */
typedef enum tonearm_status {
    TONEARM_OK = 0,

    /* 10-19: the call is wrong; mend the program. */
    TONEARM_NULL_ARGUMENT = 10,       /**< A required pointer is NULL. */
    TONEARM_BAD_STRUCT_SIZE = 11,     /**< struct_size is smaller than this struct ever was. */
    TONEARM_MISALIGNED = 12,          /**< The blob, the scratch or the session is not aligned to 4 bytes. */
    TONEARM_SCRATCH_TOO_SMALL = 13,   /**< The scratch is smaller than tonearm_scratch_size says. */
    TONEARM_WRONG_COLUMNS = 14,       /**< The row does not have as many columns as the model. */
    TONEARM_OUT_OF_RANGE = 15,        /**< An index is not below its count. */
    TONEARM_NOT_OPEN = 16,            /**< The model is all zero: it was never opened, or opening failed. */
    TONEARM_NOT_A_SESSION_MODEL = 17, /**< A session call on a plain table model. */
    TONEARM_NOT_A_TABLE_MODEL = 18,   /**< tonearm_evaluate on a session model. */
    TONEARM_SESSION_TOO_SMALL = 19,   /**< Less memory for a session than the model needs. */

    /* 20-29: the blob cannot be used; get another one. */
    TONEARM_NOT_A_MODEL = 20, /**< The bytes are not a Tonearm blob at all. */
    TONEARM_TRUNCATED = 21,   /**< The blob has fewer (or more) bytes than it says it has. */
    TONEARM_MALFORMED = 22,   /**< Its structure is broken: an offset leads outside, a field is missing. */
    TONEARM_INVALID = 23, /**< The structure holds, but its meaning does not: an index, a size, a weight. */
    TONEARM_CORRUPT = 24, /**< The checksum does not match: some byte has changed. */

    /* 30-39: blob and library do not fit each other; update one of them. */
    TONEARM_RUNTIME_TOO_OLD = 30, /**< The blob needs a newer library: update the app. */
    TONEARM_BLOB_TOO_OLD = 31,    /**< The blob's major format is no longer read: convert the model again. */
    TONEARM_LEFT_OUT =
        32, /**< The blob needs an operator, or sessions, that this build of the library leaves out; see
                                 TONEARM_OPERATORS and TONEARM_SESSIONS. */
    TONEARM_BIG_ENDIAN = 33, /**< This CPU is big-endian; blobs are little-endian and are read in place. */

    /* 40-49: an answer, not a fault. */
    TONEARM_NOT_FOUND = 40,        /**< No column or category of that name. */
    TONEARM_NO_GOLDEN = 41,        /**< The blob holds no golden vectors to test against. */
    TONEARM_SELF_TEST_FAILED = 42, /**< This device computes something else than the converter did. */
    TONEARM_NOTHING_PLAYING = 43,  /**< No track has started since the last one ended. */

    /* 50-59: the session cannot be used; make a new one, or replay the last events into one. */
    TONEARM_WRONG_SESSION = 50,  /**< No session at all, or one of another model or library layout. */
    TONEARM_SESSION_CORRUPT = 51 /**< A saved session is truncated, or some bit of it has changed. */
} tonearm_status;

/** A short English sentence for a status, e.g. for a log. Never NULL, static, also for unknown values. */
TONEARM_API const char *tonearm_status_text(tonearm_status status) TONEARM_NOEXCEPT;

/** Where and why a blob was refused. Plain data; `part` is a static string. */
typedef struct tonearm_diagnostic {
    uint32_t struct_size; /**< sizeof(tonearm_diagnostic), set by the caller. */
    tonearm_status status;
    const char *part; /**< What was looked at, e.g. "operator.nodes"; never NULL after a call. */
    const char *rule; /**< What should hold, e.g. "a child comes after its parent"; never NULL. */
    uint32_t index;   /**< Which feature, operator or column; UINT32_MAX where that has no meaning. */
    uint32_t element; /**< Which element of the part; UINT32_MAX where that has no meaning. */
    uint64_t found;   /**< The value that was found. */
    uint64_t limit;   /**< The value that it was compared with. */
    uint32_t
        line; /**< Which check it was: a line of runtime/src/model.cpp of this version. Libraries built with
                           TONEARM_SMALL have no texts, and this instead. Since version 0.5. */
    uint32_t reserved; /**< 0 */
} tonearm_diagnostic;

/** Writes a diagnostic as one line of text, always terminated if capacity > 0, and cut where it does
 *  not fit. Returns the length of the whole line without its terminator. `text` may be NULL if capacity
 *  is 0. A NULL diagnostic gives an empty line. With TONEARM_SMALL: status, line, index, element, found and limit, as
 *  numbers. Thread-safe; for logs, not for the hot path. */
TONEARM_API size_t tonearm_diagnostic_text(const tonearm_diagnostic *diagnostic, char *text,
                                           size_t capacity) TONEARM_NOEXCEPT;

/* ---------------------------------------------------------------------------------------- model */

/** An open model: a view of a blob. Copying the struct is fine; its fields are private. 96 bytes where a pointer has 8. */
typedef struct tonearm_model {
    const uint8_t *private_blob;
    const void *private_root;
    uint32_t private_state[20];
} tonearm_model;

/** Instruction sets that the library has kernels for, as bits. All give the same bits, but for
 *  recurrent layers of float weights and dense ones of float16, which agree to 1e-6. */
typedef enum tonearm_cpu {
    TONEARM_CPU_SCALAR = 1, /**< None of those below: plain C++, for comparison. */
    TONEARM_CPU_SSSE3 = 2,
    TONEARM_CPU_AVX2 = 4,   /**< With FMA and F16C: Intel since Haswell, AMD since Zen. */
    TONEARM_CPU_AVX512 = 8, /**< F, BW, VL, VBMI and VNNI: Intel since Ice Lake, AMD since Zen 4. */
    TONEARM_CPU_NEON = 16,  /**< 64-bit Arm. */
    TONEARM_CPU_NEON_DOT =
        32, /**< 64-bit Arm with the dot product: Cortex-A55, A76 and later, Apple A13 and later. */
    TONEARM_CPU_WASM = 64, /**< WebAssembly with 128-bit vectors. */
    TONEARM_CPU_DSP =
        128 /**< 32-bit Arm with the DSP instructions: Cortex-M4, M7, M33 and application cores. */
} tonearm_cpu;

/** The TONEARM_CPU_ bits of the CPU that this runs on, among those the library was built with; 0 if there are
 *  none. A few dozen instructions; thread-safe. What the compiler was told to expect of the CPU is there without
 *  asking. Beyond that x86 CPUs are asked by CPUID, and for the dot product of 64-bit Arm, on Linux and Android, the
 *  C library's getauxval() if the program has one: it reads what the kernel left there when the program started.
 *  Elsewhere on Arm (iOS) build with an -mcpu that has it. */
TONEARM_API uint32_t tonearm_cpu_detect(void) TONEARM_NOEXCEPT;

/** How to open. All zero but struct_size is the default. */
typedef struct tonearm_open_options {
    uint32_t struct_size; /**< sizeof(tonearm_open_options) */
    uint32_t skip_crc;    /**< Non-zero skips the checksum, for bytes already authenticated. The structural
                               and semantic checks always run. */
    uint32_t cpu; /**< TONEARM_CPU_ bits to choose the kernels from, 0 for whatever this CPU has. Bits that it
                               has not are passed over, so this can only take away. Since version 0.3. */
    uint32_t
        session_limit; /**< The memory that there is for a session, in bytes; a model whose sessions take more is
                                 refused. 0: any. Since version 0.4. */
} tonearm_open_options;

/** Opens a blob for evaluation, checking all of it. Allocates nothing.
 *
 * @param model       Filled on success; zeroed on failure. Caller-owned, lives as long as the caller likes.
 * @param blob        The bytes, 4-byte aligned; networks are fastest at a multiple of 64, where a mapped file lies.
 *                    Borrowed: must outlive the model, unchanged.
 * @param size        How many bytes.
 * @param options     NULL for the defaults. Not kept.
 * @param diagnostic  NULL, or filled with what was wrong (or with TONEARM_OK). Not kept.
 *
 * The kernels are chosen here, once; tonearm_info::cpu says which.
 *
 * Cost: a few passes over the blob, 0.6 to 2.5 ns a byte on desktops and servers, the checksum included; and on x86 a few CPUID
 * instructions, which take some 20 us in a virtual machine (none with options.cpu = TONEARM_CPU_SCALAR).
 * Threads: may run at once with anything that does not write to `model` or the blob.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT    model or blob is NULL
 * @retval TONEARM_BAD_STRUCT_SIZE  of options or diagnostic
 * @retval TONEARM_MISALIGNED       the blob's address is not a multiple of 4
 * @retval TONEARM_NOT_A_MODEL, TONEARM_TRUNCATED, TONEARM_MALFORMED, TONEARM_INVALID, TONEARM_CORRUPT
 * @retval TONEARM_RUNTIME_TOO_OLD, TONEARM_BLOB_TOO_OLD, TONEARM_LEFT_OUT, TONEARM_BIG_ENDIAN
 * @retval TONEARM_SESSION_TOO_SMALL  options->session_limit is; diagnostic->found has the bytes needed
 */
TONEARM_API tonearm_status tonearm_model_open(tonearm_model *model, const void *blob, size_t size,
                                              const tonearm_open_options *options,
                                              tonearm_diagnostic *diagnostic) TONEARM_NOEXCEPT;

/** Facts about an open model. Strings are UTF-8, terminated, owned by the blob, "" where absent. */
typedef struct tonearm_info {
    uint32_t struct_size; /**< sizeof(tonearm_info), set by the caller. */
    uint32_t model_id;    /**< The blob's checksum field: tells models apart. */
    const char *name;
    const char *version;
    const char *task;       /**< What is predicted, e.g. "hit". */
    const char *label;      /**< The rule that made the label. */
    uint32_t columns;       /**< Numbers in a row given to tonearm_evaluate. */
    uint32_t outputs;       /**< Numbers that tonearm_evaluate writes. */
    uint32_t scratch_bytes; /**< What tonearm_scratch_size returns for one row. */
    uint32_t session_bytes; /**< Bytes of session state; 0 for a plain table model. */
    uint32_t blob_bytes;
    uint32_t golden_rows; /**< Rows that tonearm_model_self_test replays. */
    uint16_t format_major;
    uint16_t format_minor;
    uint8_t synthetic; /**< 1 if trained on generated data. */
    uint8_t leaky;     /**< 1 if it reads what is only known after the fact: for study, not for use. */
    uint8_t reserved[2];
    uint32_t cpu; /**< The TONEARM_CPU_ bit whose kernels were chosen. Since version 0.3. */
} tonearm_info;

/** Fills `info`. Constant time, thread-safe.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT    model or info is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_BAD_STRUCT_SIZE  info->struct_size is smaller than that of version 0.1 */
TONEARM_API tonearm_status tonearm_model_info(const tonearm_model *model,
                                              tonearm_info *info) TONEARM_NOEXCEPT;

/** When a player knows a column. */
typedef enum tonearm_source {
    TONEARM_SOURCE_ROW = 0,   /**< A cell of a plain table. */
    TONEARM_SOURCE_TRACK = 1, /**< A fact from the catalogue. */
    TONEARM_SOURCE_NOW = 2,   /**< Known before anything starts: hour, shuffle, premium. */
    TONEARM_SOURCE_START = 3, /**< Known when the track starts. */
    TONEARM_SOURCE_END = 4    /**< Known when the track has ended. */
} tonearm_source;

/** One input column of a model. */
typedef struct tonearm_column {
    uint32_t struct_size; /**< sizeof(tonearm_column), set by the caller. */
    uint32_t index;       /**< Its place in the row. */
    const char *name;     /**< UTF-8, owned by the blob. */
    tonearm_source source;
    uint32_t categories; /**< 0 for a number; else the size of its vocabulary. */
    uint32_t extra;      /**< Of a session model: its place in the `extra` array of the struct of its source;
                              UINT32_MAX if a named field of that struct is read. */
} tonearm_column;

/** Describes column `index`, below info.columns. At most linear in the index; thread-safe.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT    model or column is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_BAD_STRUCT_SIZE  column->struct_size is smaller than that of version 0.1
 * @retval TONEARM_OUT_OF_RANGE     index >= info.columns */
TONEARM_API tonearm_status tonearm_model_column_at(const tonearm_model *model, uint32_t index,
                                                   tonearm_column *column) TONEARM_NOEXCEPT;

/** Finds a column by its name; `index` is its place in the row. Linear in the number of columns: resolve
 *  names once, at start-up. Thread-safe.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT  model, name or index is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_NOT_FOUND      no such column; index is left as it was */
TONEARM_API tonearm_status tonearm_model_column(const tonearm_model *model, const char *name,
                                                uint32_t *index) TONEARM_NOEXCEPT;

/** Finds the number that stands for a category of a column: what to put into the row. Linear in the
 *  vocabulary: resolve once, at start-up. Thread-safe. A text that is not found is unknown: put NaN.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT  model, text or value is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_OUT_OF_RANGE   column >= info.columns
 * @retval TONEARM_NOT_FOUND      no such category, or the column is a number; value is left as it was */
TONEARM_API tonearm_status tonearm_model_category(const tonearm_model *model, uint32_t column,
                                                  const char *text, float *value) TONEARM_NOEXCEPT;

/** The text of a category of a column, or NULL if there is none (or no open model). Owned by the blob.
 *  Constant time, thread-safe. */
TONEARM_API const char *tonearm_model_category_text(const tonearm_model *model, uint32_t column,
                                                    uint32_t category) TONEARM_NOEXCEPT;

/* ----------------------------------------------------------------------------------- evaluation */

/** Bytes of scratch that evaluating this model takes, exactly; 0 if model is NULL or not open. The scratch must be
 *  aligned to 4 bytes (16 is faster on some CPUs). Constant time, thread-safe. */
TONEARM_API size_t tonearm_scratch_size(const tonearm_model *model) TONEARM_NOEXCEPT;

/** Evaluates one row of a plain table model.
 *
 * @param row      `columns` floats, in the order of the model's columns, each in the unit of the training
 *                 data; a category as the number that tonearm_model_category gives. NaN is missing; an
 *                 infinity is a very large number; a category that is no index of the vocabulary is unknown.
 * @param columns  Must equal info.columns.
 * @param scratch  tonearm_scratch_size bytes, 4-byte aligned, contents arbitrary. Not kept; one call at a time.
 * @param out      info.outputs floats: probabilities in [0, 1], unless the model was made for something else.
 *                 NaN where a dense layer of float weights meets a missing value that its policy does not fill, or
 *                 numbers so large that they overflow. Recurrent layers, and layers of int8 weights, take what is not
 *                 finite for 0; tree models always give a number.
 *
 * Cost: the model's own work, no more; no allocation, no failure beyond the arguments.
 * Threads: any number at once, each with its own scratch and out.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT      model, row, scratch or out is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_NOT_A_TABLE_MODEL  the model is one of sessions
 * @retval TONEARM_WRONG_COLUMNS      columns != info.columns
 * @retval TONEARM_MISALIGNED         scratch is not 4-byte aligned
 * @retval TONEARM_SCRATCH_TOO_SMALL  scratch_size < tonearm_scratch_size(model) */
TONEARM_API tonearm_status tonearm_evaluate(const tonearm_model *model, const float *row, uint32_t columns,
                                            void *scratch, size_t scratch_size, float *out) TONEARM_NOEXCEPT;

/** Replays the blob's golden vectors on this device. Call it once after an update, or in a test.
 *
 * @param scratch             As for tonearm_evaluate.
 * @param largest_difference  NULL, or receives the largest absolute difference of any output.
 *
 * Cost: info.golden_rows evaluations. Threads: as tonearm_evaluate.
 *
 * @retval TONEARM_OK                 every output is within the blob's tolerance (about 1e-6)
 * @retval TONEARM_SELF_TEST_FAILED   some output is not: do not use predictions from this device
 * @retval TONEARM_NO_GOLDEN          the blob holds no golden vectors
 * @retval TONEARM_NULL_ARGUMENT      model or scratch is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_MISALIGNED         scratch is not 4-byte aligned
 * @retval TONEARM_SCRATCH_TOO_SMALL  scratch_size < tonearm_scratch_size(model) */
TONEARM_API tonearm_status tonearm_model_self_test(const tonearm_model *model, void *scratch,
                                                   size_t scratch_size,
                                                   float *largest_difference) TONEARM_NOEXCEPT;

/* ------------------------------------------------------------------------------------- sessions */

/* A *session* is what a listener does in one sitting, as the player reports it: a track starts, it ends,
 * the next one starts. A session model keeps what it needs of that in a few hundred bytes that the player
 * owns, and answers at any moment with the probability that the playing track, or one of the queue, will be
 * skipped:
 *
 *     tonearm_session_init(&model, memory, size, &session);
 *     tonearm_track_start(&model, session, &track, &start, &now, scratch, scratch_size);
 *     tonearm_predict(&model, session, &request, scratch, scratch_size, probabilities);
 *     tonearm_track_end(&model, session, &end, scratch, scratch_size);
 *
 * What players call these events:
 *
 *     here             Android Media3 (Player.Listener)        Apple AVQueuePlayer           MPRIS (D-Bus)
 *     track_start      onMediaItemTransition                   currentItem changes           Metadata changes, Playing
 *       TRACKDONE        MEDIA_ITEM_TRANSITION_REASON_AUTO       didPlayToEndTime before       (position was at its end)
 *       FWDBTN, BACKBTN  ..._REASON_SEEK, by the index moved     nextTrackCommand, previous    Next, Previous
 *       CLICKROW         ..._REASON_PLAYLIST_CHANGED             the app's own tap handler     OpenUri, TrackList.GoTo
 *     track_end        the same callback, for the item before  currentItem changes           Metadata changes, Stopped
 *       n_seekfwd/back   onPositionDiscontinuity, REASON_SEEK    timeJumped                    Seeked
 *       ms_played        PlaybackStats, or the app's clock       currentTime, or its clock     the app's clock
 *       ENDPLAY          STATE_IDLE, the player is released      the queue is emptied          Stop
 *     now.is_shuffle   onShuffleModeEnabledChanged             the app's own                 Shuffle
 *
 * Say what is not known by leaving it unknown. A player that has no skip levels gives `reason` and `ms_played` and
 * the model's label rule does the rest (some rules also need the track's duration). SHORT pauses are those of a
 * few seconds; context_switch is 1 where the list the track comes from is another than that of the track before.
 *
 * Time. Events carry seconds since 1970; the model's session rule starts a new session where too long a
 * time passed since the last track ended, and after as many tracks as its training sessions had. Unknown
 * times, and clocks that go backwards, never start one; call tonearm_session_reset to do so yourself, as a
 * program must that replays logs without times.
 *
 * What the model knows of the start (reason, pause) is always that of the playing track, whichever track is asked
 * about: between tracks it is unknown, so ask again once a track has started.
 *
 * Unknown. Every number may be NaN, every enumerator 0, every id 0: unknown. The _init functions make all
 * of it so; set what you know. Numbers are in the unit given; no value of any of them can do harm. */

/** Why a track started or ended. The words are those of Spotify's logs. */
typedef enum tonearm_reason {
    TONEARM_REASON_UNKNOWN = 0,
    TONEARM_REASON_TRACKDONE = 1,  /**< The track (before it) played to its end. */
    TONEARM_REASON_FWDBTN = 2,     /**< The forward button. */
    TONEARM_REASON_BACKBTN = 3,    /**< The back button. */
    TONEARM_REASON_CLICKROW = 4,   /**< A track in a list was chosen. */
    TONEARM_REASON_APPLOAD = 5,    /**< The app was opened. */
    TONEARM_REASON_PLAYBTN = 6,    /**< The play button. */
    TONEARM_REASON_REMOTE = 7,     /**< Another device. */
    TONEARM_REASON_TRACKERROR = 8, /**< The track could not be played. */
    TONEARM_REASON_ENDPLAY = 9,    /**< Playing was stopped, or something else chosen. */
    TONEARM_REASON_LOGOUT = 10,
    TONEARM_REASON_CLICKSIDE = 11,
    TONEARM_REASON_POPUP = 12,
    TONEARM_REASON_URIOPEN = 13,         /**< A link was opened. */
    TONEARM_REASON_UNEXPECTED_EXIT = 14, /**< The app ended without notice. */
    TONEARM_REASON_UNEXPECTED_EXIT_WHILE_PAUSED = 15
} tonearm_reason;

/** Where the tracks come from. */
typedef enum tonearm_context_type {
    TONEARM_CONTEXT_UNKNOWN = 0,
    TONEARM_CONTEXT_USER_COLLECTION = 1,
    TONEARM_CONTEXT_CATALOG = 2, /**< An album or an artist's page. */
    TONEARM_CONTEXT_EDITORIAL_PLAYLIST = 3,
    TONEARM_CONTEXT_RADIO = 4,
    TONEARM_CONTEXT_PERSONALIZED_PLAYLIST = 5,
    TONEARM_CONTEXT_CHARTS = 6
} tonearm_context_type;

/** How long playback paused before the track started. */
typedef enum tonearm_pause {
    TONEARM_PAUSE_UNKNOWN = 0, /**< Also before the first track of a session. */
    TONEARM_PAUSE_NONE = 1,
    TONEARM_PAUSE_SHORT = 2,
    TONEARM_PAUSE_LONG = 3
} tonearm_pause;

/** How much of a track was played before it was skipped; from least skipped to most. */
typedef enum tonearm_skip {
    TONEARM_SKIP_UNKNOWN = 0, /**< Let the model's label rule derive it from reason and ms_played. */
    TONEARM_SKIP_NOT_SKIPPED = 1,
    TONEARM_SKIP_NEAR_END = 2,    /**< Neither played to the end nor skipped by any of the rules below. */
    TONEARM_SKIP_MOSTLY = 3,      /**< Most of the track was played: skip_3 of the MSSD. */
    TONEARM_SKIP_BRIEFLY = 4,     /**< It was played briefly: skip_2 (and skip_3). */
    TONEARM_SKIP_VERY_BRIEFLY = 5 /**< It was played very briefly: skip_1 (and skip_2, skip_3). */
} tonearm_skip;

#define TONEARM_UNKNOWN_TIME INT64_MIN   /**< For every `time` below. */
#define TONEARM_UNKNOWN_OFFSET INT32_MIN /**< For tonearm_now.utc_offset. */

/** A track, as the catalogue knows it. The feature names and scales are those of Spotify's Web API and of
 *  the MSSD; a model reads the few it was trained with, and takes the rest as they are. */
typedef struct tonearm_track {
    uint32_t struct_size; /**< sizeof(tonearm_track). In an array, all the same. */
    uint32_t extra_count; /**< How many numbers `extra` has; those beyond are unknown. */
    uint64_t track_id;  /**< A well-mixed 64-bit hash, the same whenever this track is meant; 0 is unknown. */
    uint64_t artist_id; /**< The same for its artist. */
    float duration;     /**< seconds */
    float release_year;
    float popularity; /**< us_popularity_estimate of the MSSD, 0 to 100 */
    float acousticness;
    float beat_strength;
    float bounciness;
    float danceability;
    float dyn_range_mean;
    float energy;
    float flatness;
    float instrumentalness;
    float key; /**< 0 = C to 11 = B */
    float liveness;
    float loudness; /**< dB */
    float mechanism;
    float mode; /**< 0 minor, 1 major */
    float organism;
    float speechiness;
    float tempo; /**< beats per minute */
    float time_signature;
    float valence;
    float acoustic_vector[8];
    const float *extra; /**< The model's other track columns, at the places tonearm_column.extra gives.
                             May be NULL if extra_count is 0. Read during the call only. */
} tonearm_track;

/** The moment of a call. */
typedef struct tonearm_now {
    uint32_t struct_size;  /**< sizeof(tonearm_now) */
    uint32_t context_type; /**< a tonearm_context_type */
    int64_t time;          /**< seconds since 1970-01-01 00:00 UTC, or TONEARM_UNKNOWN_TIME */
    int32_t utc_offset;    /**< seconds to add for the listener's local time, or TONEARM_UNKNOWN_OFFSET */
    uint32_t date;         /**< Local date, e.g. 20180715; 0: from time and utc_offset. Not checked beyond
                                months to 12 and days to 31. */
    float hour_of_day;     /**< Local hour, 0 to 23; NaN: from time and utc_offset. */
    float is_shuffle;      /**< 0 or 1 */
    float premium;         /**< 0 or 1 */
    uint32_t extra_count;
    const float *extra; /**< The model's other `now` columns. */
} tonearm_now;

/** What is known of a track once it has started. */
typedef struct tonearm_start {
    uint32_t struct_size; /**< sizeof(tonearm_start) */
    uint32_t reason;      /**< a tonearm_reason */
    uint32_t pause;       /**< a tonearm_pause */
    float context_switch; /**< 1 if the listener changed the context just before, else 0 */
    uint32_t extra_count;
    const float *extra; /**< The model's other `start` columns. */
} tonearm_start;

/** What is known of a track once it has ended. */
typedef struct tonearm_end {
    uint32_t struct_size; /**< sizeof(tonearm_end) */
    uint32_t reason;      /**< a tonearm_reason */
    uint32_t skip;        /**< a tonearm_skip, if the player has such a thing */
    float n_seekfwd;      /**< how often the listener jumped forward within the track */
    float n_seekback;
    float ms_played; /**< milliseconds */
    int64_t time; /**< As tonearm_now.time; unknown: the start's time + ms_played, or the start's time if that
                          is unknown too: a long track may then look like a gap. */
    uint32_t extra_count;
    const float *extra; /**< The model's other `end` columns. */
} tonearm_end;

/** Make everything in a struct unknown, and set its struct_size to `size`, the caller's sizeof. NULL does
 *  nothing. Thread-safe. Usage: tonearm_track_init(&track, sizeof track); */
TONEARM_API void tonearm_track_init(tonearm_track *track, uint32_t size) TONEARM_NOEXCEPT;
TONEARM_API void tonearm_now_init(tonearm_now *now, uint32_t size) TONEARM_NOEXCEPT;
TONEARM_API void tonearm_start_init(tonearm_start *start, uint32_t size) TONEARM_NOEXCEPT;
TONEARM_API void tonearm_end_init(tonearm_end *end, uint32_t size) TONEARM_NOEXCEPT;

/** The state of one listener's session: caller-owned bytes without pointers. memcpy of tonearm_session_size
 *  bytes is a snapshot that works in this process, and in any other through save and load. A session belongs
 *  to the model that it was made with (any tonearm_model opened over the same blob); other models refuse it. */
typedef struct tonearm_session tonearm_session;

/** Bytes of a session of this model, exactly; 0 if model is NULL, not open, or has no sessions (a plain
 *  table model). They must be aligned to 4 bytes. Constant time, thread-safe. */
TONEARM_API size_t tonearm_session_size(const tonearm_model *model) TONEARM_NOEXCEPT;

/** Makes an empty session in the caller's memory.
 *
 * @param memory   tonearm_session_size bytes, 4-byte aligned, contents arbitrary. Caller-owned; the session
 *                 lives in it until the caller reuses it. There is nothing to destroy.
 * @param size     How many bytes.
 * @param session  Receives memory as a session.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT      model, memory or session is NULL
 * @retval TONEARM_NOT_OPEN
 * @retval TONEARM_NOT_A_SESSION_MODEL
 * @retval TONEARM_MISALIGNED         memory is not 4-byte aligned
 * @retval TONEARM_SESSION_TOO_SMALL  size < tonearm_session_size(model) */
TONEARM_API tonearm_status tonearm_session_init(const tonearm_model *model, void *memory, size_t size,
                                                tonearm_session **session) TONEARM_NOEXCEPT;

/** Starts a new session now, whatever the session rule says: after a log-in, or when the player knows that
 *  somebody else is listening. A playing track is dropped without an end; what the model carries over sessions is kept.
 *  Threads: no other call may use this session meanwhile.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT, TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL
 * @retval TONEARM_MISALIGNED, TONEARM_WRONG_SESSION */
TONEARM_API tonearm_status tonearm_session_reset(const tonearm_model *model,
                                                 tonearm_session *session) TONEARM_NOEXCEPT;

/** Writes a session as an image that can be stored: tonearm_session_size bytes, with a checksum. An image made on one target loads on any other. The same events give
 *  the same bytes everywhere, but for the states of recurrent layers of float weights. `image` needs no alignment and may not overlap the session.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT, TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL
 * @retval TONEARM_MISALIGNED, TONEARM_WRONG_SESSION
 * @retval TONEARM_SESSION_TOO_SMALL  size < tonearm_session_size(model) */
TONEARM_API tonearm_status tonearm_session_save(const tonearm_model *model, const tonearm_session *session,
                                                void *image, size_t size) TONEARM_NOEXCEPT;

/** Restores a saved session into the caller's memory, as tonearm_session_init makes a new one. On failure
 *  the memory is left as it was; make a new session, or replay.
 *
 * @param image       What tonearm_session_save wrote, of any alignment. Not kept. May not overlap memory.
 * @param image_size  How many bytes it has.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT, TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL, TONEARM_MISALIGNED
 * @retval TONEARM_SESSION_TOO_SMALL  size < tonearm_session_size(model)
 * @retval TONEARM_WRONG_SESSION      the image is no session, or one of another model or library layout
 * @retval TONEARM_SESSION_CORRUPT    the image is truncated or too long, or some bit of it has changed */
TONEARM_API tonearm_status tonearm_session_load(const tonearm_model *model, void *memory, size_t size,
                                                const void *image, size_t image_size,
                                                tonearm_session **session) TONEARM_NOEXCEPT;

/** A track starts playing. If another one plays (crossfade), that one ends first, with everything about its
 *  end unknown but the time. If the session rule says so, a new session begins.
 *
 * @param track    What is known of it; like start and now it may be NULL, which makes all of it unknown. All
 *                 three are read during the call only.
 * @param start    How it started.
 * @param now      When.
 * @param scratch  tonearm_scratch_size bytes, 4-byte aligned, contents arbitrary. Not kept.
 *
 * Cost: some tens of nanoseconds, and those of tonearm_track_end if a track is ended.
 * Threads: no other call may use this session meanwhile. Any number of sessions may.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT      model, session or scratch is NULL; an extra_count without extra
 * @retval TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL, TONEARM_WRONG_SESSION
 * @retval TONEARM_BAD_STRUCT_SIZE    of track, start or now: it is not set
 * @retval TONEARM_MISALIGNED         session or scratch is not 4-byte aligned
 * @retval TONEARM_SCRATCH_TOO_SMALL  scratch_size < tonearm_scratch_size(model) */
TONEARM_API tonearm_status tonearm_track_start(const tonearm_model *model, tonearm_session *session,
                                               const tonearm_track *track, const tonearm_start *start,
                                               const tonearm_now *now, void *scratch,
                                               size_t scratch_size) TONEARM_NOEXCEPT;

/** The playing track has ended: runs the model's `history` part, once.
 *
 * @param end  What is known of it; NULL makes all of it unknown. Read during the call only.
 *
 * Cost: constant in the length of the session; see `tonearm inspect`. A recurrent network takes one step here, whose
 * multiplications are most of it; one that keeps the last steps (always where it reads backward or is padded) runs over all of them.
 * Threads: as tonearm_track_start.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NOTHING_PLAYING    no track has started since the last one ended; nothing is changed
 * @retval TONEARM_NULL_ARGUMENT      model, session or scratch is NULL; an extra_count without extra
 * @retval TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL, TONEARM_WRONG_SESSION
 * @retval TONEARM_BAD_STRUCT_SIZE    of end: it is not set
 * @retval TONEARM_MISALIGNED         session or scratch is not 4-byte aligned
 * @retval TONEARM_SCRATCH_TOO_SMALL  scratch_size < tonearm_scratch_size(model) */
TONEARM_API tonearm_status tonearm_track_end(const tonearm_model *model, tonearm_session *session,
                                             const tonearm_end *end, void *scratch,
                                             size_t scratch_size) TONEARM_NOEXCEPT;

/** What a prediction is about. */
typedef enum tonearm_request_kind {
    TONEARM_PLAYING = 1,     /**< The playing track. One answer; candidates are not read. */
    TONEARM_QUEUE = 2,       /**< The coming tracks, in their order: candidate i follows on i - 1. */
    TONEARM_ALTERNATIVES = 3 /**< Several tracks for one place of the queue. */
} tonearm_request_kind;

/** A question. The *horizon* of a track counts from the last one that ended: the playing track has 1; the
 *  first of the queue has 2 while a track plays, and 1 between tracks. */
typedef struct tonearm_request {
    uint32_t struct_size;     /**< sizeof(tonearm_request) */
    uint32_t kind;            /**< a tonearm_request_kind */
    uint32_t candidate_count; /**< 0 is allowed: no answer is written. Not read for PLAYING. */
    uint32_t place;           /**< ALTERNATIVES: places of the queue before this one; 0 is the next track. */
    const tonearm_track *candidates; /**< Their stride is candidates[0].struct_size; all must agree. */
    const tonearm_now *now;          /**< NULL: unknown, and no idle gap is noticed; for PLAYING: as when the
                                          track started. */
    const tonearm_end *outcomes;     /**< NULL. Only models that were trained on what a player cannot know
                                          (tonearm_info.leaky) read it: the end of each candidate (of the
                                          playing track), as reported afterwards, to reproduce studies. */
} tonearm_request;

/** Makes an empty request. See tonearm_track_init. */
TONEARM_API void tonearm_request_init(tonearm_request *request, uint32_t size) TONEARM_NOEXCEPT;

/** Answers: how likely each candidate will be skipped, if it plays.
 *
 * @param session  Only read: predictions never change it.
 * @param scratch  tonearm_scratch_size bytes, 4-byte aligned, contents arbitrary; does not depend on the
 *                 number of candidates. Not kept.
 * @param out      Never NULL. info.outputs floats for each candidate, in their order; one set for PLAYING. For
 *                 every model that predicts skips that is one float, the probability in [0, 1]: check it once,
 *                 at start-up. Always a number for tree models.
 *
 * Cost: the `context` part once, and the `candidate` part for each. Networks over the session have been run when a track
 * ended; only a padded one runs here, as long as no track has ended.
 * Threads: any number at once on one session, each with its own scratch, while no other call changes it.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NOTHING_PLAYING    PLAYING is asked for, and nothing plays
 * @retval TONEARM_NULL_ARGUMENT      model, session, request, scratch or out is NULL; candidates is NULL and
 *                                    their count is not 0; an extra_count without extra
 * @retval TONEARM_OUT_OF_RANGE       kind is none of the three; more than 1,000,000 candidates, or place above that
 * @retval TONEARM_BAD_STRUCT_SIZE    of request, now, or a candidate or outcome that differs from the first
 * @retval TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL, TONEARM_WRONG_SESSION
 * @retval TONEARM_MISALIGNED         session or scratch is not 4-byte aligned
 * @retval TONEARM_SCRATCH_TOO_SMALL  scratch_size < tonearm_scratch_size(model) */
TONEARM_API tonearm_status tonearm_predict(const tonearm_model *model, const tonearm_session *session,
                                           const tonearm_request *request, void *scratch, size_t scratch_size,
                                           float *out) TONEARM_NOEXCEPT;

/** One raw event, for a log that the player keeps: a ring of the last few dozen is enough to rebuild a
 *  session for another model. Plain data; the `extra` pointers in it must be valid at the replay. All four
 *  structs need their struct_size, whatever the kind: init them all. They are found by these sizes, so that a
 *  newer library reads the events of an older program. */
typedef struct tonearm_event {
    uint32_t struct_size; /**< sizeof(tonearm_event). In an array, all the same. */
    uint32_t kind;        /**< a tonearm_event_kind */
    tonearm_track track;  /**< of a start */
    tonearm_start start;
    tonearm_now now;
    tonearm_end end; /**< of an end */
} tonearm_event;     /* To store it, set the extra pointers to NULL and add a checksum of your own. */

typedef enum tonearm_event_kind {
    TONEARM_EVENT_START = 1,
    TONEARM_EVENT_END = 2,
    TONEARM_EVENT_RESET = 3 /**< The player called tonearm_session_reset. */
} tonearm_event_kind;

/** Rebuilds a session from raw events, oldest first: after an app update that brings a new model, or when
 *  a saved image was refused. The session is made empty first; an end without a start (the ring began in
 *  the middle) is passed over. The same as calling tonearm_track_start and _end one by one.
 *
 * @param session  Of this model, e.g. from tonearm_session_init.
 * @param events   Their stride is events[0].struct_size. NULL if count is 0. Not kept.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_OUT_OF_RANGE  an event's kind is none of the three; those before it have been replayed
 * @retval TONEARM_NULL_ARGUMENT, TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL, TONEARM_WRONG_SESSION,
 *         TONEARM_BAD_STRUCT_SIZE, TONEARM_MISALIGNED, TONEARM_SCRATCH_TOO_SMALL  as tonearm_track_start */
TONEARM_API tonearm_status tonearm_session_replay(const tonearm_model *model, tonearm_session *session,
                                                  const tonearm_event *events, size_t count, void *scratch,
                                                  size_t scratch_size) TONEARM_NOEXCEPT;

/** What a session is up to, for a display or a log. */
typedef struct tonearm_session_info {
    uint32_t struct_size; /**< sizeof(tonearm_session_info), set by the caller. */
    uint32_t playing;     /**< 1 while a track plays */
    uint32_t ended;       /**< tracks that have ended in this session */
    float skipped; /**< Whether the last ended track was skipped: 1, 0, or NaN: unknown, or there is none. */
    uint64_t track_id; /**< of the playing track, or of the last one; 0: unknown, or there is none */
} tonearm_session_info;

/** Fills `info`. Constant time. Threads: as tonearm_predict.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT, TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL
 * @retval TONEARM_MISALIGNED, TONEARM_WRONG_SESSION
 * @retval TONEARM_BAD_STRUCT_SIZE  info->struct_size is smaller than that of version 0.2 */
TONEARM_API tonearm_status tonearm_session_describe(const tonearm_model *model,
                                                    const tonearm_session *session,
                                                    tonearm_session_info *info) TONEARM_NOEXCEPT;

/** What a model reads of a track, a moment, a start and an end: one float per column, in the order of the
 *  columns, NaN for unknown (before the missing-value policy). For tests, logs and finding out why.
 *
 * @param track  Like now, start and end it may be NULL: its columns then become unknown.
 * @param row    Receives info.columns floats.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT    model or row is NULL; an extra_count without extra
 * @retval TONEARM_NOT_OPEN, TONEARM_NOT_A_SESSION_MODEL
 * @retval TONEARM_WRONG_COLUMNS    columns != info.columns
 * @retval TONEARM_BAD_STRUCT_SIZE  of track, now, start or end: it is not set */
TONEARM_API tonearm_status tonearm_session_row(const tonearm_model *model, const tonearm_track *track,
                                               const tonearm_now *now, const tonearm_start *start,
                                               const tonearm_end *end, float *row,
                                               uint32_t columns) TONEARM_NOEXCEPT;

#ifdef __cplusplus
}
#endif

#endif /* TONEARM_TONEARM_H */
