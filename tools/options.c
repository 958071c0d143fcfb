/* options.c - see options.h. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/assert.h"
#include "tools/options.h"

enum option_id {
    OPTION_BOOTSTRAP = 'b', OPTION_KEY = 'k', OPTION_HEADER = 'H', OPTION_PARTITION = 'p', OPTION_CODEC = 'z',
    OPTION_DELIMITER = 'D', OPTION_NULL = 'Z', OPTION_OFFSET = 'o', OPTION_COUNT = 'c', OPTION_EXIT = 'e',
    OPTION_FORMAT = 'f', OPTION_ENVELOPE = 'J', OPTION_QUIET = 'q', OPTION_HELP = 'h',
    OPTION_JSON = 256, OPTION_PARTITIONS, OPTION_REPLICATION, OPTION_CONFIG, OPTION_DELETE_CONFIG, OPTION_ACKS, OPTION_TIMEOUT,
    OPTION_CONNECTIONS, OPTION_IN_FLIGHT, OPTION_PER_REQUEST, OPTION_RECORD_BYTES, OPTION_BATCH_BYTES, OPTION_FETCH_BYTES, OPTION_RATE,
    OPTION_SECONDS, OPTION_SERVER_PID, OPTION_BEFORE, OPTION_GROUP = 'G', OPTION_TOPIC = 't',
    OPTION_GROUP_PROTOCOL = 512, OPTION_ASSIGNOR, OPTION_INSTANCE, OPTION_STATE, OPTION_TYPE, OPTION_TO, OPTION_FROM_FILE, OPTION_EXECUTE,
    OPTION_ALL_TOPICS, OPTION_EXPORT, OPTION_SESSION,
    OPTION_UNHEALTHY, OPTION_REPLICAS, OPTION_CANCEL, OPTION_WAIT, OPTION_FORGET, OPTION_REPORT
};
struct option_row {
    enum option_id id;
    const char *name;             /* long name, or NULL */
    const char *value;            /* what follows, or NULL */
    unsigned commands;
    const char *help;
};
enum { GROUP_MOVES = COMMAND_GROUP_SEEK | COMMAND_GROUP_DELETE };
enum { ALL = ~0, BENCH = COMMAND_BENCH_PRODUCE | COMMAND_BENCH_CONSUME };
static const struct option_row rows[] = {
    {OPTION_PARTITIONS, "partitions", "N", COMMAND_TOPIC_CREATE | COMMAND_TOPIC_ALTER,
     "number of partitions (create: the broker's default)"},
    {OPTION_REPLICATION, "replication-factor", "N", COMMAND_TOPIC_CREATE,
     "copies of each partition (the broker's default)"},
    {OPTION_CONFIG, "config", "KEY=VALUE", COMMAND_TOPIC_CREATE | COMMAND_TOPIC_ALTER,
     "set a topic config; may be repeated"},
    {OPTION_CONFIG, "config", "KEY=VALUE", COMMAND_CLUSTER_ALTER, "set a config of brokers; may be repeated"},
    {OPTION_DELETE_CONFIG, "delete-config", "KEY", COMMAND_TOPIC_ALTER, "back to the default; may be repeated"},
    {OPTION_DELETE_CONFIG, "delete-config", "KEY", COMMAND_CLUSTER_ALTER, "back to what was read at start; may be repeated"},
    {OPTION_KEY, "key-delimiter", "DELIM", COMMAND_PRODUCE, "what stands before the first DELIM of a line is its key"},
    {OPTION_HEADER, "header", "KEY=VALUE", COMMAND_PRODUCE, "a header for every record (without =: null); may be repeated"},
    {OPTION_PARTITION, "partition", "N", COMMAND_PRODUCE, "this partition (by key, else evenly)"},
    {OPTION_PARTITION, "partition", "N", COMMAND_CONSUME, "this partition only (all)"},
    {OPTION_BEFORE, "before", "OFFSET", COMMAND_TOPIC_TRIM, "delete the records below this offset; end: all that there are"},
    {OPTION_PARTITION, "partition", "N", COMMAND_TOPIC_TRIM | COMMAND_TOPIC_EXPLAIN, "this partition only (all)"},
    {OPTION_CODEC, "compression", "CODEC", COMMAND_PRODUCE, "none, gzip, snappy, lz4 or zstd (none)"},
    {OPTION_ACKS, "acks", "0|1|all", COMMAND_PRODUCE, "who must have a record before it counts (all)"},
    {OPTION_DELIMITER, "delimiter", "DELIM", COMMAND_PRODUCE, "what ends a line (\\n); escapes \\n \\t \\r \\0 \\\\ \\xHH"},
    {OPTION_REPORT, "report", NULL, COMMAND_PRODUCE,
     "print \"LINE PARTITION OFFSET MS\" for each line when it is acknowledged (MS: Unix time); with --json an object"},
    {OPTION_NULL, NULL, NULL, COMMAND_PRODUCE, "send empty keys and values as null"},
    {OPTION_NULL, NULL, NULL, COMMAND_CONSUME, "print NULL for null keys and values"},
    {OPTION_OFFSET, "offset", "OFFSET", COMMAND_CONSUME,
     "beginning, end, N, -N (the last N) or @MS (a time, ms since 1970) (beginning)"},
    {OPTION_GROUP, "group", "GROUP", COMMAND_CONSUME,
     "as a member of this group: several topics (^REGEX: all that match), offsets are committed, --offset where none is"},
    {OPTION_GROUP_PROTOCOL, "group-protocol", "NAME", COMMAND_CONSUME, "classic, consumer (KIP-848), or auto: what the broker serves (auto)"},
    {OPTION_ASSIGNOR, "assignor", "NAME,...", COMMAND_CONSUME,
     "classic: range, roundrobin, cooperative-sticky (range,cooperative-sticky); consumer: uniform or range"},
    {OPTION_INSTANCE, "instance-id", "ID", COMMAND_CONSUME, "a static member: comes back to its partitions without a rebalance"},
    {OPTION_SESSION, "session-timeout", "MS", COMMAND_CONSUME,
     "classic: how long the group waits for a member that is silent before others get its partitions (45000)"},
    {OPTION_STATE, "state", "STATE,...", COMMAND_GROUP_LIST, "only groups in these states, as Stable or Empty (all)"},
    {OPTION_TYPE, "type", "TYPE,...", COMMAND_GROUP_LIST, "only classic, consumer, share or streams groups (all)"},
    {OPTION_TO, "to", "WHERE", COMMAND_GROUP_SEEK, "see below"},
    {OPTION_FROM_FILE, "from-file", "FILE", COMMAND_GROUP_SEEK, "TOPIC,PARTITION,OFFSET lines instead of --to; - is standard input"},
    {OPTION_TOPIC, "topic", "TOPIC[:P,P...]", GROUP_MOVES, "only this topic, or these partitions of it; may be repeated"},
    {OPTION_ALL_TOPICS, "all-topics", NULL, COMMAND_GROUP_SEEK, "all topics that the group has offsets in"},
    {OPTION_EXECUTE, "execute", NULL, COMMAND_GROUP_SEEK, "do it, instead of showing what would be done"},
    {OPTION_EXPORT, "export", NULL, COMMAND_GROUP_SEEK, "print TOPIC,PARTITION,OFFSET lines, as --from-file reads them"},
    {OPTION_QUIET, "quiet", NULL, COMMAND_GROUP_SEEK, "do not say that nothing was changed"},
    {OPTION_UNHEALTHY, "unhealthy", NULL, COMMAND_CLUSTER_PARTITIONS, "only those without a leader, under-replicated, or under way"},
    {OPTION_REPLICAS, "replicas", "NODE,...", COMMAND_CLUSTER_MOVE, "the nodes that shall hold the partitions, the preferred leader first"},
    {OPTION_CANCEL, "cancel", NULL, COMMAND_CLUSTER_MOVE, "give up what is under way, back to the nodes from before"},
    {OPTION_CANCEL, "cancel", NULL, COMMAND_CLUSTER_DRAIN, "take the nodes back: they lead and get partitions again"},
    {OPTION_WAIT, "wait", NULL, COMMAND_CLUSTER_DRAIN, "until the nodes lead nothing, and hold only what no other could take, at most --timeout"},
    {OPTION_WAIT, "wait", NULL, COMMAND_CLUSTER_MOVE, "until the partitions have arrived, at most --timeout"},
    {OPTION_FORGET, "forget", NULL, COMMAND_CLUSTER_REMOVE, "and forget the node, which must be stopped and hold no partitions"},
    {OPTION_COUNT, "count", "N", COMMAND_CONSUME, "exit after N records"},
    {OPTION_EXIT, "exit", NULL, COMMAND_CONSUME, "exit when the end of every partition was reached"},
    {OPTION_FORMAT, "format", "FORMAT", COMMAND_CONSUME, "what to print, see below (%s\\n)"},
    {OPTION_ENVELOPE, NULL, NULL, COMMAND_CONSUME, "one JSON object for each record, as --json"},
    {OPTION_TIMEOUT, "timeout", "SECONDS", COMMAND_PRODUCE, "give a line up after this time (120)"},
    {OPTION_TIMEOUT, "timeout", "SECONDS", ALL & ~(COMMAND_PRODUCE | COMMAND_CONSUME), "give up after this time (30)"},
    {OPTION_CONNECTIONS, "connections", "N", BENCH, "connections (16)"},
    {OPTION_IN_FLIGHT, "in-flight", "N", COMMAND_BENCH_PRODUCE, "requests on each that may wait for their answer (4)"},
    {OPTION_BATCH_BYTES, "batch", "BYTES", COMMAND_BENCH_PRODUCE, "size of a batch before compression (16384)"},
    {OPTION_RECORD_BYTES, "record", "BYTES", COMMAND_BENCH_PRODUCE, "size of a record's value (1024)"},
    {OPTION_PER_REQUEST, "per-request", "N", COMMAND_BENCH_PRODUCE, "partitions, with a batch each, in one request (1)"},
    {OPTION_PARTITIONS, "partitions", "N", COMMAND_BENCH_PRODUCE, "of the topic, if it must be made (the broker's default)"},
    {OPTION_PARTITION, "partition", "N", BENCH, "this partition only (all)"},
    {OPTION_CODEC, "compression", "CODEC", COMMAND_BENCH_PRODUCE, "none, gzip, snappy, lz4 or zstd, done once, beforehand (none)"},
    {OPTION_ACKS, "acks", "0|1|all", COMMAND_BENCH_PRODUCE, "who must have a record before it is answered (all)"},
    {OPTION_RATE, "rate", "N", COMMAND_BENCH_PRODUCE, "requests a second, all together; times count from when one was due (as fast as it goes)"},
    {OPTION_COUNT, "count", "N", COMMAND_BENCH_PRODUCE, "stop after N records"},
    {OPTION_COUNT, "count", "N", COMMAND_BENCH_CONSUME, "only the last N records of each partition (all)"},
    {OPTION_SECONDS, "seconds", "N", COMMAND_BENCH_PRODUCE, "stop after this time (10, or until --count)"},
    {OPTION_SECONDS, "seconds", "N", COMMAND_BENCH_CONSUME, "read them again until this time is up (once)"},
    {OPTION_FETCH_BYTES, "fetch", "BYTES", COMMAND_BENCH_CONSUME, "of one partition in one answer (1048576)"},
    {OPTION_SERVER_PID, "server-pid", "PID", BENCH, "also tell what CPU time that process took (same machine)"},
    {OPTION_QUIET, "quiet", NULL, BENCH, "no progress on a terminal"},
    {OPTION_QUIET, "quiet", NULL, COMMAND_PRODUCE | COMMAND_CONSUME, "no progress on a terminal"},
    {OPTION_BOOTSTRAP, "bootstrap", "HOST:PORT,...", ALL, "brokers to ask first (127.0.0.1:9092)"},
    {OPTION_JSON, "json", NULL, ALL, "print JSON, one object to a line"},
    {OPTION_HELP, "help", NULL, ALL, "this text"},
};

