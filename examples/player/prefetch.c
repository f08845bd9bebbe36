#include "prefetch.h"

#include <math.h>
#include <string.h>

static const double audio_rate = 40;  /* kB per second: 320 kbit/s */
static const double first_byte = 0.5; /* seconds until a track of which nothing is stored begins to arrive */
static const double outage_cycle = 300; /* seconds */
static const double step = 0.25;        /* seconds */

double heard_seconds(double duration, const tonearm_end *end) {
    switch (end->skip) {
        case TONEARM_SKIP_VERY_BRIEFLY:
            return fmin(8, duration);
        case TONEARM_SKIP_BRIEFLY:
            return fmin(25, duration);
        case TONEARM_SKIP_MOSTLY:
            return 0.6 * duration;
        default:
            return duration;
    }
}

/* How many seconds of a track, from its beginning, a policy wants to have stored by now. It knows what a
 * player knows: the place in the queue, the duration, how long it has played, and what the model said when
 * the playing track started. */
static double wanted_seconds(enum policy policy, const struct outlook *outlook, int place, double played) {
    const double duration = outlook->duration[place];
    double p = policy == POLICY_BLIND ? 0.5 : (double)outlook->probability[place];
    double wanted;
    if (policy == POLICY_ALWAYS) return place <= 1 ? duration : 0;
    if (policy == POLICY_ON_DEMAND) {
        wanted = place == 0 ? played + 10 : 0;
    } else if (place == 0) {
        /* Who skips does it early: what the model said fades over the first minute. */
        p *= fmax(0, 1 - played / 60);
        wanted = played + 10 + 50 * (1 - p);
    } else {
        /* Enough to start at once, after an outage too if it is likely to be heard. Only two tracks ahead. */
        wanted = place <= 2 ? 5 + 25 * (1 - p) : 0;
    }
    return fmin(wanted, duration);
}

/* One step of the link: the playing track first, then the queue in its order. */
static void fetch(struct prefetch *prefetch, const struct link_model *link, const struct outlook *outlook,
                  double played) {
    double budget = link->speed * step;
    for (int place = 0; place < outlook->places && budget > 0; ++place) {
        const double wanted = audio_rate * wanted_seconds(prefetch->policy, outlook, place, played);
        const double taken = fmin(budget, fmax(0, wanted - prefetch->stored[place]));
        prefetch->stored[place] += taken;
        prefetch->fetched += taken;
        budget -= taken;
    }
}

void prefetch_play(struct prefetch *prefetch, const struct link_model *link, const struct outlook *outlook,
                   double heard) {
    double played = 0, until_first_byte = prefetch->stored[0] > 0 ? 0 : first_byte;
    int stalled = 0;
    while (played < heard) {
        const int is_up = fmod(prefetch->clock, outage_cycle) < outage_cycle - link->outage;
        if (is_up && until_first_byte > 0)
            until_first_byte -= step;
        else if (is_up)
            fetch(prefetch, link, outlook, played);
        const double next = fmin(played + step, heard);
        if (prefetch->stored[0] + 1e-6 >= audio_rate * next) {
            played = next;
            stalled = 0;
        } else {
            prefetch->stalled += step;
            prefetch->stalls += !stalled;
            stalled = 1;
        }
        prefetch->clock += step;
    }
    prefetch->unheard += fmax(0, prefetch->stored[0] - audio_rate * heard);
    memmove(prefetch->stored, prefetch->stored + 1, (PLACES - 1) * sizeof prefetch->stored[0]);
    prefetch->stored[PLACES - 1] = 0;
}

void prefetch_leave(struct prefetch *prefetch) {
    for (int place = 0; place < PLACES; ++place) {
        prefetch->unheard += prefetch->stored[place];
        prefetch->stored[place] = 0;
    }
}
