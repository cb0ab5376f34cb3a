package lock_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// traffic counts what a client sends and is sent.
type traffic struct {
	requests atomic.Int64 // on keys, except those that the tests themselves make
	looks    atomic.Int64 // the part of them that only reads a line
	events   atomic.Int64 // delivered by watches
}

func (c *traffic) options() []grpc.DialOption {
	look := coretest.All(coretest.Method("Txn"), coretest.Reads("/line/"), coretest.Not(coretest.Puts("/")), coretest.Not(coretest.Deletes("/")))
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if strings.Contains(method, ".KV/") {
				c.requests.Add(1)
			}
			if look(method, req) {
				c.looks.Add(1)
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := stream(ctx, desc, cc, method, opts...)
			return &countedStream{s, c}, err
		}),
	}
}

type countedStream struct {
	grpc.ClientStream
	count *traffic
}

func (s *countedStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if r, ok := m.(*pb.WatchResponse); ok && err == nil {
		s.count.events.Add(int64(len(r.Events)))
	}
	return err
}

// TestALongLine lets 500 sessions wait for one name. They are served in the
// order in which they came, and a handover costs and wakes no more than in a
// short line. The sessions share one connection, which saves sockets and
// changes nothing for etcd: each has a lease, watches and tickets of its own.
func TestALongLine(t *testing.T) {
	const sessions = 500
	name := etcd.Prefix(t)
	holder := session(t)
	m := lock.NewMutex(holder, name)
	h := locked(t, m)
	var count traffic
	client := etcd.Client(t, count.options()...)
	var mu sync.Mutex
	var served []string
	var last core.Token
	var wg sync.WaitGroup
	for i := range sessions {
		owner := fmt.Sprintf("session-%d", i)
		s := must[*core.Session](t)(core.NewSession(within(t), client, core.WithOwner(owner), core.WithTTL(time.Hour)))
		t.Cleanup(func() { _ = s.Close() })
		wg.Go(func() {
			h, err := lock.NewMutex(s, name).Lock(longer(t))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			if h.Token() <= last {
				t.Errorf("token %d after %d", h.Token(), last)
			}
			served, last = append(served, owner), h.Token()
			mu.Unlock()
			if err := h.Unlock(); err != nil {
				t.Error(err)
			}
		})
	}
	prefix := "/conclave/default/lock/" + name + "/"
	eventually(t, "all wait, and have looked at the line", func() bool {
		in := must[*clientv3.GetResponse](t)(holder.Client().Get(within(t), prefix+"line/", clientv3.WithPrefix(), clientv3.WithCountOnly()))
		return in.Count == sessions && count.looks.Load() >= sessions
	})
	var order []string
	for _, c := range must[[]lock.Contender](t)(m.Contenders(within(t)))[1:] {
		order = append(order, c.Owner)
	}
	record := etcd.Record(t, prefix)
	requests, looks, events := count.requests.Load(), count.looks.Load(), count.events.Load()
	unlock(t, h)
	wg.Wait()
	if !slices.Equal(served, order) {
		t.Errorf("served\n%v, but they came as\n%v", served, order)
	}
	keys := make(map[int64]int)
	for _, ev := range record.Events() {
		keys[ev.Kv.ModRevision]++
	}
	if len(keys) != sessions+1 {
		t.Errorf("%d releases were %d transactions that wrote", sessions+1, len(keys))
	}
	for rev, n := range keys {
		if n > 3 {
			t.Errorf("the handover at %d wrote %d keys", rev, n)
		}
	}
	perHandover := func(after, before int64) float64 { return float64(after-before) / sessions }
	requested, looked, delivered := perHandover(count.requests.Load(), requests), perHandover(count.looks.Load(), looks), perHandover(count.events.Load(), events)
	t.Logf("a handover: %.2f requests, %.2f of them looks, %.2f events delivered", requested, looked, delivered)
	// One release, a read of the line for every eighth, and at most one look of
	// the next in line whose own event is late. In a stampede it would be hundreds.
	if requested > 4 || looked > 2 {
		t.Errorf("%.1f requests a handover, %.1f of them looks", requested, looked)
	}
	// The new owner's ticket, the old owner's, to its owner and to its successor.
	if delivered > 4 {
		t.Errorf("%.1f events delivered a handover", delivered)
	}
	nothingLeft(t, name)
}

// longer is within, for tests that do more than one thing.
func longer(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	tb.Cleanup(cancel)
	return ctx
}
