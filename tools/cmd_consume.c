/* cmd_consume.c - varve consume: prints the records of a topic. */
#include <errno.h>
#include <stdlib.h>
#include "base/assert.h"
#include "tools/consume.h"

enum { OUTPUT_BYTES = 1 << 20, POLL_MS = 500, BURST_EVENTS = 1000 };

/* ---- where to begin ---------------------------------------------------------------------- */

static bool start_parse(const char *text, struct start *out) {
    char *end;
    if (strcmp(text, "beginning") == 0 || strcmp(text, "earliest") == 0) *out = (struct start){START_BEGINNING, 0};
    else if (strcmp(text, "end") == 0 || strcmp(text, "latest") == 0) *out = (struct start){START_END, 0};
    else {
        if (*text == 's' && text[1] == '@') text++; /* kcat's spelling */
        out->kind = *text == '@' ? START_TIME : *text == '-' ? START_LAST : START_OFFSET;
        if (out->kind != START_OFFSET) text++;
        errno = 0;
        out->n = strtoll(text, &end, 10);
        return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
    }
    return true;
}

enum err consume_start(struct consume *k, const char *topic, int32_t partition, int64_t *out) {
    struct start start = k->start;
    struct client_offset at;
    enum err err = OK;
    *out = start.n;
    switch (start.kind) {
    case START_BEGINNING: *out = OFFSET_EARLIEST; break;
    case START_END: *out = OFFSET_LATEST; break;
    case START_OFFSET: break;
    case START_LAST:
        err = client_list_offset(k->client, topic, partition, OFFSET_EARLIEST, k->o->timeout_ms, &at);
        if (err != OK) break;
        int64_t earliest = at.offset;
        err = client_list_offset(k->client, topic, partition, OFFSET_LATEST, k->o->timeout_ms, &at);
        *out = MAX(earliest, at.offset - MIN(start.n, at.offset));
        break;
    case START_TIME:
        err = client_list_offset(k->client, topic, partition, start.n, k->o->timeout_ms, &at);
        *out = at.offset < 0 ? OFFSET_LATEST : at.offset;
        break;
    }
    return err;
}

static int assign(struct consume *k) {
    const struct options *o = k->o;
    int32_t count;
    enum err err = client_partition_count(k->client, o->args[0], false, o->timeout_ms, &count);
    if (err != OK) return cli_failed(o, k->client, err, o->args[0]);
    if (o->partition >= count) {
        fprintf(stderr, "varve consume: %s has no partition %d, only %d\n", o->args[0], o->partition, count);
        return EXIT_FAILED;
    }
    for (int32_t i = 0; i < count; i++) {
        int64_t offset;
        if (o->partition >= 0 && i != o->partition) continue;
        err = consume_start(k, o->args[0], i, &offset);
        if (err == OK) err = consumer_assign(k->consumer, o->args[0], i, offset);
        if (err != OK) return cli_failed(o, k->client, err, o->args[0]);
    }
    return EXIT_OK;
}

/* ---- the loop ---------------------------------------------------------------------------- */

void consume_event(struct consume *k, const struct consumer_event *e) {
    if (e->kind == CONSUMER_RECORD) {
        k->records++;
        if (k->o->json) format_envelope(&k->json, e);
        else format_record(stdout, &k->format, e);
    } else if (e->kind == CONSUMER_ERROR) {
        progress_end(&k->progress);
        fprintf(stderr, "varve consume: %s [%d]: %s\n", e->topic, e->partition, e->message ? e->message : err_str(e->err));
        k->failed = true;
    }
}

static void event(struct consume *k, const struct consumer_event *e) {
    consume_event(k, e);
    if (e->kind == CONSUMER_END && k->o->exit_at_end) consumer_unassign(k->consumer, k->o->args[0], e->partition);
}

static bool enough(const struct consume *k) {
    return (k->o->count >= 0 && k->records >= (uint64_t)k->o->count) || consumer_assigned_count(k->consumer) == 0;
}

static int loop(struct consume *k, int signals) {
    const struct consumer_event *e;
    while (!enough(k) && !ferror(stdout) && !signals_pending(signals)) {
        /* What is there is printed without pause; before waiting, all of it is out. */
        enum err err = OK;
        for (int i = 0; i < BURST_EVENTS && err == OK && !enough(k); i++) {
            err = consumer_poll(k->consumer, 0, &e);
            if (err == OK) event(k, e);
        }
        progress_show(&k->progress, k->records, "records", NULL);
        if (err == ERR_TIMEOUT) {
            int code = cli_finish(k->o, EXIT_OK);
            if (code != EXIT_OK) return code;
            err = consumer_poll(k->consumer, POLL_MS, &e);
            if (err == OK) event(k, e);
        }
        if (err != OK && err != ERR_TIMEOUT) return cli_failed(k->o, k->client, err, NULL);
    }
    return k->failed ? EXIT_FAILED : EXIT_OK;
}

static int run(struct consume *k) {
    struct consumer_config cfg;
    consumer_config_init(&cfg);
    k->consumer = consumer_create(k->client, &cfg);
    if (!k->consumer) return cli_failed(k->o, k->client, ERR_NOMEM, NULL);
    int code = assign(k);
    if (code == EXIT_OK) {
        int signals = signals_open();
        progress_init(&k->progress, k->o);
        code = loop(k, signals);
        signals_default(signals);
        progress_end(&k->progress);
    }
    consumer_destroy(k->consumer);
    return code;
}

int cmd_consume(const struct options *o) {
    struct consume k = {.o = o};
    char wrong = 0;
    int code;
    if (!start_parse(o->offset, &k.start)) {
        fprintf(stderr, "varve consume: \"%s\" is not a value for --offset\ntry: varve consume --help\n", o->offset);
        return EXIT_USAGE;
    }
    if (!format_parse(&k.format, o->format ? o->format : "%s\\n", &wrong)) {
        fprintf(stderr, "varve consume: %%%c means nothing in a format\ntry: varve consume --help\n", wrong ? wrong : ' ');
        return EXIT_USAGE;
    }
    if (!consume_args_ok(o)) {
        format_free(&k.format);
        return EXIT_USAGE;
    }
    k.format.null_text = o->null_empty;
    k.client = cli_connect(o, &code);
    if (k.client) {
        char *buffer = malloc(OUTPUT_BYTES);
        ASSERT(buffer != NULL);
        setvbuf(stdout, buffer, _IOFBF, OUTPUT_BYTES);
        json_init(&k.json, stdout);
        code = cli_finish(o, o->group ? consume_group(&k) : run(&k));
        client_destroy(k.client);
        setvbuf(stdout, NULL, _IONBF, 0);
        free(buffer);
    }
    format_free(&k.format);
    return code;
}
