// Package queue is a durable work queue on etcd: thousands of items a second that
// must not be lost, not a log broker.
//
//	q := queue.New[Order](session, "orders")
//	id, err := q.Enqueue(ctx, order)
//
//	item, err := q.Dequeue(ctx)
//	…
//	err = item.Ack(ctx, clientv3.OpPut("/invoices/"+order.ID, invoice))
//
// # Guarantees
//
// An item that was enqueued is delivered until it is acked, or its attempts are
// used up and it is a dead letter: at least once, whoever dies. The effects of an
// ack are etcd writes that commit in its transaction, so they happen exactly once;
// an ack that comes too late is [ErrStaleDelivery] and writes nothing. No item is
// delivered again after its ack was confirmed.
//
// Items start in the order of etcd's revisions, within a priority; no clock is
// asked. Consumers in several processes that claim at the same moment may start
// some hundred items out of turn; those of one process never do. Items of one
// [Group] are done one after another.
//
// A bound ([WithCapacity]) is exact. No operation lists the queue: its depth slows
// neither Enqueue nor Dequeue.
//
// # Failure
//
// An item goes back to the front of the queue, with one attempt more, when its
// consumer's session ends (at the latest a TTL after a crash), when the delivery's
// visibility is over, or by Nack. Whether an Enqueue happened whose reply was lost
// is core.ErrUnknownOutcome; repeated with its [DedupID] it puts one item.
// Everything of it waits in etcd: a restart of etcd, or of all programs, loses
// nothing. Failure by failure: docs/guarantees.md.
//
// # Keys
//
// All keys begin with /conclave/<namespace>/queue/<name>/. The queue jobs never
// sees jobs2. An item is in one key, and moves from key to key in transactions:
// docs/keyspace.md, docs/protocol-queue.md. A payload has at most 256 KiB.
//
// # Fencing
//
// An [Item] is an ownership: Context ends with the delivery, Token grows with
// every later delivery, IsOwner guards etcd writes. Effects outside of etcd need
// the token, or must bear being done twice.
//
// # Comparison
//
// etcd's own recipe deletes the item before it is worked on, reads the whole
// backlog for one item, and lets a queue take the items of one whose name begins
// alike. Curator advises against its queue. Redisson has reliable queues in its
// paid edition only. None commits effects with the ack.
package queue
