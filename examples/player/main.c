/* An example of a player that uses Tonearm, without the music:
 *
 *     example_player MODEL.tarm LOG.csv --tracks TRACKS.csv     plays back a session of a log
 *     example_player MODEL.tarm --type                          takes the events from the keyboard
 *
 * All there is to see of Tonearm is in player.c; log.c reads files, prefetch.c simulates a network, and this
 * file plays back and draws. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "player.h"
#include "prefetch.h"

/* --------------------------------------------------------------------------------------- Drawing */

static const char *const upright[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
static const char *const lying[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};

/* A model of trees always answers from 0 to 1; others may say NaN, which is drawn as 0. */
static float shown(float probability) { return probability > 0 ? fminf(probability, 1) : 0; }

static int percent(double share) { return (int)(100 * share + 0.5); }

/* A bar of `width` characters for a probability, and the percentage. */
static void print_bar(float probability, int width) {
    const int eighths = (int)(shown(probability) * (float)(8 * width) + 0.5f);
    for (int i = 0; i < width; ++i) {
        const int rest = eighths - 8 * i;
        fputs(rest >= 8 ? "█" : rest > 0 ? lying[rest] : "·", stdout);
    }
    printf(" %3d %%", percent((double)shown(probability)));
}

static void print_small_bar(float probability) {
    const int height = (int)(shown(probability) * 8);
    printf(" %s%-3d", upright[height > 7 ? 7 : height], percent((double)shown(probability)));
}

/* The end of a long id tells tracks apart best. */
static void print_name(const char *name) {
    if (strncmp(name, "t_", 2) == 0 && name[2] != 0) name += 2;
    const size_t length = strlen(name);
    printf(length > 12 ? "~%-11s" : "%-12s", length > 12 ? name + length - 11 : name);
}

static const char *extent_of(const tonearm_end *end) {
    static const char *const extents[] = {"unknown",    "to the end", "nearly all",
                                          "most of it", "briefly",    "very briefly"};
    return extents[end->skip <= TONEARM_SKIP_VERY_BRIEFLY ? end->skip : 0];
}

static const char *verdict(float probability, float skipped) {
    return isnan(skipped) ? "" : (probability >= 0.5f) == (skipped == 1) ? "right" : "WRONG";
}

/* With what the log says of them, if these are tracks of a log. */
static void print_queue(const struct play *coming, size_t count, const float *probabilities) {
    static const char *const places[QUEUE] = {"next", "2nd", "3rd", "4th", "5th"};
    for (size_t i = 0; i < count; ++i) {
        printf("  %-5s ", places[i]);
        print_name(coming[i].name);
        fputs("  ", stdout);
        print_bar(probabilities[i], 40);
        if (coming[i].end.skip != TONEARM_SKIP_UNKNOWN) printf("  (played %s)", extent_of(&coming[i].end));
        putchar('\n');
    }
}

/* ---------------------------------------------------------------------------- Playing back a log */

struct options {
    const char *model, *log, *save, *restore;
    long session, until;
    struct link_model link;
    int all, type, numbers;
};

struct statistics {
    long sessions, tracks;
    struct {
        long asked, right, skipped;
    } place[PLACES]; /* of the playing track, and of those behind it */
    struct prefetch prefetch[POLICIES];
};

/* Asks about the playing track and those behind it. (The horizon of the last one is 6; the reference model
 * learned up to 5, and answers beyond as for 5.) */
static struct outlook look_ahead(struct player *player, const struct listening *listening, size_t playing) {
    tonearm_track coming[QUEUE];
    struct outlook outlook = {.places = 0};
    for (size_t i = playing; i < listening->count && outlook.places < PLACES; ++i) {
        const tonearm_track *track = &listening->plays[i].track;
        if (i > playing) coming[outlook.places - 1] = *track;
        const int is_plausible = track->duration > 0 && track->duration < 4 * 3600;
        outlook.duration[outlook.places++] = is_plausible ? (double)track->duration : 210;
    }
    player_ask(player, coming, (size_t)outlook.places - 1, &listening->plays[playing].now,
               outlook.probability);
    return outlook;
}

static void print_heading(const struct options *options, const struct listening *listening, size_t first) {
    const tonearm_now *now = &listening->plays[0].now;
    printf("Session %ld: %s, %zu tracks, %04u-%02u-%02u", options->session, listening->id, listening->count,
           now->date / 10000, now->date / 100 % 100, now->date % 100);
    if (first > 0) printf(", restored after track %zu", first);
    printf("\n\n%27s%-48s%s\n", "", "P(skip) when", "P(skip) of the queue");
    printf("%3s %-12s %-9s %-17s %-9s %-12s %6s %s\n", "#", "track", "started", "the track started", "ended",
           "played", "", "next  2nd  3rd  4th  5th");
}

static void print_play(const struct play *play, size_t position, const struct outlook *outlook,
                       float skipped) {
    printf("%3zu ", position);
    print_name(play->name);
    printf(" %-9.9s ", reason_word(play->start.reason));
    print_bar(outlook->probability[0], 10);
    printf("  %-9.9s %-12s %-5s ", reason_word(play->end.reason), extent_of(&play->end),
           verdict(outlook->probability[0], skipped));
    for (int i = 1; i < outlook->places; ++i) print_small_bar(outlook->probability[i]);
    putchar('\n');
}

/* For scripts: position, horizon and probability of every answer, so that the float comes back exactly. */
static void print_numbers(size_t position, const struct outlook *outlook) {
    for (int i = 0; i < outlook->places; ++i)
        printf("%zu,%d,%.9g\n", position, i + 1, (double)outlook->probability[i]);
}

static void play_back(struct player *player, const struct options *options, const struct listening *listening,
                      size_t first, struct statistics *statistics) {
    const size_t until = options->until > 0 && (size_t)options->until < listening->count
                             ? (size_t)options->until
                             : listening->count;
    const int shows = !options->all && !options->numbers;
    struct outlook outlooks[PLACES]; /* of the last few tracks: what they had to say about this one */
    if (shows) print_heading(options, listening, first);
    for (size_t i = first; i < until; ++i) {
        const struct play *play = &listening->plays[i];
        player_start(player, play);
        struct outlook outlook = look_ahead(player, listening, i);
        const float skipped = player_end(player, &play->end);

        if (shows) print_play(play, i + 1, &outlook, skipped);
        if (options->numbers) print_numbers(i + 1, &outlook);
        /* Now that it is over: was it foreseen, and when? */
        outlooks[i % PLACES] = outlook;
        for (size_t ago = 0; ago < PLACES && ago <= i - first && !isnan(skipped); ++ago) {
            const float said = outlooks[(i - ago) % PLACES].probability[ago];
            ++statistics->place[ago].asked;
            statistics->place[ago].right += (said >= 0.5f) == (skipped == 1);
            statistics->place[ago].skipped += skipped == 1;
        }
        for (int policy = 0; policy < POLICIES; ++policy)
            prefetch_play(&statistics->prefetch[policy], &options->link, &outlook,
                          heard_seconds(outlook.duration[0], &play->end));
        ++statistics->tracks;
    }
    for (int policy = 0; policy < POLICIES; ++policy) prefetch_leave(&statistics->prefetch[policy]);
    ++statistics->sessions;

    const size_t left = listening->count - until, count = left < QUEUE ? left : QUEUE;
    if (shows && count > 0) {
        tonearm_track coming[QUEUE];
        float probabilities[QUEUE];
        for (size_t i = 0; i < count; ++i) coming[i] = listening->plays[until + i].track;
        player_ask(player, coming, count, &listening->plays[until - 1].now, probabilities);
        printf("\nThe queue after track %zu\n", until);
        print_queue(listening->plays + until, count, probabilities);
    }
    if (options->save != NULL) player_save(player, options->save, listening->id, until);
}

static void print_statistics(const struct statistics *statistics, const struct options *options) {
    static const char *const places[PLACES] = {"playing", "next", "2nd", "3rd", "4th", "5th"};
    static const char *const policies[POLICIES] = {"always: the whole playing and next track", "by P(skip)",
                                                   "the same rule, P(skip) = 50 % always",
                                                   "on demand: ten seconds ahead"};
    printf("\n%ld tracks of %ld session%s. Foreseen (a skip at 50 %% or more):\n", statistics->tracks,
           statistics->sessions, statistics->sessions == 1 ? "" : "s");
    for (int i = 0; i < PLACES; ++i)
        if (statistics->place[i].asked > 0)
            printf("  %-8s %3d %% of %ld right; %d %% were skips\n", places[i],
                   percent((double)statistics->place[i].right / (double)statistics->place[i].asked),
                   statistics->place[i].asked,
                   percent((double)statistics->place[i].skipped / (double)statistics->place[i].asked));

    printf(
        "\nPrefetching, simulated: audio of 40 kB/s; a link of %.0f kB/s, half a second to the first byte of "
        "a\n"
        "track, down for %.0f s every five minutes. Skipped tracks were heard for 8 s, 25 s or 60 %% of "
        "them\n"
        "(the log has no times).\n\n",
        options->link.speed, options->link.outage);
    printf("%52s %9s %8s  %s\n%52s %9s %8s\n", "MB", "MB never", "less", "stalls", "fetched", "heard",
           "fetched");
    for (int i = 0; i < POLICIES; ++i) {
        const struct prefetch *prefetch = &statistics->prefetch[i];
        const double all = statistics->prefetch[POLICY_ALWAYS].fetched;
        printf("  %-40s %9.1f %9.1f %6.1f %% %6ld, %.0f s\n", policies[i], prefetch->fetched / 1000,
               prefetch->unheard / 1000, all > 0 ? 100 * (1 - prefetch->fetched / all) : 0, prefetch->stalls,
               prefetch->stalled);
    }
}

static void play_log(struct player *player, const struct options *options,
                     const struct catalogue *catalogue) {
    static struct log log;
    static struct listening listening;
    static struct statistics statistics;
    for (int i = 0; i < POLICIES; ++i) statistics.prefetch[i].policy = (enum policy)i;
    log_open(&log, options->log, catalogue);
    for (long number = 1; log_next(&log, &listening); ++number) {
        if (!options->all && number < options->session) continue;
        /* The logs do not say when sessions took place, so the model cannot see where one begins. */
        player_reset(player);
        size_t first = 0;
        if (options->restore != NULL) {
            first = player_restore(player, options->restore, listening.id);
            if (first >= listening.count || (options->until > 0 && first >= (size_t)options->until))
                fail("%s was saved after track %zu: no track is left to be played", options->restore, first);
        }
        play_back(player, options, &listening, first, &statistics);
        if (!options->all) break;
    }
    if (statistics.sessions == 0) fail("%s has fewer than %ld sessions", options->log, options->session);
    if (!options->numbers && options->until == 0) print_statistics(&statistics, options);
}

/* --------------------------------------------------------------------------------- Typing events */

/* The moment, as a player knows it: Tonearm derives the local hour and date, and sees long breaks. */
static tonearm_now this_moment(void) {
    tonearm_now now;
    tonearm_now_init(&now, sizeof now);
    const time_t seconds = time(NULL);
    struct tm universal = *gmtime(&seconds);
    universal.tm_isdst = -1; /* mktime takes it for local time, so the difference is the offset */
    now.time = (int64_t)seconds;
    now.utc_offset = (int32_t)difftime(seconds, mktime(&universal));
    return now;
}

static const char usage_of_types[] =
    "start TRACK REASON [SECONDS LONG] | end REASON [MILLISECONDS PLAYED] | queue TRACK... | quit\n"
    "reasons: trackdone fwdbtn backbtn clickrow appload playbtn remote trackerror endplay logout ...";

struct typing {
    const struct catalogue *catalogue;
    struct play playing, coming[QUEUE];
    size_t queued, played;
};

static void print_typed(struct player *player, const struct typing *typing) {
    tonearm_track coming[QUEUE];
    float probabilities[PLACES], *next = probabilities;
    const tonearm_now moment = this_moment();
    for (size_t i = 0; i < typing->queued; ++i) coming[i] = typing->coming[i].track;
    player_ask(player, coming, typing->queued, &moment, probabilities);
    if (player_info(player).playing) {
        fputs("  plays ", stdout);
        print_name(typing->playing.name);
        fputs("  ", stdout);
        print_bar(*next++, 40);
        putchar('\n');
    }
    print_queue(typing->coming, typing->queued, next);
}

static void type_start(struct player *player, struct typing *typing, const char *track, const char *reason,
                       const char *seconds) {
    if (track == NULL || reason == NULL) {
        puts("start needs a track and a reason, like: start some-song clickrow 180");
    } else if (reason_of(reason) == 0) {
        printf(
            "'%s' is not a reason; there are trackdone, fwdbtn, backbtn, clickrow, appload, playbtn, ...\n",
            reason);
    } else {
        char *rest = NULL;
        const float duration = seconds == NULL ? NAN : strtof(seconds, &rest);
        if (seconds != NULL && (*rest != 0 || !(duration > 0))) {
            printf("'%s' is not how many seconds a track is long\n", seconds);
            return;
        }
        if (player_info(player).playing) puts("(the track before ends, nobody knows how)");
        struct play *play = &typing->playing;
        snprintf(play->name, sizeof play->name, "%s", track);
        catalogue_look_up(typing->catalogue, play->name, &play->track);
        if (seconds != NULL) play->track.duration = duration;
        play->now = this_moment();
        tonearm_start_init(&play->start, sizeof play->start);
        play->start.reason = reason_of(reason);
        /* Typing is no pause: the listener of the story went straight on. */
        if (player_info(player).ended > 0) play->start.pause = TONEARM_PAUSE_NONE;
        player_start(player, play);
        for (size_t i = 0; i < typing->queued;
             ++i) /* what plays is no longer queued, nor what was before it */
            if (typing->coming[i].track.track_id == play->track.track_id) {
                typing->queued -= i + 1;
                memmove(typing->coming, typing->coming + i + 1, typing->queued * sizeof typing->coming[0]);
                break;
            }
        print_typed(player, typing);
    }
}

static void type_end(struct player *player, struct typing *typing, const char *reason, const char *played) {
    char *rest = NULL;
    tonearm_end end;
    tonearm_end_init(&end, sizeof end);
    if (played != NULL) end.ms_played = strtof(played, &rest);
    if (!player_info(player).playing) {
        puts("nothing plays: start a track first");
    } else if (reason == NULL) {
        puts("end needs a reason, like: end fwdbtn 12000");
    } else if ((end.reason = reason_of(reason)) == 0) {
        printf("'%s' is not a reason; there are trackdone, fwdbtn, backbtn, clickrow, endplay, logout, ...\n",
               reason);
    } else if (played != NULL && (*rest != 0 || !(end.ms_played >= 0))) {
        printf("'%s' is not how many milliseconds were played\n", played);
    } else {
        end.time = this_moment().time;
        const float skipped = player_end(player, &end);
        ++typing->played;
        puts(isnan(skipped)
                 ? "  whether that was a skip depends on how long the track is and was played: unknown"
             : skipped == 1 ? "  that was a skip"
                            : "  that was no skip");
        print_typed(player, typing);
    }
}

static void type_queue(struct player *player, struct typing *typing) {
    const char *track;
    typing->queued = 0;
    for (; (track = strtok(NULL, " \t\r\n")) != NULL; ++typing->queued) {
        if (typing->queued == QUEUE) {
            printf("only the first %d tracks are shown\n", QUEUE);
            break;
        }
        struct play *play = &typing->coming[typing->queued];
        snprintf(play->name, sizeof play->name, "%s", track);
        catalogue_look_up(typing->catalogue, play->name, &play->track);
    }
    if (typing->queued == 0) puts("the queue is empty; to fill it: queue some-song another-song");
    print_typed(player, typing);
}

static void type_events(struct player *player, const struct options *options,
                        const struct catalogue *catalogue) {
    static struct typing typing;
    typing.catalogue = catalogue;
    if (options->restore != NULL) {
        typing.played = player_restore(player, options->restore, "(typed)");
        if (player_info(player).playing)
            snprintf(typing.playing.name, sizeof typing.playing.name, "(restored)");
    }
    puts(usage_of_types);
    char line[1024];
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strchr(line, '\n') == NULL && !feof(stdin)) {
            for (int c = 0; c != '\n' && c != EOF;) c = getchar();
            puts("that line is too long");
            continue;
        }
        const char *verb = strtok(line, " \t\r\n");
        if (verb == NULL) continue;
        if (strcmp(verb, "quit") == 0) break;
        if (strcmp(verb, "queue") == 0) {
            type_queue(player, &typing);
            continue;
        }
        const char *words[4]; /* one more than any line takes */
        for (int i = 0; i < 4; ++i) words[i] = strtok(NULL, " \t\r\n");
        const int is_start = strcmp(verb, "start") == 0;
        if (!is_start && strcmp(verb, "end") != 0)
            printf("'%s' is not known; there are start, end, queue and quit\n", verb);
        else if (words[is_start ? 3 : 2] != NULL)
            printf("'%s' is one word too many\n", words[is_start ? 3 : 2]);
        else if (is_start)
            type_start(player, &typing, words[0], words[1], words[2]);
        else
            type_end(player, &typing, words[0], words[1]);
    }
    if (options->save != NULL) player_save(player, options->save, "(typed)", typing.played);
}

