#include "log.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *program_name = "player";

void fail(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, format, values);
    fputc('\n', stderr);
    va_end(values);
    exit(1);
}

/* ---------------------------------------------------------------------------------------- words */

/* In the order of tonearm_reason and tonearm_context_type; the first stands for unknown. */
static const char *const reasons[] = {
    "unknown",    "trackdone", "fwdbtn",          "backbtn",
    "clickrow",   "appload",   "playbtn",         "remote",
    "trackerror", "endplay",   "logout",          "clickside",
    "popup",      "uriopen",   "unexpected-exit", "unexpected-exit-while-paused"};
static const char *const contexts[] = {"unknown", "user_collection",       "catalog", "editorial_playlist",
                                       "radio",   "personalized_playlist", "charts"};

static uint32_t word_of(const char *word, const char *const *words, uint32_t count) {
    for (uint32_t i = 1; i < count; ++i)
        if (strcmp(word, words[i]) == 0) return i;
    return 0;
}

enum { REASONS = sizeof reasons / sizeof reasons[0], CONTEXTS = sizeof contexts / sizeof contexts[0] };
uint32_t reason_of(const char *word) { return word_of(word, reasons, REASONS); }
const char *reason_word(uint32_t reason) { return reasons[reason < REASONS ? reason : 0]; }

/* Any 64-bit hash will do, as long as it is always the same one: this is FNV-1a. 0 would mean unknown. */
static uint64_t track_id_of(const char *name) {
    uint64_t hash = 14695981039346656037u;
    for (; *name != 0; ++name) hash = (hash ^ (unsigned char)*name) * 1099511628211u;
    return hash == 0 ? 1 : hash;
}

/* --------------------------------------------------------------------------------------- tables */

/* The cell at `text`, which may be quoted: makes it a string of its own, and returns what follows its comma, or NULL. */
static char *end_cell(char **text) {
    char *from = *text, *to = *text;
    if (*from == '"') {
        for (++from; *from != 0 && (from[0] != '"' || from[1] == '"'); ++from) {
            *to++ = *from;
            if (*from == '"') ++from; /* two stand for one */
        }
        if (*from == '"') ++from;
    } else {
        from = to = from + strcspn(from, ",");
    }
    char *next = strchr(from, ',');
    *to = 0;
    return next == NULL ? NULL : next + 1;
}

/* Splits the text at its commas. Returns how many cells there are. */
static size_t split(struct table *table) {
    size_t count = 0;
    for (char *cell = table->text; cell != NULL && count < MOST_CELLS; ++count) {
        table->cells[count] = cell;
        cell = end_cell(&table->cells[count]);
    }
    return count;
}

/* Reads a line that is not empty, without its end; 0 at the end of the file. */
static int read_line(struct table *table) {
    do {
        if (fgets(table->text, LONGEST_LINE, table->file) == NULL) {
            if (ferror(table->file)) fail("%s cannot be read", table->path);
            return 0;
        }
        ++table->line;
        const size_t length = strcspn(table->text, "\r\n");
        if (length == LONGEST_LINE - 1)
            fail("%s, line %zu is longer than %d bytes: not a table of numbers", table->path, table->line,
                 LONGEST_LINE - 2);
        table->text[length] = 0;
    } while (table->text[0] == 0);
    return 1;
}

int table_row(struct table *table) {
    if (!read_line(table)) return 0;
    const size_t count = split(table);
    if (count != table->columns)
        fail("%s, line %zu has %zu columns, but the first line names %zu", table->path, table->line, count,
             table->columns);
    return 1;
}

size_t table_column(const struct table *table, const char *name) {
    for (size_t i = 0; i < table->columns; ++i)
        if (strcmp(table->cells[i], name) == 0) return i;
    return table->columns;
}

float table_number(const struct table *table, size_t place) {
    const char *text = table->cells[place];
    char *end;
    const float value = strtof(text, &end);
    if (*text == 0) return NAN; /* unknown */
    if (end == text || *end != 0)
        fail("%s, line %zu, column %zu: '%s' is not a number", table->path, table->line, place + 1, text);
    return value;
}

