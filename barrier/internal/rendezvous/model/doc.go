// Package model checks the protocol of barrier/internal/rendezvous by exhaustive search.
//
// [Meeting] is a double or a cyclic barrier: an abstract etcd with a state key,
// tickets on leases, and members that follow the protocol one request at a time.
// [Latch] is a latch. Every request is sent, applied and answered in three steps;
// a reply may be lost before or after its request was applied, and a request that
// nobody waits for any more may be applied at any later moment or never. Events of
// the state key arrive as late as they like. Faults are budgets of a configuration,
// tried at every moment. The search itself is that of internal/waitqueue/model.
//
// # Guarantees
//
// A configuration that holds was searched completely. docs/protocol-barrier.md
// lists the configurations and their sizes, and [Defect] the guards that the
// search proves necessary: without each of them it finds the harm.
package model
