package router

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	"github.com/conclavehq/conclave/internal/pipewire"
	"github.com/conclavehq/conclave/internal/reason"
)

// What pipelines may take.
const (
	maxPiped  = 10_000         // calls under way in all of a caller's; twice as many with those that others wait for
	maxAnswer = 4<<20 - 64<<10 // bytes of one answer: with those before it a message has less than the 4 MiB that gRPC's clients accept by default
	maxStatus = 64 << 10       // bytes of an error
	maxUnsent = 128 << 10      // bytes of answers that wait for the caller to take them; then no more calls are read
	maxLarge  = 8 << 20        // bytes of answers that wait; then only small ones are added
	small     = 16 << 10       // bytes of such
	maxHeld   = 16 << 20       // bytes of answers that wait; then the pipe ends
)

// Pipeline registers PipelineService, whose streams carry calls of everything that
// the router serves. Each of them passes the chain like any other call.
func (g *Registrar) Pipeline() {
	sd := pipelinev1.File_conclave_pipeline_v1_pipeline_proto.Services().ByName("PipelineService")
	g.add(sd, pipelines{}, func(protoreflect.MethodDescriptor) bool { return true })
}

// pipelines is the backend of PipelineService. It reads the messages itself.
type pipelines struct{}

func (pipelines) ready() bool                     { return true }
func (pipelines) down() string                    { return "" }
func (pipelines) acquire() (server, func(), bool) { return pipelines{}, nil, true }

func (pipelines) serve(_ *Method, stream grpc.ServerStream) error {
	c, ok := callFrom(stream.Context())
	if !ok {
		return reason.Errorf(codes.Internal, "internal", "the stream is no call")
	}
	return newPipe(c).serve()
}

// A pipe is one stream of calls. The goroutine that serves it writes the answers,
// another one reads the calls, and workers run them.
type pipe struct {
	router *Router
	stream grpc.ServerStream // the transport's
	below  context.Context   // the transport's
	base   context.Context   // with what the caller shows of who he is
	clean  context.Context   // of the calls: without it
	none   metadata.MD       // those of calls without any
	ctx    context.Context   // which the router ends
	wake   chan struct{}     // one token, for who writes
	piper  *piper            // who sends the calls

	mu     sync.Mutex
	calls  map[uint64]*piped // under way
	out    pipewire.Outbox
	taken  sync.Cond // something was taken out, or the pipe has ended
	asleep bool      // who writes waits for a token
	last   bool      // the caller has sent all calls
	broken error     // what was wrong with the caller's messages
	ended  bool      // nothing is sent any more
	over   bool      // the stream has ended; its calls may go on for a moment
}

func newPipe(c *call) *pipe {
	p := &pipe{router: c.router, stream: c.ServerStream, below: c.ServerStream.Context(), ctx: c.ctx,
		wake: make(chan struct{}, 1), piper: c.router.limits.join(callerKey(c)), calls: make(map[uint64]*piped)}
	p.taken.L = &p.mu
	md, _ := metadata.FromIncomingContext(p.below)
	for k := range md { // what a caller says for a call, he says with the call
		if !hiddenInbound(k) {
			delete(md, k)
		}
	}
	p.none = metadata.MD{}
	p.base, p.clean = metadata.NewIncomingContext(p.below, md), metadata.NewIncomingContext(p.below, p.none)
	return p
}

// serve carries calls until the caller has had all answers, or the stream ends.
func (p *pipe) serve() error {
	defer p.end()
	if err := p.stream.SendHeader(nil); err != nil {
		return err
	}
	if !p.router.pumps.enter() {
		return stopping()
	}
	go func() {
		defer p.router.pumps.leave()
		p.readAll()
	}()
	defer context.AfterFunc(p.below, p.poke)()
	defer context.AfterFunc(p.ctx, p.poke)()
	defer context.AfterFunc(p.router.draining, p.poke)()
	for {
		f, err := p.next()
		if err != nil || f.data == nil {
			return err
		}
		if err := p.stream.SendMsg(&f); err != nil {
			return err
		}
	}
}

// next waits for answers. Without an error an empty frame says that there will be none.
func (p *pipe) next() (frame, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		if p.out.Len() > 0 {
			p.gather()
			if f := (frame{p.out.Take()}); f.data != nil { // nothing is left of what was abandoned meanwhile
				p.taken.Signal()
				return f, nil
			}
		}
		switch {
		case p.broken != nil:
			return frame{}, p.broken
		case p.below.Err() != nil:
			return frame{}, p.below.Err()
		case len(p.calls) > 0:
		case p.last:
			return frame{}, nil
		case p.ctx.Err() != nil || p.router.draining.Err() != nil:
			return frame{}, stopping()
		}
		p.asleep = true
		p.mu.Unlock()
		<-p.wake
		p.mu.Lock()
	}
}

// gather lets those who are about to answer do so: they share the message.
func (p *pipe) gather() {
	for before := 0; p.out.Len() > before && len(p.calls) > 0 && !p.out.Full(); {
		before = p.out.Len()
		p.mu.Unlock()
		runtime.Gosched()
		p.mu.Lock()
	}
}

