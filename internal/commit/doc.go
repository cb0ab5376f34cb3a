// Package commit sends the transactions of one session to etcd, and combines
// those that arrive while one is under way.
//
// A lone transaction is sent at once. Transactions that arrive while one is
// under way wait for the next request, which goes when that one has an answer
// or when enough have come, and travel in it together, each nested with its own
// compares: same guarantees, a fraction of the raft entries. When they are answered
// the next request is held back for at most a tenth of a millisecond, until those
// callers are back who go round in a loop: see Gather. If all of them
// will likely take their first branch they are tried as one plain transaction,
// which is cheaper still: all compares together, then all operations. It does
// what each alone would do, or nothing, and then they are nested after all.
//
// Three traps shape the package. etcd evaluates every nested compare against
// the state before the whole transaction, so two transactions that touch one
// key must not share a batch: each names its scopes, and transactions with a
// common scope never do. A batch must stay under the server's limit of
// operations, which counts outer operations and the largest nested ones
// together; nobody tells that limit, so it is found out. And a batch fails as a
// whole: if the failure is definite it is sent again in halves, down to the one
// that is at fault, and if the outcome is not known every member is told so.
package commit
