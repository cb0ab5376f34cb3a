package scope_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/scope"
)

func TestARefusedWatchLeavesTheOthersAlone(t *testing.T) {
	for _, k := range carriers(t, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			ctx, c := within(t), k.c
			own := c.Watch(ctx, "/conclave/default/hostile/w/"+k.name, clientv3.WithCreatedNotify())
			if resp := <-own; !resp.Created {
				t.Fatalf("not created: %+v", resp)
			}
			for range 3 {
				if resp := <-c.Watch(ctx, "/conclave/default/queue/", clientv3.WithPrefix()); !errors.Is(resp.Err(), rpctypes.ErrPermissionDenied) {
					t.Errorf("foreign watch: %v", resp.Err())
				}
			}
			must[*clientv3.PutResponse](t)(c.Put(ctx, "/conclave/default/hostile/w/"+k.name, "v"))
			if resp := <-own; resp.Err() != nil || len(resp.Events) != 1 {
				t.Errorf("own watch: %v, %d events", resp.Err(), len(resp.Events))
			}
			if err := c.RequestProgress(ctx); err != nil {
				t.Error(err)
			}
			if resp := <-own; !resp.IsProgressNotify() {
				t.Errorf("own watch: %+v, want its progress", resp)
			}
		})
	}
}

// A client that sends several requests before it reads an answer matches them by
// their order.
func TestAnswersKeepTheOrderOfRequests(t *testing.T) {
	for _, k := range carriers(t, "hostile") {
		if k.c.ActiveConnection() == nil {
			continue
		}
		t.Run(k.name, func(t *testing.T) {
			stream := must[pb.Watch_WatchClient](t)(pb.NewWatchClient(k.c.ActiveConnection()).Watch(within(t)))
			own := func(i int) bool { return i%3 == 1 }
			const n = 60
			for i := range n {
				key := "/conclave/default/queue/x"
				if own(i) {
					key = "/conclave/default/hostile/x"
				}
				create(t, stream, &pb.WatchCreateRequest{Key: []byte(key), WatchId: int64(i + 1)})
			}
			create(t, stream, nil)
			for i := range n {
				resp := must[*pb.WatchResponse](t)(stream.Recv())
				switch {
				case !resp.Created:
					t.Fatalf("answer %d: %+v", i, resp)
				case own(i) && (resp.Canceled || resp.WatchId != int64(i+1)):
					t.Errorf("own watch %d: %+v", i, resp)
				case !own(i) && (!resp.Canceled || resp.WatchId != clientv3.InvalidWatchID || resp.CancelReason != "etcdserver: permission denied"):
					t.Errorf("foreign watch %d: %+v", i, resp)
				}
			}
		})
	}
}

func create(t *testing.T, stream pb.Watch_WatchClient, r *pb.WatchCreateRequest) {
	t.Helper()
	if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}); err != nil {
		t.Fatal(err)
	}
}

// streamCounter counts the streams that are opened to etcd.
type streamCounter struct {
	pb.WatchClient
	n atomic.Int64
}

func (c *streamCounter) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	c.n.Add(1)
	return c.WatchClient.Watch(ctx, opts...)
}

func TestWatchesShareAStream(t *testing.T) {
	back := scope.FromClient(etcd.Client(t))
	counter := &streamCounter{WatchClient: back.Watch}
	back.Watch = counter
	s := newSpace(t, back, "hostile")
	ctx, c, p := within(t), s.Client(), "/conclave/default/hostile/"+t.Name()+"/"
	watches := make([]clientv3.WatchChan, 1500)
	for i := range watches {
		// As in a handler that passes its caller's metadata on.
		ctx := metadata.AppendToOutgoingContext(ctx, "traceparent", fmt.Sprint(i))
		if i%2 == 1 {
			ctx = clientv3.WithRequireLeader(ctx)
		}
		watches[i] = c.Watch(ctx, fmt.Sprint(p, i%10))
	}
	for i := range 10 {
		must[*clientv3.PutResponse](t)(c.Put(ctx, fmt.Sprint(p, i), "v"))
	}
	for i, w := range watches {
		if resp := <-w; len(resp.Events) != 1 || string(resp.Events[0].Kv.Key) != fmt.Sprint(p, i%10) {
			t.Fatalf("watch %d: %v, %d events", i, resp.Err(), len(resp.Events))
		}
	}
	if n := counter.n.Load(); n != 2 {
		t.Errorf("%d streams, want one that requires a leader and one that does not", n)
	}
}
