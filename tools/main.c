/* main.c - varve: the command line of the log server. Finds the command and runs it. */
#include <stdio.h>
#include "tools/bench.h"
#include "tools/cli.h"

static const struct command commands[] = {
    {"topic create", "NAME...", "Creates topics", COMMAND_TOPIC_CREATE, 1, INT32_MAX, cmd_topic_create, NULL},
    {"topic list", "", "Lists all topics", COMMAND_TOPIC_LIST, 0, 0, cmd_topic_list, NULL},
    {"topic describe", "NAME...", "Shows partitions, offsets and configs of topics", COMMAND_TOPIC_DESCRIBE, 1,
     INT32_MAX, cmd_topic_describe, NULL},
    {"topic explain", "NAME...", "Says why each segment is still there, or when it goes", COMMAND_TOPIC_EXPLAIN, 1, INT32_MAX,
     cmd_topic_explain, NULL},
    {"topic alter", "NAME...", "Changes configs of topics, or adds partitions", COMMAND_TOPIC_ALTER, 1, INT32_MAX,
     cmd_topic_alter, NULL},
    {"topic delete", "NAME...", "Deletes topics with all their records", COMMAND_TOPIC_DELETE, 1, INT32_MAX,
     cmd_topic_delete, NULL},
    {"topic trim", "NAME", "Deletes the oldest records of a topic", COMMAND_TOPIC_TRIM, 1, 1, cmd_topic_trim, NULL},
    {"produce", "TOPIC", "Sends each line of standard input as a record", COMMAND_PRODUCE, 1, 1, cmd_produce, NULL},
    {"consume", "TOPIC...", "Prints the records of a topic, or with --group of the group's share of topics", COMMAND_CONSUME, 1,
     INT32_MAX, cmd_consume, NULL},
    {"group list", "", "Lists groups", COMMAND_GROUP_LIST, 0, 0, cmd_group_list, NULL},
    {"group describe", "GROUP...", "Shows how far groups are, and who reads what", COMMAND_GROUP_DESCRIBE, 1, INT32_MAX, cmd_group_describe, NULL},
    {"group members", "GROUP...", "Shows the members of groups", COMMAND_GROUP_MEMBERS, 1, INT32_MAX, cmd_group_members, NULL},
    {"group offsets", "GROUP...", "Shows what groups have committed", COMMAND_GROUP_OFFSETS, 1, INT32_MAX, cmd_group_offsets, NULL},
    {"group seek", "GROUP", "Moves the committed offsets of a group without members", COMMAND_GROUP_SEEK, 1, 1, cmd_group_seek, NULL},
    {"group explain", "GROUP...", "Shows the last rebalances of groups and why they were, who holds what, who is slow", COMMAND_GROUP_EXPLAIN, 1,
     INT32_MAX, cmd_group_explain, NULL},
    {"group delete", "GROUP...", "Deletes groups without members, or with --topic some of their offsets", COMMAND_GROUP_DELETE, 1, INT32_MAX,
     cmd_group_delete, NULL},
    {"cluster describe", "", "Shows the brokers, their disks, and configs set while they run", COMMAND_CLUSTER_DESCRIBE, 0, 0,
     cmd_cluster_describe, NULL},
    {"cluster alter", "[BROKER...]", "Changes configs of all brokers, or of those with these ids", COMMAND_CLUSTER_ALTER, 0, INT32_MAX,
     cmd_cluster_alter, NULL},
    {"cluster status", "", "Says in one line whether all is well, and counts what is not", COMMAND_CLUSTER_STATUS, 0, 0, cmd_cluster_status, NULL},
    {"cluster nodes", "", "Shows the nodes: up or down, their part in the quorum, what they lead and hold", COMMAND_CLUSTER_NODES, 0, 0,
     cmd_cluster_nodes, NULL},
    {"cluster partitions", "[PARTITION...]", "Shows who leads and who follows each partition, and how far behind", COMMAND_CLUSTER_PARTITIONS, 0,
     INT32_MAX, cmd_cluster_partitions, NULL},
    {"cluster explain", "PARTITION...", "Says why partitions have no leader, or fewer copies in sync than they should", COMMAND_CLUSTER_EXPLAIN, 1,
     INT32_MAX, cmd_cluster_explain, NULL},
    {"cluster move", "PARTITION...", "Moves partitions to other nodes while they are used", COMMAND_CLUSTER_MOVE, 1, INT32_MAX, cmd_cluster_move,
     NULL},
    {"cluster drain", "[NODE...]", "Empties nodes: what they lead and hold goes to others; or shows how far that is", COMMAND_CLUSTER_DRAIN, 0,
     INT32_MAX, cmd_cluster_drain, NULL},
    {"cluster add", "NODE...", "Makes voters of the metadata quorum of nodes that have joined", COMMAND_CLUSTER_ADD, 1, INT32_MAX, cmd_cluster_add,
     NULL},
    {"cluster remove", "NODE...", "Takes nodes out of the metadata quorum", COMMAND_CLUSTER_REMOVE, 1, INT32_MAX, cmd_cluster_remove, NULL},
    {"bench produce", "[TOPIC]", "Measures how fast, and at what cost, batches are taken", COMMAND_BENCH_PRODUCE, 0, 1,
     cmd_bench_produce, NULL},
    {"bench consume", "[TOPIC]", "Measures how fast, and at what cost, records are read", COMMAND_BENCH_CONSUME, 0, 1,
     cmd_bench_consume, NULL},
    {"dump", "FILE|DIR...", "Explains and verifies files of a data directory", 0, 0, 0, NULL, cmd_dump},
};

