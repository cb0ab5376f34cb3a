//go:build unix

package session_test

import (
	"testing"
	"time"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host/session"
)

// A process that is killed loses its session within seconds, although the TTL is
// many.
func TestAKilledProcessIsReleased(t *testing.T) {
	t.Parallel()
	released := make(chan session.Release, 1)
	h := start(t, etcd.Client(t), func(c *session.Config) { c.Released = func(r session.Release) { released <- r } })
	ns := namespace(t)
	p := coretest.Child(t, "owner", "ADDR="+h.addr, "NS="+ns)
	id := p.ExpectLine("session ")
	gone := owned(t, h, id, ns)
	killed := time.Now()
	p.Kill()
	await(t, gone)
	t.Logf("free %v after the kill", time.Since(killed).Round(time.Millisecond))
	select {
	case r := <-released:
		if r.ID != id || r.Namespace != ns {
			t.Errorf("released %+v", r)
		}
	case <-within(t).Done():
		t.Error("nobody was told")
	}
}

// A process that hangs keeps its connection, and so its session, for the TTL.
func TestAStoppedProcessIsNotReleased(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	ns := namespace(t)
	p := coretest.Child(t, "owner", "ADDR="+h.addr, "NS="+ns)
	id := p.ExpectLine("session ")
	gone := owned(t, h, id, ns)
	p.Stop()
	stays(t, gone)
	p.Cont()
	p.Kill()
	await(t, gone)
}
