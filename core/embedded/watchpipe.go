package embedded

import (
	"context"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// A watchPipe connects a stream's caller with etcd. Requests never wait: etcd takes no request while its answers are not read, and upstream's client
// reads no answer while it sends. (Its own pipe, in package adapter, has been seen to block for good when a thousand watches were made at once.)
type watchPipe struct {
	caller context.Context
	strict bool            // it requires a leader
	served context.Context // ends with the caller's, and with the stream
	end    context.CancelCauseFunc

	answers chan *pb.WatchResponse
	done    chan struct{}
	err     error // written before done closes

	mu       sync.Mutex
	requests []*pb.WatchRequest
	last     bool          // no more come
	more     chan struct{} // one token: look again
}

const (
	// answersAhead is how many answers wait for a caller who does not read.
	answersAhead = 16
	// requestsAhead is how many requests wait for etcd. A stream on which more are sent, by somebody who reads no answers, ends.
	requestsAhead = 100_000
)

var errUnread = status.Errorf(codes.ResourceExhausted, "more than %d requests of a watch stream wait, since its answers are not read", requestsAhead)

func newWatchPipe(ctx context.Context) *watchPipe {
	p := &watchPipe{caller: ctx, answers: make(chan *pb.WatchResponse, answersAhead), done: make(chan struct{}), more: make(chan struct{}, 1)}
	p.served, p.end = context.WithCancelCause(ctx)
	md, _ := metadata.FromOutgoingContext(ctx)
	v := md.Get(rpctypes.MetadataRequireLeaderKey)
	p.strict = len(v) > 0 && v[0] == rpctypes.MetadataHasLeader
	return p
}

// finish ends the stream with what etcd said, or with why it was ended here.
func (p *watchPipe) finish(err error) {
	if cause, ok := status.FromError(context.Cause(p.served)); ok && cause.Code() != codes.OK {
		err = cause.Err()
	}
	if err == nil {
		err = io.EOF
	}
	p.err = err
	close(p.done)
	p.end(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

func (p *watchPipe) tell(r *pb.WatchRequest, last bool) {
	p.mu.Lock()
	if r != nil {
		p.requests = append(p.requests, r)
	}
	p.last = p.last || last
	if len(p.requests) > requestsAhead {
		p.end(errUnread)
	}
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

// next returns the next request, or neither while there is none.
func (p *watchPipe) next() (*pb.WatchRequest, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.requests) == 0 {
		if p.last {
			return nil, io.EOF
		}
		return nil, nil
	}
	r := p.requests[0]
	p.requests[0] = nil // streams live long
	p.requests = p.requests[1:]
	return r, nil
}

// watchCaller is a pipe as its caller has it. What it does not name is for messages without a type, which nobody in this process uses.
type watchCaller struct {
	*watchPipe
	grpc.ClientStream
}

func (c watchCaller) Context() context.Context { return c.caller }

func (c watchCaller) CloseSend() error {
	c.tell(nil, true)
	return nil
}

func (c watchCaller) Send(r *pb.WatchRequest) error {
	select {
	case <-c.done:
		return io.EOF // as of any stream: Recv has the reason
	default:
		c.tell(r, false)
		return nil
	}
}

func (c watchCaller) Recv() (*pb.WatchResponse, error) {
	select {
	case r := <-c.answers:
		return r, nil
	case <-c.caller.Done():
		return nil, status.FromContextError(c.caller.Err()).Err()
	case <-c.done:
	}
	select {
	case r := <-c.answers: // from before the end
		return r, nil
	default:
		return nil, c.err
	}
}

// watchServed is a pipe as etcd has it.
type watchServed struct {
	*watchPipe
	grpc.ServerStream
	from *watches
}

// Context has the token of the moment: etcd asks for it with each watch.
func (s watchServed) Context() context.Context { return with(s.served, s.from.login.current()) }

func (s watchServed) Send(r *pb.WatchResponse) error {
	select {
	case s.answers <- r:
		return nil
	case <-s.served.Done():
		return s.served.Err()
	}
}

func (s watchServed) Recv() (*pb.WatchRequest, error) {
	for s.served.Err() == nil {
		r, err := s.next()
		if create := r.GetCreateRequest(); create != nil {
			s.from.admit(s.watchPipe, create)
		}
		if err != nil || r != nil && s.served.Err() == nil {
			return r, err
		}
		select {
		case <-s.more:
		case <-s.served.Done():
		}
	}
	return nil, s.served.Err()
}
