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
 * in bounded time and stack (under 1 kB), and reads nothing outside the blob, the row and the scratch.
 *
 * Numbers. Tree models give the same bits on every target; networks agree to 1e-6. Callers may run in
 * any rounding mode and with denormals flushed: probabilities then agree to 1e-6, and decisions of trees
 * on columns do not change. (A tree that reads a computed feature sees it rounded as the caller's mode says.)
 *
 * Growth. Structs that start with `struct_size` may gain fields at their end. Set struct_size to the
 * sizeof you compiled with; the library fills only what fits. Enumerators never change their value.
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
#define TONEARM_VERSION_MINOR 1
#define TONEARM_VERSION_PATCH 0
/** This header's version as one number: major * 10000 + minor * 100 + patch. */
#define TONEARM_VERSION (TONEARM_VERSION_MAJOR * 10000 + TONEARM_VERSION_MINOR * 100 + TONEARM_VERSION_PATCH)

/** The newest blob format this version opens. It opens every older minor version of the same major. */
#define TONEARM_FORMAT_MAJOR 1
#define TONEARM_FORMAT_MINOR 0

/** The version of the library that is linked, encoded as TONEARM_VERSION. Thread-safe, constant time. */
TONEARM_API uint32_t tonearm_version(void) TONEARM_NOEXCEPT;

/* --------------------------------------------------------------------------------------- status */

/** What a call came to. Values are frozen; tens group them by whose turn it is to act. */
typedef enum tonearm_status {
    TONEARM_OK = 0,

    /* 10-19: the call is wrong; mend the program. */
    TONEARM_NULL_ARGUMENT = 10,     /**< A required pointer is NULL. */
    TONEARM_BAD_STRUCT_SIZE = 11,   /**< struct_size is smaller than this struct ever was. */
    TONEARM_MISALIGNED = 12,        /**< The blob or the scratch is not aligned to 4 bytes. */
    TONEARM_SCRATCH_TOO_SMALL = 13, /**< The scratch is smaller than tonearm_scratch_size says. */
    TONEARM_WRONG_COLUMNS = 14,     /**< The row does not have as many columns as the model. */
    TONEARM_OUT_OF_RANGE = 15,      /**< An index is not below its count. */
    TONEARM_NOT_OPEN = 16,          /**< The model is all zero: it was never opened, or opening failed. */

    /* 20-29: the blob cannot be used; get another one. */
    TONEARM_NOT_A_MODEL = 20, /**< The bytes are not a Tonearm blob at all. */
    TONEARM_TRUNCATED = 21,   /**< The blob has fewer (or more) bytes than it says it has. */
    TONEARM_MALFORMED = 22,   /**< Its structure is broken: an offset leads outside, a field is missing. */
    TONEARM_INVALID = 23, /**< The structure holds, but its meaning does not: an index, a size, a weight. */
    TONEARM_CORRUPT = 24, /**< The checksum does not match: some byte has changed. */

    /* 30-39: blob and library do not fit each other; update one of them. */
    TONEARM_RUNTIME_TOO_OLD = 30, /**< The blob needs a newer library: update the app. */
    TONEARM_BLOB_TOO_OLD = 31,    /**< The blob's major format is no longer read: convert the model again. */

    /* 40-49: an answer, not a fault. */
    TONEARM_NOT_FOUND = 40,       /**< No column or category of that name. */
    TONEARM_NO_GOLDEN = 41,       /**< The blob holds no golden vectors to test against. */
    TONEARM_SELF_TEST_FAILED = 42 /**< This device computes something else than the converter did. */
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
} tonearm_diagnostic;

/** Writes a diagnostic as one line of text, always terminated if capacity > 0, and cut where it does
 *  not fit. Returns the length of the whole line without its terminator. `text` may be NULL if capacity
 *  is 0. A NULL diagnostic gives an empty line. Thread-safe; for logs, not for the hot path. */
TONEARM_API size_t tonearm_diagnostic_text(const tonearm_diagnostic *diagnostic, char *text,
                                           size_t capacity) TONEARM_NOEXCEPT;

/* ---------------------------------------------------------------------------------------- model */

/** An open model: a view of a blob. Copying the struct is fine; its fields are private. 96 bytes where a pointer has 8. */
typedef struct tonearm_model {
    const uint8_t *private_blob;
    const void *private_root;
    uint32_t private_state[20];
} tonearm_model;

/** How to open. All zero but struct_size is the default. */
typedef struct tonearm_open_options {
    uint32_t struct_size; /**< sizeof(tonearm_open_options) */
    uint32_t skip_crc;    /**< Non-zero skips the checksum, for bytes already authenticated. The structural
                               and semantic checks always run. */
} tonearm_open_options;

/** Opens a blob for evaluation, checking all of it. Allocates nothing.
 *
 * @param model       Filled on success; zeroed on failure. Caller-owned, lives as long as the caller likes.
 * @param blob        The bytes, 4-byte aligned. Borrowed: must outlive the model, unchanged.
 * @param size        How many bytes.
 * @param options     NULL for the defaults. Not kept.
 * @param diagnostic  NULL, or filled with what was wrong (or with TONEARM_OK). Not kept.
 *
 * Cost: one pass over the blob, 0.6 to 1.5 ns a byte on a desktop CPU; about 0.4 of it is the checksum.
 * Threads: may run at once with anything that does not write to `model` or the blob.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT    model or blob is NULL
 * @retval TONEARM_BAD_STRUCT_SIZE  of options or diagnostic
 * @retval TONEARM_MISALIGNED       the blob's address is not a multiple of 4
 * @retval TONEARM_NOT_A_MODEL, TONEARM_TRUNCATED, TONEARM_MALFORMED, TONEARM_INVALID, TONEARM_CORRUPT
 * @retval TONEARM_RUNTIME_TOO_OLD, TONEARM_BLOB_TOO_OLD
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
} tonearm_column;

/** Describes column `index`, below info.columns. Constant time, thread-safe.
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
 *                 NaN where a network or linear model meets a missing value that its policy does not fill,
 *                 or numbers so large that they overflow; tree models always give a number.
 *
 * Cost: the model's own work, no more; no allocation, no failure beyond the arguments.
 * Threads: any number at once, each with its own scratch and out.
 *
 * @retval TONEARM_OK
 * @retval TONEARM_NULL_ARGUMENT      model, row, scratch or out is NULL
 * @retval TONEARM_NOT_OPEN
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

#ifdef __cplusplus
}
#endif

#endif /* TONEARM_TONEARM_H */
