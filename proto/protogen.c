/* protogen.c - turns proto/kafka.schema into C: protogen SCHEMA OUTDIR
 *
 *   OUTDIR/kafka_messages.h, .c            structs, init, decode, encode (proto/kafka_api.h)
 *   OUTDIR/kafka_messages_test.h, .c       random values, comparison, text form; for tests only */
#include <stdlib.h>
#include <string.h>
#include "protogen.h"

static void write_file(const char *dir, const char *name, void (*write)(FILE *out, const struct schema *s),
                       const struct schema *s) {
    char path[4096], *text;
    size_t len;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", dir, name) >= sizeof path) exit(1);
    FILE *memory = open_memstream(&text, &len);
    if (!memory) abort();
    write(memory, s);
    if (fclose(memory) != 0) abort();
    FILE *out = fopen(path, "w");
    if (!out || fwrite(text, 1, len, out) != len || fclose(out) != 0) {
        fprintf(stderr, "protogen: %s: ", path);
        perror(NULL);
        exit(1);
    }
    free(text);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: protogen SCHEMA OUTDIR\n");
        return 2;
    }
    struct schema s = schema_read(argv[1]);
    write_file(argv[2], "kafka_messages.h", code_write_header, &s);
    write_file(argv[2], "kafka_messages.c", code_write_source, &s);
    write_file(argv[2], "kafka_messages_test.h", test_write_header, &s);
    write_file(argv[2], "kafka_messages_test.c", test_write_source, &s);
    return 0;
}
