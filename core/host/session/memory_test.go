package session_test

import (
	"os"
	"runtime"
	"testing"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
)

// TestMemoryOfSessions reports what 10,000 open sessions take in the process of
// a host, its etcd member and their callers together.
func TestMemoryOfSessions(t *testing.T) {
	if os.Getenv("CONCLAVE_SOAK") != "1" {
		t.Skip("a measurement: run with CONCLAVE_SOAK=1")
	}
	const n = 10_000
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	before := heap()
	ids := make([]string, n)
	for i := range ids {
		ids[i] = open(t, c, &sessionv1.OpenRequest{Namespace: ns, Owner: "billing-worker-7"}).GetSessionId()
	}
	for h.Len() < n {
		runtime.Gosched()
	}
	opened := heap()
	t.Logf("an open session takes %d bytes, its lease and record in etcd included", (opened-before)/n)
	for _, id := range ids {
		attach(t, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 1}).answer(1)
	}
	t.Logf("a KeepAlive stream takes %d bytes more, its caller's end included", (heap()-opened)/n)
}

// heap returns how many bytes are in use, stacks included.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
