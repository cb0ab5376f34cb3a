// Package discovery registers the instances of services, and tells programs where
// they can be reached, on etcd.
//
// A registration is desired state: it is said once, and from then on the
// [Registrar] sees to it that etcd says so too, whatever happens to leases, keys
// and connections. A [Resolver] answers from memory, and rather keeps what it had
// than believe a catastrophe.
//
// # Guarantees
//
// An instance that is registered comes back after every outage, by itself, within
// seconds of etcd's return. Of two registrations of one instance the later one
// counts, and the earlier one ends with [ErrSuperseded]; its token is smaller. A
// [Snapshot] is a whole state that existed, never a part of one. Watchers see the
// last state, and perhaps not every one before it. Resolving costs no request and
// no allocation after the first time, and all resolvers of a client with the same
// options share one watch per service.
//
// [HostCheck]s of an instance are carried out by hosts, or whoever calls
// [RunChecks], one at a time for each; what they find is in its state.
//
// # Failure
//
// If a process dies its instances vanish after the session's TTL. If etcd is away
// nothing changes for readers, but that their snapshots say that they are stale.
// If most instances of a service vanish at once they are kept for a while, since
// that is rather a fault on the way than the truth. Errors are [ErrLost],
// [ErrSuperseded], [ErrNoInstance], [ErrClosed] and those of package core.
//
// # Keys
//
// All keys of a service begin with /conclave/<namespace>/discovery/<service>/, one
// for each instance, on leases of the registrar. docs/protocol-discovery.md
// describes them.
//
// # Fencing
//
// [Registration.Token] grows with every later registration of an instance, and
// [Registration.IsOwner] is a comparison for transactions. Being registered
// excludes nobody from anything: for that take a lock.
//
// # Comparison
//
// With etcd's own client/v3/naming the program keeps the lease alive itself and
// registers again after every loss; its resolver ends for good with its watch, and
// an empty list is passed on as the truth. None of that is so here.
// [WithNaming] writes the same instances for its readers too.
package discovery
