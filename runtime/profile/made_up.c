#include "profiling.h"

enum { SESSIONS = 10, TRACKS = 20 };

/* xorshift32, Marsaglia 2003. */
static float next_number(uint32_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return (float)(*state >> 8) / 16777216.0f;
}

static float whole(float number) { return (float)(int)number; }

static void make_track(uint32_t *state, tonearm_track *track) {
    tonearm_track_init(track, sizeof *track);
    track->track_id = 1 + (uint64_t)(next_number(state) * 1e6f);
    track->artist_id = 1 + (uint64_t)(next_number(state) * 1e3f);
    /* The facts from acousticness on are numbers from 0 to 1, but for a few. */
    for (float *fact = &track->acousticness; fact <= &track->acoustic_vector[7]; ++fact)
        *fact = next_number(state);
    track->duration = 120 + 240 * next_number(state);
    track->release_year = whole(1960 + 60 * next_number(state));
    track->popularity = 100 * next_number(state);
    track->key = whole(12 * next_number(state));
    track->loudness = -25 * next_number(state);
    track->mode = whole(2 * next_number(state));
    track->tempo = 60 + 140 * next_number(state);
    track->time_signature = 4;
}

static tonearm_event *next_event(tonearm_event *events, size_t *count, uint32_t kind) {
    tonearm_event *event = &events[(*count)++];
    event->struct_size = sizeof *event;
    event->kind = kind;
    tonearm_track_init(&event->track, sizeof event->track);
    tonearm_start_init(&event->start, sizeof event->start);
    tonearm_now_init(&event->now, sizeof event->now);
    tonearm_end_init(&event->end, sizeof event->end);
    return event;
}

void workload_made_up(struct workload *workload) {
    static tonearm_event events[SESSIONS * (2 * TRACKS + 1)];
    static tonearm_track tracks[SESSIONS * TRACKS];
    size_t count = 0;
    uint32_t state = 2463534242u;
    for (int session = 0; session < SESSIONS; ++session) {
        int64_t time = 1600000000 + 100000 * session;
        for (int n = 0; n < TRACKS; ++n) {
            tonearm_track *track = &tracks[session * TRACKS + n];
            make_track(&state, track);
            tonearm_event *event = next_event(events, &count, TONEARM_EVENT_START);
            event->track = *track;
            event->now.time = time;
            event->now.hour_of_day = (float)(8 + session);
            event->now.is_shuffle = whole(2 * next_number(&state));
            event->now.premium = 1;
            event->now.context_type = 1 + (uint32_t)(5 * next_number(&state));
            event->start.reason = n == 0                       ? TONEARM_REASON_CLICKROW
                                  : next_number(&state) < 0.5f ? TONEARM_REASON_FWDBTN
                                                               : TONEARM_REASON_TRACKDONE;
            event->start.pause = TONEARM_PAUSE_NONE;
            event = next_event(events, &count, TONEARM_EVENT_END);
            const int skipped = next_number(&state) < 0.5f;
            event->end.reason = skipped ? TONEARM_REASON_FWDBTN : TONEARM_REASON_TRACKDONE;
            event->end.skip = skipped ? TONEARM_SKIP_BRIEFLY : TONEARM_SKIP_NOT_SKIPPED;
            event->end.ms_played = skipped ? 12000 : 1000 * track->duration;
            time += (int64_t)(event->end.ms_played / 1000) + 1;
        }
        next_event(events, &count, TONEARM_EVENT_RESET);
    }
    workload->events = events;
    workload->event_count = count;
    workload->tracks = tracks;
    workload->track_count = SESSIONS * TRACKS;
    snprintf(workload->source, sizeof workload->source, "%d made-up sessions of %d tracks", (int)SESSIONS,
             (int)TRACKS);
}
