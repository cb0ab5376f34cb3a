package coretest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// ErrNothingHeld means that [Late.Deliver] or [Late.Drop] was called while no request waited.
var ErrNothingHeld = errors.New("coretest: no request is held back")

// Faults makes requests of one client fail in exactly the way that a test wants. Give its DialOptions to [Etcd.Client]; then each call of
// LoseReply, LoseRequest, Late or Hold arms one fault, at once, until it has fired as often as it should.
//
// Faults act on unary requests, below clientv3's own retries: a read that meets a fault once is repeated by the client and succeeds, while a
// write is not. A request meets the oldest armed fault that matches it. Streams (watches, keep-alives) are not touched: see [Etcd.Link].
type Faults struct {
	mu    sync.Mutex
	armed []*Fault
}

// NewFaults returns an injector with no fault armed: requests pass.
func NewFaults() *Faults { return &Faults{} }

// DialOptions puts the injector into a client.
func (f *Faults) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithChainUnaryInterceptor(f.intercept)}
}

// Clear disarms every fault. Requests that are held stay held.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = nil
}

// FaultOption changes one fault.
type FaultOption func(*Fault)

// Times makes a fault fire n times; without it, once.
func Times(n int) FaultOption { return func(f *Fault) { f.left = n } }

// Always makes a fault fire for every matching request.
func Always() FaultOption { return func(f *Fault) { f.left = -1 } }

// WithCode sets the gRPC status that the caller gets. Default codes.Unavailable, as when a connection breaks, which does not tell whether the
// request was applied. clientv3 repeats even a write on codes.DeadlineExceeded and codes.Canceled while the caller's context lives: for
// a caller that waits in vain use Silently.
func WithCode(c codes.Code) FaultOption { return func(f *Fault) { f.code = c } }

// Silently leaves the caller without any answer until its own context ends; it then gets the context's error. The fault counts as
// fired as soon as the request has had its fate.
func Silently() FaultOption { return func(f *Fault) { f.silent = true } }

// LoseReply lets the request reach the server and be answered, and loses the answer: the caller gets an error although the request was
// applied. A request that the server refuses keeps its own error.
func (f *Faults) LoseReply(match Match, opts ...FaultOption) *Fault {
	return f.arm(&Fault{match: match, act: loseReply}, opts)
}

// LoseRequest fails the caller and sends nothing.
func (f *Faults) LoseRequest(match Match, opts ...FaultOption) *Fault {
	return f.arm(&Fault{match: match, act: loseRequest}, opts)
}

// Late fails the caller at once and keeps the request, which reaches the server when the test delivers it: after the caller's retry, after
// its cancellation, after its lease is gone.
func (f *Faults) Late(match Match, opts ...FaultOption) *Late {
	l := &Late{}
	l.Fault = f.arm(&Fault{match: match, act: l.keep}, opts)
	return l
}

// Hold makes the request and its caller wait until the test releases them. A caller whose context ends first gets the context's error, and its
// request is never sent.
func (f *Faults) Hold(match Match, opts ...FaultOption) *Hold {
	h := &Hold{released: make(chan struct{})}
	h.Fault = f.arm(&Fault{match: match, act: h.wait}, opts)
	return h
}

func (f *Faults) arm(fault *Fault, opts []FaultOption) *Fault {
	fault.owner, fault.left, fault.code, fault.changed = f, 1, codes.Unavailable, make(chan struct{})
	for _, o := range opts {
		o(fault)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.armed = append(f.armed, fault)
	return fault
}

// take returns the fault that concerns a request, and spends one of its times.
func (f *Faults) take(method string, req any) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, fault := range f.armed {
		if !fault.match(method, req) {
			continue
		}
		if fault.left > 0 {
			fault.left--
		}
		if fault.left == 0 {
			f.armed = append(f.armed[:i:i], f.armed[i+1:]...)
		}
		return fault
	}
	return nil
}

func (f *Faults) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	fault := f.take(method, req)
	if fault == nil {
		return invoke(ctx, method, req, reply, cc, opts...)
	}
	opts = withoutResults(opts)
	return fault.act(fault, &call{ctx: ctx, method: method, req: req, reply: reply, send: func(ctx context.Context, req, reply any) error {
		return invoke(ctx, method, req, reply, cc, opts...)
	}})
}

// withoutResults leaves out the options through which gRPC writes into the
// caller's variables: a late delivery comes when the caller may read them.
func withoutResults(opts []grpc.CallOption) []grpc.CallOption {
	return slices.DeleteFunc(slices.Clone(opts), func(o grpc.CallOption) bool {
		switch o.(type) {
		case grpc.PeerCallOption, grpc.HeaderCallOption, grpc.TrailerCallOption:
			return true
		}
		return false
	})
}