/* ---- help -------------------------------------------------------------------------------- */

void options_help(FILE *out, const struct command *command) {
    fprintf(out, "usage: varve %s [OPTION...] %s\n%s.\n\n", command->words, command->args, command->summary);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct option_row *row = &rows[i];
        char text[64];
        if (!(row->commands & command->bit)) continue;
        int n;
        if (row->id < OPTION_JSON) n = snprintf(text, sizeof text, "-%c%s", (char)row->id, row->name ? ", " : "");
        else n = snprintf(text, sizeof text, "    ");
        snprintf(text + n, sizeof text - (size_t)n, "%s%s%s%s", row->name ? "--" : "", row->name ? row->name : "",
                 row->value ? " " : "", row->value ? row->value : "");
        fprintf(out, "  %-32s %s\n", text, row->help);
    }
    if (command->bit == COMMAND_CONSUME)
        fprintf(out, "\nFORMAT: %%s value  %%S its length (-1: null)  %%R the same as 4 bytes, big-endian  %%k key\n"
                     "  %%K its length  %%T time in ms  %%h headers  %%t topic  %%p partition  %%o offset  %%%% percent sign\n"
                     "  and the escapes \\n \\t \\r \\0 \\\\ \\xHH\n");
    if (command->bit == COMMAND_GROUP_SEEK)
        fprintf(out, "\nWHERE: earliest  latest  current (where it is, within what exists)  N (an offset)  +N or -N (shifted)\n"
                     "  @MS or a time as 2026-01-31T12:00:00.000[Z|+01:00] (the first record from then on)\n"
                     "  a duration as PT2H30M or P1D (that long ago)\n"
                     "Only groups without members can be moved. Offsets outside of what exists become the nearest that does.\n");
    if (command->bit == COMMAND_CLUSTER_STATUS || command->bit == COMMAND_CLUSTER_EXPLAIN)
        fprintf(out, "\nExit code: 0 all is well, 3 something is wrong, 75 no broker can be reached.\n");
    if (command->bit == COMMAND_CLUSTER_PARTITIONS || command->bit == COMMAND_CLUSTER_EXPLAIN || command->bit == COMMAND_CLUSTER_MOVE)
        fprintf(out, "\nPARTITION: TOPIC (all of its partitions), TOPIC:0,1 or TOPIC-0.\n");
    if (command->bit == COMMAND_GROUP_DESCRIBE)
        fprintf(out, "\nLAG counts records. LAG-SECONDS is the age of the first record that is not consumed yet; 0 without a lag.\n");
}

