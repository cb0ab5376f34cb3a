// Package queue serves the library of the same name to callers in every language:
// conclave.queue.v1.QueueService.
//
// A consumer is a session, and a delivery belongs to it, not to the host that took
// it: the item's id and the token are all that an ack needs, at any host. What
// producers and operators do is written under a session of the instance's own. The
// instance keeps nothing but what its streams have delivered.
package queue
