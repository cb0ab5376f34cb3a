// Package scope stands between a recipe and etcd: it gives the recipe a genuine
// etcd client that reaches the recipe's own keys and nothing else.
//
// What a recipe may do:
//
//   - Keys. Read, write, delete, compare and watch the keys of its own instance
//     in any namespace. A range lies within the instance's keys of one
//     namespace: there is no range that covers those of several namespaces and
//     nothing of another recipe. Transactions are held to it at every depth.
//   - Leases. Attach keys to any lease, since callers own what a recipe writes
//     for them, and ask how long any lease lives. Grant leases of its own, and
//     only those it may renew, revoke, list and ask for their keys.
//
// Everything else is refused with etcd's own error, permission denied, and
// changes nothing: compaction, maintenance, authentication, membership, and
// whatever a later etcd may add. A watch that is refused leaves the stream, and
// the other watches on it, alone.
//
// The package checks requests and never rewrites what is allowed, so that keys
// are the same for libraries, recipes in the host's process and plugins. The
// same checks serve a client in this process ([Space.Client]) and etcd's own
// API for another process ([Space.Register]).
//
// A recipe in another process cannot get around it. One in the host's process
// could, as any code in a process can; there it keeps mistakes from spreading.
package scope