/* ---- values ------------------------------------------------------------------------------ */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t options_unescape(char *text) {
    char *out = text;
    for (const char *c = text; *c; c++) {
        if (*c != '\\' || !c[1]) {
            *out++ = *c;
            continue;
        }
        switch (*++c) {
        case 'n': *out++ = '\n'; break;
        case 't': *out++ = '\t'; break;
        case 'r': *out++ = '\r'; break;
        case '0': *out++ = '\0'; break;
        case 'x':
            if (hex_digit(c[1]) >= 0 && hex_digit(c[2]) >= 0) {
                *out++ = (char)(hex_digit(c[1]) << 4 | hex_digit(c[2]));
                c += 2;
                break;
            }
            *out++ = '\\';
            *out++ = 'x';
            break;
        default: *out++ = *c; break;
        }
    }
    *out = '\0';
    return (size_t)(out - text);
}

static bool number(const char *text, int64_t min, int64_t max, int64_t *out) {
    char *end;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || *end || end == text || n < min || n > max) return false;
    *out = n;
    return true;
}

static bool delimiter(char *text, struct bytes *out) {
    size_t len = options_unescape(text);
    *out = (struct bytes){(const uint8_t *)text, (int32_t)len};
    return len > 0 && len <= 1024;
}

static bool codec(const char *text, enum batch_codec *out) {
    static const char *const names[CODEC_COUNT] = {[CODEC_NONE] = "none", [CODEC_GZIP] = "gzip", [CODEC_SNAPPY] = "snappy",
                                                   [CODEC_LZ4] = "lz4", [CODEC_ZSTD] = "zstd"};
    for (int i = 0; i < CODEC_COUNT; i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (enum batch_codec)i;
            return true;
        }
    return false;
}

