#include "workload.h"

#include <log.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *memory_for(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL) fail("not enough memory for %zu tracks or rows", count);
    return memory;
}

/* Events and tracks of the plays, behind those that there are already. */
struct growing {
    tonearm_event *events;
    tonearm_track *tracks;
    size_t event_count, track_count;
};

static tonearm_event *next_event(struct growing *growing, uint32_t kind) {
    tonearm_event *event = &growing->events[growing->event_count++];
    event->struct_size = sizeof *event;
    event->kind = kind;
    tonearm_track_init(&event->track, sizeof event->track);
    tonearm_start_init(&event->start, sizeof event->start);
    tonearm_now_init(&event->now, sizeof event->now);
    tonearm_end_init(&event->end, sizeof event->end);
    return event;
}

static void append_play(struct growing *growing, const tonearm_track *track, const tonearm_start *start,
                        const tonearm_now *now, const tonearm_end *end) {
    tonearm_event *event = next_event(growing, TONEARM_EVENT_START);
    event->track = *track;
    event->start = *start;
    event->now = *now;
    next_event(growing, TONEARM_EVENT_END)->end = *end;
    growing->tracks[growing->track_count++] = *track;
}

/* Room for so many tracks, and one more listening session than would fit. */
static struct growing room_for(size_t tracks) {
    struct growing growing = {memory_for(3 * tracks, sizeof(tonearm_event)),
                              memory_for(tracks, sizeof(tonearm_track)), 0, 0};
    return growing;
}

static void hand_over(const struct growing *growing, struct workload *workload) {
    workload->events = growing->events;
    workload->event_count = growing->event_count;
    workload->tracks = growing->tracks;
    workload->track_count = growing->track_count;
}

static const char *file_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

void workload_of_log(const char *path, char **tables, int table_count, size_t most,
                     struct workload *workload) {
    static struct catalogue catalogue;
    static struct log log;
    static struct listening listening;
    for (int i = 0; i < table_count; ++i) catalogue_read(&catalogue, tables[i]);
    log_open(&log, path, &catalogue);
    struct growing growing = room_for(most + MOST_PLAYS);
    size_t sessions = 0;
    while (growing.track_count < most && log_next(&log, &listening)) {
        if (sessions++ > 0) next_event(&growing, TONEARM_EVENT_RESET);
        for (size_t i = 0; i < listening.count; ++i) {
            const struct play *play = &listening.plays[i];
            append_play(&growing, &play->track, &play->start, &play->now, &play->end);
        }
    }
    hand_over(&growing, workload);
    snprintf(workload->source, sizeof workload->source, "%.80s: %zu sessions, %zu tracks", file_name(path),
             sessions, growing.track_count);
}

void workload_of_rows(const tonearm_model *model, const char *path, size_t most, struct workload *workload) {
    static struct table table;
    tonearm_info info = {0};
    info.struct_size = sizeof info;
    tonearm_model_info(model, &info);
    table_open(&table, path);
    size_t *places = memory_for(info.columns, sizeof *places);
    tonearm_column *columns = memory_for(info.columns, sizeof *columns);
    for (uint32_t i = 0; i < info.columns; ++i) {
        columns[i].struct_size = sizeof columns[i];
        tonearm_model_column_at(model, i, &columns[i]);
        places[i] = table_column(&table, columns[i].name);
        if (places[i] == table.columns)
            fail("%s has no column %s, which the model reads", path, columns[i].name);
    }
    float *rows = NULL;
    size_t count = 0, room = 0;
    while (count < most && table_row(&table)) {
        if (count == room) {
            room = room == 0 ? 256 : 2 * room;
            rows = realloc(rows, room * info.columns * sizeof *rows);
            if (rows == NULL) fail("not enough memory for the rows of %s", path);
        }
        float *row = rows + count++ * info.columns;
        for (uint32_t i = 0; i < info.columns; ++i) {
            row[i] = NAN; /* a category that is not of the vocabulary is unknown */
            if (columns[i].categories == 0)
                row[i] = table_number(&table, places[i]);
            else
                tonearm_model_category(model, i, table.cells[places[i]], &row[i]);
        }
    }
    fclose(table.file);
    if (count == 0) fail("%s has no rows below its names", path);
    free(places);
    free(columns);
    workload->rows = rows;
    workload->row_count = count;
    snprintf(workload->source, sizeof workload->source, "%.80s: %zu rows", file_name(path), count);
}
