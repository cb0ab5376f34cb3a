package scope

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// watcher keeps the watches of a client on as few streams as there are kinds of
// them, whatever contexts they are opened with.
type watcher struct{ clientv3.Watcher }

// Watch opens a watch on the client's shared stream.
func (w watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	return w.Watcher.Watch(streamContext(ctx), key, opts...)
}

// RequestProgress asks the shared stream for its progress.
func (w watcher) RequestProgress(ctx context.Context) error {
	return w.Watcher.RequestProgress(streamContext(ctx))
}

// watchClient is the space as etcd's Watch API.
type watchClient struct{ s *Space }

// Watch opens a stream of watches.
func (c watchClient) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	stream, err := c.s.back.Watch.Watch(plainContext(ctx), c.s.calls...)
	if err != nil {
		return nil, err
	}
	return &watchStream{Watch_WatchClient: stream, s: c.s}, nil
}

// watchStream refuses single watches of a stream.
//
// A refusal has to come back in the order of the requests, on a stream where a
// reader may already be blocked. Therefore etcd itself is made to refuse: in
// place of the watch it gets one of an empty range, which is an error of that
// watch alone, and the reason is exchanged on the way back.
type watchStream struct {
	pb.Watch_WatchClient
	s *Space

	mu      sync.Mutex
	created []bool // for each watch that etcd has yet to answer: is it refused here
}

// Send checks a request and sends it on.
func (w *watchStream) Send(r *pb.WatchRequest) error {
	switch u := r.GetRequestUnion().(type) {
	case *pb.WatchRequest_CreateRequest:
		no := w.s.keys.watch(u.CreateRequest)
		if foreign(r.ProtoReflect()) {
			no = kindUnknown
		}
		if w.s.refusals.check(no) != nil {
			r = w.s.keys.emptyWatch()
		}
		w.mu.Lock()
		w.created = append(w.created, no != allowed)
		w.mu.Unlock()
	case *pb.WatchRequest_CancelRequest, *pb.WatchRequest_ProgressRequest:
	default: // etcd ignores what it does not know; a newer one may know it
		_ = w.s.refusals.note(kindUnknown)
		return nil
	}
	return w.Watch_WatchClient.Send(r)
}

// Recv returns what etcd says.
func (w *watchStream) Recv() (*pb.WatchResponse, error) {
	resp, err := w.Watch_WatchClient.Recv()
	if err != nil || !resp.Created {
		return resp, err
	}
	if w.answered() && resp.Canceled {
		resp.CancelReason = rpctypes.ErrorDesc(errRefused)
	}
	return resp, nil
}

// answered takes the first watch off the list, and reports whether it is refused.
func (w *watchStream) answered() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.created) == 0 {
		return false
	}
	refused := w.created[0]
	w.created = w.created[1:]
	return refused
}

// emptyWatch returns a request that every etcd answers with an error of that
// watch alone.
func (k *keys) emptyWatch() *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{Key: k.none, RangeEnd: k.none},
	}}
}
