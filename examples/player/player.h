/* How a player uses Tonearm: it reports what happens, and asks how likely the playing track, and every track
 * of its queue, will be skipped. player_open once; player_start, player_end and player_ask as things happen;
 * player_save now and then, and player_restore after a restart; player_offer when a new model has arrived.
 *
 * All functions but player_offer are for one thread, the player's.
 *
 * A status of Tonearm that stands for a mistake ends the program with a sentence: see `check`. */
#ifndef TONEARM_EXAMPLE_PLAYER_H
#define TONEARM_EXAMPLE_PLAYER_H

#include <tonearm/tonearm.h>

#include "log.h"

/* Events that are kept, so that a session can be rebuilt: those of the last 32 tracks. A model forgets what
 * lies before its session, and sessions of the reference model have at most 20 tracks. */
enum { EVENTS_KEPT = 64 };

/* A model, and what a session of it needs. */
struct deck {
    tonearm_model model;
    tonearm_session *session; /* lies in `memory` */
    void *blob, *memory, *image, *scratch;
    size_t memory_size, scratch_size; /* an image has the size of the memory */
    struct deck *older;               /* another one that is done with */
};

struct player {
    struct deck *deck;                 /* what plays */
    tonearm_event events[EVENTS_KEPT]; /* oldest first */
    size_t event_count;
    /* How decks come from and go to the thread of player_offer: changed by atomic operations alone. */
    struct deck *offered, *done;
};

/* All memory is taken here, once. player_start, player_end and player_ask never allocate,
 * lock or wait, so they may run on an audio thread. The player must be all zero. */
void player_open(struct player *player, const char *path);
void player_close(struct player *player);

/* Replaces the model while the player plays, from one other thread: opens the blob beside the one in use, and
 * leaves it for the player's thread, which at its next call rebuilds the session from the events and goes on
 * with that, so that no answer is lost. What has been replaced is released here, by the next call or
 * player_close. Returns 1; or 0 if the blob cannot be used, with the reason in `text`: then nothing changes. */
int player_offer(struct player *player, const char *path, char *text, size_t capacity);

/* Of the model that answered last; its texts are gone once another one has been taken up. */
tonearm_info player_model_info(const struct player *player);
tonearm_session_info player_info(const struct player *player);

void player_start(struct player *player, const struct play *play);

/* Returns whether that was a skip, by the model's own rule: 1, 0, or NaN if it cannot tell. */
float player_end(struct player *player, const tonearm_end *end);

/* Somebody else listens, or the player knows for other reasons that a new session begins. */
void player_reset(struct player *player);

/* P(skip) of the playing track (if there is one) and of the coming tracks, in this order. */
void player_ask(struct player *player, const tonearm_track *coming, size_t count, const tonearm_now *now,
                float *probabilities);

/* Writes a temporary file, then renames it: whenever the power fails, the old file or the new one is whole.
 * (On Windows, rename does not replace a file; use MoveFileEx. To survive power cuts, fsync it, too.) */
void player_save(const struct player *player, const char *path, const char *listening, size_t played);

/* Goes on where player_save stopped. An image of another model, or a damaged one, is refused by Tonearm: then
 * the session is rebuilt from the events. Only when they are damaged, too, an empty session begins. Returns
 * how many tracks of `listening` had been played. */
size_t player_restore(struct player *player, const char *path, const char *listening);

#endif
