package router

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/internal/pipewire"
	"github.com/conclavehq/conclave/internal/reason"
)

// A piped is a call of a pipeline, as the transport's stream below the chain.
type piped struct {
	pipe  *pipe
	id    uint64
	full  string
	route *route
	ctx   context.Context
	bound *bound // by which ctx ends at a deadline; nil: at none
	call  call

	mu       sync.Mutex
	request  mem.Buffer // nil once it was read
	response []byte     // of a local service
	reply    mem.BufferSlice
	replied  bool
	header   metadata.MD
	trailer  metadata.MD
	sent     bool // the header, as far as the service can tell
	finished bool
}

func (p *pipe) newPiped(sent *pipewire.Call) *piped {
	q := &piped{pipe: p, id: sent.ID, route: p.router.table.Load().routes[string(sent.Method)]}
	if q.route != nil {
		q.full = q.route.method.FullName
	} else {
		q.route, q.full = p.router.unknown, strings.ToValidUTF8(string(sent.Method), "\uFFFD") // what a status can say
	}
	q.request = mem.Copy(sent.Request, mem.DefaultBufferPool())
	ctx := p.clean
	if sent.Timeout > 0 {
		q.bound = &bound{Context: ctx, end: time.Now().Add(sent.Timeout)}
		ctx = q.bound
	}
	q.ctx = grpc.NewContextWithServerTransportStream(ctx, transported{q})
	q.call = call{ServerStream: q, router: p.router, route: q.route, ctx: q.ctx, in: p, md: visible(sent.Metadata), own: ending{Context: q.ctx}}
	return q
}

// run serves the call and answers it.
func (q *piped) run() { q.answer(q.route.enter(&q.call)) }

// answer sends what the call ended with.
func (q *piped) answer(err error) {
	q.mu.Lock()
	q.finished = true
	reply, request := q.reply, q.request
	q.reply, q.request = nil, nil
	a := pipewire.Answer{ID: q.id, Header: q.header, Trailer: q.trailer}
	pairs := sizeOf(a.Header) + sizeOf(a.Trailer)
	size := max(reply.Len(), len(q.response)) + pairs
	q.mu.Unlock()
	if q.bound != nil {
		q.bound.release()
	}
	if request != nil {
		request.Free()
	}
	defer reply.Free()
	if pairs > pipewire.MaxPairs {
		a.Header, a.Trailer = nil, nil
	}
	switch {
	case err != nil:
	case !q.replied:
		err = reason.Errorf(codes.Internal, "recipe_failed", "the recipe gave no answer")
	case size > maxAnswer:
		err = reason.Errorf(codes.ResourceExhausted, "limit_message", "the answer has %d bytes, and in a pipeline the limit is %d", size, maxAnswer)
	case pairs > pipewire.MaxPairs:
		err = reason.Errorf(codes.ResourceExhausted, "limit_message", "the metadata of the answer have %d bytes, and in a pipeline the limit is %d", pairs, pipewire.MaxPairs)
	case reply == nil:
		a.Response = q.response
	case len(reply) == 1:
		a.Response = reply[0].ReadOnlyData()
	default:
		a.Response = reply.Materialize()
	}
	if err != nil {
		a.Status = statusOf(err)
	}
	q.pipe.settle(q, &a)
}

// statusOf encodes an error. One that is too long keeps its code and what its message
// begins with, which is its reason.
func statusOf(err error) []byte {
	st := status.Convert(err).Proto()
	if proto.Size(st) > maxStatus {
		st.Message = strings.ToValidUTF8(st.GetMessage()[:min(len(st.GetMessage()), maxStatus/2)], "")
		if proto.Size(st) > maxStatus {
			st.Details = nil
		}
	}
	b, failed := proto.Marshal(st)
	if failed != nil {
		b, _ = proto.Marshal(status.New(codes.Internal, "internal: the error could not be encoded").Proto())
	}
	return b
}

// Context implements [grpc.ServerStream].
func (q *piped) Context() context.Context { return q.ctx }

// RecvMsg implements [grpc.ServerStream].
func (q *piped) RecvMsg(v any) error {
	q.mu.Lock()
	request := q.request
	q.request = nil
	q.mu.Unlock()
	if request == nil {
		return io.EOF
	}
	data := mem.BufferSlice{request}
	if f, ok := v.(*frame); ok {
		f.data = data
		return nil
	}
	defer data.Free()
	return Codec().Unmarshal(data, v)
}

// SendMsg implements [grpc.ServerStream].
func (q *piped) SendMsg(v any) error {
	var data mem.BufferSlice
	var response []byte
	var err error
	if m, ok := v.(proto.Message); ok {
		response, err = proto.Marshal(m)
	} else {
		data, err = Codec().Marshal(v)
	}
	if err != nil {
		return status.Errorf(codes.Internal, "encoding the answer: %v", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.finished || q.replied {
		data.Free()
		return status.Error(codes.Internal, "the call was answered before")
	}
	q.reply, q.response, q.replied, q.sent = data, response, true, true
	return nil
}

var errHeaderSent = status.Error(codes.Internal, "the header has been sent")

// SetHeader implements [grpc.ServerStream].
func (q *piped) SetHeader(md metadata.MD) error { return q.addHeader(md, false) }

// SendHeader implements [grpc.ServerStream]. It travels with the answer.
func (q *piped) SendHeader(md metadata.MD) error { return q.addHeader(md, true) }

func (q *piped) addHeader(md metadata.MD, sent bool) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sent || q.finished {
		return errHeaderSent
	}
	q.header, q.sent = join(q.header, outbound(md)), sent
	return nil
}

// SetTrailer implements [grpc.ServerStream].
func (q *piped) SetTrailer(md metadata.MD) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trailer = join(q.trailer, outbound(md))
}

func join(a, b metadata.MD) metadata.MD {
	if len(b) == 0 {
		return a
	}
	return metadata.Join(a, b)
}

// transported is a call as what its service finds in its context.
type transported struct{ *piped }

// Method implements [grpc.ServerTransportStream].
func (t transported) Method() string { return t.full }

// SetTrailer implements [grpc.ServerTransportStream].
func (t transported) SetTrailer(md metadata.MD) error {
	t.piped.SetTrailer(md)
	return nil
}

// visible takes out of a call's metadata what a recipe may not see.
func visible(md metadata.MD) metadata.MD {
	for k := range md {
		if hiddenInbound(k) {
			delete(md, k)
		}
	}
	return md
}
