/* The same bits on every device: opens every golden blob, replays its own golden vectors, and prints a hash
 * of all that it answers to some hundred pseudo-random rows, or to a made-up evening of listening. The text
 * is the same for every processor, every kernel and every allowed alignment; expected.txt has it.
 *
 * Networks of float weights may differ by 1e-6 from one processor to another. Of these, the outputs stored
 * beside the golden blobs are compared instead, and the text says only whether they are that close.
 *
 * Needs nothing but the runtime and board.h; all memory is static. */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <tonearm/tonearm.h>

#include "blobs.h"
#include "board.h"

enum {
    ROWS = 192,
    STEPS = 160,
    LARGEST_BLOB = 16384,
    LARGEST_SCRATCH = 8192,
    LARGEST_SESSION = 1024,
    MOST_COLUMNS = 96,
    MOST_OUTPUTS = 64,
    MOST_CANDIDATES = 4,
    MOST_EXTRA = 4
};

/* ----------------------------------------------------------------------------------------- hash */

struct hash {
    uint64_t value;
};

/* FNV-1a */
static void add_bytes(struct hash *hash, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; ++i)
        hash->value = (hash->value ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
}

/* The lowest byte first, whatever the processor's order. */
static void add_number(struct hash *hash, uint32_t number) {
    for (int i = 0; i < 4; ++i) {
        const uint8_t byte = (uint8_t)(number >> (8 * i));
        add_bytes(hash, &byte, 1);
    }
}

static void add_floats(struct hash *hash, const float *values, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        add_number(hash,
                   values[i] != values[i] ? 0x7fc00000u : bits); /* which NaN it is, the processor chooses */
    }
}

/* ----------------------------------------------------------------------------- made-up numbers */

struct random {
    uint64_t state;
};

/* SplitMix64 */
static uint32_t draw(struct random *random) {
    uint64_t z = random->state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (uint32_t)(z >> 32);
}

static uint32_t below(struct random *random, uint32_t limit) { return draw(random) % limit; }

/* Every division below is by a power of two, so that nothing is rounded. */
static float any_number(struct random *random, uint32_t categories) {
    static const float special[] = {NAN,      INFINITY, -INFINITY, 0,   -0.0f,    1e-45f, -1e-40f, FLT_MIN,
                                    -FLT_MAX, FLT_MAX,  -10,       2.5, 16777216, 65535,  0.1f,    1};
    switch (below(random, 6)) {
        case 0:
            return special[below(random, sizeof special / sizeof special[0])];
        case 1: /* around the bounds of a vocabulary, and between its numbers */
            return (float)((int32_t)below(random, 2 * categories + 6) - 3) / 2;
        case 2:
            return (float)((int32_t)below(random, 4001) - 2000) / 64;
        case 3:
            return (float)(below(random, 1 << 24)) / (1 << 24);
        case 4:
            return (float)below(random, 300);
        default: { /* any bits at all */
            float value;
            const uint32_t bits = draw(random);
            memcpy(&value, &bits, sizeof value);
            return value == value ? value : NAN;
        }
    }
}

/* ---------------------------------------------------------------------------------- stored numbers */

struct reader {
    const char *text;
};

