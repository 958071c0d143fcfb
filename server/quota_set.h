/* quota_set.h - client quotas as they are set (KIP-13, KIP-257, KIP-546, KIP-599, KIP-612), and which one applies.
 *
 * An entity names a user, a client id, both, or an IP address; each by name or as the default of its type. For a user and
 * a client id the first of these that sets the key applies:
 *
 *   user + client id, user + default client id, user, default user + client id, default users' default client id,
 *   default user, client id, default client id
 *
 * and everybody whom it applies to by the same user or client id shares one bucket: a default is a limit for each, not for
 * all together. The list is in one piece, immutable once published with its image; editions share the entries.
 *
 * Pure; entries are counted by reactor 0 alone, which makes and frees all of them. */
#ifndef SERVER_QUOTA_SET_H
#define SERVER_QUOTA_SET_H
#include <stddef.h>
#include "base/bytes.h"
#include "base/compiler.h"
#include "base/err.h"

enum quota_type { QUOTA_USER, QUOTA_CLIENT, QUOTA_IP, QUOTA_TYPES };
enum quota_key {
    QUOTA_PRODUCER_BYTES,      /* bytes a second, whole requests */
    QUOTA_CONSUMER_BYTES,      /* bytes a second of records */
    QUOTA_REQUEST_PERCENT,     /* of one thread's time */
    QUOTA_CONTROLLER_CHANGES,  /* partitions made or removed, a second */
    QUOTA_CONNECTIONS,         /* new connections of an address, a second */
    QUOTA_KEYS,
    QUOTA_CLIENT_KEYS = QUOTA_CONNECTIONS /* those of users and client ids */
};
enum { QUOTA_ENTITIES_MAX = 10000, QUOTA_NAME_BYTES_MAX = 512 };

struct quota_entity {
    bool has[QUOTA_TYPES];
    struct str name[QUOTA_TYPES]; /* of those that it has; null: the default */
};
struct quota {
    uint32_t refs;
    struct quota_entity entity;   /* names lie behind the entry */
    double values[QUOTA_KEYS];    /* 0: not set */
};
struct quota_set {
    uint64_t edition;             /* of the image that it was made for */
    struct quota **list;          /* ascending: quota_entity_order() */
    uint32_t count, cap;
    uint32_t setting[QUOTA_KEYS]; /* how many entities set the key */
};

const char *quota_type_name(enum quota_type type);   /* "user", "client-id", "ip" */
bool quota_type_find(struct str name, enum quota_type *type);
const char *quota_key_name(enum quota_key key);      /* "producer_byte_rate", ... */
bool quota_key_find(struct str name, enum quota_key *key);

/* As Kafka checks them: NULL, or what is wrong with an entity, or with a key and its value for a good entity. */
const char *quota_entity_problem(const struct quota_entity *e);
const char *quota_value_problem(const struct quota_entity *e, enum quota_key key, double value);
/* Addresses are compared and shown as inet_ntop() writes them, IPv4 in IPv6 as IPv4. False: not an address. */
enum { QUOTA_ADDRESS_BYTES = 46 };
bool quota_address(struct str text, char out[QUOTA_ADDRESS_BYTES]);

/* ---- making one: reactor 0 ---- */
/* A copy for `edition` that shares the entries of `from` (NULL: empty). NULL: no memory. */
MUST_CHECK struct quota_set *quota_set_copy(const struct quota_set *from, uint64_t edition);
/* Value 0 removes. ERR_INVALID: an entity that cannot be. ERR_NOMEM: unchanged. */
MUST_CHECK enum err quota_set_put(struct quota_set *s, const struct quota_entity *e, enum quota_key key, double value);
void quota_set_free(struct quota_set *s);            /* NULL is fine */

/* ---- reading one: any thread; NULL is an empty set ---- */
const struct quota *quota_set_find(const struct quota_set *s, const struct quota_entity *e);
/* What applies: 0 is no limit. `by_user`, `by_client`: what the bucket is named by. */
double quota_set_limit(const struct quota_set *s, enum quota_key key, struct str user, struct str client, bool *by_user,
                       bool *by_client);
double quota_set_connections(const struct quota_set *s, struct str address);
#endif
