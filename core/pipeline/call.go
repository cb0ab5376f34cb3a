package pipeline

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/internal/pipewire"
)

// A call is a call on its way. It is used again for another one.
type call struct {
	method string
	sent   pipewire.Call
	buf    []byte        // the request, then the response
	done   chan struct{} // one token: the fields below are written

	status          []byte
	header, trailer metadata.MD
	err             error // what ended the stream

	options options
}

// options are those that a call in a pipeline may have.
type options struct {
	header, trailer *metadata.MD
	peer            *peer.Peer
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// prepare reports whether a call can travel with others.
func (l *call) prepare(ctx context.Context, method string, request any, opts []grpc.CallOption) bool {
	m, ok := request.(proto.Message)
	if !ok || ctx.Err() != nil || !l.options.read(opts) {
		return false
	}
	var timeout time.Duration
	if end, ok := ctx.Deadline(); ok {
		if timeout = time.Until(end); timeout <= 0 {
			return false
		}
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if !impersonal(md) {
		return false
	}
	var err error
	l.buf, err = proto.MarshalOptions{}.MarshalAppend(l.buf[:0], m)
	if err != nil || len(l.buf) > pipewire.MaxRequest {
		return false
	}
	l.method, l.sent = method, pipewire.Call{Request: l.buf, Timeout: timeout, Metadata: md}
	return true
}

// read reports whether a call in a pipeline may have these options, and notes them.
func (o *options) read(opts []grpc.CallOption) bool {
	*o = options{}
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			o.header = opt.HeaderAddr
		case grpc.TrailerCallOption:
			o.trailer = opt.TrailerAddr
		case grpc.PeerCallOption:
			o.peer = opt.PeerAddr
		case grpc.StaticMethodCallOption, grpc.EmptyCallOption, grpc.FailFastCallOption: // there is a stream already
		default:
			return false
		}
	}
	return true
}

// maxPairs bounds the metadata of a call that travels with others, in bytes: they
// wait for it, and a host takes twice as much.
const maxPairs = pipewire.MaxPairs / 2

// impersonal reports whether metadata are few, and none of them says who calls.
func impersonal(md metadata.MD) bool {
	size := 0
	for key, values := range md {
		if personal(key) {
			return false
		}
		for _, v := range values {
			size += len(key) + len(v) + pipewire.PairBytes
		}
	}
	return size <= maxPairs
}

// personal tells of a metadata key that it says who calls, which a call in a
// pipeline cannot.
func personal(key string) bool {
	return slices.Contains([]string{"authorization", "proxy-authorization", "cookie"}, strings.ToLower(key))
}

// keepBuffer is how large a buffer is kept for the next call.
const keepBuffer = 64 << 10

// free lets another call use l.
func (l *call) free() {
	if cap(l.buf) > keepBuffer {
		l.buf = nil
	}
	l.sent, l.status, l.header, l.trailer, l.err, l.options = pipewire.Call{}, nil, nil, nil, nil, options{}
	calls.Put(l)
}

// answered notes an answer, which is valid for the moment only.
func (l *call) answered(a *pipewire.Answer) {
	l.buf = append(l.buf[:0], a.Response...)
	l.status = append(l.status[:0], a.Status...)
	l.header, l.trailer = a.Header, a.Trailer
	l.done <- struct{}{}
}

// failed notes that there will be no answer.
func (l *call) failed(err error) {
	l.err = err
	l.done <- struct{}{}
}

// result gives the caller what the call ended with.
func (l *call) result(reply any, from *peer.Peer) error {
	o := &l.options
	if o.peer != nil && from != nil {
		*o.peer = *from
	}
	if l.err != nil {
		return l.err
	}
	if o.header != nil {
		*o.header = l.header
	}
	if o.trailer != nil {
		*o.trailer = l.trailer
	}
	if len(l.status) > 0 {
		st := new(statuspb.Status)
		if err := proto.Unmarshal(l.status, st); err != nil {
			return status.Errorf(codes.Internal, "the answer's status cannot be read: %v", err)
		}
		return status.FromProto(st).Err()
	}
	m, ok := reply.(proto.Message)
	if !ok {
		return status.Errorf(codes.Internal, "the answer cannot be read into a %T", reply)
	}
	if err := proto.Unmarshal(l.buf, m); err != nil {
		return status.Errorf(codes.Internal, "the answer cannot be read: %v", err)
	}
	return nil
}
