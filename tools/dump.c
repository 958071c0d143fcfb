/* dump.c - `varve dump`: shows what files hold, or verifies them. Formats: docs/storage.md. */
#include "tools/dump.h"
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "log/kafka_files.h"
#include "log/names.h"
#include "tools/dump_compare.h"
#include "tools/dump_repair.h"

enum { EXIT_READ = 1, EXIT_USAGE = 2, EXIT_DAMAGE = 3, DEPTH_MAX = 8 };

static const char help[] =
    "usage: varve dump [--records] [--follow] [FILTER...] [--json] FILE|DIR...\n"
    "       varve dump --summary [FILTER...] [--json] FILE|DIR...\n"
    "       varve dump --verify [--json] FILE|DIR...\n"
    "       varve dump --repair [--to DIR | --in-place] [--json] DIR\n"
    "       varve dump --compare [--json] A B\n"
    "\n"
    "Shows what the files of a broker hold: .log, .index, .timeindex, .txnindex, .snapshot,\n"
    "leader-epoch-checkpoint, partition.metadata, offset checkpoints, varve.manifest, varve.meta,\n"
    "and the commit journal (catalog, *.vj). Works on Kafka's own files, and while a broker is running.\n"
    "\n"
    "  --records   also the records of each batch, and the entries of each journal group\n"
    "              (of __consumer_offsets and __cluster_metadata in words; of files elsewhere too with\n"
    "              --offsets-decoder, --cluster-metadata-decoder)\n"
    "  --summary   figures about each partition instead: batches, records, codecs, sizes, times, gaps, producers, keys\n"
    "  --follow    go on with what is added to .log files, from segment to segment, until interrupted\n"
    "  --json      one JSON object a line\n"
    "  --verify    show nothing but damage: FILE: position P: WHAT\n"
    "\n"
    "Filters look at .log files only, and show what fits all of them:\n"
    "  --from N|@TIME      records from this offset or time on; TIME is in ms, or 2026-11-28T09:00:00 (UTC)\n"
    "  --to N|@TIME        records before this offset or time\n"
    "  --key TEXT          records with this key\n"
    "  --grep TEXT         records whose key or value holds TEXT\n"
    "  --header NAME[=V]   records with this header\n"
    "  --repair    say what would be done to DIR (a data directory, or a partition folder, Kafka's too) so that a broker can serve\n"
    "              whatever is readable; --to writes a repaired copy, --in-place changes DIR, which no broker may be using. What is taken\n"
    "              out is kept in a folder beside it (NAME.damaged), and said with its offsets\n"
    "  --compare   whether two partition folders, or the partitions that two data directories both have, hold the same batches where\n"
    "              both hold some: the offsets of each, and the first difference. Different ends are one, too, after a clean stop\n"
    "  --help\n"
    "\n"
    "Exit code: 0 all well (repaired, with --to or --in-place), 1 something cannot be read, 2 usage, 3 damage, or a difference.\n";

/* ---- what is said about a file ---- */

void dump_damage(struct dump *d, const char *path, uint64_t position, const char *fmt, ...) {
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    d->damages++;
    if (d->json) {
        json_object(&d->out, NULL);
        json_text(&d->out, "type", "damage");
        json_text(&d->out, "file", path);
        json_u64(&d->out, "position", position);
        json_text(&d->out, "what", what);
        json_object_end(&d->out);
        json_line(&d->out);
        return;
    }
    if (!d->verify) fflush(stdout);
    fprintf(d->verify ? stdout : stderr, "%s: position %" PRIu64 ": %s\n", path, position, what);
}

void dump_note(struct dump *d, const char *path, const char *fmt, ...) {
    char what[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof what, fmt, args);
    va_end(args);
    if (!d->verify) fflush(stdout);
    fprintf(stderr, "%s: %s\n", path, what);
}

void dump_unreadable(struct dump *d, const char *path, int neg_errno) {
    if (d->walking && neg_errno == -ENOENT) return;
    d->unreadable = true;
    fflush(stdout);
    fprintf(stderr, "varve dump: %s: %s\n", path, strerror(-neg_errno));
}

/* ---- kinds of files ---- */

enum kind { KIND_NONE, KIND_LOG, KIND_INDEX, KIND_TIMES, KIND_TXN, KIND_SNAPSHOT, KIND_TEXT, KIND_MANIFEST, KIND_META,
           KIND_PIECE, KIND_CATALOG };

static bool has_suffix(const char *name, const char *suffix) {
    size_t len = strlen(name), tail = strlen(suffix);
    return len > tail && strcmp(name + len - tail, suffix) == 0;
}

