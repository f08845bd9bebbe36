/* Skip prediction on a microcontroller: a model in flash, a session in static memory, no heap. Replays what a
 * listener did one evening, and prints what the model said before each track ended, and what that took.
 *
 * model.h is the model: `tonearm export MODEL.tarm --c-array model.h --name skip`. */
#include <math.h>
#include <tonearm/tonearm.h>

#include "board.h"
#include "model.h"
#include "recording.h"

/* All the memory that predictions take, besides the stack. */
static tonearm_model model;
static uint32_t session_memory[SKIP_SESSION_BYTES / 4];
static uint32_t scratch[(SKIP_SCRATCH_BYTES + 3) / 4];
static tonearm_session *session;

enum { QUEUE = 3 };

/* ----------------------------------------------------------------------------------------- text */

static void write_number(uint64_t number, int digits) {
    char text[24], *at = text + sizeof text - 1;
    *at = 0;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
        --digits;
    } while (number > 0);
    while (digits-- > 0) *--at = ' ';
    board_write(at);
}

/* Four digits after the point. A network of float weights may say NaN; trees never do. */
static void write_probability(float probability) {
    if (!(probability >= 0 && probability <= 1)) {
        board_write("    ?  ");
        return;
    }
    const uint32_t share = (uint32_t)(probability * 10000 + 0.5f);
    char text[] = " 0.0000";
    text[1] = (char)('0' + share / 10000);
    for (uint32_t digit = 6, rest = share; digit > 2; --digit, rest /= 10)
        text[digit] = (char)('0' + rest % 10);
    board_write(text);
}

static void write_line(const char *first, const char *second) {
    board_write(first);
    board_write(second);
    board_write("\n");
}

/* With a model that opened, and correct arguments, none of the calls below fails. */
static void check(tonearm_status status, const char *doing) {
    if (status == TONEARM_OK) return;
    board_write(doing);
    write_line(": ", tonearm_status_text(status));
    board_exit(1);
}

/* ------------------------------------------------------------------------------------- what a call costs */

struct cost {
    const char *name;
    uint64_t ticks; /* of all calls */
    uint64_t most_ticks;
    uint32_t calls, stack;
};

static uint64_t began;

static void begin(void) {
    board_stack_mark();
    began = board_ticks();
}

static void end(struct cost *cost) {
    const uint64_t ticks = board_ticks() - began;
    const uint32_t stack = board_stack_used();
    cost->ticks += ticks;
    if (ticks > cost->most_ticks) cost->most_ticks = ticks;
    if (stack > cost->stack) cost->stack = stack;
    ++cost->calls;
}

/* Under `qemu -icount shift=0`, a nanosecond is an instruction. */
static uint64_t nanoseconds(uint64_t ticks) { return ticks * 1000000000u / board_ticks_per_second(); }

static void write_cost(const struct cost *cost) {
    if (cost->calls == 0) return;
    board_write("cost: ");
    board_write(cost->name);
    write_number(nanoseconds(cost->ticks / cost->calls), 9);
    board_write(" ns on average,");
    write_number(nanoseconds(cost->most_ticks), 9);
    board_write(" at most");
    if (cost->stack > 0) { /* it can be told */
        board_write(", stack");
        write_number(cost->stack, 6);
        board_write(" bytes");
    }
    board_write("\n");
}

/* ------------------------------------------------------------------------------------------ the player */

static void open(struct cost *cost) {
    tonearm_open_options options = {.struct_size = sizeof options, .session_limit = sizeof session_memory};
    tonearm_diagnostic diagnostic = {.struct_size = sizeof diagnostic};
    tonearm_info info = {.struct_size = sizeof info};
    begin();
    const tonearm_status status = tonearm_model_open(&model, skip, SKIP_BYTES, &options, &diagnostic);
    end(cost);
    if (status != TONEARM_OK) {
        char text[256];
        tonearm_diagnostic_text(&diagnostic, text, sizeof text);
        write_line("the model: ", text);
        board_exit(1);
    }
    check(tonearm_model_self_test(&model, scratch, sizeof scratch, NULL), "testing the model on this device");
    check(tonearm_model_info(&model, &info), "asking about the model");
    if (info.session_bytes == 0) {
        write_line("the model: ", "it has no sessions; export one of a recipe about skips");
        board_exit(1);
    }
    if (info.outputs != 1) {
        write_line("the model: ", "it does not answer with one probability");
        board_exit(1);
    }
    board_write(info.name);
    board_write(":");
    write_number(SKIP_BYTES, 6);
    board_write(" bytes of flash; session");
    write_number(sizeof session_memory, 5);
    board_write(", scratch");
    write_number(sizeof scratch, 5);
    write_line(" bytes of RAM", info.synthetic != 0 ? "; SYNTHETIC" : "");
    if (info.leaky != 0) write_line("LEAKY: ", "not for use in a player");
    check(tonearm_session_init(&model, session_memory, sizeof session_memory, &session),
          "beginning a session");
}

