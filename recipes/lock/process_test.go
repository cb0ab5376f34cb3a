package lock_test

import (
	"os"
	"testing"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
)

// Of a caller of the API nobody reads the process of the host that served it: it
// would be ended in place of the caller. A program that uses the library is named.
func TestProcessesAreTheOwnersOwn(t *testing.T) {
	t.Parallel()
	const ns = "default"
	name := etcd.Prefix(t)
	h := startHost(t, etcd.Client(t), nil)
	one, two := open(t, "one", ns), open(t, "two", ns)
	token := h.acquire(t, one, name)
	waits(t, session(t, "program", ns), name)
	h.inLine(t, ns, name, 1)
	answers := h.acquiring(two.ctx, two, name)
	h.inLine(t, ns, name, 2)

	resp := why(t, h, ns, name)
	wantProcess(t, "the holder", resp.GetHolders()[0], false)
	wantProcess(t, "the program that waits", resp.GetWaiters()[0], true)
	wantProcess(t, "the caller that waits", resp.GetWaiters()[1], false)
	listed, err := h.List(testContext(t), &lockv1.ListRequest{Namespace: ns, Prefix: name})
	if err != nil || len(listed.GetLocks()) != 1 {
		t.Fatal(listed, err)
	}
	wantProcess(t, "the holder in the list", listed.GetLocks()[0].GetHolders()[0], false)

	if err := h.release(one, name, token); err != nil {
		t.Fatal(err)
	}
	if a := <-answers; a.err != nil { // the program let go at once
		t.Fatal(a.err)
	}
	wantProcess(t, "the caller after the handover", why(t, h, ns, name).GetHolders()[0], false)
	eventually(t, "two ownerships are past", func() bool { return len(history(t, h, ns, name).GetEndings()) == 2 })
	ends := history(t, h, ns, name).GetEndings()
	wantProcess(t, "the past program", ends[0], true)
	wantProcess(t, "the past caller", ends[1], false)
}

// wantProcess checks that what stands there is this process, or none.
func wantProcess(tb testing.TB, what string, p interface {
	GetHost() string
	GetPid() int32
}, own bool) {
	tb.Helper()
	if own && (p.GetHost() == "" || p.GetPid() != int32(os.Getpid())) || !own && (p.GetHost() != "" || p.GetPid() != 0) {
		tb.Errorf("%s is process %d on %q", what, p.GetPid(), p.GetHost())
	}
}
