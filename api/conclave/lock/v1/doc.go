// Package lockv1 is the lock API of a Conclave host, conclave.lock.v1, as
// generated from lock.proto: mutexes, read-write locks and semaphores for
// callers that reach etcd through a host.
//
// The contract, with what each field means and when each call fails, is
// lock.proto; the comments here are its own. A Go program that has an etcd
// client needs none of this: it uses [github.com/conclavehq/conclave/lock], on
// the same keys.
package lockv1
