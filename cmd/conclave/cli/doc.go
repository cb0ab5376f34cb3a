// Package cli is conclave's command tree.
//
// # Guarantees
//
// Data goes to stdout, everything else to stderr. An error is one line, with what
// to do next below it, or with -o json one document on stderr. Exit codes are those
// of the constants in this package, except where a command's own code comes
// through: `lock run`, and `etcdctl` and `etcdutl`, which are upstream's.
//
// # Failure
//
// Settings come from a flag, else from the environment, else from a `conclave dev`
// that runs for the same user on the same machine, else they have a default. A
// source that names both an API and etcd endpoints is a usage error.
package cli
