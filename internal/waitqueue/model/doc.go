// Package model checks the ownership protocol of internal/waitqueue by exhaustive search.
//
// A model is a small abstract etcd (revisions, leases, transactions, watches) together with clients that follow
// the protocol one request at a time. The search visits every interleaving: a request is sent, applied and
// answered in three separate steps, a reply may be lost before or after its request was applied, a request that
// nobody waits for any more may be applied at any later moment or never, and a watch may report as late as it
// likes. Faults (the end of a lease, a crash, a cancelled wait, an operator's hand, a lost watch) are budgets:
// a configuration says how many of each may happen, and the search tries them at every moment.
//
// # Guarantees
//
// A model that holds was searched completely: every state that its configuration can reach satisfies the
// invariants, and in every state from which only faults lead on, nobody waits and nothing is left behind.
// What is abstracted is listed in docs/protocol.md, beside the states of each configuration.
//
// # Models
//
// [Line] is one name: writers (Mutex, RWMutex), readers and permits (Semaphore), in one line, with local lines,
// priorities, the limit of a semaphore, downgrades and forced releases. [Multi] is several names taken at once.
//
// # Failure
//
// A violation comes with its shortest trace, one readable step a line. [Defect] values take single guards out of
// the protocol; the tests of this package fail when the search does not find the harm that each of them does.
package model
