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
    check(tonearm_model_info(&player->model, &info), "asking about the model");
    return info;
}

void player_open(struct player *player, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) fail("%s cannot be opened: is the path right?", path);
    if (fseek(file, 0, SEEK_END) != 0) fail("%s cannot be read", path);
    const long size = ftell(file);
    void *blob = size > 0 ? malloc((size_t)size) : NULL; /* aligned, and the model stays in it */
    rewind(file);
    if (blob == NULL || fread(blob, 1, (size_t)size, file) != (size_t)size)
        fail("%s cannot be read: a model of `tonearm train` is expected", path);
    fclose(file);

    tonearm_diagnostic diagnostic = {.struct_size = sizeof diagnostic};
    if (tonearm_model_open(&player->model, blob, (size_t)size, NULL, &diagnostic) != TONEARM_OK) {
        char text[256];
        tonearm_diagnostic_text(&diagnostic, text, sizeof text);
        fail("%s: %s", path, text);
    }
    player->memory_size = tonearm_session_size(&player->model);
    player->scratch_size = tonearm_scratch_size(&player->model);
    if (player->memory_size == 0) fail("%s is a model of single tracks, not of listening sessions", path);
    if (player_model_info(player).outputs != 1) fail("%s does not answer with one probability", path);
    player->memory = malloc(player->memory_size);
    player->image = malloc(player->memory_size);
    player->scratch = malloc(player->scratch_size);
    if (player->memory == NULL || player->image == NULL || player->scratch == NULL) fail("not enough memory");
    check(tonearm_session_init(&player->model, player->memory, player->memory_size, &player->session),
          "beginning a session");
}

tonearm_session_info player_info(const struct player *player) {
    tonearm_session_info info = {.struct_size = sizeof info};
    check(tonearm_session_describe(&player->model, player->session, &info), "describing the session");
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
    tonearm_event *event = new_event(player, TONEARM_EVENT_START);
    event->track = play->track;
    event->start = play->start;
    event->now = play->now;
    check(tonearm_track_start(&player->model, player->session, &play->track, &play->start, &play->now,
                              player->scratch, player->scratch_size),
          "starting a track");
}

float player_end(struct player *player, const tonearm_end *end) {
    new_event(player, TONEARM_EVENT_END)->end = *end;
    check(tonearm_track_end(&player->model, player->session, end, player->scratch, player->scratch_size),
          "ending a track");
    return player_info(player).skipped;
}

void player_reset(struct player *player) {
    new_event(player, TONEARM_EVENT_RESET);
    check(tonearm_session_reset(&player->model, player->session), "beginning a new session");
}

void player_ask(const struct player *player, const tonearm_track *coming, size_t count,
                const tonearm_now *now, float *probabilities) {
    tonearm_request request;
    tonearm_request_init(&request, sizeof request);
    request.now = now;
    if (player_info(player).playing) {
        request.kind = TONEARM_PLAYING;
        check(tonearm_predict(&player->model, player->session, &request, player->scratch,
                              player->scratch_size, probabilities++),
              "asking about the playing track");
    }
    request.kind = TONEARM_QUEUE;
    request.candidates = coming;
    request.candidate_count = (uint32_t)count;
    check(tonearm_predict(&player->model, player->session, &request, player->scratch, player->scratch_size,
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
        .image_size = player->memory_size,
        .event_count = player->event_count,
        .event_size = sizeof player->events[0],
        .events_hash = hash_of(player->events, player->event_count * sizeof player->events[0])};
    memcpy(saved.magic, saved_magic, sizeof saved.magic);
    snprintf(saved.listening, sizeof saved.listening, "%s", listening);

    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.tmp", path) >= (int)sizeof temporary)
        fail("the path of the saved session is too long");
    check(tonearm_session_save(&player->model, player->session, player->image, player->memory_size),
          "saving the session");

    FILE *file = fopen(temporary, "wb");
    if (file == NULL) fail("%s cannot be written", temporary);
    int is_written = fwrite(&saved, sizeof saved, 1, file) == 1;
    is_written &= fwrite(player->image, player->memory_size, 1, file) == 1;
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
        saved.image_size < player->memory_size ? (size_t)saved.image_size : player->memory_size;
    const size_t image_size = fread(player->image, 1, wanted, file);
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

    const tonearm_status status = tonearm_session_load(&player->model, player->memory, player->memory_size,
                                                       player->image, image_size, &player->session);
    if (status == TONEARM_WRONG_SESSION || status == TONEARM_SESSION_CORRUPT) {
        const char *instead =
            has_events ? "rebuilt from the events" : "the events are damaged, too: an empty session begins";
        fprintf(stderr, "player: %s: %s; %s\n", path, tonearm_status_text(status), instead);
        check(tonearm_session_replay(&player->model, player->session, player->events, player->event_count,
                                     player->scratch, player->scratch_size),
              "rebuilding the session");
    } else {
        check(status, "restoring the session");
    }
    return (size_t)saved.played;
}
