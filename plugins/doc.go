// Package plugins makes a program of a recipe, which a host runs as a process of
// its own:
//
//	func main() { plugins.Serve(semaphore.Recipe{}) }
//
// The recipe is the same that a host could run in its own process, and notices no
// difference: it is given the same Env, its client reaches the same keys and is
// refused the same, and its callers are told the same errors. What differs is who
// suffers: a process that panics, leaks or hangs is started again, and what
// callers own meanwhile stands, since it is theirs in etcd.
//
// # The program
//
// A host starts it. Run by hand it says what it is, and with --describe it prints
// its [Describe] as JSON, or with --describe=binary as an encoded
// conclave.plugin.v1.Description, which `conclave plugin add` reads.
//
// It ends when its host asks it to, or with exit code 3 when its host is gone,
// whatever ended that. It writes its log, through Env.Log or what panics, to
// standard error, and the host adds it to its own. Standard output is the host's
// until Serve has begun: print nothing before.
//
// # What it takes
//
// A program that imports this package links etcd's client and gRPC, and neither
// etcd's server nor a host. An idle one takes about 20 MB, most of it the program
// itself, which its processes share.
package plugins
