#include "player.h"

#include <stdlib.h>
#include <string.h>

/* What to do about a status: that of every call is passed through here. With correct arguments the calls for
 * events and predictions cannot fail once the model is open, so a player may as well assert. */
static void check(tonearm_status status, const char *doing) {
    static const char *const advice[] = {"", /* 0 is success */
                                         "mend this program",
                                         "get another model",
                                         "update this program, or convert the model again",
                                         "ask for something else",
                                         "begin a new session"};
    if (status == TONEARM_OK) return;
    const unsigned turn = (unsigned)status / 10; /* tens group the codes by whose turn it is to act */
    fail("%s: %s (%s)", doing, tonearm_status_text(status),
         turn < sizeof advice / sizeof advice[0] ? advice[turn] : "see tonearm.h");
}

tonearm_info player_model_info(const struct player *player) {
    tonearm_info info = {.struct_size = sizeof info};
    check(tonearm_model_info(&player->deck->model, &info), "asking about the model");
    return info;
}

/* ---------------------------------------------------------------------------------------- decks */

static void deck_release(struct deck *deck) {
    while (deck != NULL) {
        struct deck *older = deck->older;
        free(deck->blob);
        free(deck->memory);
        free(deck->image);
        free(deck->scratch);
        free(deck);
        deck = older;
    }
}

/* The whole file, aligned, because the model stays in it. */
static void *read_blob(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) return NULL;
    const long end = fseek(file, 0, SEEK_END) == 0 ? ftell(file) : 0;
    void *blob = end > 0 ? malloc((size_t)end) : NULL;
    rewind(file);
    if (blob != NULL && fread(blob, 1, (size_t)end, file) != (size_t)end) {
        free(blob);
        blob = NULL;
    }
    fclose(file);
    *size = (size_t)end;
    return blob;
}

/* Opens a model with an empty session; or returns NULL, with the reason in `text`. */
static struct deck *deck_open(const char *path, char *text, size_t capacity) {
    struct deck *deck = calloc(1, sizeof *deck);
    const char *reason = NULL;
    size_t size = 0;
    tonearm_info info = {.struct_size = sizeof info};
    tonearm_diagnostic diagnostic = {.struct_size = sizeof diagnostic};
    if (deck == NULL) {
        reason = "there is not enough memory";
    } else if ((deck->blob = read_blob(path, &size)) == NULL) {
        reason = "cannot be opened or read: a model of `tonearm train` is expected";
    } else if (tonearm_model_open(&deck->model, deck->blob, size, NULL, &diagnostic) != TONEARM_OK) {
        const int length = snprintf(text, capacity, "%s: ", path);
        if (length >= 0 && (size_t)length < capacity)
            tonearm_diagnostic_text(&diagnostic, text + length, capacity - (size_t)length);
        deck_release(deck);
        return NULL;
    } else if ((deck->memory_size = tonearm_session_size(&deck->model)) == 0) {
        reason = "is a model of single tracks, not of listening sessions";
    } else if (tonearm_model_info(&deck->model, &info) != TONEARM_OK || info.outputs != 1) {
        reason = "does not answer with one probability";
    } else {
        deck->scratch_size = tonearm_scratch_size(&deck->model);
        deck->memory = malloc(deck->memory_size);
        deck->image = malloc(deck->memory_size);
        deck->scratch = malloc(deck->scratch_size);
        if (deck->memory == NULL || deck->image == NULL || deck->scratch == NULL)
            reason = "there is not enough memory";
        else
            check(tonearm_session_init(&deck->model, deck->memory, deck->memory_size, &deck->session),
                  "beginning a session");
    }
    if (reason == NULL) return deck;
    snprintf(text, capacity, "%s %s", path, reason);
    deck_release(deck);
    return NULL;
}

void player_open(struct player *player, const char *path) {
    char text[512];
    player->deck = deck_open(path, text, sizeof text);
    if (player->deck == NULL) fail("%s", text);
}

void player_close(struct player *player) {
    deck_release(player->deck);
    deck_release(__atomic_exchange_n(&player->offered, NULL, __ATOMIC_ACQUIRE));
    deck_release(__atomic_exchange_n(&player->done, NULL, __ATOMIC_ACQUIRE));
    player->deck = NULL;
}

