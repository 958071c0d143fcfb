/* options.h - the commands of `varve`, their options, exit codes.
 *
 * One table describes every option and the commands that take it; getopt_long and `--help` are
 * made from it. Options may stand before and after the arguments. */
#ifndef TOOLS_OPTIONS_H
#define TOOLS_OPTIONS_H
#include <stdio.h>
#include "client/client.h"

enum exit_code { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DAMAGE = 3, EXIT_CANNOT_CONNECT = 75 };

enum command_bit {
    COMMAND_TOPIC_CREATE = 1, COMMAND_TOPIC_LIST = 2, COMMAND_TOPIC_DESCRIBE = 4, COMMAND_TOPIC_ALTER = 8,
    COMMAND_TOPIC_DELETE = 16, COMMAND_PRODUCE = 32, COMMAND_CONSUME = 64, COMMAND_CLUSTER_DESCRIBE = 128,
    COMMAND_GROUP_LIST = 1 << 8, COMMAND_GROUP_DESCRIBE = 1 << 9, COMMAND_GROUP_MEMBERS = 1 << 10, COMMAND_GROUP_OFFSETS = 1 << 11,
    COMMAND_GROUP_SEEK = 1 << 12, COMMAND_GROUP_DELETE = 1 << 13, COMMAND_GROUP_EXPLAIN = 1 << 14,
    COMMAND_BENCH_PRODUCE = 1 << 20, COMMAND_BENCH_CONSUME = 1 << 21, COMMAND_TOPIC_TRIM = 1 << 22, COMMAND_TOPIC_EXPLAIN = 1 << 23,
    COMMAND_CLUSTER_ALTER = 1 << 27, COMMAND_CLUSTER_STATUS = 1 << 15, COMMAND_CLUSTER_NODES = 1 << 16, COMMAND_CLUSTER_PARTITIONS = 1 << 17,
    COMMAND_CLUSTER_EXPLAIN = 1 << 18, COMMAND_CLUSTER_MOVE = 1 << 19, COMMAND_CLUSTER_DRAIN = 1 << 24, COMMAND_CLUSTER_ADD = 1 << 25,
    COMMAND_CLUSTER_REMOVE = 1 << 26
};

struct options;
struct command {
    const char *words;            /* "topic create" */
    const char *args;             /* "NAME..." */
    const char *summary;
    enum command_bit bit;
    int args_min, args_max;       /* how many arguments */
    int (*run)(const struct options *o);             /* an exit code */
    int (*run_raw)(int argc, char **argv);           /* instead of `run`: parses for itself */
};

/* What the command line said; defaults where it said nothing. Texts point into argv. */
struct options {
    const struct command *command;
    char **args;
    int arg_count;

    const char *bootstrap;
    bool json, quiet;
    int32_t timeout_ms;           /* one operation; produce: until a line is given up */
    int32_t partition;            /* -1: any, all */

    int32_t partitions;           /* -1: the broker's default; alter: unchanged */
    int16_t replication_factor;   /* -1: the broker's default */
    struct admin_change *changes; /* --config and --delete-config in order, owned */
    int32_t change_count;

    struct bytes key_delimiter;   /* p NULL: no keys */
    struct bytes delimiter;
    struct record_header *headers;/* owned */
    int32_t header_count;
    enum batch_codec codec;
    int16_t acks;
    bool null_empty;
    bool report;                  /* produce: a line for each record that was acknowledged */

    int64_t before;               /* topic trim: -1 the end, -2 not given */
    const char *offset;           /* as given; consume_offset_parse() reads it */
    int64_t count;                /* -1: no limit */
    bool exit_at_end;
    const char *format;           /* NULL: value and newline */

    const char *group;            /* consume: NULL without one */
    const char *group_protocol, *assignor, *instance_id; /* NULL: not given */
    int32_t session_timeout_ms;   /* 0: libvarve's default */
    const char *state, *type;     /* group list: filters; NULL: all */
    const char *from_file;        /* group seek */
    const char *to;               /* group seek: where, as given */
    const char **topics;          /* group seek, delete: --topic, owned */
    int32_t topic_count;
    bool execute, all_topics, export_csv;             /* group seek */

    bool unhealthy;               /* cluster partitions: only those with something wrong */
    const char *replicas;         /* cluster move: "1,2,3"; NULL: not given */
    bool cancel, wait;            /* cluster move, drain */
    bool forget;                  /* cluster remove */

    int32_t connections, in_flight, per_request;      /* bench */
    int32_t record_bytes, batch_bytes, fetch_bytes;
    int64_t rate;                 /* requests a second; 0: as fast as answers come */
    int64_t seconds;              /* 0: until the count or the end is reached */
    int64_t server_pid;           /* 0: unknown */
};

/* argv[0] is skipped. EXIT_OK: go on with *out (free it with options_free()); -1: help was printed, all is
 * well; EXIT_USAGE: the mistake was printed. */
int options_parse(const struct command *command, int argc, char **argv, struct options *out);
void options_free(struct options *o);
/* Usage and options of one command. */
void options_help(FILE *out, const struct command *command);
/* Backslash escapes (\n \t \r \0 \\ \xHH) resolved in place; the length. */
size_t options_unescape(char *text);
#endif
