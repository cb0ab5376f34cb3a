package pipeline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// How long a Conn waits until it tries again to open a stream. Calls travel alone
// meanwhile.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 30 * time.Second
	longPause  = time.Minute // with a host that has no pipelines
)

// A Conn is a [grpc.ClientConnInterface] whose unary calls share a stream. It is
// safe for concurrent use.
type Conn struct {
	below grpc.ClientConnInterface
	ctx   context.Context // of the streams
	end   context.CancelFunc
	open  atomic.Pointer[stream] // that takes calls; nil: none does

	mu      sync.Mutex
	opening chan struct{} // closed when the attempt under way is over; nil: none is
	err     error         // of the last attempt
	pause   time.Duration // after the last attempt
	again   time.Time     // when the next one is due
	closed  bool
	running sync.WaitGroup // streams and attempts
}

// New returns a Conn over a connection to a host. It does no I/O: the stream is
// opened beside the first call. Close ends it, and leaves the connection alone.
func New(below grpc.ClientConnInterface) *Conn {
	c := &Conn{below: below}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c
}

// Invoke implements [grpc.ClientConnInterface]. The errors are those of a
// [grpc.ClientConn].
func (c *Conn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	if s := c.open.Load(); s != nil {
		l := calls.Get().(*call)
		defer l.free()
		if l.prepare(ctx, method, args, opts) && s.begin(l) {
			return s.finish(ctx, l, reply)
		}
	} else if err := c.begin(); err != nil {
		return err
	}
	return c.below.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements [grpc.ClientConnInterface]: streams go by the connection
// itself.
func (c *Conn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.below.NewStream(ctx, desc, method, opts...)
}

// Ready waits until calls travel in a pipeline. The error is why the host opens
// none, such as Unimplemented from one that has no pipelines, or what ended ctx;
// calls travel alone then.
func (c *Conn) Ready(ctx context.Context) error {
	for c.open.Load() == nil {
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return errClosed
		}
		opening := c.start()
		c.mu.Unlock()
		select {
		case <-opening:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		c.mu.Lock()
		err := c.err
		c.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Close ends the pipeline: calls under way fail with Canceled, and so do calls that
// are made later. It returns when everything has ended that New and Invoke have
// begun. It is idempotent.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.running.Wait()
	return nil
}

var errClosed = status.Error(codes.Canceled, "the pipeline was closed")

// begin opens a stream if it is time to, beside the call that asks.
func (c *Conn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		return errClosed
	case c.opening == nil && !time.Now().Before(c.again):
		c.start()
	}
	return nil
}

// start opens a stream, unless that is under way. The caller holds the lock. The
// channel is closed when it is known what came of it.
func (c *Conn) start() <-chan struct{} {
	if c.opening != nil {
		return c.opening
	}
	opening := make(chan struct{})
	c.opening = opening
	c.running.Go(func() {
		s, err := c.dial()
		c.mu.Lock()
		c.opening, c.err = nil, err
		if err == nil {
			c.open.Store(s)
		} else {
			c.wait(err)
		}
		c.mu.Unlock()
		close(opening)
		if err == nil {
			s.run()
		}
	})
	return opening
}

// wait puts off the next attempt, after an error. The caller holds the lock.
func (c *Conn) wait(err error) {
	c.pause = min(max(2*c.pause, firstPause), lastPause)
	if status.Code(err) == codes.Unimplemented {
		c.pause = longPause
	}
	c.again = time.Now().Add(c.pause)
}

// over is called when a stream takes no more calls.
func (c *Conn) over(s *stream) {
	if !c.open.CompareAndSwap(s, nil) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(s.since) > lastPause {
		c.pause = 0
	}
	c.wait(nil)
}
