// Package waitqueue is the ownership protocol that locks, elections and
// semaphores stand on: how a name is taken, waited for, handed over, and lost.
//
// An ownership is one grant key, attached to the owner's lease and written by
// one transaction; the revision of that write is the fencing token. Whoever
// finds the name held puts a ticket in the name's line and sleeps. The owner's
// release hands over: one transaction writes the next owner's grant, marks that
// owner's ticket as granted, and removes the releaser's own keys. The waiter
// learns it from the event on its own ticket and reads nothing. If an owner dies
// its lease takes its keys away, and the first in line claims the name.
//
// Three rules carry the rest. State decides and events only wake: a lost watch
// or a deleted key is never news about ownership. Every request may be applied
// later than its caller gave up, so an acquisition with an unknown outcome ends
// with a void record that every late copy of its requests must find absent. And
// every write on an owner's behalf is guarded by the revision of its grant.
//
// docs/protocol.md has the keys and transactions one by one, the model that was
// searched, and the counter-examples that shaped them.
package waitqueue
