// Package barrierv1 is the barrier API of a Conclave host, conclave.barrier.v1, as
// generated from barrier.proto: barriers and latches for callers that reach etcd
// through a host.
//
// The contract, with what each field means and when each call fails, is
// barrier.proto; the comments here are its own. A Go program that has an etcd client
// needs none of this: it uses [github.com/conclavehq/conclave/barrier], on the
// same keys.
package barrierv1