/* --------------------------------------------------------------------------------------- Options */

static const char usage_text[] =
    "usage: example_player MODEL.tarm LOG.csv [--tracks FILE]... [--session N | --all] [--until K]\n"
    "       example_player MODEL.tarm --type [--tracks FILE]...\n"
    "\n"
    "Plays back a session of an MSSD log (log_*.csv), or takes events from the keyboard, and says how "
    "likely\n"
    "each track will be skipped.\n"
    "\n"
    "  --tracks FILE   facts about the tracks: tf_*.csv\n"
    "  --session N     the N-th session of the log; the first if not given\n"
    "  --all           all sessions: statistics only\n"
    "  --until K       stop after track K and show the queue; no statistics\n"
    "  --save FILE     save the session when done\n"
    "  --restore FILE  go on with a saved session\n"
    "  --link KB       speed of the simulated link in kB/s; 200 if not given\n"
    "  --outage S      for how many seconds it is down every five minutes; 30 if not given\n"
    "  --numbers       print only position, horizon and probability, for scripts\n"
    "  --type          take events from the keyboard\n";

static void wrong_usage(const char *what, const char *value) {
    fprintf(stderr, "player: %s%s; see --help\n", what, value);
    exit(2);
}

static double number_of(const char *option, const char *text, double least, double most) {
    char *rest;
    const double value = strtod(text, &rest);
    if (*text == 0 || *rest != 0 || !(value >= least && value <= most)) {
        fprintf(stderr, "player: %s should be a number from %g to %g, not '%s'; see --help\n", option, least,
                most, text);
        exit(2);
    }
    return value;
}

