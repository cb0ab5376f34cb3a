// Package queuev1 is the queue API of a Conclave host, conclave.queue.v1, as
// generated from queue.proto: durable work queues for callers that reach etcd
// through a host.
//
// The contract, with what each field means and when each call fails, is
// queue.proto; the comments here are its own. A Go program that has an etcd client
// needs none of this: it uses [github.com/conclavehq/conclave/queue], on the
// same keys.
package queuev1
