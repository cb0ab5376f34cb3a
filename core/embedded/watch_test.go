package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/embedded"
)

func create(key string, rev int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte(key), StartRevision: rev}}}
}

// stream opens a stream of watches that ends with the test.
func stream(ctx context.Context, t *testing.T, m *embedded.Member) pb.Watch_WatchClient {
	t.Helper()
	s, err := m.Direct().Watch.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Whoever makes many watches at once need not read an answer meanwhile.
func TestManyWatchesAtOnce(t *testing.T) {
	t.Parallel()
	m := start(t, config(t.TempDir()))
	const many = 2000
	s := stream(t.Context(), t, m)
	for i := range many {
		if err := s.Send(create(fmt.Sprint("k", i), 0)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		if r, err := s.Recv(); err != nil || !r.Created || r.Canceled {
			t.Fatalf("answer %d: %v, %v", i, r, err)
		}
	}
	c := m.DirectClient()
	defer func() { _ = c.Close() }() // it has no connection of its own to close
	var all sync.WaitGroup
	for i := range many {
		w := c.Watch(t.Context(), fmt.Sprint("k", i%10))
		all.Go(func() {
			if r := <-w; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "v" {
				t.Errorf("watch %d: %v, %v", i, r.Events, r.Err())
			}
		})
	}
	for i := range 10 {
		if _, err := c.Put(t.Context(), fmt.Sprint("k", i), "v"); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
}

// What has been said before a stream ends is heard, and then why it ended.
func TestEndsOfAStream(t *testing.T) {
	t.Parallel()
	m := start(t, config(t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	left := stream(ctx, t, m)
	cancel()
	if _, err := left.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("after its caller's end: %v", err)
	}
	if _, err := m.Client().Put(t.Context(), "k", "v"); err != nil {
		t.Fatal(err)
	}
	open := stream(t.Context(), t, m)
	if err := open.Send(create("k", 1)); err != nil {
		t.Fatal(err)
	}
	if r, err := open.Recv(); err != nil || !r.Created {
		t.Fatalf("%v, %v", r, err)
	}
	c := m.DirectClient()
	defer func() { _ = c.Close() }() // it has no connection of its own to close
	w := c.Watch(t.Context(), "other", clientv3.WithCreatedNotify())
	<-w
	closeSoon(t, m)
	events := 0
	for {
		r, err := open.Recv()
		if err != nil {
			if status.Code(err) != codes.Canceled {
				t.Errorf("after the member's end: %v", err)
			}
			break
		}
		events += len(r.Events)
	}
	if events > 1 {
		t.Errorf("%d events", events)
	}
	if r, ok := <-w; ok && r.Err() == nil {
		t.Errorf("a client's watch heard %v", r)
	}
	if _, err := m.Direct().Watch.Watch(t.Context()); status.Code(err) != codes.Canceled {
		t.Errorf("a new stream: %v", err)
	}
}

// Who sends and sends, and reads no answer, does not fill the memory.
func TestUnreadStreamEnds(t *testing.T) {
	t.Parallel()
	s := stream(t.Context(), t, start(t, config(t.TempDir())))
	var err error
	for sent := 0; err == nil; sent++ {
		if sent > 1_000_000 {
			t.Fatal("a million requests wait")
		}
		err = s.Send(create("k", 0))
	}
	if !errors.Is(err, io.EOF) {
		t.Errorf("a request after the end: %v", err)
	}
	for err = nil; err == nil; {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("it ended with %v", err)
	}
}

// A watch that requires a leader ends when the member has lost its own; one that does not goes on.
func TestWatchRequiresALeader(t *testing.T) {
	t.Parallel()
	members := startAll(t, cluster(t, 3))
	c := members[0].DirectClient()
	defer func() { _ = c.Close() }() // it has no connection of its own to close
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	strict, plain := c.Watch(clientv3.WithRequireLeader(ctx), "k", clientv3.WithCreatedNotify()), c.Watch(ctx, "k", clientv3.WithCreatedNotify())
	for _, w := range []clientv3.WatchChan{strict, plain} {
		if r := <-w; !r.Created {
			t.Fatalf("%v, %v", r, r.Err())
		}
	}
	for _, m := range members[1:] {
		closeSoon(t, m)
	}
	if r := <-strict; !errors.Is(r.Err(), rpctypes.ErrNoLeader) {
		t.Errorf("the watch ended with %v", r.Err())
	}
	if r := <-c.Watch(clientv3.WithRequireLeader(ctx), "k"); !errors.Is(r.Err(), rpctypes.ErrNoLeader) {
		t.Errorf("a new one: %v", r.Err())
	}
	select {
	case r := <-plain:
		t.Errorf("the plain one: %v, %v", r, r.Err())
	default:
	}
}
