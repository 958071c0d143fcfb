/* mutant.h - rules of the journal that tests break, one at a time, to see that the crash tests notice (tests/README.md).
 *
 * Only the library that tests/CMakeLists.txt builds with VARVE_MUTANTS can break them. Everywhere else MUTANT() is the
 * constant false. Names are without prefix: what is left out or done wrong. */
#ifndef LOG_MUTANT_H
#define LOG_MUTANT_H
#ifdef VARVE_MUTANTS
#define MUTANTS(X)                                                                                                     \
    X(ACK_EARLY)           /* A3: a group counts although one before it is not on disk */                              \
    X(NO_CHAIN)            /* R2: prev is not compared */                                                              \
    X(NO_SALT)             /* every life has the same salt */                                                          \
    X(FREE_EARLY)          /* C4: pieces are free before the footer is durable */                                      \
    X(FILE_FIRST)          /* A4: bytes go to a file before their group is durable */                                  \
    X(W_KEPT)              /* T1: W stays where it is over a TRUNCATE */                                               \
    X(NO_IMAGE)            /* S3: blocks are written again, and cut, without an IMAGE */                               \
    X(NO_IMAGE_CHECKPOINT) /* S3: none for what a checkpoint between C1 and C3 has recorded */                         \
    X(NO_IMAGE_RECOVERY)   /* S3: none before recovery cuts a file */                                                  \
    X(OLD_IMAGE)           /* S3: an IMAGE of before S counts */                                                       \
    X(IMAGE_UNUSED)        /* R5: the block is not put right from its IMAGE */                                         \
    X(CUT_AT_DAMAGE)       /* R2: the journal ends at damage */                                                        \
    X(BY_NAME)             /* T2: a folder belongs to whoever has its name */                                          \
    X(OLD_GENERATION)      /* T2: what a RESET has discarded is taken for the log's */                                 \
    X(UNLINK_EARLY)        /* T2: segments go before their LOGSTART is durable */                                      \
    X(FOOTER_FIRST)        /* C3: a footer counts although the states before it are not whole */                       \
    X(FOOTER_UNPADDED)     /* the next checkpoint is appended to the block that holds the last footer */               \
    X(READABLE_IS_DURABLE) /* R1, R4: what recovery has read is not made durable */                                    \
    X(NO_HOLD)             /* C1: entries behind a shard's cut join groups up to S */                                  \
    X(CUT_LATE)            /* C1: a state is encoded with what has changed since the cut */                            \
    X(TORN_INDEX)          /* the torn end of an index is believed */                                                  \
    X(NOTHING_OWED)        /* disk space is counted for the bytes of batches only */                                   \
    X(PIECE_FORGOTTEN)     /* a piece that was made while nobody looked is counted as free space */
#define MUTANT_ENUM(name) MUTANT_##name,
enum mutant { MUTANT_NONE, MUTANTS(MUTANT_ENUM) MUTANT_COUNT };
extern enum mutant mutant_now;   /* tests/unit/mutants.c */
#define MUTANT(name) (mutant_now == MUTANT_##name)
#else
#define MUTANT(name) false
#endif
#endif