/* The atomic operations are those of GCC and Clang; C11's <stdatomic.h> has the same. */
int player_offer(struct player *player, const char *path, char *text, size_t capacity) {
    deck_release(__atomic_exchange_n(&player->done, NULL, __ATOMIC_ACQUIRE));
    struct deck *deck = deck_open(path, text, capacity);
    if (deck == NULL) return 0;
    /* One that was offered before, and not taken up yet, never plays. */
    deck_release(__atomic_exchange_n(&player->offered, deck, __ATOMIC_ACQ_REL));
    return 1;
}

/* Goes on with the deck that is offered, if there is one: first of all in every call for events and answers. A replay takes
 * as long as the events that are kept took when they happened: some microseconds, or as many steps of a network. */
static void take_up_offer(struct player *player) {
    if (__atomic_load_n(&player->offered, __ATOMIC_RELAXED) == NULL) return;
    struct deck *deck = __atomic_exchange_n(&player->offered, NULL, __ATOMIC_ACQUIRE), *old = player->deck;
    if (deck == NULL) return;
    check(tonearm_session_replay(&deck->model, deck->session, player->events, player->event_count,
                                 deck->scratch, deck->scratch_size),
          "rebuilding the session");
    player->deck = deck;
    old->older = __atomic_load_n(&player->done, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&player->done, &old->older, old, 1, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED)) {
    }
}

/* --------------------------------------------------------------------------------------- events */

tonearm_session_info player_info(const struct player *player) {
    tonearm_session_info info = {.struct_size = sizeof info};
    check(tonearm_session_describe(&player->deck->model, player->deck->session, &info),
          "describing the session");
    return info;
}

/* Makes room for an event, if need be by forgetting the oldest. A real ring would save the move, but
 * tonearm_session_replay takes one array. */
static tonearm_event *new_event(struct player *player, tonearm_event_kind kind) {
    if (player->event_count == EVENTS_KEPT)
        memmove(player->events, player->events + 1, --player->event_count * sizeof player->events[0]);
    tonearm_event *event = &player->events[player->event_count++];
    memset(event, 0, sizeof *event);
    event->struct_size = sizeof *event;
    event->kind = kind;
    tonearm_track_init(&event->track, sizeof event->track);
    tonearm_start_init(&event->start, sizeof event->start);
    tonearm_now_init(&event->now, sizeof event->now);
    tonearm_end_init(&event->end, sizeof event->end);
    return event;
}

void player_start(struct player *player, const struct play *play) {
    take_up_offer(player);
    tonearm_event *event = new_event(player, TONEARM_EVENT_START);
    event->track = play->track;
    event->start = play->start;
    event->now = play->now;
    check(tonearm_track_start(&player->deck->model, player->deck->session, &play->track, &play->start,
                              &play->now, player->deck->scratch, player->deck->scratch_size),
          "starting a track");
}

float player_end(struct player *player, const tonearm_end *end) {
    take_up_offer(player);
    new_event(player, TONEARM_EVENT_END)->end = *end;
    check(tonearm_track_end(&player->deck->model, player->deck->session, end, player->deck->scratch,
                            player->deck->scratch_size),
          "ending a track");
    return player_info(player).skipped;
}

void player_reset(struct player *player) {
    take_up_offer(player);
    new_event(player, TONEARM_EVENT_RESET);
    check(tonearm_session_reset(&player->deck->model, player->deck->session), "beginning a new session");
}

void player_ask(struct player *player, const tonearm_track *coming, size_t count, const tonearm_now *now,
                float *probabilities) {
    take_up_offer(player);
    struct deck *deck = player->deck;
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.now = now;
    if (player_info(player).playing) {
        request.kind = TONEARM_PLAYING;
        check(tonearm_predict(&deck->model, deck->session, &request, deck->scratch, deck->scratch_size,
                              probabilities++),
              "asking about the playing track");
    }
    request.kind = TONEARM_QUEUE;
    request.candidates = coming;
    request.candidate_count = (uint32_t)count;
    check(tonearm_predict(&deck->model, deck->session, &request, deck->scratch, deck->scratch_size,
                          probabilities),
          "asking about the queue");
}

