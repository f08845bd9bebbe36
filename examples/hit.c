/* Predicts whether one track is a hit:  hit MODEL.tarm */
#include <math.h>
#include <stdio.h>
#include <tonearm/tonearm.h>

static const char *const columns[] = {"danceability", "energy",           "key",        "loudness",
                                      "mode",         "speechiness",      "valence",    "acousticness",
                                      "liveness",     "instrumentalness", "tempo",      "duration_ms",
                                      "sections",     "time_signature",   "chorus_hit", "decade"};
static const float track[] = {.72f, .78f, 1,   -5.4f,  1,  .05f, .64f, .11f,
                              .12f, 0,    118, 214000, 10, 4,    35,   2010};

int main(int argc, char **argv) {
    static uint32_t blob[4 << 20], scratch[1 << 14]; /* all the memory there is; words, so aligned */
    float row[64], out[1];
    uint32_t at;
    tonearm_model model;
    tonearm_info info = {.struct_size = sizeof info};
    FILE *file = fopen(argc > 1 ? argv[1] : "hit.tarm", "rb");
    size_t size = file ? fread(blob, 1, sizeof blob, file) : 0;

    tonearm_status status = tonearm_model_open(&model, blob, size, NULL, NULL);
    if (status == TONEARM_OK) status = tonearm_model_info(&model, &info);
    if (status != TONEARM_OK || info.columns > 64 || info.outputs != 1)
        return fprintf(stderr, "not a model of at most 64 columns: %s\n", tonearm_status_text(status)), 1;

    for (at = 0; at < 64; ++at) row[at] = NAN; /* missing, unless the track says otherwise */
    for (size_t i = 0; i < sizeof track / sizeof track[0]; ++i)
        if (tonearm_model_column(&model, columns[i], &at) == TONEARM_OK) row[at] = track[i];

    status = tonearm_evaluate(&model, row, info.columns, scratch, sizeof scratch, out);
    if (status != TONEARM_OK) return fprintf(stderr, "%s\n", tonearm_status_text(status)), 1;
    return printf("%s: P(hit) = %.4f\n", info.name, out[0]), 0;
}
