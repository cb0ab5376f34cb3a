// Package election chooses a leader among programs, on etcd: one of many, or a
// few of many, with everybody told who leads and since when.
//
// Leadership is advisory: no election can stop a paused process from acting
// late. What makes it safe is the fencing token, checked where the leader writes.
//
// # Guarantees
//
// A win is a [Term], a value of its own with a token that is strictly larger
// than that of every earlier term of the name. Its context ends at the latest
// when etcd could let somebody else lead. Candidates win in the order in which
// they came, within a priority and a preferred zone; a leader is not interrupted by
// a better candidate, but an operator can transfer its term, or force it to resign,
// and then it has a grace to stop. The value of a leader appears in the same revision as its term, also
// when the leader before it hands over. [Election.Observe] shows every term once
// and in order, and the vacancies between them.
//
// # Failure
//
// If the leader's process dies, its session's TTL ends the term; if it is cut off
// from etcd, its context ends before the TTL does. A candidate whose session ends
// gets an error that says so, and never a term. A request whose reply was lost is
// resolved by reading back; it never leaves a term without a leader. Errors are
// [ErrLost], [ErrLed], [ErrNoLeader], [ErrUnhealthy], [ErrNoContender], [ErrNotTransferred],
// [ErrSeatsMismatch], [ErrStaleToken], and those of package core; [Leader.Before]
// says why the term before ended.
//
// # Keys
//
// All keys of an election begin with /conclave/<namespace>/election/<name>/,
// attached to the leader's and the candidates' leases. docs/protocol-election.md
// describes them.
//
// # Fencing
//
// A write to etcd carries [Term.IsOwner], for which [Term.Commit] is a short form.
// Any other resource keeps the largest token that it has seen and refuses a
// smaller one; core.TokenFrom finds the token in the context of a term.
//
// # Comparison
//
// In etcd's own concurrency.Election a candidate whose session died may win
// without a key; observers see no vacancy, and end when their watch does; a
// leader is whoever has the oldest key, so that nobody can be preferred or
// handed over to; and the next leader learns of its turn up to 100 ms late. None
// of that is so here.
package election
