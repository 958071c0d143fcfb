/* mutants.h - rules that tests leave out one at a time, to show that the simulator would notice.
 *
 * Only the library that tests link has them (tests/CMakeLists.txt defines VARVE_MUTANTS for it); everywhere else MUTANT() is
 * a constant and the compiler removes it. Names are those of docs/replication.md 13. */
#ifndef REPLICATION_MUTANTS_H
#define REPLICATION_MUTANTS_H

#define REPLICA_MUTANTS(M)                                                                                              \
    M(ACK_BEFORE_FSYNC) M(ACK_NO_EPOCH) M(ACK_NO_INC) M(ACK_OWN_LEO) M(CAND_NO_PERSIST) M(CFG_NO_COMMIT) M(CFG_NO_CQC)    \
    M(CFG_VOTE) M(COMMIT_OLD_EPOCH) M(DROP_ZERO_LEN) M(EMPTY_ACK_EARLY) M(EXPOSE_HW_EARLY) M(FOLLOWER_HW_LEO) M(GC) M(GRANT_OF_ANY_LOG)      \
    M(MARKER_OFFSET_ONLY) M(NO_GOSSIP) M(OBSERVED_EARLY) M(OWN_VOTE_EARLY) M(PREFIX_DROP_AT_LSO) M(READ_AT_ONCE) M(START_FORGOTTEN) M(TRUNC_BY_OFFSET) M(TRUNC_TO_REQUEST) M(VOTE_LAST_RECORD)   \
    M(BACK_IN_ANY_ROUND) M(VOTE_NO_PERSIST)                                                                                                  \
    /* of the shell and its disk: the simulator does these */                                                           \
    M(AMNESIA_SAME_ID) M(MARKER_BEFORE_DATA) M(TRUNC_NOT_DURABLE)

enum replica_mutant {
    REPLICA_MUTANT_NONE,
#define REPLICA_MUTANT_ENUM(name) REPLICA_MUTANT_##name,
    REPLICA_MUTANTS(REPLICA_MUTANT_ENUM)
#undef REPLICA_MUTANT_ENUM
    REPLICA_MUTANT_COUNT
};

#ifdef VARVE_MUTANTS
extern int replica_mutant_now;           /* what replicas of this process begin with (replica_init) */
#define MUTANT(owner, name) ((owner)->mutant == REPLICA_MUTANT_##name)
#define MUTANT_ANY(owner) ((owner)->mutant != REPLICA_MUTANT_NONE)
#else
#define MUTANT_ANY(owner) ((void)(owner), 0)
#define MUTANT(owner, name) ((void)(owner), 0)
#endif
#endif
