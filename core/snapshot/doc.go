// Package snapshot saves the state of an etcd, looks into what was saved, tries it, and restores it for Conclave.
//
// The file is upstream's own format: what etcdctl saved can be restored here, and what was saved here, with etcdutl.
//
// # Guarantees
//
// [SaveFile] leaves either a whole file whose digest has been read back, or no file. [Restore] leaves either a whole data
// directory, or none.
//
// A restored cluster continues an older history, so a plain restore would give revisions, and with them fencing tokens, a second
// time. Restore raises the revision by [DefaultBump] or more and marks everything before as compacted: every token that the
// restored cluster issues is larger than every one issued before, also after the snapshot was taken, and a watcher that goes on
// from an old revision is told that it missed something.
//
// It also ends the sessions: leases are revoked and their keys removed, so that nobody holds a lock, leads, waits, or is registered
// in the restored cluster. Who believed so at the time of the snapshot may have let go since, and others may have followed; each
// finds out that its session is gone and begins anew. Everything without a lease stays as it was: plain keys, queue items,
// configuration with its versions, history.
//
// # Failure
//
// A file that is cut short or altered is [ErrDamaged]. It is never restored, and never left behind by a save.
//
// # Several members
//
// Restore runs once for each member of the new cluster, on its own machine, from copies of one file and with the same members,
// token and bump. What it does to the data depends on nothing else, so the members begin equal.
package snapshot
