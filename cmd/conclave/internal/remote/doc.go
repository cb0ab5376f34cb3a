// Package remote is a caller of Conclave hosts: sessions, and what they own, over
// gRPC.
//
// # Guarantees
//
// A Client has several hosts and uses one at a time; any of them will do. A call
// that may be repeated goes on at the next host when one does not answer.
//
// A Session sends its own heartbeats and counts its validity from the sending of
// the last one that was answered, less a margin, on a clock that counts suspend:
// its context ends before etcd can give what it owns to another. A Held ends with
// its session, and when a host says that somebody else took the name.
//
// # Failure
//
// A session outlives its hosts for as long as one of them answers within the TTL.
// A place in line is kept when a host goes: asking again at another one, or at the
// same one after its restart, waits in the same place.
package remote
