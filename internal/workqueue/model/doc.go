// Package model checks the protocol of queues by exhaustive search: the search
// of internal/waitqueue/model over a small abstract etcd, its items, and
// consumers and producers that follow docs/protocol-queue.md one request at a
// time.
//
// A request is sent, applied and answered in three separate steps. A reply may be
// lost, and a request that nobody waits for any more may be applied at any later
// moment or never. Sessions expire unnoticed, processes stop, deliveries run out
// of time, and an operator deletes keys. These faults are budgets: a
// configuration says how many of each may happen, and the search tries them at
// every moment.
//
// # Guarantees
//
// In every state of a configuration that holds: an effect was applied at most
// once; who was told that its ack succeeded has its effect applied, and who was
// told that it is stale never will have; no item is put twice; an item that was
// put is in the queue, or acked, or was deleted by hand. In every state that only
// faults lead on from, nothing is left in the queue while somebody consumes.
//
// # Abstractions
//
// Items have no order, priority, delay or group, and all claims are of one item:
// what is compared and moved does not depend on them. A restart of etcd is what
// it does to requests: their replies are lost.
//
// # Failure
//
// A violation comes with its shortest trace. [Defect] values take single guards
// out of the protocol, and the tests fail if the search does not find the harm.
package model
