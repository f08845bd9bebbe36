/* One evening of listening, made up: a listener who likes it quiet, and skips most of what is loud. */
#ifndef TONEARM_EXAMPLE_RECORDING_H
#define TONEARM_EXAMPLE_RECORDING_H

#include <stdint.h>
#include <tonearm/tonearm.h>

struct play {
    uint64_t track; /* any well-mixed number that is always the same for this track */
    float duration; /* seconds, as `played` is */
    float release_year, popularity, energy, valence, acousticness, tempo;
    uint32_t start, end; /* each a tonearm_reason */
    uint32_t played;
};

#define RECORDING_BEGAN 1531677600 /* 2018-07-15, 18:00 UTC */

/* clang-format off */
static const struct play recording[] = {
    {0x9E3779B97F4A7C15u, 214, 2011, 99.1f, .31f, .42f, .71f,  92, TONEARM_REASON_CLICKROW, TONEARM_REASON_TRACKDONE, 214},
    {0x3C6EF372FE94F82Au, 187, 2016, 99.8f, .83f, .64f, .04f, 128, TONEARM_REASON_TRACKDONE, TONEARM_REASON_FWDBTN,     11},
    {0xDAA66D2C7DDF743Fu, 241, 2009, 97.5f, .28f, .25f, .82f,  78, TONEARM_REASON_FWDBTN,   TONEARM_REASON_TRACKDONE, 241},
    {0x78DDE6E5FD29F054u, 203, 2017, 99.9f, .91f, .71f, .01f, 140, TONEARM_REASON_TRACKDONE, TONEARM_REASON_FWDBTN,      6},
    {0x1715609F7C746C69u, 195, 2018, 99.7f, .88f, .55f, .02f, 124, TONEARM_REASON_FWDBTN,   TONEARM_REASON_FWDBTN,      4},
    {0xB54CDA58FBBEE87Eu, 262, 1998, 95.2f, .35f, .38f, .66f,  84, TONEARM_REASON_FWDBTN,   TONEARM_REASON_TRACKDONE, 262},
    {0x538454127B096493u, 231, 2003, 96.8f, .41f, .47f, .58f,  96, TONEARM_REASON_TRACKDONE, TONEARM_REASON_TRACKDONE, 231},
    {0xF1BBCDCBFA53E0A8u, 178, 2015, 99.3f, .79f, .81f, .11f, 118, TONEARM_REASON_TRACKDONE, TONEARM_REASON_FWDBTN,     22},
    {0x8FF34785799E5CBDu, 225, 2012, 98.0f, .45f, .33f, .49f, 101, TONEARM_REASON_FWDBTN,   TONEARM_REASON_TRACKDONE, 225},
    {0x2E2AC13EF8E8D8D2u, 209, 2018, 99.9f, .94f, .68f, .00f, 150, TONEARM_REASON_TRACKDONE, TONEARM_REASON_FWDBTN,      5},
    {0xCC623AF8783354E7u, 254, 1995, 94.4f, .22f, .19f, .90f,  70, TONEARM_REASON_FWDBTN,   TONEARM_REASON_TRACKDONE, 254},
    {0x6A99B4B1F77DD0FCu, 198, 2014, 98.9f, .52f, .50f, .37f, 108, TONEARM_REASON_TRACKDONE, TONEARM_REASON_ENDPLAY,    90},
};
/* clang-format on */

enum { PLAYS = sizeof recording / sizeof recording[0] };

#endif