static bool acks(const char *text, int16_t *out) {
    if (strcmp(text, "all") == 0 || strcmp(text, "-1") == 0) *out = -1;
    else if (strcmp(text, "0") == 0 || strcmp(text, "1") == 0) *out = (int16_t)(*text - '0');
    else return false;
    return true;
}

/* One more element; the process ends when memory does. */
static void *append(void *array, int32_t count, size_t size) {
    void *bigger = realloc(array, ((size_t)count + 1) * size);
    ASSERT(bigger != NULL);
    return bigger;
}

static bool config(struct options *o, enum admin_op op, char *text) {
    char *equals = op == ADMIN_SET ? strchr(text, '=') : NULL;
    if (op == ADMIN_SET && (!equals || equals == text)) return false;
    if (equals) *equals = '\0';
    o->changes = append(o->changes, o->change_count, sizeof *o->changes);
    o->changes[o->change_count++] = (struct admin_change){op, text, equals ? equals + 1 : NULL};
    return *text != '\0';
}

static bool header(struct options *o, char *text) {
    char *equals = strchr(text, '=');
    int32_t key_len = equals ? (int32_t)(equals - text) : (int32_t)strlen(text);
    struct bytes value = equals ? (struct bytes){(uint8_t *)equals + 1, (int32_t)strlen(equals + 1)} : BYTES_NULL;
    o->headers = append(o->headers, o->header_count, sizeof *o->headers);
    o->headers[o->header_count++] = (struct record_header){{text, key_len}, value};
    return true;
}

