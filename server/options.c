/* options.c - see options.h. */
#include "server/options.h"
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include "server/memory.h"

#define CONFIG_FILE_BYTES_MAX 1048576

const char options_help[] =
    "Usage: varved [CONFIG] [OPTION]...\n"
    "A log server that speaks the Kafka protocol. Without arguments: one node on 127.0.0.1:9092, data in ./varve-data.\n\n"
    "  CONFIG                         properties file with Kafka's key names\n"
    "      --data DIR                 data directory (log.dirs)\n"
    "      --listen HOST:PORT         where clients connect (listeners)\n"
    "      --node-id N                number of this broker (node.id)\n"
    "      --set KEY=VALUE            any key; may be repeated\n"
    "      --log-format FORMAT        text, logfmt or json\n"
    "      --print-config-reference   all keys, as markdown\n"
    "      --version                  print the version\n"
    "      --help                     print this\n\n"
    "Environment: KAFKA_ + the key in capitals, '.' as _, '_' as __, '-' as ___.\n"
    "The command line wins over the environment, that over the file.\n"
    "SIGTERM or SIGINT stops cleanly, a second one at once. Exit status: 0 stopped cleanly, 1 failed, 2 usage.\n";

enum { OPT_DATA = 1000, OPT_LISTEN, OPT_NODE_ID, OPT_SET, OPT_LOG_FORMAT, OPT_REFERENCE, OPT_VERSION, OPT_HELP };

static const struct option long_options[] = {
    {"data", required_argument, NULL, OPT_DATA},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"node-id", required_argument, NULL, OPT_NODE_ID},
    {"set", required_argument, NULL, OPT_SET},
    {"log-format", required_argument, NULL, OPT_LOG_FORMAT},
    {"print-config-reference", no_argument, NULL, OPT_REFERENCE},
    {"version", no_argument, NULL, OPT_VERSION},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

/* What the flags say, kept until file and environment were read: they win. */
struct flag { const char *origin; struct str name, value; };

static enum err flag_read(int opt, const char *arg, struct flag *f, char *why, size_t why_len) {
    static const struct { int opt; const char *origin, *name; } plain[] = {
        {OPT_DATA, "--data", "log.dirs"},
        {OPT_LISTEN, "--listen", "listeners"},
        {OPT_NODE_ID, "--node-id", "node.id"},
        {OPT_LOG_FORMAT, "--log-format", "log.format"},
    };
    for (size_t i = 0; i < ARRAY_LEN(plain); i++) {
        if (plain[i].opt != opt) continue;
        *f = (struct flag){plain[i].origin, str_from(plain[i].name), str_from(arg)};
        return OK;
    }
    const char *eq = strchr(arg, '=');
    if (!eq || eq == arg) {
        snprintf(why, why_len, "--set %s: not KEY=VALUE", arg);
        return ERR_INVALID;
    }
    *f = (struct flag){"--set", {arg, (int32_t)(eq - arg)}, str_from(eq + 1)};
    return OK;
}

static enum err file_add(struct config_builder *b, const char *path, char *why, size_t why_len) {
    FILE *file = fopen(path, "r");
    if (!file) {
        snprintf(why, why_len, "%s: %s", path, strerror(errno));
        return ERR_INVALID;
    }
    enum err err = ERR_NOMEM;
    char *text = malloc(CONFIG_FILE_BYTES_MAX + 1);
    snprintf(why, why_len, "%s: out of memory", path);
    if (text) {
        size_t len = fread(text, 1, CONFIG_FILE_BYTES_MAX + 1, file);
        if (ferror(file)) {
            err = ERR_INVALID;
            snprintf(why, why_len, "%s: %s", path, strerror(errno));
        } else if (len > CONFIG_FILE_BYTES_MAX) {
            err = ERR_INVALID;
            snprintf(why, why_len, "%s: larger than %d bytes", path, CONFIG_FILE_BYTES_MAX);
        } else {
            err = config_add_properties(b, path, text, len, why, why_len);
        }
    }
    free(text);
    fclose(file);
    return err;
}

static enum err flags_read(int argc, char **argv, struct flag *flags, size_t *count, enum options_action *action,
                           const char **file, char *why, size_t why_len) {
    int opt;
    optind = 0; /* also starts over, for tests */
    opterr = 0;
    while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (opt == '?') {
            const char *at = optind > 0 && optind <= argc ? argv[optind - 1] : "";
            snprintf(why, why_len, "unknown or incomplete option %s (varved --help)", at);
            return ERR_INVALID;
        }
        if (opt == OPT_HELP || opt == OPT_VERSION || opt == OPT_REFERENCE) {
            *action = opt == OPT_HELP ? OPTIONS_HELP : opt == OPT_VERSION ? OPTIONS_VERSION : OPTIONS_REFERENCE;
            return OK;
        }
        enum err err = flag_read(opt, optarg, &flags[(*count)++], why, why_len);
        if (err != OK) return err;
    }
    if (argc - optind > 1) {
        snprintf(why, why_len, "more than one configuration file (%s, %s)", argv[optind], argv[optind + 1]);
        return ERR_INVALID;
    }
    if (optind < argc) *file = argv[optind];
    return OK;
}

enum err options_read(int argc, char **argv, char *const *environ_strings, enum options_action *action, struct config *out,
                      char *summary, size_t summary_len, char *why, size_t why_len) {
    const char *file = NULL;
    size_t count = 0;
    summary[0] = 0;
    *action = OPTIONS_RUN;
    struct flag *flags = calloc((size_t)argc + 1, sizeof *flags);
    struct config_builder *b = config_builder_new();
    enum err err = flags && b ? OK : ERR_NOMEM;
    if (err != OK) snprintf(why, why_len, "out of memory");
    if (err == OK) err = flags_read(argc, argv, flags, &count, action, &file, why, why_len);
    if (err == OK && *action == OPTIONS_RUN) {
        if (file) err = file_add(b, file, why, why_len);
        if (err == OK) err = config_add_environment(b, environ_strings, why, why_len);
        for (size_t i = 0; err == OK && i < count; i++)
            err = config_add(b, flags[i].origin, flags[i].name, flags[i].value, why, why_len);
        if (err == OK) config_machine_memory(b, memory_machine_bytes());
        if (err == OK) err = config_finish(b, out, why, why_len);
        if (err == OK) (void)config_ignored_summary(b, summary, summary_len);
    }
    config_builder_free(b);
    free(flags);
    return err;
}