// call is a request that met a fault.
type call struct {
	ctx        context.Context
	method     string
	req, reply any
	send       func(ctx context.Context, req, reply any) error
}

// Fault is one armed fault. Its methods may be called from any goroutine.
type Fault struct {
	owner *Faults
	match Match
	act   func(*Fault, *call) error
	code  codes.Code
	// silent faults answer only when the caller's context ends.
	silent bool

	left int // times still to fire, guarded by owner.mu; negative: without end

	mu      sync.Mutex
	fired   int
	changed chan struct{} // closed and replaced whenever fired grows
}

func loseReply(f *Fault, c *call) error {
	if err := c.send(c.ctx, c.req, blank(c.reply)); err != nil {
		f.count()
		return err
	}
	f.count()
	return f.answer(c, "reply lost")
}

func loseRequest(f *Fault, c *call) error {
	f.count()
	return f.answer(c, "request lost")
}

func (f *Fault) answer(c *call, what string) error {
	if !f.silent {
		return status.Error(f.code, "coretest: "+what)
	}
	<-c.ctx.Done()
	return status.FromContextError(c.ctx.Err()).Err()
}

func (f *Fault) count() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fired++
	close(f.changed)
	f.changed = make(chan struct{})
}

// Fired returns how many requests have met the fault. For LoseReply a request counts when the server has answered it.
func (f *Fault) Fired() int {
	n, _ := f.state()
	return n
}

func (f *Fault) state() (int, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fired, f.changed
}

// Wait returns when the fault has fired at least once, or with the context's error.
func (f *Fault) Wait(ctx context.Context) error { return f.WaitTimes(ctx, 1) }

// WaitTimes returns when the fault has fired at least n times, or with the context's error.
func (f *Fault) WaitTimes(ctx context.Context, n int) error {
	for {
		fired, changed := f.state()
		if fired >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Disarm keeps the fault from firing again.
func (f *Fault) Disarm() {
	f.owner.mu.Lock()
	defer f.owner.mu.Unlock()
	for i, armed := range f.owner.armed {
		if armed == f {
			f.owner.armed = append(f.owner.armed[:i:i], f.owner.armed[i+1:]...)
			return
		}
	}
}

// Late is a fault that keeps requests back. See [Faults.Late].
type Late struct {
	*Fault
	held sync.Mutex
	late []*call
}

func (l *Late) keep(f *Fault, c *call) error {
	md, _ := metadata.FromOutgoingContext(c.ctx)
	kept := *c
	// The caller is free to change its message after it got the error.
	kept.ctx, kept.req = metadata.NewOutgoingContext(context.Background(), md), proto.Clone(c.req.(proto.Message))
	l.held.Lock()
	l.late = append(l.late, &kept)
	l.held.Unlock()
	f.count()
	return f.answer(c, "no answer yet")
}

func (l *Late) next() (*call, error) {
	l.held.Lock()
	defer l.held.Unlock()
	if len(l.late) == 0 {
		return nil, ErrNothingHeld
	}
	c := l.late[0]
	l.late = l.late[1:]
	return c, nil
}

// Deliver sends the oldest request that is held back, and returns the server's answer to it, which its caller will never see. It
// needs the caller's client to be open still.
func (l *Late) Deliver(ctx context.Context) (proto.Message, error) {
	c, err := l.next()
	if err != nil {
		return nil, err
	}
	md, _ := metadata.FromOutgoingContext(c.ctx)
	reply := blank(c.reply)
	if err := c.send(metadata.NewOutgoingContext(ctx, md), c.req, reply); err != nil {
		return nil, err
	}
	return reply, nil
}

// Drop forgets the oldest request that is held back.
func (l *Late) Drop() error {
	_, err := l.next()
	return err
}

// Hold is a fault that makes requests wait. See [Faults.Hold].
type Hold struct {
	*Fault
	once     sync.Once
	released chan struct{}
}

func (h *Hold) wait(f *Fault, c *call) error {
	f.count()
	select {
	case <-h.released:
		return c.send(c.ctx, c.req, c.reply)
	case <-c.ctx.Done():
		return status.FromContextError(c.ctx.Err()).Err()
	}
}

// Release lets every waiting request go, and disarms the fault.
func (h *Hold) Release() {
	h.Disarm()
	h.once.Do(func() { close(h.released) })
}

// blank returns an empty message of the same kind, so that a lost reply leaves no trace with its caller.
func blank(reply any) proto.Message {
	return reply.(proto.Message).ProtoReflect().New().Interface()
}
