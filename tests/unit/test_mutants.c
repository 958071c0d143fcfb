/* test_mutants.c - breaks each rule of the journal (log/mutant.h) and demands that the crash tests notice.
 *
 * mutant_journal, mutant_log_crash and mutant_log_space are those tests over a library whose rules can be broken; here they are run with
 * one rule broken and one test chosen. Normally with the test that is quickest to notice; with VARVE_MUTANTS=all (tests/run.sh
 * --mutants) also with the random lives, from seeds never tried before. */
#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "tests/unit/mutants.h"

enum { SURVIVED = 0, NOTICED = 1, SECONDS_MAX = 300 };

static const struct { const char *mutant, *program, *quick; unsigned seeds; bool random; unsigned from; } table[] = {
    {"ack-early", "mutant_journal", "every", 600, true, 1},
    {"no-chain", "mutant_journal", "every", 600, true, 1},
    {"no-salt", "mutant_journal", "salt", 0, false, 1}, /* START torn, the next group whole, a second crash: directed */
    {"free-early", "mutant_journal", "random", 600, true, 1},
    {"file-first", "mutant_log_crash", "random", 300, true, 1},
    {"w-kept", "mutant_log_crash", "cut", 0, true, 1},
    {"no-image", "mutant_log_crash", "torn", 0, true, 1},
    {"no-image-checkpoint", "mutant_log_crash", "random", 300, true, 1},
    {"no-image-recovery", "mutant_log_crash", "cut", 0, false, 1}, /* two crashes, with a TRUNCATE between */
    {"old-image", "mutant_log_crash", "random", 300, true, 1},
    {"image-unused", "mutant_log_crash", "torn", 0, true, 1},
    {"cut-at-damage", "mutant_journal", "flip", 0, false, 1}, /* crashes do not damage what was durable */
    {"by-name", "mutant_log_crash", "random", 300, true, 1},
    {"unlink-early", "mutant_log_crash", "random", 300, true, 1},
    {"footer-first", "mutant_journal", "random", 600, true, 1},
    {"footer-unpadded", "mutant_journal", "random", 600, true, 1},
    {"readable-is-durable", "mutant_journal", "every", 600, true, 1},
    {"no-hold", "mutant_journal", "random", 600, true, 1},
    {"cut-late", "mutant_log_crash", "random", 300, true, 1},
    {"torn-index", "mutant_log_crash", "torn", 0, false, 1},
    {"nothing-owed", "mutant_log_space", "space", 60, false, 1000},
    {"piece-forgotten", "mutant_log_space", "space", 60, false, 1000},
};
enum { TABLE_COUNT = sizeof table / sizeof table[0] };

static void child(const char *program, const char *mutant, const char *test, unsigned seeds, unsigned from, int out) {
    char path[4096], number[16];
    snprintf(path, sizeof path, "%s/%s", MUTANTS_DIR, program);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    setenv("VARVE_MUTANT", mutant, 1);
    setenv("CK_RUN_CASE", test, 1);
    setenv("CK_FORK", "no", 1);
    snprintf(number, sizeof number, "%u", seeds);
    setenv("VARVE_SEEDS", number, 1);
    snprintf(number, sizeof number, "%u", from);
    setenv("VARVE_SEED_FROM", number, 1);
    alarm(SECONDS_MAX);
    execl(path, path, (char *)NULL);
    _exit(127);
}

/* NOTICED: a check failed, or an assertion of the log. What it said is in `said`. */
static int run(const char *program, const char *mutant, const char *test, unsigned seeds, unsigned from, char said[400]) {
    int out[2], status;
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) child(program, mutant, test, seeds, from, out[1]);
    close(out[1]);
    static char all[1 << 16];
    size_t len = 0;
    for (ssize_t n; (n = read(out[0], all + len, len < sizeof all / 2 ? sizeof all - 1 - len : 1)) > 0;) len += len < sizeof all / 2 ? (size_t)n : 0;
    all[len] = 0;
    close(out[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    const char *line = strstr(all, ":F:");
    snprintf(said, 400, "%.390s", line ? line : all);
    said[strcspn(said, "\n")] = 0;
    if (strstr(all, "Checks: 0")) return -1; /* there is no such test */
    if (WIFSIGNALED(status)) return WTERMSIG(status) == SIGABRT ? NOTICED : -WTERMSIG(status);
    return WEXITSTATUS(status);
}

START_TEST(every_broken_rule_is_noticed) {
    char said[400];
    int rc = run(table[_i].program, table[_i].mutant, table[_i].quick, table[_i].seeds, table[_i].from, said);
    if (getenv("VARVE_TRACE")) fprintf(stderr, "%s: %s\n", table[_i].mutant, said);
    ck_assert_msg(rc == NOTICED, "%s: %s %s: %d: %s", table[_i].mutant, table[_i].program, table[_i].quick, rc, said);
    const char *all = getenv("VARVE_MUTANTS");
    if (!all || strcmp(all, "all") != 0 || !table[_i].random) return;
    unsigned from;
    ck_assert_int_eq(getentropy(&from, sizeof from), 0);
    rc = run(table[_i].program, table[_i].mutant, "random", 3000, from, said);
    printf("%s: random lives from seed %u: %s\n", table[_i].mutant, from, said);
    ck_assert_msg(rc == NOTICED, "%s: random lives from seed %u: %d: %s", table[_i].mutant, from, rc, said);
}
END_TEST

/* With no rule broken the same programs find nothing. */
START_TEST(the_sound_journal_passes) {
    static const struct { const char *program, *test; unsigned seeds; } sound[] = {
        {"mutant_journal", "salt", 0}, {"mutant_journal", "random", 40}, {"mutant_log_crash", "cut", 0},
        {"mutant_log_crash", "torn", 0}, {"mutant_log_crash", "random", 40}, {"mutant_log_space", "space", 5},
        {"mutant_log_crash", "memory", 150}}; /* where memory ends, which only these programs can try */
    for (size_t i = 0; i < sizeof sound / sizeof sound[0]; i++) {
        char said[400];
        int rc = run(sound[i].program, "none", sound[i].test, sound[i].seeds, 1, said);
        ck_assert_msg(rc == SURVIVED, "%s %s: %d: %s", sound[i].program, sound[i].test, rc, said);
    }
    char said[400];
    ck_assert_int_eq(run("mutant_journal", "no-such-rule", "salt", 0, 1, said), MUTANT_UNKNOWN_EXIT);
}
END_TEST

static bool holds(const char *path, const char *word) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s: cannot be read", path);
    ck_assert_int_eq(fseek(f, 0, SEEK_END), 0);
    size_t len = (size_t)ftell(f);
    rewind(f);
    char *all = malloc(len + 1);
    ck_assert_ptr_nonnull(all);
    ck_assert_uint_eq(fread(all, 1, len, f), len);
    fclose(f);
    bool found = memmem(all, len, word, strlen(word)) != NULL;
    free(all);
    return found;
}

START_TEST(programs_for_users_cannot_be_broken) {
    ck_assert(holds(MUTANTS_DIR "/mutant_journal", "mutant_now"));
    ck_assert(!holds(VARVED, "mutant_now"));
    ck_assert(!holds(VARVE, "mutant_now"));
}
END_TEST

int main(void) {
    Suite *s = suite_create("mutants");
    TCase *t = tcase_create("mutants");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, every_broken_rule_is_noticed, 0, TABLE_COUNT);
    tcase_add_test(t, the_sound_journal_passes);
    tcase_add_test(t, programs_for_users_cannot_be_broken);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failures = srunner_ntests_failed(r);
    srunner_free(r);
    return failures != 0;
}
