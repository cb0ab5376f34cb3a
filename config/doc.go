// Package config keeps programs configured while they run, on etcd: typed values
// that are validated before they count, with a history, and with the last good
// value kept whatever happens to the newest one.
//
// # Guarantees
//
// A [Variable] has a good value from [Open] to Close and beyond: only a value
// that decodes and passes the program's own check replaces one that did. Every
// watcher sees the last published state; states between may be left out. A value
// is never replaced by nothing: a key that vanishes, is emptied or overwritten by
// hand, or holds nonsense, is reported in [Snapshot.Rejected] beside the last
// good value. Deletion is a version of its own, a tombstone.
//
// Every publication is one transaction that also writes the history, names the
// version that it replaces, and takes effect once or not at all, also if its
// reply is lost. [Store.Publish] releases several keys in one: whoever reads them
// at one revision sees all of it or nothing.
//
// [Store.StartRollout] lets some instances try a value first; an instance is a
// program that takes part, see [WithInstance]. One that does not accept the value,
// or does not do well with it, refuses it for all.
//
// # Failure
//
// While etcd is away [Variable.Latest] keeps answering, and after 15 s says that
// it is stale; the watch goes on by itself when etcd is back, after compaction
// too. A program that starts meanwhile can begin with a copy on disk, see
// [WithFallbackFile]. Errors are [ErrConflict], [ErrNotFound], [ErrDeleted],
// [ErrMissing], [ErrDamaged], [ErrRejected], [ErrSchemaChanged], [ErrNoRollout],
// [ErrClosed], and those of package core.
//
// # Keys
//
// The present version of a key stands in
// /conclave/<namespace>/config/<key>/value, its history below
// /conclave/<namespace>/config/_version/<key>/. Only what an instance says of
// itself is on a lease, that of its session.
// docs/protocol-config.md describes them and every transaction.
//
// # Fencing
//
// Configuration has no owner, and so no token: revisions are what is compared.
// [Variable.CompareAndSet] publishes over the version that its caller has seen
// and no other.
//
// # Comparison
//
// A bare watch of an etcd key hands on whatever is written, an empty value and a
// deletion too; it knows neither who wrote it nor what was there before, and it
// ends with compaction or a lost leader. A file that a template renders has the
// same weakness at every step. Here each of these ends at the last good value.
package config
