// Package sessionv1 is the session API of a Conclave host, conclave.session.v1,
// as generated from session.proto: the leases of callers that reach recipes
// over the network.
//
// The contract, with what each field means and when each call fails, is
// session.proto; the comments here are its own. A program that has an etcd
// client needs none of this: it opens a session with
// [github.com/conclavehq/conclave/core.NewSession].
package sessionv1
