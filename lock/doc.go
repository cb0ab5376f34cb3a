// Package lock provides locks on etcd that can be trusted: a mutex, a
// read-write lock, a semaphore, and a lock of several names at once.
//
// A lock is advisory: no lock can stop a paused process from writing late. What
// makes it safe is the fencing token, checked where the write happens.
//
// # Guarantees
//
// Every acquisition returns a new ownership with a token that is strictly
// larger than that of every earlier owner of the name. The ownership's context
// ends at the latest when etcd could give the name to somebody else. Order is
// first come, first served within a priority, across processes: no reader
// overtakes a waiting writer, and no small request of a semaphore a large one.
// A name has one line: [Mutex], [RWMutex] and [Multi] on it exclude each other.
// Locks are not reentrant, and two goroutines of one session exclude each
// other like two processes.
//
// # Failure
//
// If the owner's process dies, its session's TTL frees the name. If it is cut
// off from etcd, its context ends before the TTL does. A request whose reply was
// lost is resolved by reading back; it never leaves a lock without an owner.
// Errors are [ErrLocked], [ErrLost], [ErrLimitMismatch], [ErrUpgrade], and
// those of package core.
//
// # Keys
//
// All keys of a lock begin with /conclave/<namespace>/lock/<name>/, attached to
// the owner's lease. docs/keyspace.md describes them.
//
// # Fencing
//
// A write to etcd carries [Held.IsOwner], for which [Held.Commit] is a short
// form. Any other resource keeps the largest token that it has seen and refuses
// a smaller one; the examples show it for database/sql and for HTTP.
//
// # Comparison
//
// etcd's own concurrency.Mutex keeps its state on the shared object, so two
// users of one session both "hold" it; a retried unlock can delete a newer lock;
// a waiter is not told that its session died; and every wait costs up to 100 ms.
// None of that is so here, and a try that fails writes nothing.
package lock