// poke wakes who writes.
func (p *pipe) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// rouse is poke for who holds the lock.
func (p *pipe) rouse() {
	if p.asleep {
		p.asleep = false
		p.poke()
	}
}

// end lets go of who answers and who reads.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended, p.over = true, true
	p.taken.Broadcast()
	p.quit()
}

// quit stops to count for the caller when the last call has ended. What it holds
// he holds, as long as that takes. The caller holds the lock.
func (p *pipe) quit() {
	if p.over && len(p.calls) == 0 {
		p.router.limits.quit(p.piper)
	}
}

// readAll begins the calls that the caller sends.
func (p *pipe) readAll() {
	for {
		var f frame
		err := p.stream.RecvMsg(&f)
		if err == nil {
			err = pipewire.Requests(f.bytes(), p.begin, p.cancel)
			f.free()
		}
		if err != nil {
			p.close(err)
			return
		}
	}
}

func (p *pipe) close(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.broken != nil: // there is a reason already
	case errors.Is(err, io.EOF):
		p.last = true
	case errors.Is(err, pipewire.ErrMalformed):
		p.broken = reason.Errorf(codes.InvalidArgument, "invalid_request", "the message is no conclave.pipeline.v1.CallsRequest: %v", err)
	default:
		p.broken = err
	}
	p.rouse()
}

// begin starts a call. Its error ends the pipe.
func (p *pipe) begin(sent *pipewire.Call) error {
	q := p.newPiped(sent)
	p.mu.Lock()
	for p.out.Len() > maxUnsent && !p.ended {
		p.taken.Wait()
	}
	if p.ended {
		p.mu.Unlock()
		return io.EOF
	}
	if _, twice := p.calls[sent.ID]; twice {
		p.mu.Unlock()
		return reason.Errorf(codes.InvalidArgument, "invalid_id", "id: %d is that of a call under way", sent.ID)
	}
	refusal := p.refuse(q, sent.Pairs)
	if refusal == nil {
		p.calls[sent.ID] = q
		p.piper.calls.Add(1)
	}
	p.mu.Unlock()
	if refusal != nil {
		p.router.metrics.refused(q.route, refusal)
		q.answer(refusal)
		return nil
	}
	p.router.workers.run(q)
	return nil
}

// refuse says why a call is not begun, whose metadata have so many bytes. The caller
// holds the lock.
func (p *pipe) refuse(q *piped, pairs int) error {
	if err := checkPairs(q.call.md, pairs); err != nil {
		return err
	}
	most := int64(maxPiped)
	if m := q.route.method; m != nil {
		if m.Descriptor.IsStreamingClient() || m.Descriptor.IsStreamingServer() {
			return reason.Errorf(codes.InvalidArgument, "invalid_method", "method: %s is a stream, and a pipeline carries unary calls", m.FullName)
		}
		if m.class == settling { // what the others wait for must get through
			most *= 2
		}
	}
	switch {
	case p.router.draining.Err() != nil:
		return stopping()
	case p.piper.calls.Load() >= most: // the caller's other pipelines may add one each before this one does
		return reason.Errorf(codes.ResourceExhausted, "limit_calls", "a caller has %d calls under way in pipelines at a time, and no more; try again", most)
	}
	return nil
}

// settle ends a call and lets its answer wait for the caller to take it. A call that has begun is
// answered whatever else waits, so it is here that what the host keeps is bounded.
func (p *pipe) settle(q *piped, a *pipewire.Answer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls[q.id] == q {
		delete(p.calls, q.id)
		p.piper.calls.Add(-1)
		p.quit()
	}
	if p.ended {
		return
	}
	if len(a.Response) > small && p.out.Len()+len(a.Response) > maxLarge {
		*a = pipewire.Answer{ID: a.ID, Status: statusOf(unsent("the answer has %d bytes, and %d wait for the caller to take them", len(a.Response), p.out.Len()))}
	}
	p.out.Answer(a)
	if n := p.out.Len(); n > maxHeld {
		p.abandon(unsent("%d bytes of answers wait for the caller to take them", n))
	}
	p.rouse()
}

func unsent(format string, args ...any) error {
	return reason.Errorf(codes.ResourceExhausted, "limit_unsent", format, args...)
}

// abandon drops the answers, and ends the calls, of a caller who does not take them.
// The stream itself ends when its writer comes back from the transport, which
// nothing but the transport can hasten. The caller holds the lock.
func (p *pipe) abandon(why error) {
	p.out, p.broken, p.ended = pipewire.Outbox{}, why, true
	p.taken.Broadcast()
	for _, q := range p.calls {
		q.call.own.end(context.Canceled)
	}
}

// cancel ends a call, if it is under way.
func (p *pipe) cancel(id uint64) {
	p.mu.Lock()
	q := p.calls[id]
	p.mu.Unlock()
	if q != nil {
		q.call.own.end(context.Canceled)
	}
}