static bool topic(struct options *o, char *text) {
    o->topics = append(o->topics, o->topic_count, sizeof *o->topics);
    o->topics[o->topic_count++] = text;
    return *text != '\0' && *text != ':';
}

static bool number32(const char *text, int64_t min, int64_t max, int32_t *out) {
    int64_t n;
    if (!number(text, min, max, &n)) return false;
    *out = (int32_t)n;
    return true;
}

/* false: the value is wrong. */
static bool option_set(struct options *o, int id, char *value) {
    int64_t n = 0;
    bool good = true;
    switch (id) {
    case OPTION_BOOTSTRAP: o->bootstrap = value; break;
    case OPTION_JSON:
    case OPTION_ENVELOPE: o->json = true; break;
    case OPTION_QUIET: o->quiet = true; break;
    case OPTION_TIMEOUT:
        good = number(value, 1, 86400, &n);
        o->timeout_ms = (int32_t)n * 1000;
        break;
    case OPTION_PARTITION:
        good = number(value, 0, INT32_MAX, &n);
        o->partition = (int32_t)n;
        break;
    case OPTION_PARTITIONS:
        good = number(value, 1, INT32_MAX, &n);
        o->partitions = (int32_t)n;
        break;
    case OPTION_REPLICATION:
        good = number(value, 1, INT16_MAX, &n);
        o->replication_factor = (int16_t)n;
        break;
    case OPTION_CONFIG: return config(o, ADMIN_SET, value);
    case OPTION_DELETE_CONFIG: return config(o, ADMIN_DELETE, value);
    case OPTION_KEY: return delimiter(value, &o->key_delimiter);
    case OPTION_DELIMITER: return delimiter(value, &o->delimiter);
    case OPTION_HEADER: return header(o, value);
    case OPTION_CODEC: return codec(value, &o->codec);
    case OPTION_ACKS: return acks(value, &o->acks);
    case OPTION_NULL: o->null_empty = true; break;
    case OPTION_OFFSET: o->offset = value; break;
    case OPTION_COUNT: return number(value, 0, INT64_MAX, &o->count);
    case OPTION_EXIT: o->exit_at_end = true; break;
    case OPTION_FORMAT: o->format = value; break;
    case OPTION_BEFORE:
        if (strcmp(value, "end") != 0) return number(value, 0, INT64_MAX, &o->before);
        o->before = -1;
        break;
    case OPTION_GROUP:
        o->group = value;
        return *value != '\0';
    case OPTION_GROUP_PROTOCOL:
        o->group_protocol = value;
        return strcmp(value, "classic") == 0 || strcmp(value, "consumer") == 0 || strcmp(value, "auto") == 0;
    case OPTION_ASSIGNOR: o->assignor = value; break;
    case OPTION_INSTANCE:
        o->instance_id = value;
        return *value != '\0';
    case OPTION_SESSION: return number32(value, 10, 86400000, &o->session_timeout_ms);
    case OPTION_STATE: o->state = value; break;
    case OPTION_TYPE: o->type = value; break;
    case OPTION_TO: o->to = value; break;
    case OPTION_FROM_FILE: o->from_file = value; break;
    case OPTION_TOPIC: return topic(o, value);
    case OPTION_EXPORT: o->export_csv = true; break;
    case OPTION_ALL_TOPICS: o->all_topics = true; break;
    case OPTION_EXECUTE: o->execute = true; break;
    case OPTION_UNHEALTHY: o->unhealthy = true; break;
    case OPTION_REPLICAS: o->replicas = value; break;
    case OPTION_CANCEL: o->cancel = true; break;
    case OPTION_WAIT: o->wait = true; break;
    case OPTION_FORGET: o->forget = true; break;
    case OPTION_REPORT: o->report = true; break;
    case OPTION_CONNECTIONS: return number32(value, 1, 50000, &o->connections);
    case OPTION_IN_FLIGHT: return number32(value, 1, 100000, &o->in_flight);
    case OPTION_PER_REQUEST: return number32(value, 1, 10000, &o->per_request);
    case OPTION_RECORD_BYTES: return number32(value, 0, 256 << 20, &o->record_bytes);
    case OPTION_BATCH_BYTES: return number32(value, 128, 256 << 20, &o->batch_bytes);
    case OPTION_FETCH_BYTES: return number32(value, 1, 256 << 20, &o->fetch_bytes);
    case OPTION_RATE: return number(value, 1, 100000000, &o->rate);
    case OPTION_SECONDS: return number(value, 1, 1000000, &o->seconds);
    case OPTION_SERVER_PID: return number(value, 1, INT32_MAX, &o->server_pid);
    default: ASSERT(!"an option of the table");
    }
    return good;
}