static enum kind kind_of(const char *name, int64_t *base) {
    static const char *const texts[] = {EPOCH_CHECKPOINT_FILE, PARTITION_METADATA_FILE, RECOVERY_POINT_FILE,
                                        REPLICATION_OFFSET_FILE, LOG_START_OFFSET_FILE};
    if (file_parse(name, base) == FILE_OTHER) *base = -1;
    if (has_suffix(name, ".log")) return KIND_LOG;
    if (has_suffix(name, ".index")) return KIND_INDEX;
    if (has_suffix(name, ".timeindex")) return KIND_TIMES;
    if (has_suffix(name, ".txnindex")) return KIND_TXN;
    if (has_suffix(name, ".snapshot")) return KIND_SNAPSHOT;
    if (has_suffix(name, ".vj")) return KIND_PIECE;
    if (strcmp(name, MANIFEST_FILE) == 0) return KIND_MANIFEST;
    if (strcmp(name, "varve.meta") == 0) return KIND_META;
    if (strcmp(name, "catalog") == 0) return KIND_CATALOG;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (strcmp(name, texts[i]) == 0) return KIND_TEXT;
    return KIND_NONE;
}

static const char *name_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static char *folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    if (!slash) return strdup(".");
    return slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
}

bool dump_folder_is_of(const char *path, const char *prefix) {
    const char *slash = strrchr(path, '/'), *name = slash;
    while (name && name > path && name[-1] != '/') name--;
    return name && strncmp(name, prefix, strlen(prefix)) == 0;
}

static void print_file(struct dump *d, const char *path, enum kind kind, int64_t base) {
    if (!d->json && !d->summary) printf("Dumping %s\n", path);
    if (kind == KIND_LOG) print_log(d, path, base);
    else if (kind == KIND_INDEX) print_index(d, path, base);
    else if (kind == KIND_TIMES) print_time_index(d, path, base);
    else if (kind == KIND_TXN) print_txn_index(d, path);
    else if (kind == KIND_SNAPSHOT) print_snapshot(d, path);
    else if (kind == KIND_TEXT) print_text_file(d, path, name_of(path));
    else if (kind == KIND_MANIFEST) print_manifest(d, path);
    else if (kind == KIND_META) print_meta(d, path);
    else if (kind == KIND_PIECE) print_journal_piece(d, path);
    else if (kind == KIND_CATALOG) print_catalog(d, path);
}

static void verify_part(struct dump *d, const struct folder *f, const char *path, int64_t base, unsigned what) {
    char *stem = strndup(path, (size_t)(strrchr(path, '.') - path));
    if (stem) verify_segment(d, f, stem, base, what);
    else dump_unreadable(d, path, -ENOMEM);
    free(stem);
}

/* `f` is the folder that the file lies in; `beside`: its log is verified too, and its indexes with it. */
static void verify_file(struct dump *d, const struct folder *f, const char *path, enum kind kind, int64_t base,
                        bool beside) {
    if (kind == KIND_LOG) verify_part(d, f, path, base, beside ? VERIFY_LOG | VERIFY_INDEX | VERIFY_TIMES : VERIFY_LOG);
    else if (kind == KIND_INDEX && !beside) verify_part(d, f, path, base, VERIFY_INDEX);
    else if (kind == KIND_TIMES && !beside) verify_part(d, f, path, base, VERIFY_TIMES);
    else if (kind == KIND_SNAPSHOT) verify_snapshot(d, path);
    else if (kind == KIND_TEXT) verify_text_file(d, path, name_of(path));
    else if (kind == KIND_MANIFEST) verify_manifest(d, path);
    else if (kind == KIND_META) verify_meta(d, path);
    else if (kind == KIND_CATALOG) verify_catalog(d, path);
    else if (kind == KIND_PIECE && !beside) verify_journal_piece(d, path);
}

/* With filters, and for figures, the rest of a folder is of no interest. */
static bool only_logs(const struct dump *d) { return d->summary || filter_any(&d->filter); }

static void say_missing(struct dump *d, const char *path, int error) {
    struct str topic;
    int32_t partition;
    bool hint = error == ENOENT && folder_parse(name_of(path), &topic, &partition) == FOLDER_PARTITION;
    d->unreadable = true;
    fflush(stdout);
    fprintf(stderr, "varve dump: %s: %s%s\n", path, strerror(error), hint ? " (a partition that never had records has no folder)" : "");
}

static void dump_file(struct dump *d, const char *path) {
    int64_t base;
    enum kind kind = kind_of(name_of(path), &base);
    if (kind == KIND_NONE) {
        d->unreadable = true;
        fprintf(stderr, "varve dump: %s: not a kind of file that is known here\n", path);
        return;
    }
    d->files++;
    if (!d->verify) {
        print_file(d, path, kind, base);
        return;
    }
    struct folder f;
    char *folder = folder_of(path);
    folder_load(&f, folder ? folder : ".", NULL);
    verify_file(d, &f, path, kind, base, false);
    folder_free(&f);
    free(folder);
}