/* What is known of a track when it is in the queue. */
static void know_track(tonearm_track *track, const struct play *play) {
    tonearm_track_init(track, sizeof *track);
    track->track_id = play->track;
    track->duration = play->duration;
    track->popularity = play->popularity;
    track->release_year = play->release_year;
    track->energy = play->energy;
    track->valence = play->valence;
    track->acousticness = play->acousticness;
    track->tempo = play->tempo;
}

static void know_now(tonearm_now *now, int64_t time) {
    tonearm_now_init(now, sizeof *now);
    now->time = time;
    now->utc_offset = 7200;
    now->context_type = TONEARM_CONTEXT_USER_COLLECTION;
    now->is_shuffle = 1;
    now->premium = 1;
}

int main(void) {
    static struct cost opening = {.name = "open   "}, starting = {.name = "start  "},
                       playing = {.name = "playing"}, queueing = {.name = "queue  "},
                       ending = {.name = "end    "};
    static tonearm_track track, queue[QUEUE];
    static tonearm_now now;
    int64_t time = RECORDING_BEGAN;
    open(&opening);
    board_write("track  P(skip)  of the next three            played\n");
    for (uint32_t i = 0; i < PLAYS; ++i) {
        const struct play *play = &recording[i];

        /* The track starts. */
        tonearm_start start;
        tonearm_start_init(&start, sizeof start);
        start.reason = play->start;
        start.pause = TONEARM_PAUSE_NONE;
        start.context_switch = i == 0;
        know_track(&track, play);
        know_now(&now, time);
        begin();
        check(tonearm_track_start(&model, session, &track, &start, &now, scratch, sizeof scratch),
              "a track starts");
        end(&starting);

        /* Will it be skipped? */
        float probability, coming[QUEUE];
        tonearm_request request;
        tonearm_request_init(&request, sizeof request);
        request.kind = TONEARM_PLAYING;
        request.now = &now;
        begin();
        check(tonearm_predict(&model, session, &request, scratch, sizeof scratch, &probability), "asking");
        end(&playing);
        write_number(i + 1, 5);
        board_write("  ");
        write_probability(probability);
        board_write("  ");

        /* And those that come after it? */
        request.kind = TONEARM_QUEUE;
        request.candidates = queue;
        for (request.candidate_count = 0; request.candidate_count < QUEUE; ++request.candidate_count) {
            const uint32_t next = i + 1 + request.candidate_count;
            if (next == PLAYS) break;
            know_track(&queue[request.candidate_count], &recording[next]);
        }
        begin();
        check(tonearm_predict(&model, session, &request, scratch, sizeof scratch, coming),
              "asking about the queue");
        end(&queueing);
        for (uint32_t k = 0; k < QUEUE; ++k) {
            if (k < request.candidate_count)
                write_probability(coming[k]);
            else
                board_write("       ");
        }

        /* The track ends. */
        time += play->played;
        tonearm_end over;
        tonearm_end_init(&over, sizeof over);
        over.reason = play->end;
        over.ms_played = 1000 * (float)play->played;
        over.skip = play->played < 30 ? TONEARM_SKIP_VERY_BRIEFLY : TONEARM_SKIP_NOT_SKIPPED;
        over.time = time;
        begin();
        check(tonearm_track_end(&model, session, &over, scratch, sizeof scratch), "a track ends");
        end(&ending);
        write_number(play->played, 8);
        write_line(" s", play->played < 30 ? ", skipped" : "");
    }
    write_cost(&opening);
    write_cost(&starting);
    write_cost(&playing);
    write_cost(&queueing);
    write_cost(&ending);
    board_exit(0);
}
