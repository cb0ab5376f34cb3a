// Package sessionmodel checks fast release by exhaustive search: two hosts, one
// etcd, and one caller that reconnects, hangs and dies.
//
// It is the model of core/host/session that docs/protocol-sessions.md describes.
// Time is part of it: clocks tick whenever they like, so a search visits every
// order of what happens, and every delay. Faults are budgets, and a [Defect]
// takes one rule out of the protocol; the tests fail when the search does not
// find the harm that each of them does.
//
// # Guarantees
//
// In every state that a configuration reaches, a session that has ended, or is
// marked as ending, is one on which its caller does not count any more; only a
// connection that its caller ended has released it; and a session whose caller
// is gone ends.
package sessionmodel
