// Package electionv1 is the election API of a Conclave host,
// conclave.election.v1, as generated from election.proto: leader election for
// callers that reach etcd through a host.
//
// The contract, with what each field means and when each call fails, is
// election.proto; the comments here are its own. A Go program that has an etcd
// client needs none of this: it uses
// [github.com/conclavehq/conclave/election], on the same keys.
package electionv1