/* What player_save writes: this, the session's image, the events. The image has a checksum of its own. */
struct saved {
    char magic[8];
    char listening[LONGEST_NAME]; /* which session of a log was played back, */
    uint64_t played;              /* and how many tracks of it */
    uint64_t image_size, event_count, event_size;
    uint64_t events_hash;
};
static const char saved_magic[8] = "PLAYER1";

static uint64_t hash_of(const void *bytes, size_t size) { /* FNV-1a */
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; ++i) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 1099511628211u;
    return hash;
}

void player_save(const struct player *player, const char *path, const char *listening, size_t played) {
    struct saved saved = {
        .played = played,
        .image_size = player->deck->memory_size,
        .event_count = player->event_count,
        .event_size = sizeof player->events[0],
        .events_hash = hash_of(player->events, player->event_count * sizeof player->events[0])};
    memcpy(saved.magic, saved_magic, sizeof saved.magic);
    snprintf(saved.listening, sizeof saved.listening, "%s", listening);

    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary)
        fail("the path of the saved session is too long");
    check(tonearm_session_save(&player->deck->model, player->deck->session, player->deck->image,
                               player->deck->memory_size),
          "saving the session");

    FILE *file = fopen(temporary, "wb");
    if (file == NULL) fail("%s cannot be written", temporary);
    int is_written = fwrite(&saved, sizeof saved, 1, file) == 1;
    is_written &= fwrite(player->deck->image, player->deck->memory_size, 1, file) == 1;
    is_written &=
        fwrite(player->events, sizeof player->events[0], player->event_count, file) == player->event_count;
    is_written &= fclose(file) == 0;
    if (!is_written || rename(temporary, path) != 0) {
        remove(temporary);
        fail("%s cannot be written: is the disk full?", path);
    }
}

size_t player_restore(struct player *player, const char *path, const char *listening) {
    struct saved saved;
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("%s cannot be opened: is the path right?", path);
    if (fread(&saved, sizeof saved, 1, file) != 1 ||
        memcmp(saved.magic, saved_magic, sizeof saved_magic) != 0 || saved.image_size > 1 << 20 ||
        saved.event_count > EVENTS_KEPT || saved.event_size != sizeof player->events[0] ||
        saved.played > MOST_PLAYS)
        fail("%s is not a session that this program saved", path);
    saved.listening[sizeof saved.listening - 1] = 0;
    if (strcmp(saved.listening, listening) != 0)
        fail("%s was saved in the session %s, which is not the one to be played: %s", path, saved.listening,
             listening);
    /* An image of another model may have another size; then it is refused below, whatever was read of it. */
    const size_t wanted =
        saved.image_size < player->deck->memory_size ? (size_t)saved.image_size : player->deck->memory_size;
    const size_t image_size = fread(player->deck->image, 1, wanted, file);
    if (fseek(file, (long)(sizeof saved + saved.image_size), SEEK_SET) != 0) fail("%s cannot be read", path);
    player->event_count = fread(player->events, sizeof player->events[0], (size_t)saved.event_count, file);
    fclose(file);
    const int has_events =
        player->event_count == saved.event_count &&
        hash_of(player->events, player->event_count * sizeof player->events[0]) == saved.events_hash;
    if (!has_events) player->event_count = 0;
    for (size_t i = 0; i < player->event_count; ++i) { /* pointers do not outlive a process */
        tonearm_event *event = &player->events[i];
        event->track.extra = event->now.extra = event->start.extra = event->end.extra = NULL;
        event->track.extra_count = event->now.extra_count = event->start.extra_count =
            event->end.extra_count = 0;
    }

    const tonearm_status status =
        tonearm_session_load(&player->deck->model, player->deck->memory, player->deck->memory_size,
                             player->deck->image, image_size, &player->deck->session);
    if (status == TONEARM_WRONG_SESSION || status == TONEARM_SESSION_CORRUPT) {
        const char *instead =
            has_events ? "rebuilt from the events" : "the events are damaged, too: an empty session begins";
        fprintf(stderr, "player: %s: %s; %s\n", path, tonearm_status_text(status), instead);
        check(tonearm_session_replay(&player->deck->model, player->deck->session, player->events,
                                     player->event_count, player->deck->scratch, player->deck->scratch_size),
              "rebuilding the session");
    } else {
        check(status, "restoring the session");
    }
    return (size_t)saved.played;
}