/* ---- parsing ----------------------------------------------------------------------------- */

/* What getopt needs for the options of the command. */
static void getopt_tables(const struct command *command, char *letters, struct option *longs) {
    *letters++ = ':'; /* a missing value is reported as ':' */
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct option_row *row = &rows[i];
        if (!(row->commands & command->bit)) continue;
        if (row->id < OPTION_JSON) {
            *letters++ = (char)row->id;
            if (row->value) *letters++ = ':';
        }
        int takes = row->value ? required_argument : no_argument;
        if (row->name) *longs++ = (struct option){row->name, takes, NULL, (int)row->id};
    }
    *letters = '\0';
    *longs = (struct option){0};
}

static const char *option_text(const struct command *command, int id, char text[static 32]) {
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        if ((int)rows[i].id == id && rows[i].commands & command->bit && rows[i].name) {
            snprintf(text, 32, "--%s", rows[i].name);
            return text;
        }
    snprintf(text, 32, "-%c", (char)id);
    return text;
}

static int usage_error(const struct command *command) {
    fprintf(stderr, "try: varve %s --help\n", command->words);
    return EXIT_USAGE;
}

static int check_args(const struct options *o) {
    const struct command *c = o->command;
    if (o->arg_count < c->args_min) fprintf(stderr, "varve %s: %s is missing\n", c->words, c->args);
    else if (o->arg_count > c->args_max) fprintf(stderr, "varve %s: unexpected \"%s\"\n", c->words, o->args[c->args_max]);
    else return EXIT_OK;
    return usage_error(c);
}

int options_parse(const struct command *command, int argc, char **argv, struct options *o) {
    char letters[2 * ARRAY_LEN(rows) + 2], text[32];
    struct option longs[ARRAY_LEN(rows) + 1];
    *o = (struct options){
        .command = command, .bootstrap = "127.0.0.1:9092", .partition = -1, .partitions = -1, .replication_factor = -1,
        .timeout_ms = command->bit == COMMAND_PRODUCE ? 120000 : 30000, .delimiter = {(const uint8_t *)"\n", 1},
        .codec = CODEC_NONE, .acks = -1, .offset = "beginning", .count = -1, .before = -2,
        .connections = 16, .in_flight = command->bit == COMMAND_BENCH_PRODUCE ? 4 : 1, .per_request = 1, .record_bytes = 1024,
        .batch_bytes = 16384, .fetch_bytes = 1 << 20,
    };
    getopt_tables(command, letters, longs);
    opterr = 0;
    optind = 1;
    for (int id; (id = getopt_long(argc, argv, letters, longs, NULL)) != -1;) {
        if (id == OPTION_HELP) {
            options_help(stdout, command);
            options_free(o);
            return -1;
        }
        if (id == ':') fprintf(stderr, "varve %s: %s needs a value\n", command->words, option_text(command, optopt, text));
        else if (id == '?') fprintf(stderr, "varve %s: unknown option %s\n", command->words, argv[optind - 1]);
        else if (option_set(o, id, optarg)) continue;
        else fprintf(stderr, "varve %s: \"%s\" is not a value for %s\n", command->words, optarg,
                     option_text(command, id, text));
        options_free(o);
        return usage_error(command);
    }
    if (command->bit == COMMAND_BENCH_PRODUCE && o->count < 0 && o->seconds == 0) o->seconds = 10;
    o->args = argv + optind;
    o->arg_count = argc - optind;
    int code = check_args(o);
    if (code != EXIT_OK) options_free(o);
    return code;
}

void options_free(struct options *o) {
    free(o->changes);
    free(o->headers);
    free(o->topics);
    o->changes = NULL;
    o->headers = NULL;
    o->topics = NULL;
}
