// Package lock is the lock recipe: the LockService of conclave.lock.v1 over the
// library of the same name.
//
// The owner of a lock is the session of a remote caller, and everything that
// matters about an ownership stands in etcd, on that session's lease: a call is
// served by any host, and a host that dies takes no lock and no place in line
// along. What an instance keeps in memory only saves it reads.
//
// Its keys are the library's own, so users of both exclude each other. Beside
// them it keeps a history of every name; docs/history.md has its keys.
package lock
