// Package coretest is the test kit of Conclave and of programs that are built on it: a real etcd member for tests, and the means to make
// everything go wrong that can go wrong between a program and its etcd.
//
// There are no mocks here. A test runs against upstream's own server, embedded in the test process, which serves in about a tenth of a second.
//
// # One member for a package
//
//	var etcd *coretest.Etcd
//
//	func TestMain(m *testing.M) { coretest.Main(m, &etcd) }
//
//	func TestTransfer(t *testing.T) {
//		client := etcd.Client(t)
//		…
//	}
//
// [Main] also fails the package when a goroutine is left behind. Tests of a package share the member's keys, so each takes a prefix or
// a namespace of its own: [Etcd.Prefix]. A test that wants a member to itself calls [StartEtcd].
//
// # Faults
//
//   - A session ends: [ExpireLease].
//   - A reply is lost although the request was applied, a request is lost, or it arrives long after its caller gave up: [Faults].
//     It works on single requests inside one client, and says what it did, so that a test waits for the fault and never sleeps.
//   - The network: [Etcd.Link] is a connection that can be cut, or swallow traffic in either direction.
//   - A process is paused or killed: [Child] runs a function of the test binary as a real process (Unix only).
//
// # What happened
//
// [Etcd.Record] keeps every event under a prefix, [Etcd.Revision] and [Etcd.RaftIndex] count what a piece of code costs, and
// [FencedResource] is the thing that a lock protects: it knows whether a write came from an owner whose time was over.
package coretest
