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
// put is in the queue, or acked, or was deleted by hand or by a forced removal; what
// is in the queue is in one that is listed; what is in a bundle is nowhere else. In
// every state that only faults lead on from, nothing is left in the queue while
// somebody consumes.
//
// Of an ack at a host "stale" says that it will not be applied any more; that it was
// before may only be out of sight if the history was compacted, or if the session's key
// did not stand.
//
// # Abstractions
//
// Items have no order, priority, delay or group, and all claims are of one item, but
// with [Config.Bundles]: what is compared and moved does not depend on them. There a
// bundle always holds both items, and what was one goes on one delivery at a time. Its
// key is known by its session: there is never a second one beside it. With
// [Config.Parcels] a claim of both items stands for one that makes several keys, each
// with what one caller takes, and the keys are those of single items. A forced removal
// deletes items one at a time, in any order. With [Config.Lanes] every
// enqueue opens a segment. A restart of etcd is what it does to requests: their replies are lost.
//
// # Failure
//
// A violation comes with its shortest trace. [Defect] values take single guards
// out of the protocol, and the tests fail if the search does not find the harm.
package model
