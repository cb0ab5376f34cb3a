package watch

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxRefused bounds how many streams in a row one registration tries; a fresh
// stream has a fresh token, so the second try decides.
const maxRefused = 3

// Options say what Key watches and whom it tells.
type Options struct {
	// Event is called for every event, in order, from the watch's goroutine,
	// perhaps before Key has returned. While it runs no other event is delivered.
	// It may call Stop, but not Close, which waits for it.
	Event func(*clientv3.Event)
	// Lost is called at most once, as the last call, if the watch ends without
	// Stop or Close. The error is a *LostError. It is no news about the key:
	// open another watch, then look at the state. May be nil.
	Lost func(error)

	// Prefix watches every key that begins with the key, in place of the key.
	Prefix bool
	// Revision is the first revision to deliver; 0 stands for "from now". An older
	// revision than the store's may be served up to 100 ms late.
	Revision int64
	// NoPut and NoDelete keep the server from sending events of that sort.
	NoPut, NoDelete bool
	// PrevKV asks for the value before the event.
	PrevKV bool
	// Streams is shared by the watches of one client; nil stands for a new one.
	Streams *Streams
}

// Watch is one registered etcd watch. It survives reconnects without a gap, and
// ends by Stop, by Close, or with Lost.
type Watch struct {
	revision int64
	cancel   context.CancelFunc
	done     chan struct{}
}

// Key watches one key, or a prefix, and returns once the server has confirmed
// the registration: whatever is written after that will be delivered. ctx bounds
// the registration only. An error is ctx.Err() or a *LostError, both wrapped;
// then nothing is left behind and no callback was or will be called.
func Key(ctx context.Context, c *clientv3.Client, key string, opts Options) (*Watch, error) {
	streams := opts.Streams
	if streams == nil {
		streams = new(Streams)
	}
	for refused := 1; ; refused++ {
		s := streams.keys.stream("keys")
		w, err := register(ctx, c, key, s, opts)
		if err == nil || !refusedToken(err) || refused == maxRefused {
			return w, err
		}
		streams.keys.renew("keys", s)
	}
}

// Revision is where the watch began: exactly the events after it are delivered.
func (w *Watch) Revision() int64 { return w.revision }

// Stop ends the watch and returns at once: a callback may still be running. The
// resources are released even if Close is never called.
func (w *Watch) Stop() { w.cancel() }

// Close ends the watch and waits until no callback runs or will run. It may be
// called more than once, but never from a callback.
func (w *Watch) Close() {
	w.cancel()
	<-w.done
}

func register(ctx context.Context, c *clientv3.Client, key string, s *stream, opts Options) (*Watch, error) {
	wctx, cancel := context.WithCancel(s.ctx)
	unbind := context.AfterFunc(ctx, cancel)
	responses := c.Watch(wctx, key, opts.etcd()...)
	first, err := created(wctx, key, responses)
	if !unbind() {
		cancel()
		return nil, fmt.Errorf("watch %q: %w", key, ctx.Err())
	}
	if err != nil {
		cancel()
		return nil, err
	}
	w := &Watch{revision: opts.Revision - 1, cancel: cancel, done: make(chan struct{})}
	if opts.Revision == 0 {
		w.revision = first.Header.Revision
	}
	go w.run(wctx, key, responses, opts)
	return w, nil
}

func (o Options) etcd() []clientv3.OpOption {
	// Progress keeps the place of a quiet watch ahead of compaction, in case it
	// has to reconnect.
	ops := []clientv3.OpOption{clientv3.WithCreatedNotify(), clientv3.WithProgressNotify(), clientv3.WithFragment()}
	if o.Prefix {
		ops = append(ops, clientv3.WithPrefix())
	}
	if o.Revision != 0 {
		ops = append(ops, clientv3.WithRev(o.Revision))
	}
	if o.NoPut {
		ops = append(ops, clientv3.WithFilterPut())
	}
	if o.NoDelete {
		ops = append(ops, clientv3.WithFilterDelete())
	}
	if o.PrevKV {
		ops = append(ops, clientv3.WithPrevKV())
	}
	return ops
}

// created waits for the response that confirms the registration.
func created(ctx context.Context, key string, responses clientv3.WatchChan) (clientv3.WatchResponse, error) {
	select {
	case resp, ok := <-responses:
		if !ok || resp.Err() != nil {
			return resp, lost(key, resp)
		}
		if !resp.Created {
			return resp, &LostError{Key: key, Reason: Failed, Err: errNotConfirmed}
		}
		return resp, nil
	case <-ctx.Done():
		return clientv3.WatchResponse{}, context.Cause(ctx)
	}
}

var errNotConfirmed = errors.New("the first response does not confirm the registration")

func (w *Watch) run(ctx context.Context, key string, responses clientv3.WatchChan, opts Options) {
	defer close(w.done)
	defer w.cancel()
	for {
		select {
		case <-ctx.Done():
			return
		case resp, ok := <-responses:
			if !ok || resp.Err() != nil {
				if ctx.Err() == nil && opts.Lost != nil {
					opts.Lost(lost(key, resp))
				}
				return
			}
			w.deliver(ctx, resp.Events, opts.Event)
		}
	}
}

func (w *Watch) deliver(ctx context.Context, events []*clientv3.Event, event func(*clientv3.Event)) {
	for _, ev := range events {
		// clientv3 resumes a watch "from now" at the revision of its registration,
		// that one included, and so repeats an event from before it.
		if ev.Kv.ModRevision <= w.revision {
			continue
		}
		if ctx.Err() != nil {
			return
		}
		event(ev)
	}
}
