package router

import (
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/conclavehq/conclave/internal/reason"
)

// Limits bounds what calls may take of the host. A field that is 0 has its
// default, a negative one is no limit. A call over a limit is answered at once
// with RESOURCE_EXHAUSTED: limit_calls, limit_streams or limit_message.
type Limits struct {
	// Calls are the calls in flight, Settling and Probes aside. Default 50,000.
	Calls int
	// Reads are unary calls in flight without side effects. Default 5,000.
	Reads int
	// Writes are other unary calls in flight, and all that wait for others, such
	// as for a lock: those are most of them. Default 30,000.
	Writes int
	// Settling are unary calls in flight that their method declares to be
	// idempotent: releases, renewals. They have a limit of their own alone,
	// because what waits goes on only when they get through. Default 10,000.
	Settling int
	// Streams are calls in flight with a stream in either direction. Default 30,000.
	Streams int
	// Probes are calls of health and reflection in flight. Default 1,000.
	Probes int
	// CallerStreams are the streams of one caller: an identity, or, where the
	// identity is not known, a connection. Default 10,000.
	CallerStreams int
	// MessageBytes is the size of a message that a caller sends. Default 1 MiB.
	MessageBytes int
}

// A class is what calls are counted by.
type class int

const (
	reads class = iota
	writes
	settling
	streams
	probes
	classes
)

func (c class) String() string {
	return [classes]string{"reads", "writes", "settling calls", "streams", "probes"}[c]
}

func classOf(md protoreflect.MethodDescriptor, own, waits bool) class {
	switch level := idempotency(md); {
	case own:
		return probes
	case md.IsStreamingClient() || md.IsStreamingServer():
		return streams
	case level == descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		return reads
	case level == descriptorpb.MethodOptions_IDEMPOTENT && !waits:
		return settling
	default:
		return writes
	}
}

type limits struct {
	most          [classes]int64
	inFlight      [classes]atomic.Int64
	mostCalls     int64
	calls         atomic.Int64
	callerStreams int
	messageBytes  int

	mu      sync.Mutex
	callers map[string]int    // streams in flight
	piping  map[string]*piper // who has pipelines
}

// A piper is a caller, as the calls in all of his pipelines are counted.
type piper struct {
	key   string
	pipes int // that count here; guarded by limits.mu
	calls atomic.Int64
}

func newLimits(l Limits) *limits {
	or := func(n, def int) int {
		if n == 0 {
			return def
		}
		return max(n, 0)
	}
	return &limits{
		most: [classes]int64{
			reads: int64(or(l.Reads, 5_000)), writes: int64(or(l.Writes, 30_000)), settling: int64(or(l.Settling, 10_000)),
			streams: int64(or(l.Streams, 30_000)), probes: int64(or(l.Probes, 1_000)),
		},
		mostCalls: int64(or(l.Calls, 50_000)), callerStreams: or(l.CallerStreams, 10_000), messageBytes: or(l.MessageBytes, 1<<20),
		callers: map[string]int{}, piping: map[string]*piper{},
	}
}

// limitCalls counts the calls of each class, and all of them.
func (r *Router) limitCalls(rt *route, next handler) handler {
	if rt.method == nil {
		return next
	}
	k, l := rt.method.class, r.limits
	return func(c *call) error {
		defer l.inFlight[k].Add(-1)
		if n := l.inFlight[k].Add(1); l.most[k] > 0 && n > l.most[k] {
			return reason.Errorf(codes.ResourceExhausted, "limit_calls", "the host serves %d %s at a time, and no more; try again", l.most[k], k)
		}
		if k == settling || k == probes {
			return next(c)
		}
		defer l.calls.Add(-1)
		if n := l.calls.Add(1); l.mostCalls > 0 && n > l.mostCalls {
			return reason.Errorf(codes.ResourceExhausted, "limit_calls", "the host serves %d calls at a time, and no more; try again", l.mostCalls)
		}
		return next(c)
	}
}

// limitCaller counts the streams of each caller.
func (r *Router) limitCaller(rt *route, next handler) handler {
	l := r.limits
	if md := rt.method.Descriptor; l.callerStreams == 0 || !md.IsStreamingClient() && !md.IsStreamingServer() {
		return next
	}
	return func(c *call) error {
		key := callerKey(c)
		if !l.enter(key) {
			return reason.Errorf(codes.ResourceExhausted, "limit_streams", "a caller has %d streams at a time, and no more", l.callerStreams)
		}
		defer l.leave(key)
		return next(c)
	}
}

// callerKey names who calls, to count what he does.
func callerKey(c *call) string {
	if c.identity != "" {
		return c.identity
	}
	return connection(c)
}

// connection names the connection that a call came by, in a way that no identity
// does.
func connection(c *call) string {
	p, ok := peer.FromContext(c.ctx)
	if !ok || p.Addr == nil {
		return "\x00"
	}
	if _, unix := p.Addr.(*net.UnixAddr); unix {
		return "\x00unix" // their clients have no addresses, and belong to the machine's owner
	}
	return "\x00" + p.Addr.String()
}

func (l *limits) enter(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.callers[key] >= l.callerStreams {
		return false
	}
	l.callers[key]++
	return true
}

func (l *limits) leave(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.callers[key]--; l.callers[key] == 0 {
		delete(l.callers, key)
	}
}

// join counts a pipeline of a caller, until it quits.
func (l *limits) join(key string) *piper {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.piping[key]
	if p == nil {
		p = &piper{key: key}
		l.piping[key] = p
	}
	p.pipes++
	return p
}

func (l *limits) quit(p *piper) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.pipes--; p.pipes == 0 {
		delete(l.piping, p.key)
	}
}