static const char *value_of(char **argv, int *at) {
    if (argv[*at + 1] == NULL) wrong_usage("a value is missing after ", argv[*at]);
    return argv[++*at];
}

static struct options parse(char **argv, struct catalogue *catalogue) {
    struct options options = {.link = {.speed = 200, .outage = 30}};
    const char *tables[64];
    size_t table_count = 0;
    for (int i = 1; argv[i] != NULL; ++i) {
        const char *option = argv[i];
        if (strcmp(option, "--help") == 0) {
            fputs(usage_text, stdout);
            exit(0);
        } else if (strcmp(option, "--all") == 0) {
            options.all = 1;
        } else if (strcmp(option, "--type") == 0) {
            options.type = 1;
        } else if (strcmp(option, "--numbers") == 0) {
            options.numbers = 1;
        } else if (strcmp(option, "--tracks") == 0) {
            if (table_count == sizeof tables / sizeof tables[0]) wrong_usage("too many files of tracks", "");
            tables[table_count++] = value_of(argv, &i);
        } else if (strcmp(option, "--session") == 0) {
            options.session = (long)number_of(option, value_of(argv, &i), 1, 1e9);
        } else if (strcmp(option, "--until") == 0) {
            options.until = (long)number_of(option, value_of(argv, &i), 1, 1e9);
        } else if (strcmp(option, "--save") == 0) {
            options.save = value_of(argv, &i);
        } else if (strcmp(option, "--restore") == 0) {
            options.restore = value_of(argv, &i);
        } else if (strcmp(option, "--link") == 0) {
            options.link.speed = number_of(option, value_of(argv, &i), 1, 1e6);
        } else if (strcmp(option, "--outage") == 0) {
            options.link.outage = number_of(option, value_of(argv, &i), 0, 299);
        } else if (option[0] == '-') {
            wrong_usage("unknown option: ", option);
        } else if (options.model == NULL) {
            options.model = option;
        } else if (options.log == NULL) {
            options.log = option;
        } else {
            wrong_usage("one argument too many: ", option);
        }
    }
    if (options.model == NULL) wrong_usage("a model is missing", "");
    if ((options.log == NULL) != options.type) wrong_usage("either a log or --type is needed", "");
    if (options.type && (options.all || options.numbers || options.session > 0 || options.until > 0))
        wrong_usage("--type goes with none of --all, --session, --until and --numbers", "");
    if (options.all &&
        (options.session > 0 || options.until > 0 || options.save != NULL || options.restore != NULL))
        wrong_usage("--all goes with none of --session, --until, --save and --restore", "");
    if (options.session == 0) options.session = 1;
    for (size_t i = 0; i < table_count; ++i) catalogue_read(catalogue, tables[i]);
    return options;
}

int main(int argc, char **argv) {
    (void)argc; /* argv ends with NULL */
    static struct player player;
    static struct catalogue catalogue;
    const struct options options = parse(argv, &catalogue);
    player_open(&player, options.model);

    const tonearm_info info = player_model_info(&player);
    if (!options.numbers)
        printf("%s, %u bytes%s%s; a skip: %s\n", info.name, info.blob_bytes,
               info.synthetic ? ", trained on GENERATED sessions" : "",
               info.leaky ? ", LEAKY: not for use in a player" : "", info.label);
    if (options.type)
        type_events(&player, &options, &catalogue);
    else
        play_log(&player, &options, &catalogue);
    free(catalogue.tracks);
    return 0;
}
