package watch

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// listWait bounds the first try to read the list; each try that runs out of
	// time doubles it, up to maxListWait, so that any prefix can be read in the end.
	listWait    = 10 * time.Second
	maxListWait = 2 * time.Minute
	// probeWait bounds the question whether the store is still the same.
	probeWait = 5 * time.Second

	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

// errLeft says that the consumer left the loop.
var errLeft = errors.New("the loop was left")

// step is what an observer does next.
type step int

const (
	list   step = iota // watch from now, read everything and deliver it or the difference
	probe              // is it still the same store?
	follow             // watch from where the consumer is
)

// observer is one observation. All of it belongs to the loop's goroutine, but
// for the feed and the pulse.
type observer struct {
	c      *clientv3.Client
	prefix string
	end    string
	opts   ObserveOptions
	pulse  *pulse
	pauses *backoff.ExponentialBackOff
	yield  func(Batch) bool

	next      step
	known     table
	started   bool
	delivered int64 // revision of the last batch
	complete  int64 // no revision up to here is missing; ≥ delivered
	cluster   uint64
	listWait  time.Duration
}

func newObserver(c *clientv3.Client, prefix string, opts ObserveOptions) *observer {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, maxPause
	return &observer{
		c:        c,
		prefix:   prefix,
		end:      clientv3.GetPrefixRangeEnd(prefix),
		opts:     opts,
		pulse:    newPulse(opts.StaleAfter, opts.Stale),
		pauses:   pauses,
		listWait: listWait,
	}
}

// run returns why the observation ended, never nil.
func (o *observer) run(ctx context.Context, yield func(Batch) bool) error {
	o.yield = yield
	for {
		err := o.do(ctx)
		if err == nil {
			continue
		}
		if errors.Is(err, errLeft) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if end := o.final(err); end != nil {
			return end
		}
		o.pulse.failed(err)
		o.next = after(o.next, err)
		o.opts.Logger.Debug("watch interrupted", "prefix", o.prefix, "revision", o.complete, "err", err)
		if err := o.pause(ctx); err != nil {
			return err
		}
	}
}

func (o *observer) do(ctx context.Context) error {
	if o.next == probe {
		return o.probe(ctx)
	}
	return o.watch(ctx)
}

// after chooses the step that follows a failed one.
func after(failed step, err error) step {
	switch {
	case failed == list,
		errors.Is(err, rpctypes.ErrCompacted),
		errors.Is(err, errOverflow),
		errors.Is(err, errReplaced):
		return list
	case failed == probe, errors.Is(err, errSilent):
		return probe
	default:
		return follow
	}
}

// final returns what to end with if err will be the same however often it is
// tried, and nil if not.
func (o *observer) final(err error) error {
	end := &LostError{Key: o.prefix, Err: err}
	if e, ok := errors.AsType[*LostError](err); ok {
		end.Err = e.Err
	}
	switch {
	case o.c.Ctx().Err() != nil:
		end.Reason = Closed
	case refusedToken(err):
		return nil
	case errors.Is(err, rpctypes.ErrPermissionDenied), errors.Is(err, rpctypes.ErrUserEmpty):
		end.Reason = Auth
	case hopeless(err):
		end.Reason = Failed
	default:
		return nil
	}
	return end
}

func hopeless(err error) bool {
	c := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		c = e.Code()
	}
	return c == codes.PermissionDenied || c == codes.InvalidArgument || c == codes.Unimplemented
}

