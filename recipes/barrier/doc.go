// Package barrier serves the library of the same name to callers in every
// language: conclave.barrier.v1.BarrierService.
//
// A caller is a session, and is a party of each kind of a name at most once. So a
// call can be repeated, at any host, and goes on where the one before was. What
// does not belong to a session, such as the operations that a latch counts, is
// written under a session of the instance's own. The instance keeps nothing: what
// a caller holds or has entered is read from etcd when it is let go.
package barrier
