/* tonearm-profile: what a model costs on the device that this runs on. Needs Tonearm's runtime and the C library only. */
#include <errno.h>
#include <log.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "workload.h"

static const char usage_text[] =
    "usage: tonearm-profile MODEL.tarm [options]\n"
    "\n"
    "Measures what every call and every operator of a model costs on this device, warm and cold. MODEL.tarm "
    "may be\n"
    "- for standard input: ssh device tonearm-profile - --json - < model.tarm > device.json\n"
    "\n"
    "  --session LOG   of a session model: a listening log, log_*.csv; without it, made-up sessions\n"
    "  --tracks FILE   facts about its tracks, tf_*.csv, where the log has none; may be given several times\n"
    "  --rows CSV      of a table model: rows, columns found by name; without it, those that the model "
    "holds\n"
    "  --json FILE     write everything as JSON; - is standard output, then without the table\n"
    "  --runs N        warm measurements of each part; 2000 if not given\n"
    "  --cold-runs N   cold ones; 31 if not given\n"
    "  --queue N       tracks of the queue that is asked about; 20 if not given\n"
    "  --evict MB      memory written before each cold measurement; 0: measure nothing cold; if not given, "
    "twice\n"
    "                  the last-level cache, at least 16 and at most 96\n"
    "  --cpu NAME      the kernels: scalar, ssse3, avx2, avx512, neon, neon-dot, dsp; the best that there "
    "are if not\n"
    "                  given\n"
    "  --device TEXT   what to call this device\n"
    "\n"
    "Exit status: 0 done, 1 the input is at fault, 2 wrong usage.\n";

#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
static void
wrong_usage(const char *pattern, ...) {
    va_list values;
    va_start(values, pattern);
    fprintf(stderr, "%s: ", program_name);
    vfprintf(stderr, pattern, values);
    fputs("; see --help\n", stderr);
    va_end(values);
    exit(2);
}

struct options {
    const char *model, *session, *rows, *json;
    char **tables; /* as many as there may be */
    int table_count;
    uint32_t cpu;
    struct profile_settings settings;
};

static uint64_t number_of(const char *option, const char *text, uint64_t least, uint64_t most) {
    char *rest;
    errno = 0;
    const unsigned long long value = strtoull(text, &rest, 10);
    if (*text < '0' || *text > '9' || *rest != 0 || errno != 0 || value < least || value > most)
        wrong_usage("%s should be a whole number from %llu to %llu, not '%s'", option,
                    (unsigned long long)least, (unsigned long long)most, text);
    return value;
}

static void parse(int argc, char **argv, struct options *options) {
    options->settings.warm_runs = 2000;
    options->settings.cold_runs = 31;
    options->settings.queue = 20;
    options->settings.evict_bytes = profile_evict_bytes();
    options->tables = calloc((size_t)argc, sizeof *options->tables);
    if (options->tables == NULL) fail("not enough memory");
    for (int i = 1; i < argc; ++i) {
        const char *option = argv[i];
        if (strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0) {
            fputs(usage_text, stdout);
            exit(0);
        }
        if (strcmp(option, "--version") == 0) {
            printf("tonearm-profile %d.%d.%d\n", TONEARM_VERSION_MAJOR, TONEARM_VERSION_MINOR,
                   TONEARM_VERSION_PATCH);
            exit(0);
        }
        if (option[0] != '-' || option[1] == 0) {
            if (options->model != NULL) wrong_usage("one argument too many: '%s'", option);
            options->model = option;
            continue;
        }
        static const char *const known[] = {"--session",   "--tracks", "--rows",  "--json", "--runs",
                                            "--cold-runs", "--queue",  "--evict", "--cpu",  "--device"};
        size_t which = 0;
        while (which < sizeof known / sizeof known[0] && strcmp(known[which], option) != 0) ++which;
        if (which == sizeof known / sizeof known[0]) wrong_usage("there is no option '%s'", option);
        if (i + 1 == argc) wrong_usage("%s needs a value", option);
        char *value = argv[++i];
        switch (which) {
            case 0:
                options->session = value;
                break;
            case 1:
                options->tables[options->table_count++] = value;
                break;
            case 2:
                options->rows = value;
                break;
            case 3:
                options->json = value;
                break;
            case 4:
                options->settings.warm_runs = (uint32_t)number_of(option, value, 1, 1000000);
                break;
            case 5:
                options->settings.cold_runs = (uint32_t)number_of(option, value, 0, 1000000);
                break;
            case 6:
                options->settings.queue = (uint32_t)number_of(option, value, 0, 1000);
                break;
            case 7:
                options->settings.evict_bytes = number_of(option, value, 0, 4096) << 20;
                break;
            case 8:
                options->cpu = profile_cpu_of(value);
                if (options->cpu == 0) wrong_usage("--cpu: there are no kernels called '%s'", value);
                break;
            default:
                options->settings.device_name = value;
                break;
        }
    }
    if (options->model == NULL) wrong_usage("a model is missing");
    if (options->table_count > 0 && options->session == NULL)
        wrong_usage("--tracks has no effect without --session");
}

