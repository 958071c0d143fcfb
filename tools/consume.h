/* consume.h - what `varve consume` with and without a group shares. */
#ifndef TOOLS_CONSUME_H
#define TOOLS_CONSUME_H
#include "tools/cli.h"
#include "tools/consume_format.h"

enum start_kind { START_BEGINNING, START_END, START_OFFSET, START_LAST, START_TIME };
struct start { enum start_kind kind; int64_t n; };

struct consume {
    const struct options *o;
    struct client *client;
    struct consumer *consumer;    /* without a group */
    struct start start;
    struct format format;
    struct json_out json;
    struct progress progress;
    uint64_t records;
    bool failed;
};

/* Where --offset is in that partition: an offset or an OFFSET_. */
MUST_CHECK enum err consume_start(struct consume *k, const char *topic, int32_t partition, int64_t *out);
/* Prints a record or an error; other events pass. */
void consume_event(struct consume *k, const struct consumer_event *e);

/* cmd_consume_group.c */
int consume_group(struct consume *k);
/* Whether topics and options fit each other; else says why not. */
bool consume_args_ok(const struct options *o);
#endif
