// Package barrier lets processes wait for each other, on etcd: a [Barrier] that
// somebody holds closed, a [Double] barrier that n enter and leave together, a
// [Cyclic] one at which n meet again and again, and a [Latch] that opens when
// enough was counted.
//
// To be past a barrier is advisory: no barrier can stop a paused process from
// acting late. What makes it safe is the fencing token of a [Hold] or an [Entry],
// checked where the phase writes.
//
// # Guarantees
//
// [Barrier.Wait] returns nil only after a linearizable read showed that nobody
// holds the barrier; a watch that ends is no news. Nobody enters a [Double] before
// n members stood there at once, never more than n enter a generation, and a wait
// that was cancelled either entered or left nothing. Nobody of one generation meets
// a straggler of another. A [Latch] counts an operation once, however often it is
// repeated, and never below zero. All who wait in one session share one watch, and
// the end of a wait is one event to each session.
//
// # Failure
//
// If a process dies, its session's TTL takes its holds and entries away: before a
// generation is complete the others wait for somebody else, or get [ErrBroken] with
// the name of who was lost; after that it counts as having left. A request whose
// reply was lost is resolved by reading back. Errors are [ErrLost], [ErrFull],
// [ErrBroken], [ErrPartiesMismatch], [ErrCounting], and those of package core.
//
// # Keys
//
// All keys of a barrier begin with /conclave/<namespace>/barrier/<name>/. Holds and
// entries are on their session's lease; a generation's number and what a latch
// counted are on none. docs/protocol-barrier.md describes them. The four types do
// not disturb each other under one name.
//
// # Fencing
//
// A write to etcd carries [Entry.IsOwner] or [Hold.IsOwner], for which Commit is a
// short form. Any other resource keeps the largest token that it has seen and
// refuses a smaller one; core.TokenFrom finds the token in the context. Every
// member of a later generation has a larger token than all of an earlier one.
//
// # Comparison
//
// In etcd's own recipes Barrier.Wait returns as if released when its watch is lost,
// DoubleBarrier does not notice that its session ended, and neither takes a context
// or a timeout. Curator's have timeouts, but no generations and no word about who
// was lost; Java's CyclicBarrier is the model for the latter, in one process.
package barrier