/* The whole of a file, or of standard input. */
static void *read_bytes(const char *path, size_t *size) {
    const int piped = strcmp(path, "-") == 0;
    FILE *file = piped ? stdin : fopen(path, "rb");
    const char *name = piped ? "standard input" : path;
    if (file == NULL) fail("%s cannot be opened: %s", path, strerror(errno));
    size_t room = 1 << 16;
    unsigned char *bytes = malloc(room);
    for (*size = 0; bytes != NULL;) {
        *size += fread(bytes + *size, 1, room - *size, file);
        if (*size < room) break;
        room *= 2;
        bytes = room > (size_t)1 << 31 ? NULL : realloc(bytes, room);
    }
    if (bytes == NULL) fail("%s does not fit into memory", name);
    if (ferror(file)) fail("%s cannot be read: %s", name, strerror(errno));
    if (!piped) fclose(file);
    /* Where a mapped file would lie, so that networks are as fast as there. */
    void *aligned = NULL;
    if (posix_memalign(&aligned, 4096, *size + 1) != 0) fail("%s does not fit into memory", name);
    memcpy(aligned, bytes, *size);
    free(bytes);
    return aligned;
}

/* A file is written under another name and then renamed, so that there is never half of one; a device is written to. */
static void write_json(const struct profile *profile, const char *path) {
    struct stat about;
    const int renamed = strcmp(path, "-") != 0 && (stat(path, &about) != 0 || S_ISREG(about.st_mode));
    const size_t size = strlen(path) + 32;
    char *written = malloc(size);
    if (written == NULL) fail("not enough memory");
    if (renamed)
        snprintf(written, size, "%s.%ld.tmp", path, (long)getpid());
    else
        snprintf(written, size, "%s", path);
    FILE *file = strcmp(path, "-") == 0 ? stdout : fopen(written, "w");
    if (file == NULL) fail("%s cannot be written: %s", path, strerror(errno));
    profile_write_json(profile, file);
    int failed = fflush(file) != 0 || ferror(file);
    /* Else a power cut after the renaming might leave an empty file. */
    if (renamed && fsync(fileno(file)) != 0) failed = 1;
    if (file != stdout && fclose(file) != 0) failed = 1;
    if (!failed && renamed && rename(written, path) != 0) failed = 1;
    if (failed) {
        const int error = errno;
        if (renamed) remove(written);
        fail("%s cannot be written: %s", path, strerror(error));
    }
    free(written);
}

int main(int argc, char **argv) {
    enum { MOST_TRACKS = 2000, MOST_ROWS = 5000 };
    static struct options options;
    static struct workload workload;
    static struct profile profile;
    program_name = "tonearm-profile";
    parse(argc, argv, &options);

    size_t size;
    void *blob = read_bytes(options.model, &size);
    tonearm_model model;
    tonearm_diagnostic diagnostic = {0};
    diagnostic.struct_size = sizeof diagnostic;
    tonearm_open_options opening = {0};
    opening.struct_size = sizeof opening;
    opening.cpu = options.cpu;
    if (tonearm_model_open(&model, blob, size, &opening, &diagnostic) != TONEARM_OK) {
        char text[300];
        tonearm_diagnostic_text(&diagnostic, text, sizeof text);
        fail("%s: %s", strcmp(options.model, "-") == 0 ? "standard input" : options.model, text);
    }
    tonearm_info info = {0};
    info.struct_size = sizeof info;
    if (options.cpu != 0 && tonearm_model_info(&model, &info) == TONEARM_OK && info.cpu != options.cpu)
        fail("--cpu: this processor has no %s kernels; leave --cpu away, or take scalar",
             profile_cpu_name(options.cpu));
    if (tonearm_session_size(&model) > 0) {
        if (options.rows != NULL) fail("the model is one of sessions: give --session, not --rows");
        if (options.session != NULL)
            workload_of_log(options.session, options.tables, options.table_count, MOST_TRACKS, &workload);
        else
            workload_made_up(&workload);
    } else {
        if (options.session != NULL) fail("the model is one of a table: give --rows, not --session");
        if (options.rows != NULL)
            workload_of_rows(&model, options.rows, MOST_ROWS, &workload);
        else
            snprintf(workload.source, sizeof workload.source,
                     "the rows that the model holds for its self-test");
    }
    const char *wrong = profile_measure(&model, blob, &workload, &options.settings, &profile);
    if (wrong != NULL) fail("%s", wrong);
    if (options.json == NULL || strcmp(options.json, "-") != 0) profile_print(&profile, stdout);
    if (options.json != NULL) write_json(&profile, options.json);
    if (fflush(stdout) != 0 || ferror(stdout)) fail("standard output cannot be written to");
    profile_free(&profile);
    free(blob);
    return 0;
}
