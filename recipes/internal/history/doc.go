// Package history writes down why ownerships ended, and reads it.
//
// A recorder follows the keys of names as they change, in every namespace that
// it heard of, and finds each ending there: an ownership that its library
// released, also one that no host ever served, leaves the same events. Nobody
// who acquires or releases waits for it or writes more because of it. One
// recorder of all hosts works on a namespace at a time; it holds a key on a lease
// of its own, and everything that it writes is guarded by that key.
//
// What it has not written yet, a reader finds out by itself: it reads the state
// at the revision up to which all is recorded, and follows the events from there.
// So the past of a name is complete at any host and at any moment, as long as
// etcd has not compacted what nobody recorded; then it says so.
//
// docs/history.md has the keys.
package history