func (o *observer) pause(ctx context.Context) error {
	timer := time.NewTimer(o.pauses.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// list reads the prefix and delivers it: the first time as it is, later as the
// difference from what was delivered.
func (o *observer) list(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, o.listWait)
	defer cancel()
	resp, err := o.c.Get(lctx, o.prefix, clientv3.WithRange(o.end))
	if err != nil {
		if lctx.Err() != nil {
			o.listWait = min(2*o.listWait, maxListWait)
		}
		return err
	}
	o.pulse.heard()
	b := Batch{Revision: resp.Header.Revision, Snapshot: !o.started}
	b.Events = o.known.diff(resp.Kvs, b.Revision)
	if o.started {
		b.Resync = &Resync{From: o.complete, To: b.Revision}
	}
	o.known, o.cluster, o.started = tableOf(resp.Kvs), resp.Header.ClusterId, true
	o.delivered, o.complete, o.next = b.Revision, b.Revision, follow
	if !o.yield(b) {
		return errLeft
	}
	return nil
}

// probe asks, after a silence, whether the store is still the one that was
// watched: one that was restored from a backup is at a smaller revision, where a
// watch would wait for ever without an event. The key is the bare prefix, so
// that the answer costs the same however much is under it.
func (o *observer) probe(ctx context.Context) error {
	pctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	resp, err := o.c.Get(pctx, o.prefix, clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	o.pulse.heard()
	if resp.Header.ClusterId != o.cluster || resp.Header.Revision < o.complete {
		return errReplaced
	}
	o.next = follow
	return nil
}

// watch registers a watch, brings the consumer up to it, and delivers what comes
// until the watch ends. The watch stands before the list is read: a list that
// takes long, on a store that is compacted often, would else never be followed
// in time, and etcd serves a watch from the past up to 100 ms late.
func (o *observer) watch(ctx context.Context) error {
	stream := o.opts.Streams.observers.stream("observers")
	wctx, cancel := context.WithCancelCause(stream.ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })()

	responses, err := o.open(wctx, cancel)
	if err == nil {
		err = o.consume(ctx, wctx, cancel, responses)
	}
	if errors.Is(err, errSilent) || refusedToken(err) {
		o.opts.Streams.observers.renew("observers", stream)
	}
	return err
}

// open registers the watch, or gives up after two times Quiet.
func (o *observer) open(ctx context.Context, cancel context.CancelCauseFunc) (clientv3.WatchChan, error) {
	patience := time.AfterFunc(2*o.opts.Quiet, func() { cancel(errSilent) })
	defer patience.Stop()
	ops := []clientv3.OpOption{clientv3.WithRange(o.end),
		clientv3.WithCreatedNotify(), clientv3.WithProgressNotify(), clientv3.WithFragment()}
	if o.next == follow {
		// Not from the revision after: while that is in the future etcd answers no
		// progress request of the whole stream.
		ops = append(ops, clientv3.WithRev(o.complete))
	}
	responses := o.c.Watch(ctx, o.prefix, ops...)
	first, err := created(ctx, o.prefix, responses)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	if o.next == follow && otherStore(first, o.cluster) {
		return nil, errReplaced
	}
	o.pulse.heard()
	return responses, nil
}

// consume delivers what the feed brings, and returns when the feed has ended and
// its goroutine is gone.
func (o *observer) consume(ctx, wctx context.Context, cancel context.CancelCauseFunc, responses clientv3.WatchChan) error {
	f := &feed{limit: o.opts.Buffer, quiet: o.opts.Quiet, pulse: o.pulse, wake: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What is not read any more must not pile up in clientv3.
		defer cancel(nil)
		f.run(wctx, o.c, o.prefix, responses)
	}()
	defer func() {
		cancel(nil)
		<-done
	}()
	if o.next == list {
		if err := o.list(ctx); err != nil {
			return err
		}
	}
	for {
		resp, err := f.next(ctx)
		if err != nil {
			return err
		}
		if otherStore(resp, o.cluster) {
			return errReplaced
		}
		if err := o.deliver(ctx, resp); err != nil {
			return err
		}
	}
}

// deliver hands on one response, a batch for each revision.
func (o *observer) deliver(ctx context.Context, resp clientv3.WatchResponse) error {
	// The watch works, so the next failure is a new one.
	o.pauses.Reset()
	o.listWait = listWait
	events := resp.Events
	for len(events) > 0 {
		var first []*clientv3.Event
		first, events = cut(events)
		b := Batch{Revision: first[0].Kv.ModRevision, Events: first}
		if b.Revision <= o.delivered {
			continue
		}
		o.known.apply(first)
		o.delivered, o.complete = b.Revision, max(o.complete, b.Revision)
		if !o.yield(b) {
			return errLeft
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	// A list may be ahead of the member that serves the watch.
	if resp.IsProgressNotify() {
		o.complete = max(o.complete, resp.Header.Revision)
	}
	return nil
}

// otherStore reports whether a response comes from another store than the list
// did. A proxy may leave the id out.
func otherStore(resp clientv3.WatchResponse, cluster uint64) bool {
	id := resp.Header.GetClusterId()
	return id != 0 && cluster != 0 && id != cluster
}
