// SPDX-License-Identifier: Apache-2.0
// Options, the list of tests, and the report.
#include <fnmatch.h>
#include <getopt.h>
#include <time.h>

#include "runner.h"

struct options options = {.source = SOURCE_MEMFD, .repeat = 1, .seed = 1, .timeout = 60};
enum mode current_mode;

extern const struct test* const __start_suite_tests[];
extern const struct test* const __stop_suite_tests[];

static const struct {
    enum mode mode;
    const char* name;
} modes[] = {{MODE_API, "api"},   {MODE_SELF, "self"},   {MODE_REMOTE, "remote"},
             {MODE_LAZY, "lazy"}, {MODE_PLAIN, "plain"}, {MODE_FINAL, "final"}};
enum { MODES = sizeof modes / sizeof *modes };

static const char* source_name(void) {
    return options.source == SOURCE_MEMFD  ? "memfd"
           : options.source == SOURCE_COPY ? "copy"
                                           : "dax";
}

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static int by_place(const void* left, const void* right) {
    const struct test* const a = *(const struct test* const*)left;
    const struct test* const b = *(const struct test* const*)right;
    const int files = strcmp(a->file, b->file);
    return files ? files : a->line - b->line;
}

static void usage(FILE* out) {
    fputs(
        "usage: pseudo_mm_test [options]\n"
        "  --list                    names of the tests and their modes\n"
        "  --source SOURCE           memfd (default), copy, or dax:/dev/daxX.Y\n"
        "  --mode MODE[,MODE...]     api, self, remote, lazy, final; plain needs no module\n"
        "                            (default: api,self,remote,lazy;\n"
        "                            with --module also final)\n"
        "  --filter GLOB             tests whose name matches, for example 'fork.*'\n"
        "  --quick                   leave out the slow ones\n"
        "  --allow-skips             what the machine lacks is no failure\n"
        "  --repeat N  --seed S  --timeout SECONDS (of one test)\n"
        "  --block-device PATH       scratch device for O_DIRECT; its contents are lost\n"
        "  --module FILE             pseudo_mm.ko, to load it again after the removal test\n"
        "  --fail-nth                sweep allocation failures over every ioctl, then exit\n"
        "  --fuzz SECONDS            random calls, then exit\n",
        out);
}

static unsigned parse_modes(const char* text) {
    unsigned result = 0;
    char copy[128];
    snprintf(copy, sizeof copy, "%s", text);
    for (char* word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
        unsigned found = 0;
        for (int i = 0; i < MODES; i++)
            if (!strcmp(word, modes[i].name)) found = modes[i].mode;
        if (!found) {
            fprintf(stderr, "pseudo_mm_test: unknown mode: %s\n", word);
            exit(2);
        }
        result |= found;
    }
    return result;
}

static void parse_source(const char* text) {
    if (!strcmp(text, "memfd")) {
        options.source = SOURCE_MEMFD;
    } else if (!strcmp(text, "copy")) {
        options.source = SOURCE_COPY;
    } else if (!strncmp(text, "dax:", 4)) {
        options.source = SOURCE_DAX;
        options.dax = text + 4;
    } else {
        fprintf(stderr, "pseudo_mm_test: unknown source: %s\n", text);
        exit(2);
    }
}

static void list(const struct test** tests, size_t count) {
    for (size_t i = 0; i < count; i++) {
        printf("%-32s", tests[i]->name);
        for (int m = 0; m < MODES; m++)
            if (tests[i]->modes & modes[m].mode) printf(" %s", modes[m].name);
        puts(tests[i]->slow ? " (slow)" : "");
    }
}

