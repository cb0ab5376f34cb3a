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

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open opens a session whose requests a test can break. Its TTL is beyond the
// tests' patience, so that no look once per TTL hides a lost wake-up.
func open(t testing.TB) (*Queue, *coretest.Faults) { return openFor(t, 4*patience) }

func openFor(t testing.TB, ttl time.Duration) (*Queue, *coretest.Faults) {
	t.Helper()
	f := coretest.NewFaults()
	s, err := core.NewSession(bounded(t), etcd.Client(t, f.DialOptions()...), core.WithTTL(ttl))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.Clear()
		_ = s.Close()
	})
	return For(s, "lock"), f
}

func exclusive(name string) *Request {
	return &Request{Names: []string{name}, Mode: Exclusive,
		Lost: func(cause error) error { return fmt.Errorf("%w: %w", errLost, cause) }}
}

func acquired(t testing.TB, q *Queue, r *Request) *Owned {
	t.Helper()
	o, err := q.Acquire(bounded(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

type result struct {
	o   *Owned
	err error
}

// background acquires in a goroutine that ends before the test does.
func background(t testing.TB, ctx context.Context, q *Queue, r *Request) <-chan result {
	results, done := make(chan result, 1), make(chan struct{})
	go func() {
		defer close(done)
		o, err := q.Acquire(ctx, r)
		results <- result{o, err}
	}()
	t.Cleanup(func() { <-done })
	return results
}

func outcome(t testing.TB, results <-chan result) result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-bounded(t).Done():
		t.Fatal("an acquisition hangs")
		return result{}
	}
}

func served(t testing.TB, results <-chan result) *Owned {
	t.Helper()
	r := outcome(t, results)
	if r.err != nil {
		t.Fatalf("not served: %v", r.err)
	}
	return r.o
}

func released(t testing.TB, o *Owned) {
	t.Helper()
	if err := o.Release(); err != nil {
		t.Fatalf("release: %v", err)
	}
}

// stillOwns asks the context, and etcd.
func stillOwns(t testing.TB, o *Owned) {
	t.Helper()
	if _, err := o.Commit(bounded(t), nil); err != nil {
		t.Fatalf("owns no more: %v", err)
	}
}

// eventually waits until cond holds. It asks etcd, so it does not spin idly.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for ctx := bounded(t); !cond(); etcd.Revision(t) {
		if ctx.Err() != nil {
			t.Fatalf("never: %s", what)
		}
	}
}

// queued waits until n goroutines of the session stand in its local line.
func queued(t testing.TB, q *Queue, name string, n int) {
	t.Helper()
	eventually(t, "a local line", func() bool {
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
func left(t testing.TB, name string) []string {
	t.Helper()
	var keys []string
	for _, kv := range etcd.Dump(t, prefixOf(name)) {
		if key := string(kv.Key); !strings.Contains(key, "/"+voidPart) && !strings.Contains(key, "/"+noticePart) {
			keys = append(keys, key)
		}
	}
	return keys
}

func cleanedUp(t testing.TB, name string) {
	t.Helper()
	eventually(t, "nothing left", func() bool { return len(left(t, name)) == 0 })
}

// tickets waits until n tickets wait under name.
func tickets(t testing.TB, name string, n int) {
	t.Helper()
	eventually(t, "tickets in line", func() bool {
		waits := 0
		for _, kv := range etcd.Dump(t, prefixOf(name)+linePart) {
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
		return c.Target == pb.Compare_MOD && strings.HasSuffix(string(c.Key), "/"+grantPart)
	}) && len(t.Success) > 0
}
