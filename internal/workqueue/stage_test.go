package workqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

// crowd is how many goroutines enqueue: two batches under way, and no third one.
const crowd = 200

// A stage is a Writer whose batches can be held back.
type stage struct {
	*testing.T
	w      *Writer
	faults *coretest.Faults
	root   string
	from   int64 // the revision before it

	mu   sync.Mutex
	told map[string]error // by payload
	all  sync.WaitGroup
}

func newStage(t *testing.T, opts ...grpc.DialOption) *stage {
	root := "/" + etcd.Prefix(t) + "/"
	w, faults := writer(t, root, opts...)
	got, err := w.e.Client().Get(within(t), root)
	if err != nil {
		t.Fatal(err)
	}
	return &stage{T: t, w: w, faults: faults, root: root, from: got.Header.Revision, told: make(map[string]error)}
}

func plain(payload string) Put { return Put{Record: Record{Payload: []byte(payload)}} }

// enqueue puts an item in a goroutine of its own.
func (s *stage) enqueue(p Put) {
	s.all.Go(func() {
		_, err := s.w.Enqueue(within(s), []Put{p})
		s.mu.Lock()
		defer s.mu.Unlock()
		s.told[string(p.Record.Payload)] = err
	})
}

// fill puts items in one call.
func (s *stage) fill(n int) {
	s.Helper()
	if _, err := s.w.Enqueue(within(s), slices.Repeat([]Put{plain("before")}, n)); err != nil {
		s.Fatal(err)
	}
}

// crowd begins to enqueue items one by one, and returns when all of them wait.
func (s *stage) crowd(change func(*Put)) {
	s.Helper()
	for i := range crowd {
		p := plain(fmt.Sprintf("crowd-%03d", i))
		if change != nil {
			change(&p)
		}
		s.enqueue(p)
	}
	until(s, func() bool { return s.w.waits() == crowd })
}

// apart returns when the first batch of what is enqueued is held back, and the second
// one was applied. What is armed then meets the second one.
func (s *stage) apart(enqueue func(), beside ...func()) *coretest.Hold {
	s.Helper()
	lone := s.faults.Hold(coretest.Puts("in/lane/"))
	s.enqueue(plain("lone"))
	if err := lone.Wait(within(s)); err != nil {
		s.Fatal(err)
	}
	enqueue()
	held := s.faults.Hold(coretest.Puts("in/lane/"))
	for _, arm := range beside {
		arm()
	}
	before := len(s.items())
	lone.Release()
	if err := held.Wait(within(s)); err != nil {
		s.Fatal(err)
	}
	until(s, func() bool { return len(s.items()) > before+1 })
	return held
}

// items returns the payloads that wait, in the order in which they are delivered.
func (s *stage) items() []string {
	s.Helper()
	kvs := etcd.Dump(s, s.root+"in/lane/")
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int {
		lane := func(x *mvccpb.KeyValue) string { return strings.TrimSuffix(string(x.Key), idOf(string(x.Key))) }
		return cmp.Or(cmp.Compare(lane(a), lane(b)), cmp.Compare(a.CreateRevision, b.CreateRevision), cmp.Compare(string(a.Key), string(b.Key)))
	})
	var found []string
	for _, kv := range kvs {
		rec, err := decode(kv.Value)
		if err != nil {
			s.Fatal(err)
		}
		found = append(found, string(rec.Payload))
	}
	return found
}

// done waits for all, and fails unless what was confirmed is there once, what was
// refused is not there, and no item was put where readers have gone past it.
func (s *stage) done() (unknown int) {
	s.Helper()
	s.all.Wait()
	count := make(map[string]int)
	for _, payload := range s.items() {
		count[payload]++
	}
	for payload, err := range s.told {
		switch n := count[payload]; {
		case err == nil && n != 1, errors.Is(err, commit.ErrUnknown) && n > 1, err != nil && !errors.Is(err, commit.ErrUnknown) && n > 0:
			s.Errorf("%s is there %d times; its caller was told: %v", payload, n, err)
		case err != nil:
			unknown++
		}
	}
	s.segments()
	return unknown
}

// segments reads in the history whether every item went into the segment that was the
// open one after its transaction.
func (s *stage) segments() {
	s.Helper()
	open := make(map[string]int64) // by bucket
	events := s.history()
	for len(events) > 0 {
		n := slices.IndexFunc(events, func(e *clientv3.Event) bool { return e.Kv.ModRevision != events[0].Kv.ModRevision })
		if n < 0 {
			n = len(events)
		}
		for _, e := range events[:n] {
			if b, ok := strings.CutPrefix(string(e.Kv.Key), s.root+"lane/"); ok {
				if now := number(e.Kv.Value); now < open[b] {
					s.Errorf("lane %s went back from %d to %d", b, open[b], now)
				}
				open[b] = number(e.Kv.Value)
			}
		}
		for _, e := range events[:n] {
			item, ok := strings.CutPrefix(string(e.Kv.Key), s.root+"in/lane/")
			if b, rest, _ := strings.Cut(item, "/"); ok && e.IsCreate() && !strings.HasPrefix(rest, fmt.Sprintf("%012x/", open[b])) {
				s.Errorf("%s was put while segment %d was open", item, open[b])
			}
		}
		events = events[n:]
	}
}

// history returns what happened to the queue, in its order.
func (s *stage) history() (events []*clientv3.Event) {
	s.Helper()
	client := s.w.e.Client()
	end, err := client.Put(within(s), s.root+"~", "")
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(s))
	defer cancel()
	for resp := range client.Watch(ctx, s.root, clientv3.WithPrefix(), clientv3.WithRev(s.from+1)) {
		if events = append(events, resp.Events...); len(events) > 0 && events[len(events)-1].Kv.ModRevision >= end.Header.Revision {
			return events
		}
	}
	s.Fatal("the history ended")
	return nil
}

// count counts the requests that put items from now on.
func (s *stage) count() *atomic.Int64 {
	var n atomic.Int64
	s.faults.LoseRequest(func(method string, req any) bool {
		if coretest.Puts("in/lane/")(method, req) {
			n.Add(1)
		}
		return false
	}, coretest.Always())
	return &n
}
