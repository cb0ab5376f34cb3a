package election_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/internal/keyspace"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

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
	return sessionOn(tb, etcd, opts...)
}

func sessionOn(tb testing.TB, e *coretest.Etcd, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s, err := core.NewSession(within(tb), e.Client(tb), opts...)
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

func won(tb testing.TB, e *election.Election, value string) *election.Term {
	tb.Helper()
	return must[*election.Term](tb)(e.Campaign(within(tb), value))
}

func resign(tb testing.TB, t *election.Term) {
	tb.Helper()
	if err := t.Resign(); err != nil {
		tb.Fatal(err)
	}
}

// A call runs in the background.
type call[T any] struct {
	done  chan struct{}
	value T
	err   error
}

func inBackground[T any](f func() (T, error)) *call[T] {
	c := &call[T]{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.value, c.err = f()
	}()
	return c
}

func (c *call[T]) result(tb testing.TB) (T, error) {
	tb.Helper()
	select {
	case <-c.done:
	case <-time.After(2 * patience):
		tb.Fatal("a call in the background does not return")
	}
	return c.value, c.err
}

func (c *call[T]) get(tb testing.TB) T {
	tb.Helper()
	return must[T](tb)(c.result(tb))
}

// campaigning campaigns in the background, and returns once the candidate is the
// n-th contender.
func campaigning(tb testing.TB, e *election.Election, value string, n int) *call[*election.Term] {
	tb.Helper()
	ctx := within(tb)
	c := inBackground(func() (*election.Term, error) { return e.Campaign(ctx, value) })
	contenders(tb, e, n)
	return c
}

// contenders waits until n lead or stand.
func contenders(tb testing.TB, e *election.Election, n int) []election.Contender {
	tb.Helper()
	var cs []election.Contender
	eventually(tb, "enough contenders", func() bool {
		cs = must[[]election.Contender](tb)(e.Contenders(within(tb)))
		return len(cs) == n
	})
	return cs
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

// ended waits for the end of a term, and returns its cause.
func ended(tb testing.TB, o core.Ownership) error {
	tb.Helper()
	select {
	case <-o.Context().Done():
	case <-time.After(patience):
		tb.Fatal("the term does not end")
	}
	return context.Cause(o.Context())
}

// isAll fails the test unless err is every one of wanted.
func isAll(tb testing.TB, err error, wanted ...error) {
	tb.Helper()
	for _, w := range wanted {
		if !errors.Is(err, w) {
			tb.Errorf("error %v, want one that is %v", err, w)
		}
	}
}

func isNot(tb testing.TB, err error, unwanted ...error) {
	tb.Helper()
	for _, w := range unwanted {
		if errors.Is(err, w) {
			tb.Errorf("error %v is %v", err, w)
		}
	}
}

// prefixOf begins the keys of an election.
func prefixOf(name string) string { return keyspace.Prefix("default", "election", name) }

// standing lists the keys of an election but for void records.
func standing(tb testing.TB, name string) []string {
	tb.Helper()
	var keys []string
	for _, kv := range etcd.Dump(tb, prefixOf(name)) {
		if key := string(kv.Key); !strings.Contains(key, "/void/") {
			keys = append(keys, key)
		}
	}
	return keys
}

func nothingLeft(tb testing.TB, name string) {
	tb.Helper()
	if left := standing(tb, name); len(left) > 0 {
		tb.Errorf("left over: %q", left)
	}
}