/* ---------------------------------------------------------------------------------------- tracks */

/* What the columns of the data are called, and where tonearm_track keeps them. */
static const struct {
    const char *name;
    size_t offset;
} facts[] = {{"duration", offsetof(tonearm_track, duration)},
             {"release_year", offsetof(tonearm_track, release_year)},
             {"us_popularity_estimate", offsetof(tonearm_track, popularity)},
             {"acousticness", offsetof(tonearm_track, acousticness)},
             {"beat_strength", offsetof(tonearm_track, beat_strength)},
             {"bounciness", offsetof(tonearm_track, bounciness)},
             {"danceability", offsetof(tonearm_track, danceability)},
             {"dyn_range_mean", offsetof(tonearm_track, dyn_range_mean)},
             {"energy", offsetof(tonearm_track, energy)},
             {"flatness", offsetof(tonearm_track, flatness)},
             {"instrumentalness", offsetof(tonearm_track, instrumentalness)},
             {"key", offsetof(tonearm_track, key)},
             {"liveness", offsetof(tonearm_track, liveness)},
             {"loudness", offsetof(tonearm_track, loudness)},
             {"mechanism", offsetof(tonearm_track, mechanism)},
             {"mode", offsetof(tonearm_track, mode)},
             {"organism", offsetof(tonearm_track, organism)},
             {"speechiness", offsetof(tonearm_track, speechiness)},
             {"tempo", offsetof(tonearm_track, tempo)},
             {"time_signature", offsetof(tonearm_track, time_signature)},
             {"valence", offsetof(tonearm_track, valence)},
             {"acoustic_vector_0", offsetof(tonearm_track, acoustic_vector[0])},
             {"acoustic_vector_1", offsetof(tonearm_track, acoustic_vector[1])},
             {"acoustic_vector_2", offsetof(tonearm_track, acoustic_vector[2])},
             {"acoustic_vector_3", offsetof(tonearm_track, acoustic_vector[3])},
             {"acoustic_vector_4", offsetof(tonearm_track, acoustic_vector[4])},
             {"acoustic_vector_5", offsetof(tonearm_track, acoustic_vector[5])},
             {"acoustic_vector_6", offsetof(tonearm_track, acoustic_vector[6])},
             {"acoustic_vector_7", offsetof(tonearm_track, acoustic_vector[7])}};
enum { FACTS = sizeof facts / sizeof facts[0] };

void table_open(struct table *table, const char *path) {
    *table = (struct table){.path = path, .file = fopen(path, "rb")};
    if (table->file == NULL) fail("%s cannot be opened: is the path right?", path);
    if (!read_line(table)) fail("%s is empty: the first line should name the columns", path);
    if (memcmp(table->text, "\x1f\x8b", 2) == 0) fail("%s is compressed: run gunzip on it first", path);
    table->columns = split(table);
    for (size_t i = 0; i < table->columns; ++i) {
        table->track_column[i] = -1;
        for (int fact = 0; fact < FACTS; ++fact)
            if (strcmp(table->cells[i], facts[fact].name) == 0) table->track_column[i] = fact;
    }
}

/* Sets the facts that the row has, and leaves the others as they are. */
static void read_facts(const struct table *table, tonearm_track *track) {
    for (size_t i = 0; i < table->columns; ++i) {
        if (table->track_column[i] < 0) continue;
        const size_t offset = facts[table->track_column[i]].offset;
        const char *text = table->cells[i];
        const int is_mode = offset == offsetof(tonearm_track, mode);
        const float value = is_mode && strcmp(text, "minor") == 0   ? 0
                            : is_mode && strcmp(text, "major") == 0 ? 1
                                                                    : table_number(table, i);
        memcpy((char *)track + offset, &value, sizeof value);
    }
}

static int by_id(const void *a, const void *b) {
    const uint64_t first = ((const tonearm_track *)a)->track_id,
                   second = ((const tonearm_track *)b)->track_id;
    return first < second ? -1 : first > second;
}

