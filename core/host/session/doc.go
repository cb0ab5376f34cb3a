// Package session serves the sessions of remote callers: SessionService on etcd.
//
// A session is a lease in etcd and one record on it. A host keeps nothing of a
// session that matters: any host of the cluster serves any session, and a host
// that dies takes none with it.
//
// # The view
//
// Each host follows the records of all sessions with one watch. The view may be
// late, and that is harmless. A record that it still has although the session
// ended leads to a write on a lease that is gone, and etcd refuses that; ids and
// leases never come again. A record that it does not have yet is read from etcd,
// linearizably, before anybody is told that a session does not stand.
//
// # Validity
//
// An answer never promises more than etcd does. The host counts a renewal from
// before it sends it, and a caller counts an answer from before it sent the
// request; so whatever the answer says, the lease stands longer. Heartbeats that
// come more often than a quarter of the TTL renew nothing: they are answered with
// what is left of the last renewal.
//
// # Fast release
//
// A session may ask that the death of its process end it at once. [Listen] wraps
// a listener so that the end of a connection can be told apart: by its peer, or
// by this host. The protocol, and how it was checked, is docs/protocol-sessions.md.
package session
