// Package watch follows etcd keys in the two ways that Conclave needs.
//
// Observe is for whoever wants to know a state: a snapshot, then every change,
// one batch per revision, across reconnects, lost leaders, expired tokens and
// compaction.
//
// Key is for protocols: one lean etcd watch that wakes somebody. It ends with a
// reason and is never repaired behind its owner's back, because a lost watch is
// no news about any ownership: the owner looks at the state and opens another.
//
// Every watch requires a leader, so that a member cut off from its cluster says
// so in place of staying silent (etcd#8980). What a watch sends never depends on
// its caller's context: clientv3 opens one stream per distinct outgoing metadata,
// and thus all watches of Key share one stream of the client, and all observers
// another. They are apart because an observer asks its stream for progress, and
// clientv3 gives each answer to every watch of that stream.
package watch
