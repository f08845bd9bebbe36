/* Reads what a player would live through from logs in the form of the Music Streaming Sessions Dataset. */
#ifndef TONEARM_EXAMPLE_LOG_H
#define TONEARM_EXAMPLE_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <tonearm/tonearm.h>

enum { LONGEST_NAME = 64, LONGEST_LINE = 4096, MOST_CELLS = 128, MOST_PLAYS = 512 };

/* Begins what is said on stderr; "player" if the program does not set it. */
extern const char *program_name;

/* Prints one sentence on stderr and ends the program with status 1. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void fail(const char *format, ...);

/* The words of the logs: "fwdbtn" and so on. A word that is none of them is 0, UNKNOWN. */
uint32_t reason_of(const char *word);
const char *reason_word(uint32_t reason);

/* One track that was played, in the structs that Tonearm takes. */
struct play {
    char name[LONGEST_NAME];
    tonearm_track track;
    tonearm_now now;
    tonearm_start start;
    tonearm_end end;
};

/* One listening session of a log. */
struct listening {
    char id[LONGEST_NAME];
    size_t count;
    struct play plays[MOST_PLAYS];
};

/* What a catalogue knows: the files tf_*.csv. */
struct catalogue {
    tonearm_track *tracks; /* in the order of their ids */
    size_t count, capacity;
};
void catalogue_read(struct catalogue *catalogue, const char *path);

/* Makes everything in `track` unknown but its id and what the catalogue knows. */
void catalogue_look_up(const struct catalogue *catalogue, const char *name, tonearm_track *track);

/* A comma-separated file with a line of names, read line by line. Cells may be quoted, but lines end where they end. */
struct table {
    const char *path;
    FILE *file;
    size_t line, columns;
    char text[LONGEST_LINE], *cells[MOST_CELLS];
    int track_column[MOST_CELLS]; /* which fact of a track each column holds; -1: none */
};
/* Opens the file and reads its names into the cells. */
void table_open(struct table *table, const char *path);
/* The place of a column, before any row is read; table->columns if there is none. */
size_t table_column(const struct table *table, const char *name);
/* Reads the next row into the cells; 0 at the end of the file. */
int table_row(struct table *table);
/* A cell's number; NaN where it is empty. */
float table_number(const struct table *table, size_t place);

struct log {
    struct table table;
    const struct catalogue *catalogue;
    size_t place[21]; /* of each column that is read */
    int has_row;      /* a row of the next session has been read */
};
void log_open(struct log *log, const char *path, const struct catalogue *catalogue);

/* Reads the next session; 0 at the end of the file. */
int log_next(struct log *log, struct listening *listening);

#endif
