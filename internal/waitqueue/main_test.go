package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds what must happen; no test passes or fails by being quicker.
const patience = 30 * time.Second

var errLost = errors.New("lost")

func bounded(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// open opens a session whose requests a test can break. Its TTL is beyond the
// tests' patience, so that no look once per TTL hides a lost wake-up.
func open(tb testing.TB) (*Queue, *coretest.Faults) { return openFor(tb, 4*patience) }

func openFor(tb testing.TB, ttl time.Duration) (*Queue, *coretest.Faults) {
	tb.Helper()
	f := coretest.NewFaults()
	s, err := core.NewSession(bounded(tb), etcd.Client(tb, f.DialOptions()...), core.WithTTL(ttl))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Clear()
		_ = s.Close()
	})
	return For(s, "lock"), f
}

func exclusive(name string) *Request {
	return &Request{Names: []string{name}, Mode: Exclusive,
		Lost: func(cause error) error { return fmt.Errorf("%w: %w", errLost, cause) }}
}

func acquired(tb testing.TB, q *Queue, r *Request) *Owned {
	tb.Helper()
	o, err := q.Acquire(bounded(tb), r)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

type result struct {
	o   *Owned
	err error
}

// background acquires in a goroutine that ends before the test does.
func background(tb testing.TB, ctx context.Context, q *Queue, r *Request) <-chan result {
	results, done := make(chan result, 1), make(chan struct{})
	go func() {
		defer close(done)
		o, err := q.Acquire(ctx, r)
		results <- result{o, err}
	}()
	tb.Cleanup(func() { <-done })
	return results
}

func outcome(tb testing.TB, results <-chan result) result {
	tb.Helper()
	select {
	case r := <-results:
		return r
	case <-bounded(tb).Done():
		tb.Fatal("an acquisition hangs")
		return result{}
	}
}

func served(tb testing.TB, results <-chan result) *Owned {
	tb.Helper()
	r := outcome(tb, results)
	if r.err != nil {
		tb.Fatalf("not served: %v", r.err)
	}
	return r.o
}

func released(tb testing.TB, o *Owned) {
	tb.Helper()
	if err := o.Release(); err != nil {
		tb.Fatalf("release: %v", err)
	}
}

// stillOwns asks the context, and etcd.
func stillOwns(tb testing.TB, o *Owned) {
	tb.Helper()
	if _, err := o.Commit(bounded(tb), nil); err != nil {
		tb.Fatalf("owns no more: %v", err)
	}
}

// eventually waits until cond holds. It asks etcd, so it does not spin idly.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for ctx := bounded(tb); !cond(); etcd.Revision(tb) {
		if ctx.Err() != nil {
			tb.Fatalf("never: %s", what)
		}
	}
}

// queued waits until n goroutines of the session stand in its local line.
func queued(tb testing.TB, q *Queue, name string, n int) {
	tb.Helper()
	eventually(tb, "a local line", func() bool {
		l := q.use(name)
		defer q.drop(l)
		line := l.localLine(bucketOf(0))
		line.mu.Lock()
		defer line.mu.Unlock()
		return len(line.queue) == n
	})
}

func prefixOf(name string) string { return keyspace.Prefix("default", "lock", name) }

// left lists the keys of a name that do not stay until their session ends.
func left(tb testing.TB, name string) []string {
	tb.Helper()
	var keys []string
	for _, kv := range etcd.Dump(tb, prefixOf(name)) {
		if key := string(kv.Key); !strings.Contains(key, "/"+voidPart) && !strings.Contains(key, "/"+noticePart) {
			keys = append(keys, key)
		}
	}
	return keys
}

func cleanedUp(tb testing.TB, name string) {
	tb.Helper()
	eventually(tb, "nothing left", func() bool { return len(left(tb, name)) == 0 })
}

// tickets waits until n tickets wait under name.
func tickets(tb testing.TB, name string, n int) {
	tb.Helper()
	eventually(tb, "tickets in line", func() bool {
		waits := 0
		for _, kv := range etcd.Dump(tb, prefixOf(name)+linePart) {
			if kv.Version == waiting {
				waits++
			}
		}
		return waits == n
	})
}

// release matches the transactions that let a grant go.
func release(_ string, req any) bool {
	t, ok := req.(*pb.TxnRequest)
	return ok && slices.ContainsFunc(t.Compare, func(c *pb.Compare) bool {
		return c.Target == pb.Compare_MOD && c.Result == pb.Compare_EQUAL &&
			(strings.HasSuffix(string(c.Key), "/"+grantPart) || len(c.RangeEnd) > 0)
	}) && len(t.Success) > 0
}
