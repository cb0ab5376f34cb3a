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

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// session opens a session on a connection of its own, as another process would.
func session(tb testing.TB, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s, err := core.NewSession(within(tb), etcd.Client(tb), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func locked(tb testing.TB, m interface {
	Lock(context.Context) (*lock.Held, error)
}) *lock.Held {
	tb.Helper()
	return must[*lock.Held](tb)(m.Lock(within(tb)))
}

func unlock(tb testing.TB, h *lock.Held) {
	tb.Helper()
	if err := h.Unlock(); err != nil {
		tb.Fatal(err)
	}
}

// keysOf lists what stands in etcd under a lock's name.
func keysOf(tb testing.TB, name string) []string {
	var keys []string
	for _, kv := range etcd.Dump(tb, "/conclave/default/lock/"+name+"/") {
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// eventually waits until cond holds. It asks etcd, so it does not spin idly.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
		etcd.Revision(tb)
	}
}

// waiting waits until n stand in line for a name.
func waiting(tb testing.TB, m interface {
	Contenders(context.Context) ([]lock.Contender, error)
}, n int) {
	tb.Helper()
	eventually(tb, "enough waiters", func() bool {
		cs := must[[]lock.Contender](tb)(m.Contenders(within(tb)))
		count := 0
		for _, c := range cs {
			if !c.Holds {
				count++
			}
		}
		return count == n
	})
}