/* ---- folders ---- */

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void names_free(struct names *n) {
    for (size_t i = 0; i < n->count; i++) free(n->v[i]);
    free(n->v);
}

int names_read(const char *path, struct names *n) {
    *n = (struct names){0};
    DIR *dir = opendir(path);
    if (!dir) return -errno;
    for (struct dirent *e; (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        if (n->count == n->cap) {
            size_t cap = n->cap ? n->cap * 2 : 64;
            char **grown = realloc(n->v, cap * sizeof *grown);
            if (!grown) break;
            n->v = grown;
            n->cap = cap;
        }
        if (!(n->v[n->count] = strdup(e->d_name))) break;
        n->count++;
    }
    closedir(dir);
    if (n->count > 0) qsort(n->v, n->count, sizeof *n->v, by_name);
    return 0;
}

static bool has_name(const struct names *n, const char *name) {
    return n->count > 0 && bsearch(&name, n->v, n->count, sizeof *n->v, by_name);
}

static bool log_is_beside(const struct names *n, const char *name) {
    char log[300];
    snprintf(log, sizeof log, "%.*s.log", (int)(strrchr(name, '.') - name), name);
    return has_name(n, log);
}

static bool is_dir(const char *path, bool follow) {
    struct stat st;
    return (follow ? stat(path, &st) : lstat(path, &st)) == 0 && S_ISDIR(st.st_mode);
}

static void summary_say(struct dump *d, const char *name) {
    if (!d->summary || d->summary->files == 0) return;
    if (d->json) summary_json(d->summary, name, &d->out);
    else summary_text(d->summary, name);
    summary_free(d->summary);
    summary_init(d->summary);
}

static void visit_file(struct dump *d, const struct folder *f, const struct names *names, const char *path,
                       const char *name) {
    int64_t base;
    enum kind kind = kind_of(name, &base);
    if (kind == KIND_NONE || (kind != KIND_LOG && only_logs(d))) return;
    d->files++;
    if (!d->verify) {
        print_file(d, path, kind, base);
        return;
    }
    bool index = kind == KIND_INDEX || kind == KIND_TIMES;
    bool beside = kind == KIND_PIECE || kind == KIND_LOG || (index && log_is_beside(names, name));
    verify_file(d, f, path, kind, base, beside);
}

static void visit(struct dump *d, const char *path, int depth) {
    struct names names;
    struct folder f = {0};
    int err = names_read(path, &names);
    if (err != 0) {
        dump_unreadable(d, path, err);
        return;
    }
    bool data_dir = has_name(&names, "varve.meta"), journal = has_name(&names, "catalog");
    if (d->verify && data_dir && !d->dir) d->dir = data_dir_load(path);
    if (d->verify) folder_load(&f, path, d->dir);
    for (size_t i = 0; i < names.count; i++) {
        char *below;
        if (asprintf(&below, "%s%s%s", path, has_suffix(path, "/") ? "" : "/", names.v[i]) < 0) break;
        bool deleted = has_suffix(names.v[i], "-delete");   /* its files are going away one by one */
        if (!is_dir(below, false)) visit_file(d, &f, &names, below, names.v[i]);
        else if (depth < DEPTH_MAX && !(deleted && d->verify)) visit(d, below, depth + 1);
        free(below);
    }
    summary_say(d, path);
    if (d->verify && journal) verify_journal(d, path);
    if (d->verify && data_dir) {
        verify_missing(d, path);
        data_dir_free(d->dir);
        d->dir = NULL;
    }
    folder_free(&f);
    names_free(&names);
}

/* ---- command line ---- */

static bool usage(int *exit_code, const char *what) {
    if (what) fprintf(stderr, "varve dump: %s\n", what);
    fputs(help, stderr);
    *exit_code = EXIT_USAGE;
    return false;
}

struct repair_options { bool repair, in_place, compare; const char *to; };

static bool parse_options(int argc, char **argv, struct dump *d, struct repair_options *repair, int *exit_code) {
    enum { REPAIR = 300, IN_PLACE, COMPARE, FROM = 256, TO, KEY, GREP, HEADER, SUMMARY, FOLLOW, OFFSETS, METADATA};
    static const struct option options[] = {
        {"records", no_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'}, {"verify", no_argument, NULL, 'v'}, {"help", no_argument, NULL, 'h'},
        {"from", required_argument, NULL, FROM}, {"to", required_argument, NULL, TO}, {"key", required_argument, NULL, KEY},
        {"grep", required_argument, NULL, GREP}, {"header", required_argument, NULL, HEADER}, {"summary", no_argument, NULL, SUMMARY},
        {"follow", no_argument, NULL, FOLLOW}, {"offsets-decoder", no_argument, NULL, OFFSETS}, {"repair", no_argument, NULL, REPAIR},
        {"cluster-metadata-decoder", no_argument, NULL, METADATA},
        {"in-place", no_argument, NULL, IN_PLACE}, {"compare", no_argument, NULL, COMPARE}, {NULL, 0, NULL, 0}};
    int c;
    bool summary = false;
    const char *to = NULL;
    optind = 1;
    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (c == 'r') d->records = true;
        else if (c == 'j') d->json = true;
        else if (c == 'v') d->verify = true;
        else if (c == SUMMARY) summary = true;
        else if (c == FOLLOW) d->follow = true;
        else if (c == OFFSETS) d->records = d->offsets_decoder = true;
        else if (c == METADATA) d->records = d->metadata_decoder = true;
        else if (c == KEY) d->filter.key = optarg;
        else if (c == GREP) d->filter.grep = optarg;
        else if (c == HEADER) filter_header(&d->filter, optarg);
        else if (c == REPAIR) repair->repair = true;
        else if (c == IN_PLACE) repair->in_place = true;
        else if (c == COMPARE) repair->compare = true;
        else if (c == TO) to = optarg;
        else if (c == FROM) {
            if (!bound_parse(optarg, &d->filter.from)) return usage(exit_code, "--from and --to take an offset, or @ and a time");
        } else {
            if (c != 'h') return usage(exit_code, NULL);
            fputs(help, stdout);
            *exit_code = 0;
            return false;
        }
    }
    if (optind == argc) return usage(exit_code, NULL);
    if (d->offsets_decoder && d->metadata_decoder) return usage(exit_code, "--offsets-decoder and --cluster-metadata-decoder do not go together");
    if (repair->compare) {
        if (repair->repair || repair->in_place || to || d->verify || d->records || summary || d->follow || filter_any(&d->filter))
            return usage(exit_code, "--compare goes with --json only");
        return true;
    }
    if (repair->repair) {
        repair->to = to;
        if (d->verify || d->records || summary || d->follow || filter_any(&d->filter)) return usage(exit_code, "--repair goes with --to, --in-place and --json only");
        return true;
    }
    if (repair->in_place) return usage(exit_code, "--in-place goes with --repair");
    if (to && !bound_parse(to, &d->filter.to)) return usage(exit_code, "--from and --to take an offset, or @ and a time");
    if (d->verify && (summary || d->follow || filter_any(&d->filter))) return usage(exit_code, "--verify looks at everything");
    if (summary && d->follow) return usage(exit_code, "--summary and --follow do not go together");
    if (filter_by_record(&d->filter)) d->records = true;
    if (summary && (d->summary = malloc(sizeof *d->summary))) summary_init(d->summary);
    if (!summary || d->summary) return true;
    fprintf(stderr, "varve dump: out of memory\n");
    *exit_code = EXIT_READ;
    return false;
}

int cmd_dump(int argc, char **argv) {
    struct dump d = {0};
    int exit_code;
    struct repair_options repair = {0}; /* or comparing */
    if (!parse_options(argc, argv, &d, &repair, &exit_code)) return exit_code;
    json_init(&d.out, stdout);
    if (repair.repair) {
        exit_code = dump_repair(&d, argv + optind, argc - optind, repair.to, repair.in_place);
        return fflush(stdout) == 0 && !ferror(stdout) ? exit_code : EXIT_READ;
    }
    if (repair.compare) {
        exit_code = dump_compare(&d, argv + optind, argc - optind);
        return fflush(stdout) == 0 && !ferror(stdout) ? exit_code : EXIT_READ;
    }
    if (d.follow) (void)dump_follow(&d, argv + optind, argc - optind);
    for (int i = optind; i < argc && !d.follow; i++) {
        d.walking = is_dir(argv[i], true);
        if (d.walking) visit(&d, argv[i], 0);
        else if (access(argv[i], F_OK) != 0) say_missing(&d, argv[i], errno);
        else dump_file(&d, argv[i]);
        summary_say(&d, argv[i]);
    }
    if (d.summary) summary_free(d.summary);
    free(d.summary);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "varve dump: cannot write: %s\n", strerror(errno));
        return EXIT_READ;
    }
    if (d.verify && !d.json)
        fprintf(stderr, "%" PRIu64 " files verified, %" PRIu64 " damaged places\n", d.files, d.damages);
    return d.damages > 0 ? EXIT_DAMAGE : d.unreadable ? EXIT_READ : 0;
}