/* Reads the whole table once, at start-up: the one place where memory grows. */
void catalogue_read(struct catalogue *catalogue, const char *path) {
    static struct table table;
    table_open(&table, path);
    size_t id = table_column(&table, "track_id");
    if (id == table.columns) id = table_column(&table, "track_id_clean");
    if (id == table.columns)
        fail("%s has no column track_id: a track table of the MSSD, tf_*.csv, is expected", path);
    while (table_row(&table)) {
        if (catalogue->count == catalogue->capacity) {
            catalogue->capacity = catalogue->capacity == 0 ? 4096 : 2 * catalogue->capacity;
            catalogue->tracks = realloc(catalogue->tracks, catalogue->capacity * sizeof *catalogue->tracks);
            if (catalogue->tracks == NULL) fail("not enough memory for the tracks of %s", path);
        }
        tonearm_track *track = &catalogue->tracks[catalogue->count++];
        tonearm_track_init(track, sizeof *track);
        track->track_id = track_id_of(table.cells[id]);
        read_facts(&table, track);
    }
    fclose(table.file);
    if (catalogue->count > 0) qsort(catalogue->tracks, catalogue->count, sizeof *catalogue->tracks, by_id);
}

void catalogue_look_up(const struct catalogue *catalogue, const char *name, tonearm_track *track) {
    tonearm_track_init(track, sizeof *track);
    track->track_id = track_id_of(name);
    const tonearm_track *known =
        catalogue->count == 0 ? NULL
                              : bsearch(track, catalogue->tracks, catalogue->count, sizeof *track, by_id);
    if (known != NULL) *track = *known;
}

/* ------------------------------------------------------------------------------------------ logs */

enum cell {
    SESSION_ID,
    TRACK_ID,
    SKIP_1,
    SKIP_2,
    SKIP_3,
    NOT_SKIPPED,
    CONTEXT_SWITCH,
    NO_PAUSE,
    SHORT_PAUSE,
    LONG_PAUSE,
    SEEK_FORWARD,
    SEEK_BACK,
    SHUFFLE,
    HOUR,
    DATE,
    PREMIUM,
    CONTEXT_TYPE,
    REASON_START,
    REASON_END,
    CELLS
};
static const char *const cell_names[CELLS] = {"session_id",
                                              "track_id_clean",
                                              "skip_1",
                                              "skip_2",
                                              "skip_3",
                                              "not_skipped",
                                              "context_switch",
                                              "no_pause_before_play",
                                              "short_pause_before_play",
                                              "long_pause_before_play",
                                              "hist_user_behavior_n_seekfwd",
                                              "hist_user_behavior_n_seekback",
                                              "hist_user_behavior_is_shuffle",
                                              "hour_of_day",
                                              "date",
                                              "premium",
                                              "context_type",
                                              "hist_user_behavior_reason_start",
                                              "hist_user_behavior_reason_end"};

void log_open(struct log *log, const char *path, const struct catalogue *catalogue) {
    table_open(&log->table, path);
    log->catalogue = catalogue;
    for (int cell = 0; cell < CELLS; ++cell) {
        log->place[cell] = table_column(&log->table, cell_names[cell]);
        if (log->place[cell] == log->table.columns)
            fail("%s has no column %s: a log of the MSSD, log_*.csv, is expected", path, cell_names[cell]);
    }
    log->has_row = table_row(&log->table);
    if (!log->has_row) fail("%s has no rows: one is expected for every track that was played", path);
}

static const char *text_of(const struct log *log, enum cell cell) {
    return log->table.cells[log->place[cell]];
}

/* 1, 0, or NaN where the cell is empty. */
static float flag(const struct log *log, enum cell cell) {
    const char *text = text_of(log, cell);
    if (strcmp(text, "true") == 0 || strcmp(text, "True") == 0) return 1;
    if (strcmp(text, "false") == 0 || strcmp(text, "False") == 0) return 0;
    const float value = table_number(&log->table, log->place[cell]);
    if (value != 0 && value != 1 && *text != 0)
        fail("%s, line %zu, %s: '%s' should be true, false, 1 or 0", log->table.path, log->table.line,
             cell_names[cell], text);
    return value;
}

