// Package core is what every Conclave recipe stands on: sessions, fencing
// tokens, and ownership as a value.
//
// # Sessions
//
// A [Session] is an etcd lease that this process keeps alive. One session per
// process carries any number of locks, terms and registrations. It ends once
// and for all: an expired session never comes back, and [Keep] opens the next.
//
// # Guarantees
//
// A session believes in itself no longer than etcd does. Its validity counts
// from the time at which the last acknowledged renewal was sent, plus the TTL,
// minus a margin (a tenth of the TTL, at least one second), on a clock that
// counts suspend. A late acknowledgement never revives it. Its contexts compare
// that clock whenever they are asked, so a process that was stopped and runs
// again sees its loss before it does anything else.
//
// # Fencing
//
// No lock can stop a process between its last look at the clock and its next
// write. Safety is where the write is checked: [Ownership.IsOwner] guards
// transactions in etcd, [Token] guards any other resource that keeps the
// largest token it has seen.
//
// # Failure
//
// A write whose outcome is not known is [ErrUnknownOutcome], never a plain
// failure. The cause of an ended context (context.Cause) is one of
// [ErrSessionExpired], [ErrSessionClosed], [ErrKeyDeleted], [ErrRevoked] or
// [ErrReleased].
//
// # Keys
//
// This package writes no key; a session is a lease. The recipes' keys begin
// with /conclave/<namespace>/<recipe>/ and are described in docs/keyspace.md.
package core