static bool parse(int argc, char** argv) {
    enum {
        LIST = 1000,
        SOURCE,
        MODE,
        FILTER,
        QUICK,
        ALLOW_SKIPS,
        REPEAT,
        SEED,
        TIMEOUT,
        BLOCK,
        MODULE,
        NTH,
        FUZZ,
        HELP
    };
    static const struct option long_options[] = {{"list", no_argument, NULL, LIST},
                                                 {"source", required_argument, NULL, SOURCE},
                                                 {"mode", required_argument, NULL, MODE},
                                                 {"filter", required_argument, NULL, FILTER},
                                                 {"quick", no_argument, NULL, QUICK},
                                                 {"allow-skips", no_argument, NULL, ALLOW_SKIPS},
                                                 {"repeat", required_argument, NULL, REPEAT},
                                                 {"seed", required_argument, NULL, SEED},
                                                 {"timeout", required_argument, NULL, TIMEOUT},
                                                 {"block-device", required_argument, NULL, BLOCK},
                                                 {"module", required_argument, NULL, MODULE},
                                                 {"fail-nth", no_argument, NULL, NTH},
                                                 {"fuzz", required_argument, NULL, FUZZ},
                                                 {"help", no_argument, NULL, HELP},
                                                 {NULL, 0, NULL, 0}};
    bool only_list = false;
    for (int option; (option = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        switch (option) {
            case LIST:
                only_list = true;
                break;
            case SOURCE:
                parse_source(optarg);
                break;
            case MODE:
                options.modes = parse_modes(optarg);
                break;
            case FILTER:
                options.filter = optarg;
                break;
            case QUICK:
                options.quick = true;
                break;
            case ALLOW_SKIPS:
                options.allow_skips = true;
                break;
            case REPEAT:
                options.repeat = (unsigned)strtoul(optarg, NULL, 0);
                break;
            case SEED:
                options.seed = strtoull(optarg, NULL, 0);
                break;
            case TIMEOUT:
                options.timeout = (unsigned)strtoul(optarg, NULL, 0);
                break;
            case BLOCK:
                options.block_device = optarg;
                break;
            case MODULE:
                options.module = optarg;
                break;
            case NTH:
                options.fail_nth = true;
                break;
            case FUZZ:
                options.fuzz_seconds = (unsigned)strtoul(optarg, NULL, 0);
                break;
            case HELP:
                usage(stdout);
                exit(0);
            default:
                usage(stderr);
                exit(2);
        }
    }
    if (optind != argc) {
        usage(stderr);
        exit(2);
    }
    if (!options.modes)
        options.modes =
            MODE_API | MODE_SELF | MODE_REMOTE | MODE_LAZY | (options.module ? MODE_FINAL : 0);
    return only_list;
}

struct totals {
    unsigned passed, failed, skipped;
};

static void report(struct totals* totals, enum outcome outcome, const char* name, const char* mode,
                   const char* message, double seconds) {
    const unsigned number = totals->passed + totals->failed + totals->skipped + 1;
    char where[64];
    if (current_mode == MODE_PLAIN) {
        snprintf(where, sizeof where, "%s", mode);
    } else {
        snprintf(where, sizeof where, "%s, %s", mode, source_name());
    }
    switch (outcome) {
        case PASSED:
            totals->passed++;
            printf("ok %u - %s (%s) %.2fs\n", number, name, where, seconds);
            break;
        case SKIPPED:
            totals->skipped++;
            printf("ok %u - %s (%s) # SKIP %s\n", number, name, where, message);
            break;
        case FAILED:
            totals->failed++;
            printf("not ok %u - %s (%s)\n# %s\n", number, name, where, message);
            break;
    }
    fflush(stdout);
}

static void run_one(struct totals* totals, const struct test* test, const char* mode) {
    char message[1024] = "";
    const double start = now();
    state_begin();
    enum outcome outcome =
        run_process(test->run, test->timeout > options.timeout ? test->timeout : options.timeout,
                    message, sizeof message);
    char after[512];
    if (!state_end(after, sizeof after)) {
        const size_t used = outcome == FAILED ? strlen(message) : 0;
        if (used < sizeof message - 100)
            snprintf(message + used, sizeof message - used, "%s%.400s", used ? "; " : "", after);
        outcome = FAILED;
    }
    report(totals, outcome, test->name, mode, message, now() - start);
}

int main(int argc, char** argv) {
    if (argc == 2 && !strcmp(argv[1], "--helper-target")) return helper_target();
    const bool only_list = parse(argc, argv);
    static const struct test* tests[512];
    const size_t count = (size_t)(__stop_suite_tests - __start_suite_tests);
    memcpy(tests, __start_suite_tests, count * sizeof *tests);
    qsort(tests, count, sizeof *tests, by_place);
    if (only_list) {
        list(tests, count);
        return 0;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    processes_prepare();
    kernel_log_open();
    if (options.fail_nth) return run_fail_nth();
    if (options.fuzz_seconds) return run_fuzz();

    struct totals totals = {0, 0, 0};
    for (unsigned round = 0; round < options.repeat; round++) {
        for (int m = 0; m < MODES; m++) {
            if (!(options.modes & modes[m].mode)) continue;
            current_mode = modes[m].mode;
            state_open(current_mode);
            for (size_t i = 0; i < count; i++) {
                if (!(tests[i]->modes & current_mode)) continue;
                if (tests[i]->sources && current_mode != MODE_PLAIN &&
                    !(tests[i]->sources & options.source))
                    continue;
                if (options.filter && fnmatch(options.filter, tests[i]->name, 0)) continue;
                if (options.quick && tests[i]->slow) continue;
                run_one(&totals, tests[i], modes[m].name);
            }
            state_close();
        }
    }
    const unsigned run = totals.passed + totals.failed + totals.skipped;
    printf("1..%u\n# %u passed, %u failed, %u skipped\n", run, totals.passed, totals.failed,
           totals.skipped);
    return totals.failed || !run ? 1 : 0;
}