/* 20180715 from 2018-07-15, or from 15-07-18. */
static uint32_t date_of(const struct log *log) {
    const char *text = text_of(log, DATE);
    unsigned a, b, c;
    if (*text == 0) return 0;
    if (sscanf(text, "%u-%u-%u", &a, &b, &c) != 3 || b < 1 || b > 12 || a > 9999 || c > 9999)
        fail("%s, line %zu, date: '%s' should be like 2018-07-15 or 15-07-18", log->table.path,
             log->table.line, text);
    return a > 31 ? a * 10000 + b * 100 + c : (2000 + c) * 10000 + b * 100 + a;
}

static uint32_t skip_of(const struct log *log) {
    if (flag(log, SKIP_1) == 1) return TONEARM_SKIP_VERY_BRIEFLY;
    if (flag(log, SKIP_2) == 1) return TONEARM_SKIP_BRIEFLY;
    if (flag(log, SKIP_3) == 1) return TONEARM_SKIP_MOSTLY;
    return flag(log, NOT_SKIPPED) == 1 ? TONEARM_SKIP_NOT_SKIPPED : TONEARM_SKIP_NEAR_END;
}

/* In the data a short pause is a long one, too; the first track of a session has none of the three. */
static uint32_t pause_of(const struct log *log) {
    if (flag(log, SHORT_PAUSE) == 1) return TONEARM_PAUSE_SHORT;
    if (flag(log, LONG_PAUSE) == 1) return TONEARM_PAUSE_LONG;
    return flag(log, NO_PAUSE) == 1 ? TONEARM_PAUSE_NONE : TONEARM_PAUSE_UNKNOWN;
}

static void read_play(const struct log *log, struct play *play) {
    snprintf(play->name, sizeof play->name, "%s", text_of(log, TRACK_ID));
    catalogue_look_up(log->catalogue, play->name, &play->track);
    read_facts(&log->table, &play->track);

    tonearm_now_init(&play->now, sizeof play->now);
    play->now.date = date_of(log);
    play->now.hour_of_day = table_number(&log->table, log->place[HOUR]);
    play->now.is_shuffle = flag(log, SHUFFLE);
    play->now.premium = flag(log, PREMIUM);
    play->now.context_type = word_of(text_of(log, CONTEXT_TYPE), contexts, CONTEXTS);

    tonearm_start_init(&play->start, sizeof play->start);
    play->start.reason = reason_of(text_of(log, REASON_START));
    play->start.pause = pause_of(log);
    play->start.context_switch = flag(log, CONTEXT_SWITCH);

    /* The logs do not say for how long a track was played, but how early it was skipped. */
    tonearm_end_init(&play->end, sizeof play->end);
    play->end.reason = reason_of(text_of(log, REASON_END));
    play->end.skip = skip_of(log);
    play->end.n_seekfwd = table_number(&log->table, log->place[SEEK_FORWARD]);
    play->end.n_seekback = table_number(&log->table, log->place[SEEK_BACK]);
}

int log_next(struct log *log, struct listening *listening) {
    if (!log->has_row) return 0;
    listening->count = 0;
    snprintf(listening->id, sizeof listening->id, "%s", text_of(log, SESSION_ID));
    do {
        if (listening->count == MOST_PLAYS)
            fail("%s, line %zu: session %s has more than %d tracks; is session_id right?", log->table.path,
                 log->table.line, listening->id, MOST_PLAYS);
        read_play(log, &listening->plays[listening->count++]);
        log->has_row = table_row(&log->table);
    } while (log->has_row && strncmp(text_of(log, SESSION_ID), listening->id, sizeof listening->id - 1) == 0);
    if (!log->has_row) fclose(log->table.file);
    return 1;
}
