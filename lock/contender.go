package lock

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Contender holds a lock or waits for it.
type Contender struct {
	Name    string     // of the lock
	Owner   string     // of the session
	Host    string     // where its process runs; empty for a caller of a host's API
	PID     int        // of its process; 0 for a caller of a host's API
	Purpose string     // what the lock is for
	Mode    string     // "write", "read", "multi" or "permits"
	Permits int        // of a semaphore, else 0
	Holds   bool       // it holds the lock; else it waits
	Token   core.Token // of a holder, else 0
	Since   time.Time  // it holds, or waits; by the clock of the process that wrote it

	// Lease is the session's, 0 if no session wrote the key. It tells sessions
	// apart.
	Lease clientv3.LeaseID
	// Revision is that of the key that says so: of a holder's grant, and the one
	// with which a waiter's place was put. It is 0 for a goroutine of this session
	// that waits behind another one.
	Revision int64
}

func mode(m waitqueue.Mode) string {
	switch m {
	case waitqueue.Shared:
		return "read"
	case waitqueue.Set:
		return "multi"
	case waitqueue.Permits:
		return "permits"
	default:
		return "write"
	}
}

func contendersOf(cs []waitqueue.Contender) []Contender {
	out := make([]Contender, len(cs))
	for i, c := range cs {
		out[i] = Contender{Name: c.Name, Owner: c.Record.Owner, Host: c.Record.Host, PID: c.Record.PID,
			Purpose: c.Record.Purpose, Mode: mode(c.Record.Mode), Permits: c.Record.Permits,
			Holds: c.Holds, Token: core.Token(c.Token), Since: c.Record.Since,
			Lease: clientv3.LeaseID(c.Lease), Revision: c.Revision()}
	}
	return out
}
