package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// session opens a session on a connection of its own, as another process would.
func session(t testing.TB, opts ...core.SessionOption) *core.Session {
	t.Helper()
	s, err := core.NewSession(within(t), etcd.Client(t), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func locked(t testing.TB, m interface {
	Lock(context.Context) (*lock.Held, error)
}) *lock.Held {
	t.Helper()
	return must[*lock.Held](t)(m.Lock(within(t)))
}

func unlock(t testing.TB, h *lock.Held) {
	t.Helper()
	if err := h.Unlock(); err != nil {
		t.Fatal(err)
	}
}

// keysOf lists what stands in etcd under a lock's name.
func keysOf(t testing.TB, name string) []string {
	var keys []string
	for _, kv := range etcd.Dump(t, "/conclave/default/lock/"+name+"/") {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// eventually waits until cond holds. It asks etcd, so it does not spin idly.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		etcd.Revision(t)
	}
}

// waiting waits until n stand in line for a name.
func waiting(t testing.TB, m *lock.Mutex, n int) {
	t.Helper()
	eventually(t, "enough waiters", func() bool {
		cs := must[[]lock.Contender](t)(m.Contenders(within(t)))
		count := 0
		for _, c := range cs {
			if !c.Holds {
				count++
			}
		}
		return count == n
	})
}
