// Package election is the election recipe: the ElectionService of
// conclave.election.v1 over the library of the same name.
//
// The leader is the session of a remote caller, and everything that matters about
// a term stands in etcd, on that session's lease: a call is served by any host,
// and a host that dies takes no term and no place in line along. What an instance
// keeps in memory only saves it reads.
//
// Its keys are the library's own, so users of both stand against each other.
// Beside them it keeps a history of every name; docs/history.md has its keys.
package election
