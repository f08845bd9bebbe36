/* What P(skip) is good for: fetching less of what will not be heard. A simulation of a link and a cache. */
#ifndef TONEARM_EXAMPLE_PREFETCH_H
#define TONEARM_EXAMPLE_PREFETCH_H

#include <tonearm/tonearm.h>

enum { QUEUE = 5, PLACES = 1 + QUEUE }; /* the playing track, and those behind it */

enum policy {
    POLICY_ALWAYS,    /* all of the playing track and of the next one, as soon as possible */
    POLICY_PREDICTED, /* the less, the likelier a track is skipped */
    POLICY_BLIND,     /* the same rule without a model: P(skip) is 50 % for every track */
    POLICY_ON_DEMAND, /* ten seconds ahead in the playing track, nothing of the next */
    POLICIES
};

struct link_model {
    double speed;  /* kB/s while it is up */
    double outage; /* seconds for which it is down at the end of every five minutes */
};

/* What a person sees while a track plays. Nothing in here tells how the track will end. */
struct outlook {
    int places;                /* how many of the arrays below are filled */
    double duration[PLACES];   /* seconds */
    float probability[PLACES]; /* of a skip */
};

struct prefetch {
    enum policy policy;
    double clock;
    double stored[PLACES];   /* kB that are there of the playing track, and of those behind it */
    double fetched, unheard; /* kB */
    double stalled;          /* seconds */
    long stalls;
};

/* Seconds of a track that were heard. The logs tell only how early it was skipped: these are stand-ins. */
double heard_seconds(double duration, const tonearm_end *end);

/* Plays a track for `heard` seconds while the policy fetches. */
void prefetch_play(struct prefetch *prefetch, const struct link_model *link, const struct outlook *outlook,
                   double heard);

/* The listener leaves: what is still stored will not be heard. */
void prefetch_leave(struct prefetch *prefetch);

#endif
