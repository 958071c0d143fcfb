/* talk.h - conversations of a group, from text: tests that a person reads (tests/replication/).
 *
 * A line that begins with a letter is a command; what it causes (messages that leave, asked-for states) follows, indented by two
 * blanks. Everything else is a remark. A file is written anew by running its commands: review the difference.
 *
 *   group N [VOTERS [soon|quiet|young|relaxed]] N nodes; the first VOTERS (all) are the configuration (0,1). soon: 0 is the first choice to lead;
 *                           quiet: leaders may agree with the others to be silent; young: the processes have just begun;
 *                           relaxed: what is acknowledged need not be synced
 *   campaign A              A stands for election at once
 *   patience A              how long until A's next deadline
 *   tick A                  A's clock jumps to its next deadline
 *   early A                 A is asked before that
 *   write A K               K records at leader A
 *   read A                  somebody asks A for all that is committed
 *   sync A|all [K]          what waits on the disk becomes durable; only the first K changes
 *   deliver [A>B]           messages that are on their way now (from A to B) arrive, in order
 *   repeat [A>B]            they arrive, and a copy of each is still on its way
 *   shorten A>B O           appends on their way bring records up to O only: their sender found no more
 *   drop [A>B]              they are lost
 *   settle                  deliver and sync until nothing happens any more
 *   crash A, start A        what was not durable is gone
 *   backup A, restore A     what A's directory holds is copied; A, which is down, has the copy for its directory
 *   config A 0,1[|2]        leader A is asked for these voters [and learners]; says what it answered
 *   start-at A O            leader A is asked to move the log start
 *   transfer A B            leader A is asked to hand over to B
 *   beats A K               K times: A's clock jumps to its next deadline, then `settle`; only the last of them is told
 *   epochs A K              K times, untold: A stands for election at once, settle, writes a record, settle
 *   load A B K              K times, untold: A writes a record, and 200 ms pass; what B answers arrives when the others have answered the next
 *   rest A                  A's heartbeats, untold, until all have agreed to its silence
 *   wait MS                 so much time passes
 *   lost A B                A's connection to B breaks
 *   vouch A B [MS]          A hears that B's process runs, or ran MS milliseconds ago
 *   damage A, mend A        records of A cannot be read, or can be again
 *   members A               what leader A thinks of each other member
 *   doubt A                 A is told not to rely on silence
 *   state                   one line for each node */
#ifndef SIM_QUORUM_TALK_H
#define SIM_QUORUM_TALK_H
#include <stdio.h>
#include "replication/mutants.h"

/* Runs the commands of `text`, writes commands, remarks and outcomes to `out`. Returns the violation, or NULL; text
 * that begins with "talk:" when a command is not understood. */
const char *quorum_talk(const char *text, enum replica_mutant mutant, FILE *out);
#endif
