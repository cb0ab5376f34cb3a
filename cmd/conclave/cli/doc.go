// Package cli is conclave's command tree.
//
// # Guarantees
//
// Data goes to stdout, everything else to stderr. An error is one line, with what
// to do next below it, or with -o json one document on stderr. Exit codes are those
// of the constants in this package, except where a command's own code comes
// through: of those that run one behind --, and of `etcdctl` and `etcdutl`, which
// are upstream's.
//
// # Failure
//
// The target comes from a flag, else from the environment, else from the context in
// use, else from a `conclave dev` that runs for the same user on the same machine,
// else it is a host at the default address. A source that names both an API and etcd
// endpoints is a usage error. What a context says counts as a whole, for the target
// that it names, and is not used for another.
//
// Through a host and straight on etcd commands mean the same: without a host the
// recipes run in the command's own process.
package cli