/* How many words of argv the command's name takes; 0: it is another command. */
static int command_match(const struct command *c, int argc, char **argv) {
    const char *words = c->words;
    int used = 0;
    while (*words) {
        size_t len = strcspn(words, " ");
        if (used == argc || strlen(argv[used]) != len || memcmp(argv[used], words, len) != 0) return 0;
        words += len + (words[len] == ' ');
        used++;
    }
    return used;
}

/* Of the commands that begin with `word`, or of all (NULL). */
static bool print_commands(FILE *out, const char *word) {
    bool any = false;
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        char left[64];
        size_t len = word ? strlen(word) : 0;
        if (word && (strncmp(commands[i].words, word, len) != 0 || commands[i].words[len] != ' ')) continue;
        if (!any) fprintf(out, "usage: varve COMMAND [OPTION...] [ARGUMENT...]\n\n");
        snprintf(left, sizeof left, "%s %s", commands[i].words, commands[i].args);
        fprintf(out, "  %-28s %s\n", left, commands[i].summary);
        any = true;
    }
    return any;
}

static int help(FILE *out) {
    print_commands(out, NULL);
    fprintf(out, "\nvarve COMMAND --help explains the options of one.\n"
                 "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 damage found, 75 cannot connect.\n");
    return out == stdout ? EXIT_OK : EXIT_USAGE;
}

static int run(const struct command *c, int argc, char **argv) {
    struct options o;
    if (c->run_raw) return c->run_raw(argc, argv);
    int code = options_parse(c, argc, argv, &o);
    if (code != EXIT_OK) return code < 0 ? EXIT_OK : code;
    code = cli_finish(&o, c->run(&o));
    options_free(&o);
    return code;
}

int main(int argc, char **argv) {
    if (argc < 2) return help(stderr);
    const char *word = argv[1];
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        int used = command_match(&commands[i], argc - 1, argv + 1);
        if (used > 0) return run(&commands[i], argc - used, argv + used);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) return help(stdout);
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        printf("varve %s\n", VARVE_VERSION);
        return EXIT_OK;
    }
    bool asked = argc > 2 && (strcmp(argv[2], "--help") == 0 || strcmp(argv[2], "-h") == 0);
    if (print_commands(asked ? stdout : stderr, word)) return asked ? EXIT_OK : EXIT_USAGE;
    fprintf(stderr, "varve: unknown command \"%s\"\ntry: varve --help\n", word);
    return EXIT_USAGE;
}