static int hexadecimal(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint64_t next_bits(struct reader *reader) {
    uint64_t bits = 0;
    while (*reader->text != 0 && hexadecimal(*reader->text) < 0) ++reader->text;
    for (; *reader->text != 0 && hexadecimal(*reader->text) >= 0; ++reader->text)
        bits = bits << 4 | (uint64_t)hexadecimal(*reader->text);
    return bits;
}

static uint32_t next_number(struct reader *reader) { return (uint32_t)next_bits(reader); }

static float next_float(struct reader *reader) {
    const uint32_t bits = next_number(reader);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The text after its first line; at_end afterwards says whether the last line has been read. */
static struct reader stored_lines(const struct blob *blob) {
    struct reader reader = {strchr(blob->stored, '\n') + 1};
    return reader;
}

static int at_end(const struct reader *reader) { return reader->text[strspn(reader->text, " :\n")] == 0; }

/* Adds 1 to *wrong for each output that is not close to the stored one. */
static void compare(struct reader *reader, const float *found, uint32_t outputs, uint32_t *wrong) {
    for (uint32_t i = 0; i < outputs; ++i) {
        const float expected = next_float(reader), difference = found[i] - expected;
        const int both_nan = expected != expected && found[i] != found[i];
        *wrong += !(both_nan || expected == found[i] || (difference <= 1e-6f && difference >= -1e-6f));
    }
}

/* --------------------------------------------------------------------------------------- stack */

/* The most that any call of these took, where the board can tell. */
enum call { OPEN, SELF_TEST, EVALUATE, START, END, PREDICT, SAVE, LOAD, CALLS };
static const char *const call_names[CALLS] = {
    "tonearm_model_open", "tonearm_model_self_test", "tonearm_evaluate",     "tonearm_track_start",
    "tonearm_track_end",  "tonearm_predict",         "tonearm_session_save", "tonearm_session_load"};
static uint32_t most_stack[CALLS];

static tonearm_status note_stack(enum call call, tonearm_status status) {
    const uint32_t used = board_stack_used();
    if (used > most_stack[call]) most_stack[call] = used;
    return status;
}

/* Makes the call: marks the stack before it, and notes afterwards what it used. */
#define MEASURED(which, call) (board_stack_mark(), note_stack(which, call))

/* ------------------------------------------------------------------------------------- results */

/* Everything that is printed of a blob; equal results are equal bytes. */
struct result {
    uint32_t opened, tested; /* a tonearm_status each */
    uint32_t compared, wrong;
    uint64_t hash;
};

/* One blob being tried: where its bytes, its scratch and its sessions lie in static memory. */
struct trial {
    const struct blob *blob;
    tonearm_model model;
    tonearm_info info;
    void *scratch;
    void *session, *other_session;
    size_t scratch_size, session_size;
    struct hash hash;
    struct random random;
    float out[MOST_OUTPUTS * MOST_CANDIDATES];
};

/* --------------------------------------------------------------------------------------------- tables */

static void try_random_rows(struct trial *trial) {
    static uint32_t categories[MOST_COLUMNS];
    static float row[MOST_COLUMNS];
    for (uint32_t i = 0; i < trial->info.columns; ++i) {
        tonearm_column column = {.struct_size = sizeof column};
        tonearm_model_column_at(&trial->model, i, &column);
        categories[i] = column.categories;
    }
    for (int n = 0; n < ROWS; ++n) {
        for (uint32_t i = 0; i < trial->info.columns; ++i) row[i] = any_number(&trial->random, categories[i]);
        add_number(&trial->hash,
                   MEASURED(EVALUATE, tonearm_evaluate(&trial->model, row, trial->info.columns,
                                                       trial->scratch, trial->scratch_size, trial->out)));
        add_floats(&trial->hash, trial->out, trial->info.outputs);
    }
}

static void try_stored_rows(struct trial *trial, struct result *result) {
    static float row[MOST_COLUMNS];
    for (struct reader reader = stored_lines(trial->blob); !at_end(&reader); ++result->compared) {
        for (uint32_t i = 0; i < trial->info.columns; ++i) row[i] = next_float(&reader);
        result->wrong +=
            MEASURED(EVALUATE, tonearm_evaluate(&trial->model, row, trial->info.columns, trial->scratch,
                                                trial->scratch_size, trial->out)) != TONEARM_OK;
        compare(&reader, trial->out, trial->info.outputs, &result->wrong);
    }
}

/* ------------------------------------------------------------------------------------------ sessions */

/* An event with room for what its `extra` pointers lead to, all unknown. */
struct told {
    tonearm_event event;
    float extra[4][MOST_EXTRA];
};

static void forget(struct told *told) {
    memset(told, 0, sizeof *told);
    told->event.struct_size = sizeof told->event;
    tonearm_track_init(&told->event.track, sizeof told->event.track);
    tonearm_now_init(&told->event.now, sizeof told->event.now);
    tonearm_start_init(&told->event.start, sizeof told->event.start);
    tonearm_end_init(&told->event.end, sizeof told->event.end);
}

static void point_to_extra(struct told *told, uint32_t count) {
    tonearm_event *event = &told->event;
    event->track.extra = told->extra[0];
    event->now.extra = told->extra[1];
    event->start.extra = told->extra[2];
    event->end.extra = told->extra[3];
    event->track.extra_count = event->now.extra_count = event->start.extra_count = event->end.extra_count =
        count;
}

/* A number that is known three times out of four, and sensible most of those. */
static float fact(struct random *random) {
    const uint32_t choice = below(random, 8);
    if (choice < 2) return NAN;
    return choice < 7 ? (float)below(random, 1 << 16) / (1 << 16) : any_number(random, 12);
}

/* duration to acoustic_vector are floats without a gap. */
enum {
    FIRST_FACT = offsetof(tonearm_track, duration),
    FACTS = (offsetof(tonearm_track, acoustic_vector) - offsetof(tonearm_track, duration)) / sizeof(float) + 8
};

static void set_fact(tonearm_track *track, uint32_t index, float value) {
    memcpy((char *)track + FIRST_FACT + index * sizeof value, &value, sizeof value);
}

/* Of one of a few tracks and artists, so that they come again. */
static void make_up(struct told *told, struct random *random, int64_t time) {
    forget(told);
    tonearm_event *event = &told->event;
    event->track.track_id = below(random, 9) * 0x9E3779B97F4A7C15u;
    event->track.artist_id = below(random, 5) * 0xD1B54A32D192ED03u;
    for (uint32_t i = 0; i < FACTS; ++i) set_fact(&event->track, i, fact(random));
    event->track.duration = below(random, 4) == 0 ? NAN : (float)(60 + below(random, 300));

    event->now.time = below(random, 5) == 0 ? TONEARM_UNKNOWN_TIME : time;
    event->now.utc_offset =
        below(random, 3) == 0 ? TONEARM_UNKNOWN_OFFSET : (int32_t)below(random, 86400) - 43200;
    const uint32_t month = 1 + below(random, 12), day = 1 + below(random, 31);
    event->now.date = below(random, 2) == 0 ? 0 : 20180000 + 100 * month + day;
    event->now.hour_of_day = below(random, 2) == 0 ? NAN : (float)below(random, 24);
    event->now.context_type = below(random, 9);
    event->now.is_shuffle = (float)below(random, 2);
    event->now.premium = fact(random);

    event->start.reason = below(random, 18);
    event->start.pause = below(random, 6);
    event->start.context_switch = fact(random);

    event->end.reason = below(random, 18);
    event->end.skip = below(random, 8);
    event->end.n_seekfwd = (float)below(random, 4);
    event->end.n_seekback = fact(random);
    event->end.ms_played = below(random, 5) == 0 ? any_number(random, 0) : (float)below(random, 400000);
    event->end.time = below(random, 3) == 0 ? TONEARM_UNKNOWN_TIME : time;

    for (int source = 0; source < 4; ++source)
        for (int i = 0; i < MOST_EXTRA; ++i) told->extra[source][i] = any_number(random, 3);
    point_to_extra(told, below(random, MOST_EXTRA + 1));
}

static void ask(struct trial *trial, tonearm_session *session, int64_t time) {
    static struct told candidates[MOST_CANDIDATES];
    static tonearm_track tracks[MOST_CANDIDATES];
    static tonearm_end ends[MOST_CANDIDATES];
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    for (int i = 0; i < MOST_CANDIDATES; ++i) {
        make_up(&candidates[i], &trial->random, time);
        tracks[i] = candidates[i].event.track;
        ends[i] = candidates[i].event.end;
    }
    request.kind = 1 + below(&trial->random, 3);
    request.candidate_count = below(&trial->random, MOST_CANDIDATES + 1);
    request.place = below(&trial->random, 5);
    request.candidates = tracks;
    request.now = below(&trial->random, 4) == 0 ? NULL : &candidates[0].event.now;
    request.outcomes = trial->info.leaky ? ends : NULL;
    const tonearm_status status = MEASURED(
        PREDICT,
        tonearm_predict(&trial->model, session, &request, trial->scratch, trial->scratch_size, trial->out));
    const uint32_t sets = request.kind == TONEARM_PLAYING ? 1 : request.candidate_count;
    add_number(&trial->hash, status);
    if (status == TONEARM_OK) add_floats(&trial->hash, trial->out, sets * trial->info.outputs);
}

/* Saves the session, and goes on with what was saved, in the other memory. */
static tonearm_session *move(struct trial *trial, tonearm_session *session) {
    static uint8_t image[LARGEST_SESSION];
    void *const memory = session == trial->session ? trial->other_session : trial->session;
    tonearm_session *moved = session;
    add_number(&trial->hash,
               MEASURED(SAVE, tonearm_session_save(&trial->model, session, image, sizeof image)));
    add_bytes(&trial->hash, image, trial->session_size);
    add_number(&trial->hash, MEASURED(LOAD, tonearm_session_load(&trial->model, memory, trial->session_size,
                                                                 image, trial->session_size, &moved)));
    return moved;
}

static void try_random_events(struct trial *trial) {
    static struct told told;
    tonearm_session *session;
    int64_t time = 1531645200; /* 2018-07-15 */
    if (tonearm_session_init(&trial->model, trial->session, trial->session_size, &session) != TONEARM_OK)
        return;
    for (int step = 1; step <= STEPS; ++step) {
        tonearm_status status;
        time += below(&trial->random, 16) == 0 ? 7200 : (int64_t)below(&trial->random, 400) - 20;
        make_up(&told, &trial->random, time);
        const uint32_t choice = below(&trial->random, 32);
        if (choice == 0) {
            status = tonearm_session_reset(&trial->model, session);
        } else if (choice < 15) {
            status = MEASURED(END, tonearm_track_end(&trial->model, session, &told.event.end, trial->scratch,
                                                     trial->scratch_size));
        } else {
            status = MEASURED(
                START, tonearm_track_start(&trial->model, session, &told.event.track, &told.event.start,
                                           &told.event.now, trial->scratch, trial->scratch_size));
        }
        add_number(&trial->hash, status);
        ask(trial, session, time);
        if (step % 16 == 0) session = move(trial, session);
    }
}

/* One event as `each_number` in conformance/models.cpp orders it. Returns its kind: 0 is a start, 1 an end, 2 a
 * prediction. */
static uint32_t read_event(struct reader *reader, struct told *told, uint32_t *horizon) {
    forget(told);
    tonearm_event *event = &told->event;
    const uint32_t kind = next_number(reader);
    *horizon = next_number(reader);
    event->track.track_id = next_bits(reader);
    event->track.artist_id = next_bits(reader);
    for (uint32_t i = 0; i < FACTS; ++i) set_fact(&event->track, i, next_float(reader));
    event->start.reason = next_number(reader);
    event->start.pause = next_number(reader);
    event->start.context_switch = next_float(reader);
    event->now.context_type = next_number(reader);
    event->now.time = (int64_t)next_bits(reader);
    event->now.utc_offset = (int32_t)next_number(reader);
    event->now.date = next_number(reader);
    event->now.hour_of_day = next_float(reader);
    event->now.is_shuffle = next_float(reader);
    event->now.premium = next_float(reader);
    event->end.reason = next_number(reader);
    event->end.skip = next_number(reader);
    event->end.n_seekfwd = next_float(reader);
    event->end.n_seekback = next_float(reader);
    event->end.ms_played = next_float(reader);
    event->end.time = (int64_t)next_bits(reader);
    for (int source = 0; source < 4; ++source)
        for (int i = 0; i < 3; ++i) told->extra[source][i] = next_float(reader);
    point_to_extra(told, 3);
    return kind;
}

static void try_stored_events(struct trial *trial, struct result *result) {
    static struct told told;
    tonearm_session *session;
    uint32_t horizon;
    if (tonearm_session_init(&trial->model, trial->session, trial->session_size, &session) != TONEARM_OK)
        return;
    for (struct reader reader = stored_lines(trial->blob); !at_end(&reader);) {
        tonearm_status status;
        const uint32_t kind = read_event(&reader, &told, &horizon);
        if (kind == 0) {
            status = MEASURED(
                START, tonearm_track_start(&trial->model, session, &told.event.track, &told.event.start,
                                           &told.event.now, trial->scratch, trial->scratch_size));
        } else if (kind == 1) {
            status = MEASURED(END, tonearm_track_end(&trial->model, session, &told.event.end, trial->scratch,
                                                     trial->scratch_size));
        } else {
            tonearm_session_info info = {.struct_size = sizeof info};
            tonearm_request request;
            tonearm_session_describe(&trial->model, session, &info);
            tonearm_request_init(&request, sizeof request);
            request.kind = horizon == 0 ? TONEARM_PLAYING : TONEARM_ALTERNATIVES;
            request.candidate_count = 1;
            request.place = horizon - 1 - info.playing;
            request.candidates = &told.event.track;
            request.now = &told.event.now;
            status = MEASURED(PREDICT, tonearm_predict(&trial->model, session, &request, trial->scratch,
                                                       trial->scratch_size, trial->out));
            compare(&reader, trial->out, trial->info.outputs, &result->wrong);
            ++result->compared;
        }
        result->wrong += status != TONEARM_OK;
    }
}

/* -------------------------------------------------------------------------------------------- blobs */

static struct result try_blob(const struct blob *blob, uint32_t cpu, size_t misaligned) {
    /* 64-byte aligned, and 4 bytes beyond. */
    static uint8_t bytes[LARGEST_BLOB + 4] __attribute__((aligned(64)));
    static uint8_t scratch[LARGEST_SCRATCH + 4] __attribute__((aligned(64)));
    static uint8_t sessions[2][LARGEST_SESSION + 4] __attribute__((aligned(64)));
    static struct trial trial;
    const tonearm_open_options options = {.struct_size = sizeof options, .cpu = cpu};
    struct result result;
    memset(&result, 0, sizeof result);
    memset(&trial, 0, sizeof trial);
    memset(scratch, 0xA5, sizeof scratch);
    memset(sessions, 0xA5, sizeof sessions);

    const uint8_t *place = blob->bytes;
    if (misaligned != 0) {
        place = bytes + misaligned;
        memcpy(bytes + misaligned, blob->bytes, blob->size);
    }
    result.opened = MEASURED(OPEN, tonearm_model_open(&trial.model, place, blob->size, &options, NULL));
    if (result.opened != TONEARM_OK) return result;
    trial.blob = blob;
    trial.info.struct_size = sizeof trial.info;
    tonearm_model_info(&trial.model, &trial.info);
    trial.scratch = scratch + misaligned;
    trial.session = sessions[0] + misaligned;
    trial.other_session = sessions[1] + misaligned;
    trial.scratch_size = trial.info.scratch_bytes;
    trial.session_size = trial.info.session_bytes;
    trial.hash.value = 14695981039346656037u;
    trial.random.state = trial.info.model_id;
    result.tested =
        MEASURED(SELF_TEST, tonearm_model_self_test(&trial.model, trial.scratch, trial.scratch_size, NULL));
    if (trial.session_size == 0) {
        try_random_rows(&trial);
        if (blob->stored != NULL) try_stored_rows(&trial, &result);
    } else {
        try_random_events(&trial);
        if (blob->stored != NULL) try_stored_events(&trial, &result);
    }
    if (blob->stored == NULL) result.hash = trial.hash.value;
    return result;
}

static int fits(const struct blob *blob) {
    tonearm_model model;
    tonearm_info info = {.struct_size = sizeof info};
    if (MEASURED(OPEN, tonearm_model_open(&model, blob->bytes, blob->size, NULL, NULL)) != TONEARM_OK)
        return 1;
    tonearm_model_info(&model, &info);
    return blob->size <= LARGEST_BLOB && info.scratch_bytes <= LARGEST_SCRATCH &&
           info.session_bytes <= LARGEST_SESSION && info.columns <= MOST_COLUMNS &&
           info.outputs <= MOST_OUTPUTS;
}

/* ----------------------------------------------------------------------------------------- text */

static void write_number(uint64_t number, unsigned base, unsigned least_digits) {
    char text[24], *digit = text + sizeof text - 1;
    *digit = 0;
    for (unsigned n = 0; n < least_digits || number > 0; ++n, number /= base)
        *--digit = "0123456789abcdef"[number % base];
    board_write(digit);
}

/* As a number: builds for small devices have no texts. */
static void write_status(const char *what, uint32_t status) {
    board_write(what);
    board_write(status == TONEARM_OK ? "ok" : "status ");
    if (status != TONEARM_OK) write_number(status, 10, 1);
}

static void write_result(const struct blob *blob, const struct result *result) {
    write_status(": open ", result->opened);
    if (result->opened == TONEARM_OK) {
        write_status(", self-test ", result->tested);
        if (blob->stored == NULL) {
            board_write(", bits ");
            write_number(result->hash, 16, 16);
        } else {
            board_write(", within 1e-6: ");
            write_number(result->compared, 10, 1);
            board_write(" answers, wrong numbers: ");
            write_number(result->wrong, 10, 1);
        }
    }
    board_write("\n");
}

int main(void) {
    int failed = 0;
    const uint32_t kernels = tonearm_cpu_detect() | TONEARM_CPU_SCALAR;
    for (size_t i = 0; i < blob_count; ++i) {
        const struct blob *blob = &blobs[i];
        if (!fits(blob)) {
            board_write(blob->name);
            board_write(": too large for the memory of this program\n");
            failed = 1;
            continue;
        }
        const struct result first = try_blob(blob, TONEARM_CPU_SCALAR, 0);
        board_write(blob->name);
        write_result(blob, &first);
        if (first.opened == TONEARM_LEFT_OUT) continue; /* on purpose: see TONEARM_OPERATORS */
        failed |= first.opened != TONEARM_OK || first.tested != TONEARM_OK || first.wrong > 0;
        for (uint32_t cpu = 1; cpu != 0 && cpu <= kernels; cpu <<= 1) {
            for (size_t misaligned = 0; misaligned <= 4 && (kernels & cpu) != 0; misaligned += 4) {
                const struct result other = try_blob(blob, cpu, misaligned);
                if (memcmp(&other, &first, sizeof first) == 0) continue;
                board_write("  otherwise with the kernels of TONEARM_CPU_ ");
                write_number(cpu, 10, 1);
                board_write(misaligned != 0 ? ", at 4 bytes" : ", at 64 bytes");
                write_result(blob, &other);
                failed = 1;
            }
        }
    }
    /* The text is compared without such lines. */
    for (int call = 0; call < CALLS; ++call) {
        if (most_stack[call] == 0) continue; /* it cannot be told */
        board_write("cost: ");
        board_write(call_names[call]);
        board_write(" took ");
        write_number(most_stack[call], 10, 1);
        board_write(" bytes of stack\n");
    }
    board_exit(failed);
}
