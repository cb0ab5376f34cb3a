package barrier_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 60 * time.Second

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

// faulty opens a session whose requests a test can lose and delay.
func faulty(tb testing.TB, opts ...core.SessionOption) (*core.Session, *coretest.Faults) {
	tb.Helper()
	f := coretest.NewFaults()
	s, err := core.NewSession(within(tb), etcd.Client(tb, f.DialOptions()...), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Clear()
		_ = s.Close()
	})
	return s, f
}

// expire makes etcd end a session's lease.
func expire(tb testing.TB, s *core.Session) {
	tb.Helper()
	coretest.ExpireLease(tb, etcd.Client(tb), s.Lease())
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

func noError(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
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

// pending fails the test if the call has returned.
func (c *call[T]) pending(tb testing.TB) {
	tb.Helper()
	select {
	case <-c.done:
		tb.Fatalf("it returned: %v, %v", c.value, c.err)
	default:
	}
}

type none = struct{}

// entering enters in the background.
func entering(ctx context.Context, d *barrier.Double) *call[*barrier.Entry] {
	return inBackground(func() (*barrier.Entry, error) { return d.Enter(ctx) })
}

func leaving(ctx context.Context, e *barrier.Entry) *call[none] {
	return inBackground(func() (none, error) { return none{}, e.Leave(ctx) })
}

func awaiting(ctx context.Context, c *barrier.Cyclic) *call[int64] {
	return inBackground(func() (int64, error) { return c.Await(ctx) })
}

func waitingFor(ctx context.Context, b *barrier.Barrier) *call[none] {
	return inBackground(func() (none, error) { return none{}, b.Wait(ctx) })
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

// over waits for the end of an ownership, and returns its cause.
func over(tb testing.TB, o core.Ownership) error {
	tb.Helper()
	select {
	case <-o.Context().Done():
	case <-time.After(patience):
		tb.Fatal("it does not end")
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

// isLost fails the test unless err is ErrBroken and names owner.
func isLost(tb testing.TB, err error, owner string) {
	tb.Helper()
	isAll(tb, err, barrier.ErrBroken)
	if who, ok := barrier.LostMember(err); !ok || who != owner {
		tb.Errorf("error %v names %q, want %q", err, who, owner)
	}
	if err != nil && !strings.Contains(err.Error(), owner) {
		tb.Errorf("error %q does not say %q", err, owner)
	}
}

// prefixOf begins the keys of a barrier.
func prefixOf(name string) string { return keyspace.Prefix("default", "barrier", name) }

// keysOf lists the keys of a barrier, below part, but for void records.
func keysOf(tb testing.TB, name, part string) []string {
	tb.Helper()
	var keys []string
	for _, kv := range etcd.Dump(tb, prefixOf(name)) {
		key := strings.TrimPrefix(string(kv.Key), prefixOf(name))
		if strings.HasPrefix(key, part) && !strings.Contains(key, "void/") {
			keys = append(keys, key)
		}
	}
	return keys
}

// tickets waits until n stand.
func tickets(tb testing.TB, name string, n int) {
	tb.Helper()
	eventually(tb, "tickets", func() bool {
		return len(keysOf(tb, name, "double/in/"))+len(keysOf(tb, name, "cyclic/in/")) == n
	})
}

// onlyStates fails the test if more than state keys is left, or comes to be left,
// and the marks that somebody went.
func onlyStates(tb testing.TB, name string) {
	tb.Helper()
	var left []string
	for deadline := time.Now().Add(patience); ; {
		left = nil
		for _, key := range keysOf(tb, name, "") {
			if !strings.HasSuffix(key, "/at") && !strings.HasSuffix(key, "/left") {
				left = append(left, key)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("left over: %q", left)
		}
	}
}

func contains(err error, text string) bool { return strings.Contains(err.Error(), text) }
