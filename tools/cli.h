/* cli.h - what the commands that talk to a broker share. */
#ifndef TOOLS_CLI_H
#define TOOLS_CLI_H
#include <stdio.h>
#include "tools/options.h"

int cmd_topic_create(const struct options *o);
int cmd_topic_list(const struct options *o);
int cmd_topic_describe(const struct options *o);
int cmd_topic_alter(const struct options *o);
int cmd_topic_delete(const struct options *o);
int cmd_topic_trim(const struct options *o);
int cmd_topic_explain(const struct options *o);
int cmd_produce(const struct options *o);
int cmd_consume(const struct options *o);
int cmd_group_list(const struct options *o);
int cmd_group_describe(const struct options *o);
int cmd_group_members(const struct options *o);
int cmd_group_offsets(const struct options *o);
int cmd_group_seek(const struct options *o);
int cmd_group_delete(const struct options *o);
int cmd_group_explain(const struct options *o);
int cmd_cluster_describe(const struct options *o);
int cmd_cluster_alter(const struct options *o);
int cmd_cluster_status(const struct options *o);
int cmd_cluster_nodes(const struct options *o);
int cmd_cluster_partitions(const struct options *o);
int cmd_cluster_explain(const struct options *o);
int cmd_cluster_move(const struct options *o);
int cmd_cluster_drain(const struct options *o);
int cmd_cluster_add(const struct options *o);
int cmd_cluster_remove(const struct options *o);
int cmd_dump(int argc, char **argv);

/* A client that has reached a broker. NULL: the reason was printed, `*code` is the exit code. */
struct client *cli_connect(const struct options *o, int *code);
/* Prints "varve COMMAND: WHAT: reason" after a failed call; the exit code for it. `what` may be NULL. */
int cli_failed(const struct options *o, const struct client *c, enum err err, const char *what);
/* stdout, flushed: EXIT_FAILED with a message when writing failed, else `code`. */
int cli_finish(const struct options *o, int code);

/* ---- tables: columns as wide as their widest cell, two blanks apart ------------------------ */

enum { TABLE_COLUMNS_MAX = 10 };
struct table {
    int columns;
    bool right[TABLE_COLUMNS_MAX]; /* aligned to the right */
    char **cells;                  /* row by row, the head first; owned */
    size_t count;
};
/* `head`: names separated by blanks; a `>` before one aligns its column to the right. */
void table_init(struct table *t, const char *head);
void table_cell(struct table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* To stdout; frees. The head is bold on a terminal, unless NO_COLOR is set. */
void table_print(struct table *t);
void table_free(struct table *t); /* without printing */

/* ---- progress: one line on stderr that overwrites itself, on a terminal only ---------------- */

struct progress {
    bool on;
    int64_t begin_ms, shown_ms;
    uint64_t shown_count;
};
void progress_init(struct progress *p, const struct options *o);
/* `more` is appended ("3 failed"); may be NULL. Shows at most five times a second. */
void progress_show(struct progress *p, uint64_t count, const char *unit, const char *more);
void progress_end(struct progress *p); /* clears the line */

/* ---- signals: SIGINT and SIGTERM become a readable file, so that the command ends in order -- */

int signals_open(void);            /* -1: not to be had, signals act as usual */
bool signals_pending(int fd);
void signals_default(int fd);      /* the next one ends the process */

int64_t now_ms(void);              /* monotonic */
#endif
